//! Any state that a client can make up, before every handler of the project, in the host's kernel and in the engine: it
//! ends with a status or is given back, both sites agree, and no byte changes for which the session lacks the raw right.
//!
//! `naam-ebpf/handlers/tests/any_state.rs` has the same of the sources, without a kernel.

use std::sync::Arc;

use naam_abi::handler::Meta;
use naam_abi::limits::{REPLY_BYTES, STATE_BYTES, STEPS_MAX};
use naam_abi::tables::{RIGHT_ALL, RIGHT_READ};
use naam_abi::wire::{self, Kind, MESSAGE_CARRIED, STATUS_NAMES, Status};
use naam_admission::{Admitted, admit};
use naam_engine::{Action, Engine, Image, Limited, Machine, Program, Run};
use naam_loader::Hook;
use naam_sys::Mapping;
use naam_tests::bench::{SESSION, port};
use naam_tests::frame::{Answer, Carried, Message, Network, Request};
use naam_tests::objects;
use naam_tests::stage::{APP, FUNCTION, SHARD, SINGLE, Stage, VALUE, VALUES};

/// Function numbers; those of the one-sided functions are their own.
const HANDLERS: [(u16, &str); 14] = [
    (0, "naam_read"),
    (1, "naam_write"),
    (2, "naam_cas"),
    (3, "naam_faa"),
    (4, "naam_chain"),
    (FUNCTION + 1, "echo"),
    (FUNCTION + 2, "counter"),
    (FUNCTION + 3, "chain"),
    (FUNCTION + 4, "mica_get"),
    (FUNCTION + 5, "mica_set"),
    (FUNCTION + 6, "mica_cas"),
    (FUNCTION + 7, "mica_delete"),
    (FUNCTION + 8, "cell_get"),
    (FUNCTION + 9, "cell_scan"),
];
/// Messages to a handler, with each set of rights.
const MESSAGES: u32 = 150;

/// A seeded sequence of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) % bound
    }

    /// As an attacker would choose it: small, a place in memory, near a limit, or anything.
    fn word(&mut self) -> u64 {
        match self.below(8) {
            0..=2 => self.below(40),
            3..=4 => self.below(SINGLE / 8) * 8,
            5 => {
                [SINGLE, VALUE, VALUE * VALUES, 1 << 32, u64::MAX, 1 << 63][self.below(6) as usize] - self.below(3) * 8
            }
            6 => self.below(64) | self.below(2_000) << 32,
            _ => self.below(u64::MAX),
        }
    }

    fn words(&mut self, count: u64) -> Vec<u64> {
        (0..count).map(|_| self.word()).collect()
    }

    /// A message within the limits of its handler's description; nothing else of it is true.
    fn message(&mut self, meta: &Meta) -> Message {
        let reply_max = self.below(u64::from(meta.reply_max) / 8 + 1) as u8;
        let reply_len = self.below(u64::from(reply_max) * 8 + 1);
        let count = self.below(40);
        let args: Vec<u8> = self.words(count).iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut op = [0; 5];
        op.fill_with(|| self.word());
        // Most of the ops can be performed.
        if self.below(4) > 0 {
            op[0] = self.below(VALUE / 8) * 8;
            op[3] = self.below(2) | (64 << self.below(5)) << 32;
            op[4] = self.below(64) * 8;
        }
        let step = match self.below(16) {
            0 => self.below(256) as u8,
            1..=8 => 1,
            _ => 1 + self.below(4) as u8,
        };
        let carried = Carried {
            step,
            steps: self.below(200) as u8,
            code: self.word() as u32,
            op,
            state: self.words(u64::from(meta.state_len / 8)),
            reply: self
                .words(reply_len.div_ceil(8))
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .take(reply_len as usize)
                .collect(),
            reply_max,
        };
        let parts = args.len() + 40 + carried.state.len() * 8 + carried.reply.len().next_multiple_of(8);
        let room = parts.max(usize::from(reply_max) * 8);
        Message { room, carried: Some(carried), ..Message::new(7, &args, 0) }
    }
}

struct Sites {
    stage: Stage,
    image: Image,
    programs: Vec<Arc<Program>>,
    sequence: u32,
}

/// What became of a message: status, steps, code, reply.
type Fate = (&'static str, u32, u32, Vec<u8>);

impl Sites {
    fn new(hook: Hook, machine: Machine, codes: &[Admitted]) -> Self {
        let stage = Stage::new(hook, true, &codes[5]);
        for ((number, _), code) in HANDLERS.iter().zip(codes) {
            stage.load(*number, 1, code);
        }
        let mut image = Image::new();
        for (memory, value_len) in stage.memory.iter().zip([SINGLE, VALUE]) {
            image.push_values(&bytes(memory), value_len).expect("whole values");
        }
        let engine = Engine::new(machine);
        let programs = codes.iter().map(|code| engine.load(code).unwrap_or_else(|error| panic!("{error}"))).collect();
        Self { stage, image, programs, sequence: 0 }
    }

    /// Demands an answer of home.
    fn home(&mut self, function: u16, message: &Message) -> Answer {
        self.sequence += 1;
        let messages = vec![Message { sequence: self.sequence, ..message.clone() }];
        let request = Request { app: APP, function, handler: 1, shard: SHARD, session: SESSION, messages };
        let network = Network::v4(port(APP, SHARD));
        let frame = network.frame(&request.continued());
        let outcome = self.stage.bench.judge(APP.into(), &frame);
        let mut reply = outcome.assert_answered(&network, &frame, "a made-up state");
        let answer = reply.answers.remove(0);
        let carried = answer.flags & MESSAGE_CARRIED != 0;
        assert_eq!(reply.kind, if carried { Kind::Pushback } else { Kind::Reply } as u8);
        assert!(reply.signed && Status::from_code(answer.status).is_some(), "{answer:?}");
        if carried {
            let header = wire::Message::decode(&answer.raw).expect("a message");
            wire::Carried::decode(&header, &answer.raw[32..]).expect("a client can go on with it");
        }
        answer
    }

    /// The same in the engine, under the rights that count at home. `None` if its handler was shown a part of a line:
    /// what it sees behind that is not specified.
    fn engine(&self, handler: usize, message: &Message, rights: [u8; 8]) -> Option<Fate> {
        let request = Request {
            app: APP,
            function: 0,
            handler: 1,
            shard: SHARD,
            session: SESSION,
            messages: vec![message.clone()],
        };
        let datagram = request.continued();
        let header = wire::Message::decode(&datagram[48..]).expect("a message");
        let Ok(carried) = wire::Carried::decode(&header, &datagram[80..]) else {
            return Some(("bad_step", header.steps.into(), 0, vec![]));
        };
        let mut run = Run::resume(&self.programs[handler], &carried, SHARD);
        let memory = Limited { memory: &self.image, rights };
        for _ in 0..=STEPS_MAX {
            match run.action() {
                Action::Ended(end) => {
                    let status = STATUS_NAMES[end.status as usize];
                    return Some((status, end.steps, end.code, end.reply.to_vec()));
                }
                Action::Read { len, .. } if !len.is_multiple_of(64) => return None,
                _ => {}
            }
            run.perform(&memory).expect("no fault");
        }
        panic!("a visit has {STEPS_MAX} steps");
    }
}

fn bytes(memory: &Mapping) -> Vec<u8> {
    let mut bytes = vec![0; memory.len() as usize];
    memory.copy_out(0, &mut bytes).expect("inside");
    bytes
}

/// With READ alone memory stays as it is: both sites see the same, and say the same.
#[test]
fn whoever_may_only_read_changes_nothing_at_either_site() {
    let codes: Vec<_> = HANDLERS.map(|(_, name)| admit(&objects::read(name)).expect("admitted")).into();
    for (hook, machine) in [(Hook::Xdp, Machine::Jit), (Hook::Tc, Machine::Interpreter)] {
        let mut sites = Sites::new(hook, machine, &codes);
        let raw = [RIGHT_READ, RIGHT_READ, 0, 0, 0, 0, 0, 0];
        sites.stage.bench.datapath.tables().set_rights(SESSION, [RIGHT_ALL; 8], raw);
        let mut numbers = Numbers(11);
        for (handler, ((number, name), code)) in HANDLERS.iter().zip(&codes).enumerate() {
            let mut ends = std::collections::BTreeMap::<_, u32>::new();
            for round in 0..MESSAGES {
                let message = numbers.message(&code.meta);
                let answer = sites.home(*number, &message);
                // Given back at home, the engine's has used up its visit.
                let carried = answer.flags & MESSAGE_CARRIED != 0;
                let status = if carried { "budget" } else { STATUS_NAMES[usize::from(answer.status)] };
                *ends.entry(status).or_default() += 1;
                let Some(there) = sites.engine(handler, &message, raw) else { continue };
                let here = (status, u32::from(answer.steps), answer.code, answer.reply);
                let what = format!("{hook}, {name}, message {round}: {message:x?}");
                assert_eq!((there.0, there.1), (here.0, here.1), "{what}");
                // What was not taken in has no code.
                if !carried && status != "bad_step" {
                    assert_eq!(there, here, "{what}");
                }
            }
            println!("{hook}, {name}: {ends:?}");
            assert!(ends.len() > 1, "{name}: too little was tried");
        }
        assert_eq!(sites.stage.changes(), [], "{hook}");
        for (region, memory) in sites.stage.memory.iter().enumerate() {
            let words = sites.image.words(region).iter().map(|word| word.load(std::sync::atomic::Ordering::Relaxed));
            assert!(
                words.eq(bytes(memory).as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))),
                "the engine's memory"
            );
        }
    }
}

/// More state or a longer reply than its handler has: no step is run, and both sites say the same. At the limit it goes on.
#[test]
fn what_is_longer_than_its_handler_allows_ends_alike() {
    let codes: Vec<_> = HANDLERS.map(|(_, name)| admit(&objects::read(name)).expect("admitted")).into();
    for (hook, machine) in [(Hook::Xdp, Machine::Jit), (Hook::Tc, Machine::Interpreter)] {
        let mut sites = Sites::new(hook, machine, &codes);
        let raw = [RIGHT_READ, RIGHT_READ, 0, 0, 0, 0, 0, 0];
        sites.stage.bench.datapath.tables().set_rights(SESSION, [RIGHT_ALL; 8], raw);
        let mut refused = 0;
        for (handler, ((number, name), code)) in HANDLERS.iter().zip(&codes).enumerate() {
            let (state_max, reply_max) = (code.meta.state_len as usize / 8, code.meta.reply_max as usize / 8);
            for state in [state_max, state_max + 1, STATE_BYTES / 8] {
                for reply in [reply_max, reply_max + 1, REPLY_BYTES / 8] {
                    if state > STATE_BYTES / 8 || reply > REPLY_BYTES / 8 {
                        continue;
                    }
                    // It waits for 64 bytes of region 1.
                    let op = [0, 0, 0, 1 | 64 << 32, 0];
                    let carried = Carried {
                        step: 1,
                        steps: 3,
                        code: 9,
                        op,
                        state: vec![0; state],
                        reply: Vec::new(),
                        reply_max: reply as u8,
                    };
                    let message = Message { room: REPLY_BYTES, carried: Some(carried), ..Message::new(7, &[0; 8], 0) };
                    let answer = sites.home(*number, &message);
                    let there = sites.engine(handler, &message, raw);
                    let what = format!("{hook}, {name}: {state} words of state, a reply of {reply}");
                    let longer = state > state_max || reply > reply_max;
                    if longer {
                        // No step beyond the three that it says were run.
                        assert_eq!(there, Some(("too_long", 3, answer.code, vec![])), "{what}");
                    } else {
                        assert!(there.is_none_or(|(status, ..)| status != "too_long"), "{what}");
                    }
                    assert_eq!(answer.status == Status::TooLong as u16, longer, "{what}");
                    assert_eq!((answer.steps == 3, answer.reply.is_empty() || !longer), (longer, true), "{what}");
                    refused += u32::from(longer);
                }
            }
        }
        assert!(refused > 10, "{hook}: {refused}");
        assert_eq!(sites.stage.changes(), [], "{hook}");
    }
}

/// All rights to region 0, by one door only to region 1: what changes is in region 0.
#[test]
fn nothing_changes_where_one_door_is_closed() {
    let codes: Vec<_> = HANDLERS.map(|(_, name)| admit(&objects::read(name)).expect("admitted")).into();
    for hook in [Hook::Xdp, Hook::Tc] {
        let mut sites = Sites::new(hook, Machine::Best, &codes);
        sites.stage.bench.datapath.tables().set_rights(SESSION, [RIGHT_ALL; 8], [RIGHT_ALL, 0, 0, 0, 0, 0, 0, 0]);
        let mut numbers = Numbers(12);
        let mut changed = 0;
        for ((number, name), code) in HANDLERS.iter().zip(&codes) {
            (0..MESSAGES).for_each(|_| drop(sites.home(*number, &numbers.message(&code.meta))));
            let changes = sites.stage.changes();
            assert_eq!(changes.iter().find(|(region, ..)| *region == 1), None, "{hook}, {name}");
            changed += changes.len();
        }
        assert!(changed > 300, "{hook}: {changed} words changed, too little was tried");
    }
}
