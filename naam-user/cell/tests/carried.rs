//! Messages that are cut and carried, and messages that somebody made up.

mod reader;

use std::time::Duration;

use naam_abi::handler::Step;
use naam_abi::limits::STEPS_MAX;
use naam_abi::wire::Status;
use naam_cell::{Options, Quarantine, Tree};
use naam_handler::native::{Memory, Progress, UNSPECIFIED, Visit, request, run};
use naam_handler::{Msg, View1k};
use naam_handlers::cell::{self, args};
use proptest::prelude::*;
use reader::Handler;

const HANDLERS: [(&str, Handler); 2] = [("get", cell::get), ("scan", cell::scan)];

/// A tree of three levels, with values in leaves and in blocks.
fn tree(memory: &Memory) -> Tree<&Memory> {
    let quarantine = Quarantine { blocks: 0, time: Duration::ZERO };
    let mut tree = Tree::format(memory, Options { quarantine, ..Options::default() }).unwrap();
    tree.load((0..3_000u32).map(|i| (key(i), vec![i as u8; if i % 9 == 0 { 700 } else { 20 }]))).unwrap();
    assert_eq!(tree.height(), 3);
    tree
}

fn key(number: u32) -> Vec<u8> {
    format!("key{number:06}").into_bytes()
}

/// What does not travel with a message.
fn scramble(m: &mut Msg) {
    let (args, reply) = (m.arg_len.div_ceil(8) as usize, m.reply_len.div_ceil(8) as usize);
    m.args[args..].fill(UNSPECIFIED);
    m.reply[reply..].fill(0);
}

fn messages() -> impl Iterator<Item = (Handler, Msg)> {
    let get = |number: u32| (cell::get as Handler, reader::get_message(&key(number)));
    let scan = |number: u32| {
        let flags = if number.is_multiple_of(2) { args::KEYS_ONLY } else { args::EXCLUSIVE };
        (cell::scan as Handler, reader::scan_message(&key(number), flags, 32))
    };
    (0..3_100).step_by(61).map(get).chain((0..3_100).step_by(67).map(scan))
}

#[test]
fn a_message_cut_after_any_step_ends_the_same() {
    let memory = Memory::new(&[2 << 20]);
    let _tree = tree(&memory);
    let mut cuts = 0;
    for (handler, message) in messages() {
        let mut whole = message.clone();
        let status = run(handler, &mut whole, &memory);
        let mut m = message;
        let mut visit = Visit::<View1k>::new();
        let ended = loop {
            match visit.advance(handler, &mut m, &memory) {
                Progress::Pending(op) => {
                    scramble(&mut m);
                    visit = Visit::resume(op);
                    cuts += 1;
                }
                Progress::Finished(status) => break status,
            }
        };
        assert_eq!((ended, m.code, m.reply_len), (status, whole.code, whole.reply_len));
        assert_eq!(naam_handler::native::reply(&m), naam_handler::native::reply(&whole));
    }
    assert!(cuts > 400, "{cuts} cuts");
}

/// Words as an attacker would choose them.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..80u64,
        any::<u64>(),
        (0..70u64, 0..4u64, 0..40u64).prop_map(|(key_len, flags, keys)| key_len | flags << 16 | keys << 32),
        (0..2_100u64, 0..3u64).prop_map(|(index, generation)| generation << 32 | index),
        (0..5u64, 0..256u64, 0..40u64, 0..6u64, 0..200u64).prop_map(|(phase, restarts, keys, siblings, words)| {
            phase | restarts << 8 | keys << 16 | siblings << 24 | words << 32
        }),
        Just(u64::MAX),
    ]
}

/// Runs to the end; nothing may be written.
fn finish(handler: Handler, m: &mut Msg, memory: &Memory) -> Status {
    let mut visit = Visit::<View1k>::new().read_only();
    loop {
        match visit.advance(handler, m, memory) {
            Progress::Pending(op) => assert_eq!(op, Step::Read),
            Progress::Finished(status) => return status,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_arguments_are_answered(words in prop::collection::vec(word(), 0..12), cut in 0..8usize, which in 0..2usize) {
        let memory = Memory::new(&[2 << 20]);
        let _tree = tree(&memory);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut m = request(&bytes[..bytes.len().saturating_sub(cut)]);
        let status = finish(HANDLERS[which].1, &mut m, &memory);
        prop_assert!(matches!(status, Status::Ok | Status::Failed), "{}: {status:?}", HANDLERS[which].0);
    }

    #[test]
    fn any_state_and_any_memory_are_survived(
        state in prop::collection::vec(word(), 16),
        arguments in prop::collection::vec(word(), 9),
        damage in prop::collection::vec((0..1u64 << 18, word()), 0..200),
        step in 0..STEPS_MAX,
        which in 0..2usize,
    ) {
        let memory = Memory::new(&[2 << 20]);
        let _tree = tree(&memory);
        for (at, word) in damage {
            memory.write(0, at * 8, word);
        }
        let mut m = request(&arguments.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
        m.state.copy_from_slice(&state);
        m.step = step;
        // Any end will do: what can be named was read with the session's own rights.
        finish(HANDLERS[which].1, &mut m, &memory);
    }
}
