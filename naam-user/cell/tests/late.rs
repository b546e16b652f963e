//! Messages that begin again late in their visit end with an answer or with `Retry`, never for want of steps.

mod reader;

use naam_abi::limits::STEPS_MAX;
use naam_abi::wire::Status;
use naam_cell::{Options, Tree};
use naam_handler::native::{Memory, run};
use naam_handler::{Msg, View, View1k};
use naam_handlers::cell::{self, Code};
use reader::Handler;

const KEYS: u32 = 6_000;

/// Long separators and long values: few entries a node, so many levels.
fn key(number: u32) -> Vec<u8> {
    [&(number / 8).to_be_bytes()[..], &[b'k'; 56], &(number % 8).to_be_bytes()].concat()
}

fn pair(number: u32) -> (Vec<u8>, Vec<u8>) {
    (key(number), vec![number as u8; if number.is_multiple_of(3) { 700 } else { 128 }])
}

fn tree(memory: &Memory) -> Tree<&Memory> {
    let mut tree = Tree::format(memory, Options::default()).unwrap();
    tree.load((0..KEYS).map(pair)).unwrap();
    assert!(tree.height() >= 4, "{}", tree.height());
    tree
}

/// Runs a message that finds torn words at those steps of `torn` at which it looks at a node or a value; the last
/// such step.
fn run_torn(handler: Handler, m: &mut Msg, memory: &Memory, torn: u32) -> (Status, Option<u32>) {
    let mut last = None;
    let status = run(
        |m: &mut Msg, v: &View1k| {
            let is_header = m.op_offset == 0;
            if is_header || torn >> m.step & 1 == 0 {
                return handler(m, v);
            }
            last = Some(m.step);
            let mut torn = v.clone();
            torn.words_mut().iter_mut().for_each(|word| *word ^= 1 << 40);
            handler(m, &torn)
        },
        m,
        memory,
    );
    (status, last)
}

/// Which steps find torn words: some early ones, and each late one.
fn torn() -> impl Iterator<Item = u32> {
    (0..STEPS_MAX).flat_map(|last| {
        (0..48u32).map(move |seed| {
            let random = (seed * STEPS_MAX + last + 1).wrapping_mul(2_654_435_761);
            let some = if seed.is_multiple_of(2) { random } else { random & random.rotate_left(11) };
            some & ((1 << last) - 1) | 1 << last
        })
    })
}

#[test]
fn a_get_is_answered_if_its_steps_suffice_else_asked_again() {
    let memory = Memory::new(&[32 << 20]);
    let height = tree(&memory).height();
    let (mut answered, mut retries) = (0, 0);
    for (number, torn) in (0..KEYS).step_by(7).cycle().zip(torn()) {
        let (key, expected) = pair(number);
        let mut m = reader::get_message(&key);
        let (status, last) = run_torn(cell::get, &mut m, &memory, torn);
        let reads = height + 1 + u32::from(expected.len() > 128);
        // The step that found torn words asks for the header.
        let suffices = last.is_none_or(|last| last + 1 + reads <= STEPS_MAX);
        match reader::value(status, &m) {
            Ok(value) => {
                assert!(suffices && value == Some(expected), "{torn:#x}");
                answered += u32::from(last.is_some());
            }
            Err(code) => {
                assert!(!suffices && code == Code::Retry, "{torn:#x}: {code:?} after torn words at {last:?}");
                retries += 1;
            }
        }
    }
    assert!(answered > 100 && retries > 50, "{answered} answered, {retries} retries");
}

#[test]
fn a_scan_never_ends_for_want_of_steps() {
    let memory = Memory::new(&[32 << 20]);
    tree(&memory);
    let (mut answered, mut retries) = (0, 0);
    for (number, torn) in (0..KEYS).step_by(7).cycle().zip(torn()) {
        let mut m = reader::scan_message(&key(number), 0, 32);
        let (status, last) = run_torn(cell::scan, &mut m, &memory, torn);
        match reader::entries(status, &m) {
            Ok((entries, ..)) => {
                assert_eq!(entries[0].0, key(number), "{torn:#x}");
                answered += u32::from(last.is_some());
            }
            Err(code) => {
                assert_eq!(code, Code::Retry, "{torn:#x}");
                retries += 1;
            }
        }
    }
    assert!(answered > 100 && retries > 50, "{answered} answered, {retries} retries");
}
