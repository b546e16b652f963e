//! A message's visit to this site, without any IO: steps are run here, ops are performed by whoever holds the memory.
//!
//! What the kernel's shell does with a message (`naam-ebpf/shell/src/bin/shell/run.rs`) happens here in the same
//! order and with the same ends, so that nobody can tell from a result where it was computed.

use std::sync::Arc;

use naam_abi::handler::{NaamMsg, Step};
use naam_abi::limits::{ARGS_BYTES, REPLY_BYTES, STEPS_MAX};
use naam_abi::wire::{Carried, Status};

use crate::arena::{Arena, bytes_of, bytes_of_mut};
use crate::{Memory, Program, RunError};

/// What a message needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// These bytes of memory; go on with [`Run::on_read`].
    Read {
        /// Which of the app's regions.
        region: u32,
        /// Byte offset there, a multiple of 8.
        offset: u64,
        /// Bytes, a multiple of 8 up to the program's view.
        len: u32,
    },
    /// This change of memory: perform it where the memory is yours and go on with [`Run::on_effect`], or send the
    /// message home.
    Effect(Effect<'a>),
    /// The steps of this visit are used up, and another op is pending. Send the message on, or end it with
    /// [`Run::refuse`] and [`Status::Budget`].
    Spent,
    /// Nothing: the message has ended.
    Ended(End<'a>),
}

/// An op that changes memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "NaamMsg documents the fields of ops")]
pub enum Effect<'a> {
    /// Put the bytes there.
    Write { region: u32, offset: u64, bytes: &'a [u8] },
    /// Exchange the word if it is `expect`.
    CompareExchange { region: u32, offset: u64, expect: u64, new: u64 },
    /// Add to the word.
    FetchAdd { region: u32, offset: u64, addend: u64 },
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End<'a> {
    /// [`Status::Ok`], or why not.
    pub status: Status,
    /// The handler's result code.
    pub code: u32,
    /// Its reply; empty unless the status is [`Status::Ok`].
    pub reply: &'a [u8],
    /// Steps run at all sites.
    pub steps: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending(Step),
    /// The same, but this visit's steps are used up.
    Spent(Step),
    Ended(Status),
}

/// A place for one message at a time.
#[derive(Debug)]
pub struct Run {
    program: Arc<Program>,
    arena: Box<Arena>,
    state: State,
    /// Steps run at this site.
    steps: u32,
    /// Steps run at all sites.
    total: u32,
    /// Longest reply: the handler's own field is its to write.
    reply_max: u32,
    /// Whether the view holds anything but zeros.
    viewed: bool,
}

/// A fresh message.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its arguments.
    pub args: &'a [u8],
    /// Bytes left for the reply, whole words; the handler's own longest reply bounds it, too.
    pub reply_room: usize,
    /// The shard it is sent to.
    pub shard: u16,
}

impl Run {
    /// Takes a fresh message in and runs its first step.
    ///
    /// # Errors
    /// [`RunError::ArgsTooLong`], as the host would refuse it, or a fault.
    pub fn start(program: &Arc<Program>, request: &Request<'_>) -> Result<Self, RunError> {
        let mut run = Self::new(program);
        run.restart(program, request)?;
        Ok(run)
    }

    /// A place, without a message.
    fn new(program: &Arc<Program>) -> Self {
        Self {
            program: Arc::clone(program),
            arena: Arena::new(),
            // Until the first step has run.
            state: State::Ended(Status::Budget),
            steps: 0,
            total: 0,
            reply_max: 0,
            viewed: false,
        }
    }

    /// Takes in a message that was cut elsewhere, where it waits for its op: [`action`](Self::action) says for which.
    /// `shard` is its datagram's. What it brings is believed no more than arguments are: one that could not go on at home
    /// either has ended, with home's status, before a step was run.
    pub fn resume(program: &Arc<Program>, carried: &Carried<'_>, shard: u16) -> Self {
        let mut run = Self::new(program);
        run.take_over(program, carried, shard);
        run
    }

    /// Forgets the message and takes in one that was cut elsewhere, as [`resume`](Self::resume) does, without allocating.
    pub fn take_over(&mut self, program: &Arc<Program>, carried: &Carried<'_>, shard: u16) {
        self.run_by(program);
        self.clear();
        let message = &mut self.arena.message;
        carried.restore(shard, message);
        self.reply_max = message.reply_max;
        self.total = u32::from(carried.steps());
        let meta = program.meta();
        let fits = carried.state().len() <= meta.state_len as usize && carried.reply_max() <= meta.reply_max as usize;
        let checked = if fits { check(program, carried.step(), message) } else { Err(Status::TooLong) };
        self.state = match checked {
            Ok(()) => State::Pending(carried.step()),
            Err(status) => State::Ended(status),
        };
    }

    /// The message as it travels, cut where it waits for an op; its parts go to `buffer`, for which
    /// `CARRIED_BYTES_MAX` bytes are enough. `None` if it has ended, or cannot be carried: see [`Carried::cut`].
    pub fn cut<'a>(&mut self, buffer: &'a mut [u8]) -> Option<Carried<'a>> {
        let (State::Pending(step) | State::Spent(step)) = self.state else { return None };
        // The handler's field is the handler's; what travels is what was granted.
        self.arena.message.reply_max = self.reply_max;
        let state_len = self.program.meta().state_len as usize / 8;
        Carried::cut(&self.arena.message, step, self.total, state_len, buffer)
    }

    /// Forgets the message and takes another in, without allocating.
    ///
    /// # Errors
    /// As [`start`](Self::start); the run then stays as it was.
    pub fn restart(&mut self, program: &Arc<Program>, request: &Request<'_>) -> Result<(), RunError> {
        let args = request.args;
        if args.len() > ARGS_BYTES {
            return Err(RunError::ArgsTooLong { len: args.len(), max: ARGS_BYTES });
        }
        self.run_by(program);
        let room = (request.reply_room / 8 * 8).min(REPLY_BYTES) as u32;
        self.reply_max = room.min(program.meta().reply_max);
        self.clear();
        let message = &mut self.arena.message;
        bytes_of_mut(&mut message.args)[..args.len()].copy_from_slice(args);
        message.arg_len = args.len() as u32;
        message.reply_max = self.reply_max;
        message.shard = u32::from(request.shard);
        self.step()
    }

    fn run_by(&mut self, program: &Arc<Program>) {
        if !Arc::ptr_eq(&self.program, program) {
            self.program = Arc::clone(program);
        }
    }

    /// Zeros wherever the last message may have left something.
    fn clear(&mut self) {
        (self.steps, self.total) = (0, 0);
        let message = &mut self.arena.message;
        (message.op_offset, message.op_value, message.op_expect) = (0, 0, 0);
        (message.op_region, message.op_len, message.op_source, message.op_done) = (0, 0, 0, 0);
        (message.code, message.reply_len) = (0, 0);
        message.state.fill(0);
        message.args.fill(0);
        message.reply.fill(0);
        self.forget_view();
    }

    fn forget_view(&mut self) {
        if std::mem::take(&mut self.viewed) {
            self.arena.view.w.fill(0);
        }
    }

    /// What the message needs next.
    pub fn action(&self) -> Action<'_> {
        let message = &self.arena.message;
        let (region, offset) = (message.op_region, message.op_offset);
        match self.state {
            State::Spent(_) => Action::Spent,
            State::Ended(status) => Action::Ended(self.end(status)),
            State::Pending(Step::Read) => Action::Read { region, offset, len: message.op_len },
            State::Pending(Step::Write) => {
                let bytes = self.arena.source(message.op_source as usize, message.op_len as usize);
                Action::Effect(Effect::Write { region, offset, bytes })
            }
            State::Pending(Step::Cas) => {
                let (expect, new) = (message.op_expect, message.op_value);
                Action::Effect(Effect::CompareExchange { region, offset, expect, new })
            }
            State::Pending(_) => Action::Effect(Effect::FetchAdd { region, offset, addend: message.op_value }),
        }
    }

    fn end(&self, status: Status) -> End<'_> {
        let message = &self.arena.message;
        let len = if status == Status::Ok { message.reply_len as usize } else { 0 };
        End { status, code: message.code, reply: &bytes_of(&message.reply)[..len], steps: self.total }
    }

    /// Goes on with what a READ gave.
    ///
    /// # Errors
    /// [`RunError::OutOfTurn`] if no READ of so many bytes is pending.
    pub fn on_read(&mut self, bytes: &[u8]) -> Result<(), RunError> {
        match self.action() {
            Action::Read { len, .. } if len as usize == bytes.len() => {}
            _ => return Err(self.out_of_turn(format!("a READ of {} bytes", bytes.len()))),
        }
        bytes_of_mut(&mut self.arena.view.w)[..bytes.len()].copy_from_slice(bytes);
        self.viewed = true;
        self.step()
    }

    /// Goes on after an effect: `found` is the word that CAS or FAA found, and of no meaning after WRITE.
    ///
    /// # Errors
    /// [`RunError::OutOfTurn`] if no effect is pending.
    pub fn on_effect(&mut self, found: u64) -> Result<(), RunError> {
        let message = &mut self.arena.message;
        match self.state {
            State::Pending(Step::Write) => {}
            State::Pending(Step::Cas) => {
                message.op_done = u32::from(found == message.op_expect);
                message.op_value = found;
            }
            State::Pending(Step::Faa) => message.op_value = found,
            _ => return Err(self.out_of_turn("the result of an effect".into())),
        }
        self.forget_view();
        self.step()
    }

    /// Ends the message, because its op cannot be performed: `status` says why. Does nothing to one that has ended.
    pub fn refuse(&mut self, status: Status) {
        if !matches!(self.state, State::Ended(_)) {
            self.state = State::Ended(status);
        }
    }

    /// Performs the pending op in `memory` and runs the next step; false once the message has ended. A message whose
    /// steps are used up ends with [`Status::Budget`].
    ///
    /// # Errors
    /// A fault of the interpreter.
    pub fn perform<M: Memory + ?Sized>(&mut self, memory: &M) -> Result<bool, RunError> {
        let message = &self.arena.message;
        let (region, offset, len) = (message.op_region, message.op_offset, message.op_len as usize);
        let performed = match (self.state, self.action()) {
            (State::Pending(Step::Read), _) => {
                self.viewed = true;
                memory.read(region, offset, &mut bytes_of_mut(&mut self.arena.view.w)[..len]).map(|()| None)
            }
            (_, Action::Effect(effect)) => match effect {
                Effect::Write { bytes, .. } => memory.write(region, offset, bytes).map(|()| Some(0)),
                Effect::CompareExchange { expect, new, .. } => {
                    memory.compare_exchange(region, offset, expect, new).map(Some)
                }
                Effect::FetchAdd { addend, .. } => memory.fetch_add(region, offset, addend).map(Some),
            },
            (State::Ended(_), _) => return Ok(false),
            _ => Err(Status::Budget),
        };
        match performed {
            Ok(None) => self.step()?,
            Ok(Some(found)) => self.on_effect(found)?,
            Err(status) => self.refuse(status),
        }
        Ok(!matches!(self.state, State::Ended(_)))
    }

    /// Runs the message to its end in `memory`.
    ///
    /// # Errors
    /// A fault of the interpreter.
    pub fn finish<M: Memory + ?Sized>(&mut self, memory: &M) -> Result<End<'_>, RunError> {
        while self.perform(memory)? {}
        let State::Ended(status) = self.state else { unreachable!("perform has said that it ended") };
        Ok(self.end(status))
    }

    /// The program that runs the message.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Steps run at this site.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// The message as its handler left it.
    pub fn message(&self) -> &NaamMsg {
        &self.arena.message
    }

    /// The view as the last step saw it.
    pub fn view(&self) -> &[u8] {
        &bytes_of(&self.arena.view.w)[..self.program.view_bytes()]
    }

    fn out_of_turn(&self, given: String) -> RunError {
        RunError::OutOfTurn { waits: format!("{:?}", self.action()), given }
    }

    /// Runs one step, and notes what the handler wants.
    fn step(&mut self) -> Result<(), RunError> {
        let arena = &mut *self.arena;
        arena.message.step = self.total;
        self.total += 1;
        self.steps += 1;
        let answer = self.program.step(arena)?;
        let message = &mut arena.message;
        self.state = match Step::from_code(answer) {
            Some(Step::Done) if message.reply_len > self.reply_max => State::Ended(Status::Room),
            Some(Step::Done) => State::Ended(Status::Ok),
            Some(Step::Fail) => State::Ended(Status::Failed),
            None => State::Ended(Status::BadStep),
            Some(op) => {
                message.op_done = 1;
                if self.steps >= STEPS_MAX {
                    State::Spent(op)
                } else {
                    match check(&self.program, op, message) {
                        Ok(()) => State::Pending(op),
                        Err(status) => State::Ended(status),
                    }
                }
            }
        };
        Ok(())
    }
}

/// What can be said of an op without its memory.
fn check(program: &Program, op: Step, message: &NaamMsg) -> Result<(), Status> {
    let (offset, len, source) = (message.op_offset, message.op_len as usize, message.op_source as usize);
    let sound = offset.is_multiple_of(8)
        && match op {
            Step::Read => copies(len, program.view_bytes()),
            Step::Write => {
                copies(len, ARGS_BYTES) && source.is_multiple_of(8) && source + len <= ARGS_BYTES + REPLY_BYTES
            }
            _ => true,
        };
    if !sound {
        Err(Status::BadStep)
    } else if op.writes() && !program.writes() {
        Err(Status::ReadOnly)
    } else {
        Ok(())
    }
}

/// Whether an op copies `len` bytes, when it may copy `most`.
fn copies(len: usize, most: usize) -> bool {
    (1..=most).contains(&len) && len.is_multiple_of(8)
}
