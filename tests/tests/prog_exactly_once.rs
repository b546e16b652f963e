//! Writing messages run exactly once: against a model, over wrapped sequences, across sessions and
//! replaced handlers, and from two CPUs at the same time.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use naam_abi::tables::{RIGHT_ALL, SessionEntry};
use naam_abi::wire::Status;
use naam_admission::Admitted;
use naam_loader::Hook;
use naam_tests::bench::{Bench, port};
use naam_tests::cpus::{self, StartLine};
use naam_tests::effort;
use naam_tests::frame::{Answer, Message, Network, Reply, Request};
use naam_tests::handlers::handler_with;
use naam_tests::stage::{APP, FUNCTION, SHARD, Stage, pattern};
use naam_tests::verdict::variants;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const INDEXES: [u32; 2] = [7, 1023];
const SLOTS: [u16; 3] = [0, 1, 63];

/// Two builds of a handler that adds one and answers with the build's number.
fn builds() -> [Admitted; 2] {
    [handler_with("answer", &["-DANSWER=1"]), handler_with("answer", &["-DANSWER=2"])]
}

/// What a test does.
#[derive(Clone, Debug)]
enum Act {
    /// One datagram: messages of (slot, distance from the slot's last sequence).
    Send(usize, Vec<(usize, i32)>),
    /// The session ends, and its place is used by the next; the next sequences start there.
    Reopen(usize, u32),
    /// The last datagram of the session before comes late.
    Ghost(usize),
    /// Another build of the handler takes over.
    Replace,
}

fn distance() -> impl Strategy<Value = i32> {
    prop_oneof![
        6 => Just(1),
        4 => Just(0),
        2 => -3..0,
        1 => 2..5,
        1 => Just(i32::MAX),
        1 => Just(i32::MIN),
        1 => Just(i32::MIN + 1),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let message = (0..SLOTS.len(), distance());
    prop_oneof![
        30 => (0..INDEXES.len(), proptest::collection::vec(message, 1..6)).prop_map(|(s, m)| Act::Send(s, m)),
        2 => (0..INDEXES.len(), prop_oneof![Just(0), Just(u32::MAX), Just(1 << 31), any::<u32>()])
            .prop_map(|(s, start)| Act::Reopen(s, start)),
        1 => (0..INDEXES.len()).prop_map(Act::Ghost),
        1 => Just(Act::Replace),
    ]
}

/// What is known of a slot: the sequence it ran last, and its answer.
#[derive(Clone, Debug, Default)]
struct Slot {
    last: Option<(u32, u32, u64)>,
    /// Sequence from which distances count while nothing ran.
    start: u32,
}

struct Model<'a> {
    stage: &'a Stage,
    builds: &'a [Admitted; 2],
    version: u16,
    generations: [u32; 2],
    slots: HashMap<(usize, usize), Slot>,
    counters: HashMap<(usize, usize), u64>,
}

/// Where the counter of a session's slot lies in region 0.
fn place(session: usize, slot: usize) -> u64 {
    (session * SLOTS.len() + slot) as u64 * 64
}

fn message(sequence: u32, slot: u16, offset: u64) -> Message {
    Message { slot, sequence, ..Message::new(sequence, &offset.to_le_bytes(), 16) }
}

impl<'a> Model<'a> {
    fn new(stage: &'a Stage, builds: &'a [Admitted; 2], version: u16, generations: [u32; 2]) -> Self {
        stage.reset();
        let mut model = Self { stage, builds, version, generations, slots: HashMap::new(), counters: HashMap::new() };
        for session in 0..2 {
            model.reopen(session, 1);
        }
        model
    }

    fn session(&self, session: usize) -> u32 {
        self.generations[session] << 10 | INDEXES[session]
    }

    fn reopen(&mut self, session: usize, start: u32) {
        self.generations[session] += 1;
        let entry = SessionEntry {
            session: self.session(session),
            app: APP.into(),
            handler_rights: [RIGHT_ALL; 8],
            ..SessionEntry::default()
        };
        self.stage.bench.datapath.tables().open_session(&entry);
        for slot in 0..SLOTS.len() {
            self.slots.insert((session, slot), Slot { last: None, start });
        }
    }

    fn apply(&mut self, act: &Act) {
        match act {
            Act::Send(session, messages) => self.send(*session, messages),
            Act::Reopen(session, start) => self.reopen(*session, *start),
            Act::Ghost(session) => {
                let messages = vec![message(1, SLOTS[0], place(*session, 0))];
                let request = Request { session: self.session(*session) - 1024, ..Stage::request(messages) };
                let (_, reply) = self.stage.judge(&request, "a ghost");
                assert_eq!((reply.kind, reply.status), (5, Status::Session as u16));
            }
            Act::Replace => {
                self.version += 1;
                self.stage.load(FUNCTION, self.version, &self.builds[usize::from(self.version) % 2]);
            }
        }
        for ((session, slot), count) in &self.counters {
            let offset = place(*session, *slot);
            let found = self.stage.memory[0].load(offset, Ordering::SeqCst).expect("inside");
            assert_eq!(found - pattern(0, offset), *count, "session {session}, slot {slot} after {act:?}");
        }
    }

    fn send(&mut self, session: usize, messages: &[(usize, i32)]) {
        // Distances count from what the slot ran before this datagram.
        let sequences: Vec<u32> = messages
            .iter()
            .map(|(slot, distance)| {
                let slot = &self.slots[&(session, *slot)];
                slot.last.map_or(slot.start, |(last, ..)| last).wrapping_add_signed(*distance)
            })
            .collect();
        let wire = messages.iter().zip(&sequences);
        let wire = wire.map(|((slot, _), sequence)| message(*sequence, SLOTS[*slot], place(session, *slot)));
        let request = Request { session: self.session(session), ..Stage::request(wire.collect()) };
        let (_, reply) = self.stage.judge(&request, "a datagram");
        assert_eq!((reply.kind, reply.handler), (2, self.version));

        let build = u64::from(self.version) % 2 + 1;
        // Slots that a message of this datagram is running, with its sequence.
        let mut running: HashMap<usize, u32> = HashMap::new();
        for (i, ((slot, _), sequence)) in messages.iter().zip(&sequences).enumerate() {
            let key = (session, *slot);
            let known = self.slots[&key].last;
            let last = running.get(slot).copied().or(known.map(|(last, ..)| last));
            let ahead = last.map_or(1, |last| sequence.wrapping_sub(last) as i32);
            let answer = &reply.answers[i];
            let fate = (answer.status, answer.flags, answer.reply.is_empty());
            let what = format!("message {i} of {messages:?}: {answer:?}, before: {known:?}");
            if ahead < 0 {
                assert_eq!(fate, (Status::Stale as u16, 1, true), "{what}");
            } else if running.contains_key(slot) {
                assert_eq!(fate, (Status::Running as u16, 1, true), "{what}");
            } else if ahead == 0 {
                let (_, code, found) = known.expect("a sequence that ran");
                assert_eq!(fate, (Status::Ok as u16, 5, false), "{what}");
                assert_eq!((answer.code, word(answer, 1)), (code, found), "{what}: not the first answer");
            } else {
                assert_eq!(fate, (Status::Ok as u16, 1, false), "{what}");
                let counter = self.counters.entry(key).or_default();
                let found = pattern(0, place(session, *slot)) + *counter;
                assert_eq!((u64::from(answer.code), word(answer, 0), word(answer, 1)), (build, build, found), "{what}");
                *counter += 1;
                running.insert(*slot, *sequence);
                let answered = (*sequence, answer.code, found);
                self.slots.get_mut(&key).expect("every slot is known").last = Some(answered);
            }
        }
    }
}

fn word(answer: &Answer, at: usize) -> u64 {
    u64::from_le_bytes(answer.reply[at * 8..at * 8 + 8].try_into().expect("eight bytes"))
}

#[test]
fn any_order_of_any_copies_runs_each_message_once() {
    let builds = builds();
    for (hook, may_goto) in variants() {
        let stage = Stage::new(hook, may_goto, &builds[1]);
        // Generations and versions never come back, so that cases do not meet.
        let state = std::cell::Cell::new((1u16, [0u32; 2]));
        let config = Config { cases: effort::rounds(24, 2000), failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(
            config,
            proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed()),
        );
        let acts = proptest::collection::vec(act(), 1..60);
        let result = runner.run(&acts, |acts| {
            let (version, generations) = state.get();
            let mut model = Model::new(&stage, &builds, version, generations);
            for act in &acts {
                model.apply(act);
                state.set((model.version, model.generations));
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{}: {error}", stage.bench.name()));
    }
}

/// `NAAM_SEED`, or a fixed one; printed either way.
fn seed() -> [u8; 32] {
    let seed: u64 = std::env::var("NAAM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("NAAM_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

/// A slot that has run nothing takes any sequence, in whatever generation its session is.
#[test]
fn a_fresh_slot_takes_any_first_sequence() {
    let [_, build] = builds();
    for (hook, may_goto) in variants() {
        let stage = Stage::new(hook, may_goto, &build);
        // The slots keep 16 bits of a generation: 65536 is 0 there.
        for generation in [0u32, 1, 0xffff, 0x1_0000, 0x3f_ffff] {
            for sequence in [0u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
                let session = generation << 10 | 7;
                let entry = SessionEntry {
                    session,
                    app: APP.into(),
                    handler_rights: [RIGHT_ALL; 8],
                    ..SessionEntry::default()
                };
                stage.bench.datapath.tables().open_session(&entry);
                let request = Request { session, ..Stage::request(vec![message(sequence, 0, 0)]) };
                for flags in [1, 5] {
                    let (_, reply) = stage.judge(&request, "first");
                    let answer = &reply.answers[0];
                    let what = format!("{}, generation {generation}, sequence {sequence}", stage.bench.name());
                    assert_eq!((answer.status, answer.flags), (Status::Ok as u16, flags), "{what}");
                }
            }
        }
        let sum = stage.memory[0].load(0, Ordering::SeqCst).expect("inside") - pattern(0, 0);
        assert_eq!(sum, 25, "{}", stage.bench.name());
    }
}

#[test]
fn sequences_go_on_over_their_wrap() {
    let [_, build] = builds();
    for (hook, may_goto) in variants() {
        let stage = Stage::new(hook, may_goto, &build);
        let mut sequence = u32::MAX - 5;
        for round in 1..12 {
            for copy in [1, 5, 5] {
                let (_, reply) = stage.judge(&Stage::request(vec![message(sequence, 0, 0)]), "wrap");
                assert_eq!((reply.answers[0].status, reply.answers[0].flags), (0, copy), "{sequence}");
            }
            let late = message(sequence.wrapping_sub(1), 0, 0);
            if round > 1 {
                let (_, reply) = stage.judge(&Stage::request(vec![late]), "late");
                assert_eq!(reply.answers[0].status, Status::Stale as u16, "{sequence}");
            }
            let sum = stage.memory[0].load(0, Ordering::SeqCst).expect("inside") - pattern(0, 0);
            assert_eq!(sum, round, "{sequence}");
            sequence = sequence.wrapping_add(1);
        }
    }
}

/// The same datagram on two CPUs at the same moment: one runs it, the other meets it running or done.
#[test]
fn copies_on_two_cpus_at_once_run_once() {
    let [_, build] = builds();
    let [a, b] = cpus::two();
    let rounds = effort::rounds(4_000, 200_000);
    for hook in Hook::ALL {
        let stage = Stage::new(hook, Bench::may_goto(), &build);
        let network = Network::v4(port(APP, SHARD));
        let frames: Vec<_> = (1..=rounds)
            .map(|sequence| {
                let messages = (0..4).map(|slot| message(sequence, slot, u64::from(slot) * 64)).collect();
                network.frame(&Stage::request(messages).datagram())
            })
            .collect();
        let line = StartLine::default();
        let run = |cpu| {
            let (stage, frames, line, network) = (&stage, &frames, &line, &network);
            move || {
                cpus::pin(cpu);
                let each = frames.iter().enumerate().map(|(round, frame)| {
                    line.wait(2, round);
                    let output = stage.bench.send(frame);
                    assert_eq!(output.retval, stage.bench.transmitted());
                    Reply::read(&output.data[network.header_len()..])
                });
                each.collect::<Vec<_>>()
            }
        };
        let (first, second) = std::thread::scope(|scope| {
            let (first, second) = (scope.spawn(run(a)), scope.spawn(run(b)));
            (first.join().expect("a thread"), second.join().expect("a thread"))
        });
        let mut met_running = 0;
        for (round, (first, second)) in first.iter().zip(&second).enumerate() {
            for slot in 0..4 {
                let both = [&first.answers[slot], &second.answers[slot]];
                let ran = both.iter().filter(|answer| (answer.status, answer.flags) == (0, 1)).count();
                assert_eq!(ran, 1, "{hook}, round {round}, slot {slot}: {both:?}");
                let found = pattern(0, slot as u64 * 64) + round as u64;
                for answer in both {
                    match (answer.status, answer.flags) {
                        (0, 1 | 5) => assert_eq!(word(answer, 1), found, "{hook}, round {round}, slot {slot}"),
                        (status, flags) => {
                            assert_eq!((status, flags), (Status::Running as u16, 1), "{hook}, round {round}");
                            met_running += 1;
                        }
                    }
                }
            }
        }
        println!("{hook}: {met_running} of {} copies met the first at work", rounds * 4);
        let sums: Vec<_> = (0..4)
            .map(|slot| stage.memory[0].load(slot * 64, Ordering::SeqCst).expect("inside") - pattern(0, slot * 64))
            .collect();
        assert_eq!(sums, [u64::from(rounds); 4], "{hook}");
    }
}
