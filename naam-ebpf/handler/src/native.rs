//! Runs step functions natively, performing their ops as the kernel's shell does: for unit tests,
//! for stress by many threads, and for stepping through a message offline.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use naam_abi::handler::{META_WRITES, Meta, NaamMsg, Step};
use naam_abi::limits::{ARGS_BYTES, REGION_VALUE_MAX, REPLY_BYTES, STEPS_MAX};
use naam_abi::wire::Status;

use crate::{Msg, View};

mod word;
pub use word::WordVisit;

/// What an unspecified word of a view reads as here, so that a handler which relies on one shows.
pub const UNSPECIFIED: u64 = 0xdead_5eed_dead_5eed;

/// The regions of an app. Shared by threads as the kernel's are by CPUs: words are atomic, nothing
/// longer is.
#[derive(Debug, Default)]
pub struct Memory {
    regions: Vec<Box<[AtomicU64]>>,
}

impl Memory {
    /// Zeroed regions of the given sizes in bytes.
    ///
    /// # Panics
    /// If a size is no multiple of 8.
    pub fn new(sizes: &[usize]) -> Self {
        let region = |&bytes: &usize| {
            assert!(bytes.is_multiple_of(8), "a region of {bytes} bytes is not a whole number of words");
            (0..bytes / 8).map(|_| AtomicU64::new(0)).collect()
        };
        Self { regions: sizes.iter().map(region).collect() }
    }

    /// The words of a region.
    ///
    /// # Panics
    /// If there is no such region.
    pub fn words(&self, region: usize) -> &[AtomicU64] {
        &self.regions[region]
    }

    /// The word at byte `offset`.
    ///
    /// # Panics
    /// If it lies outside the region.
    pub fn read(&self, region: usize, offset: u64) -> u64 {
        self.regions[region][offset as usize / 8].load(Ordering::Relaxed)
    }

    /// Sets the word at byte `offset`.
    ///
    /// # Panics
    /// If it lies outside the region.
    pub fn write(&self, region: usize, offset: u64, word: u64) {
        self.regions[region][offset as usize / 8].store(word, Ordering::Relaxed);
    }

    /// `len` bytes at (`region`, `offset`) as words, if the op may touch them.
    fn resolve(&self, region: u32, offset: u64, len: u64) -> Result<&[AtomicU64], Status> {
        let words = self.regions.get(region as usize).ok_or(Status::NoRegion)?;
        if !offset.is_multiple_of(8) {
            return Err(Status::BadStep);
        }
        let end = offset.checked_add(len).ok_or(Status::Bounds)?;
        let within = offset % REGION_VALUE_MAX;
        if end > words.len() as u64 * 8 || within + len > REGION_VALUE_MAX {
            return Err(Status::Bounds);
        }
        Ok(&words[offset as usize / 8..end as usize / 8])
    }

    /// Whether the runtime performs a READ, or a WRITE from `source`, of `len` bytes at all.
    fn check_copy<V: View>(is_read: bool, len: u32, source: u32) -> Result<(), Status> {
        let (len, source) = (len as usize, source as usize);
        let len_max = if is_read { V::BYTES } else { ARGS_BYTES };
        let fits = len != 0 && len.is_multiple_of(8) && len <= len_max;
        let has_source = source.is_multiple_of(8) && source + len <= ARGS_BYTES + REPLY_BYTES;
        if fits && (is_read || has_source) { Ok(()) } else { Err(Status::BadStep) }
    }

    /// Performs the op that `message` asks for with `step`. A full barrier stands before and after.
    ///
    /// # Errors
    /// The status with which the runtime would end the message.
    pub fn perform<V: View>(&self, step: Step, message: &mut Msg, view: &mut V) -> Result<(), Status> {
        fence(Ordering::SeqCst);
        let NaamMsg { op_region: region, op_offset: offset, op_len, op_value: value, .. } = **message;
        let len = u64::from(op_len);
        message.op_done = 1;
        match step {
            Step::Read => {
                Self::check_copy::<V>(true, op_len, message.op_source)?;
                let source = self.resolve(region, offset, len)?;
                view.words_mut().fill(UNSPECIFIED);
                for (to, from) in view.words_mut().iter_mut().zip(source) {
                    *to = from.load(Ordering::Relaxed);
                }
            }
            Step::Write => {
                Self::check_copy::<V>(false, op_len, message.op_source)?;
                view.words_mut().fill(UNSPECIFIED);
                let bytes = message.args.iter().chain(&message.reply).skip(message.op_source as usize / 8);
                for (to, from) in self.resolve(region, offset, len)?.iter().zip(bytes) {
                    to.store(*from, Ordering::Relaxed);
                }
            }
            Step::Cas => {
                view.words_mut().fill(UNSPECIFIED);
                let word = &self.resolve(region, offset, 8)?[0];
                let expect = message.op_expect;
                let found = word.compare_exchange(expect, value, Ordering::SeqCst, Ordering::SeqCst);
                message.op_done = u32::from(found.is_ok());
                message.op_value = found.unwrap_or_else(|found| found);
            }
            Step::Faa => {
                view.words_mut().fill(UNSPECIFIED);
                message.op_value = self.resolve(region, offset, 8)?[0].fetch_add(value, Ordering::SeqCst);
            }
            Step::Done | Step::Fail => return Err(Status::BadStep),
        }
        fence(Ordering::SeqCst);
        Ok(())
    }
}

/// Where a message stands between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The handler asked for an op, which has not been performed yet. Here a message may be cut,
    /// carried and resumed.
    Pending(Step),
    /// The message has its result.
    Finished(Status),
}

/// A message's visit to a site: at most [`STEPS_MAX`] steps.
#[derive(Clone, Debug)]
pub struct Visit<V> {
    view: V,
    progress: Option<Progress>,
    steps: u32,
    writes: bool,
}

impl<V: View> Default for Visit<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: View> Visit<V> {
    /// A visit that begins with the handler's first step.
    pub fn new() -> Self {
        Self { view: V::zero(), progress: None, steps: 0, writes: true }
    }

    /// A visit of a message that was cut while `pending` was to be performed.
    pub fn resume(pending: Step) -> Self {
        Self { progress: Some(Progress::Pending(pending)), ..Self::new() }
    }

    /// The same visit, ending with [`Status::ReadOnly`] at the first op that writes.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { writes: false, ..self }
    }

    /// Steps run so far.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// The view as the next step will see it.
    pub fn view(&self) -> &V {
        &self.view
    }

    /// Performs the pending op, if there is one, and runs one step.
    pub fn advance(
        &mut self,
        mut step: impl FnMut(&mut Msg, &V) -> Step,
        message: &mut Msg,
        memory: &Memory,
    ) -> Progress {
        let progress = match self.progress {
            Some(Progress::Finished(status)) => return Progress::Finished(status),
            Some(Progress::Pending(op)) if op.writes() && !self.writes => Err(Status::ReadOnly),
            Some(Progress::Pending(op)) => memory.perform(op, message, &mut self.view),
            None => Ok(()),
        };
        let progress = match progress {
            Err(status) => Progress::Finished(status),
            Ok(()) if self.steps == STEPS_MAX => Progress::Finished(Status::Budget),
            Ok(()) => {
                self.steps += 1;
                let answer = step(message, &self.view);
                message.step += 1;
                match answer {
                    Step::Done if message.reply_len > message.reply_max => Progress::Finished(Status::Room),
                    Step::Done => Progress::Finished(Status::Ok),
                    Step::Fail => Progress::Finished(Status::Failed),
                    op => Progress::Pending(op),
                }
            }
        };
        self.progress = Some(progress);
        progress
    }

    /// Runs until the message is finished.
    pub fn run(mut self, mut step: impl FnMut(&mut Msg, &V) -> Step, message: &mut Msg, memory: &Memory) -> Status {
        loop {
            if let Progress::Finished(status) = self.advance(&mut step, message, memory) {
                return status;
            }
        }
    }
}

/// A message at its first step, with `args` as its arguments and room for the longest reply.
///
/// # Panics
/// If `args` is longer than [`ARGS_BYTES`].
pub fn request(args: &[u8]) -> Msg {
    assert!(args.len() <= ARGS_BYTES, "{} bytes of arguments, {ARGS_BYTES} is the most", args.len());
    let mut words = [0; ARGS_BYTES / 8];
    for (word, bytes) in words.iter_mut().zip(args.chunks(8)) {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_le_bytes(padded);
    }
    let (arg_len, reply_max) = (args.len() as u32, REPLY_BYTES as u32);
    Msg::from(NaamMsg { op_done: 1, arg_len, reply_max, args: words, ..NaamMsg::ZERO })
}

/// Runs `message` to its end in one visit.
pub fn run<V: View>(step: impl FnMut(&mut Msg, &V) -> Step, message: &mut Msg, memory: &Memory) -> Status {
    Visit::new().run(step, message, memory)
}

/// The bytes of the reply.
pub fn reply(message: &Msg) -> Vec<u8> {
    let bytes = message.reply.iter().flat_map(|word| word.to_le_bytes());
    bytes.take(message.reply_len as usize).collect()
}

/// A handler's description of itself in one line.
pub fn describe(meta: &Meta, view_bytes: usize) -> String {
    let name = String::from_utf8_lossy(&meta.name);
    let access = if meta.flags & META_WRITES == 0 { "read-only" } else { "read-write" };
    format!(
        "{}: {access} handler, view {view_bytes} B, reply up to {} B, state {} B; runs in the kernel once `naam` loads it",
        name.trim_end_matches('\0'),
        meta.reply_max,
        meta.state_len,
    )
}
