//! Messages in pieces: home pushes a message back after a few steps, a client goes on with it, and datagrams are lost,
//! repeated, and come late.
//!
//! The client takes messages over as a client site would: it performs some READs itself, on the region's pages, runs the
//! handler's steps, natively or in the engine, and sends the message home again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use naam_abi::handler::{NaamMsg, Step};
use naam_abi::limits::{STATE_BYTES, STEPS_MAX};
use naam_abi::tables::RIGHT_ALL;
use naam_abi::wire::{self, CARRIED_BYTES_MAX, Carried, MESSAGE_CARRIED, Status};
use naam_admission::{Admitted, admit};
use naam_engine::{Action, Engine, Machine, Program, Run};
use naam_handler::{Msg, View, native};
use naam_loader::Hook;
use naam_sys::{Map, Mapping};

use crate::bench::{Bench, SESSION, port, region};
use crate::frame::{Message, Network, Reply, Request, sign};
use crate::objects;

/// The handlers' app.
pub const APP: u16 = 3;
/// The shard that messages go to.
pub const SHARD: u16 = 5;

/// A seeded sequence of numbers.
#[derive(Clone, Copy, Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The sequence that `NAAM_SEED` asks for, or a fixed one.
    pub fn from_environment() -> Self {
        let seed = std::env::var("NAAM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_251_122);
        println!("NAAM_SEED={seed}");
        Self(seed)
    }

    /// The next number, below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) % bound
    }
}

/// How a message ended: status, code, reply.
pub type End = (u16, u32, Vec<u8>);

/// A handler as both sides have it.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its object and function.
    pub name: &'static str,
    /// Whether it writes.
    pub writes: bool,
    /// Performs the READ that a message waits for, and runs one step natively.
    pub step: fn(&Mapping, &mut Msg) -> Step,
}

/// Performs the READ that the message waits for, and runs `step`: a [`Part`]'s step.
///
/// # Panics
/// If the READ is not inside the region.
pub fn perform<V: View>(step: fn(&mut Msg, &V) -> Step, memory: &Mapping, m: &mut Msg) -> Step {
    let mut view = V::zero();
    view.words_mut().fill(native::UNSPECIFIED);
    let offsets = (m.op_offset..).step_by(8).take(m.op_len as usize / 8);
    for (word, offset) in view.words_mut().iter_mut().zip(offsets) {
        *word = memory.load(offset, Ordering::SeqCst).expect("inside");
    }
    step(m, &view)
}

/// A host with handlers and one region, and the client's copies of the handlers.
#[derive(Debug)]
pub struct Home {
    /// The host.
    pub bench: Bench,
    /// The region's pages.
    pub memory: Mapping,
    /// The region.
    pub region: Map,
    parts: &'static [Part],
    steps: &'static [u32],
    codes: Vec<Admitted>,
    programs: Vec<Arc<Program>>,
}

impl Home {
    /// Serves `parts` at `hook` on a region of `bytes` bytes, each once with all steps of a visit and once for each of `steps`.
    ///
    /// # Panics
    /// If anybody refuses them.
    pub fn new(hook: Hook, parts: &'static [Part], steps: &'static [u32], bytes: u32) -> Self {
        let mut bench = Bench::new(hook, false);
        bench.app(APP);
        bench.datapath.tables().set_rights(SESSION, [RIGHT_ALL; 8], [RIGHT_ALL; 8]);
        let region = region(bytes, 1);
        let codes: Vec<_> = parts.iter().map(|part| admit(&objects::read(part.name)).expect("admitted")).collect();
        for (at, steps) in (0..).zip(std::iter::once(STEPS_MAX).chain(steps.iter().copied())) {
            bench.steps_max = steps;
            for (handler, code) in (0..).zip(&codes) {
                let function = function(parts.len(), handler, at);
                bench.load((APP, function, 1), code, &[&region]).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        let engine = Engine::new(Machine::Best);
        let programs = codes.iter().map(|code| engine.load(code).expect("the engine takes it")).collect();
        let memory = region.mmap().expect("mmap");
        Self { bench, memory, region, parts, steps, codes, programs }
    }

    /// The handler that a call is for.
    pub fn part(&self, call: &Call) -> &'static Part {
        &self.parts[call.handler]
    }

    /// One of the ways to cut: for [`Call::at`].
    pub fn any_steps(&self, numbers: &mut Numbers) -> u16 {
        1 + numbers.below(self.steps.len() as u64) as u16
    }

    /// The steps of a visit of a call's pieces.
    pub fn steps(&self, call: &Call) -> u32 {
        self.steps[usize::from(call.at) - 1]
    }

    /// Pushbacks so far.
    ///
    /// # Panics
    /// If the counters cannot be read.
    pub fn pushbacks(&self) -> u64 {
        self.bench.datapath.tables().stats(APP.into()).expect("counters").pushbacks
    }

    /// All bytes of the region.
    ///
    /// # Panics
    /// Never: they are inside.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.memory.len() as usize];
        self.memory.copy_out(0, &mut bytes).expect("inside");
        bytes
    }

    /// Puts them back.
    ///
    /// # Panics
    /// If there are more than the region has.
    pub fn restore(&self, bytes: &[u8]) {
        self.memory.copy_in(0, bytes).expect("inside");
    }

    /// Delivers a datagram; the answer.
    fn deliver(&self, datagram: &[u8]) -> Reply {
        let network = Network::v4(port(APP, SHARD));
        let output = self.bench.send(&network.frame(datagram));
        assert_eq!(output.retval, self.bench.transmitted(), "the datagram was not answered");
        let reply = Reply::read(&output.data[network.header_len()..]);
        assert!(reply.signed && matches!(reply.kind, 2 | 4));
        reply
    }

    /// Runs a message without any cut.
    ///
    /// # Panics
    /// If it is not answered.
    pub fn whole(&self, call: &Call) -> End {
        let reply = self.deliver(&self.request(call, 0, 0).datagram());
        let answer = &reply.answers[0];
        (answer.status, answer.code, answer.reply.clone())
    }

    /// Runs a message in pieces, here and there; `meanwhile` happens before each of them.
    ///
    /// # Panics
    /// If a late copy changes anything.
    pub fn in_pieces(&self, call: &Call, numbers: &mut Numbers, meanwhile: &mut dyn FnMut(&mut Numbers)) -> End {
        let mut sent = vec![self.request(call, call.at, 1).continued()];
        let end = loop {
            let datagram = sent.last().expect("one at least").clone();
            meanwhile(numbers);
            if numbers.below(4) == 0 {
                // A copy from before is still on its way, whatever it does there.
                let late = numbers.below(sent.len() as u64) as usize;
                self.deliver(&sent[late]);
            }
            if numbers.below(4) == 0 {
                // Its answer is lost.
                self.deliver(&datagram);
                meanwhile(numbers);
            }
            let answer = self.deliver(&datagram).answers.remove(0);
            if answer.flags & MESSAGE_CARRIED == 0 {
                break (answer.status, answer.code, answer.reply);
            }
            assert_eq!(answer.status, 0);
            let header = wire::Message::decode(&answer.raw).expect("a message");
            let carried = Carried::decode(&header, &answer.raw[32..]).expect("carried");
            let piece = if numbers.below(2) == 0 {
                self.natively(call, &carried, numbers, meanwhile)
            } else {
                self.by_engine(call, &carried, numbers, meanwhile)
            };
            match piece {
                Ok(piece) => sent.push(piece),
                Err(end) => break end,
            }
        };
        let writes = self.part(call).writes;
        let after = if writes { self.bytes() } else { vec![] };
        for datagram in &sent {
            let answer = self.deliver(datagram).answers.remove(0);
            if writes && answer.flags & MESSAGE_CARRIED == 0 && end.0 == 0 {
                assert_eq!((answer.status, answer.code), (end.0, end.1), "a late copy gets another end");
            }
        }
        assert!(!writes || self.bytes() == after, "a late copy had an effect");
        end
    }

    /// Goes on with a message at the client, for some steps; the datagram that takes it home, or its end.
    fn natively(
        &self,
        call: &Call,
        carried: &Carried<'_>,
        numbers: &mut Numbers,
        meanwhile: &mut dyn FnMut(&mut Numbers),
    ) -> Result<Vec<u8>, End> {
        let mut m = Msg::from(NaamMsg::ZERO);
        carried.restore(SHARD, &mut m);
        let (mut step, mut steps) = (carried.step(), u32::from(carried.steps()));
        for _ in 0..numbers.below(4) {
            if step != Step::Read {
                break;
            }
            meanwhile(numbers);
            step = (self.part(call).step)(&self.memory, &mut m);
            steps += 1;
            m.step = steps;
            match step {
                Step::Done => return Err((0, m.code, native::reply(&m))),
                Step::Fail => return Err((Status::Failed as u16, m.code, vec![])),
                _ => {}
            }
        }
        let state_len = self.codes[call.handler].meta.state_len as usize / 8;
        let mut buffer = [0; CARRIED_BYTES_MAX];
        let cut = Carried::cut(&m, step, steps, state_len, &mut buffer).expect("it can be carried");
        Ok(self.carried(call, &cut))
    }

    /// The same in the engine.
    fn by_engine(
        &self,
        call: &Call,
        carried: &Carried<'_>,
        numbers: &mut Numbers,
        meanwhile: &mut dyn FnMut(&mut Numbers),
    ) -> Result<Vec<u8>, End> {
        let mut run = Run::resume(&self.programs[call.handler], carried, SHARD);
        for _ in 0..numbers.below(4) {
            let Action::Read { offset, len, .. } = run.action() else { break };
            meanwhile(numbers);
            let mut bytes = vec![0; len as usize];
            self.memory.copy_out(offset, &mut bytes).expect("inside");
            run.on_read(&bytes).expect("no fault");
            if let Action::Ended(end) = run.action() {
                return Err((end.status as u16, end.code, end.reply.to_vec()));
            }
        }
        let mut buffer = [0; CARRIED_BYTES_MAX];
        let cut = run.cut(&mut buffer).expect("it can be carried");
        Ok(self.carried(call, &cut))
    }

    /// The fresh message, to the function with all steps or with `steps[at - 1]`, under slot `slot`.
    fn request(&self, call: &Call, at: u16, slot: u16) -> Request {
        let message = Message { slot, sequence: call.sequence, ..Message::new(7, &call.args, call.room) };
        let function = function(self.parts.len(), call.handler as u16, at);
        Request { app: APP, function, handler: 1, shard: SHARD, session: SESSION, messages: vec![message] }
    }

    /// A Continue of the cut message.
    fn carried(&self, call: &Call, cut: &Carried<'_>) -> Vec<u8> {
        let mut datagram = self.request(call, call.at, 1).continued();
        let mut header = wire::Message::decode(&datagram[48..]).expect("our own");
        cut.fill(&mut header);
        header.encode(&mut datagram[48..]);
        datagram.truncate(48 + 32);
        datagram.extend(cut.body());
        datagram.resize(48 + 32 + usize::from(header.room), 0);
        let length = datagram.len() as u16;
        datagram[20..22].copy_from_slice(&length.to_le_bytes());
        sign(&mut datagram);
        datagram
    }
}

/// The number of a handler's function with all steps of a visit, or with `steps[at - 1]`.
fn function(handlers: usize, handler: u16, at: u16) -> u16 {
    16 + at * handlers as u16 + handler
}

/// A call of a handler.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which of the host's parts.
    pub handler: usize,
    /// Its arguments.
    pub args: Vec<u8>,
    /// Its room.
    pub room: usize,
    /// Its sequence.
    pub sequence: u32,
    /// Which steps the pieces have: [`Home::any_steps`].
    pub at: u16,
}

impl Call {
    /// A call with room for all that it may carry, and for `reply` bytes.
    pub fn new(handler: usize, args: Vec<u8>, reply: usize, sequence: u32, at: u16) -> Self {
        let room = Carried::bytes(args.len(), STATE_BYTES / 8, reply).max(reply);
        Self { handler, args, room, sequence, at }
    }
}
