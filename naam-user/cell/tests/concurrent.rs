//! Readers that are overtaken by the writer notice it: no answer is ever wrong.

mod reader;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use naam_abi::handler::Step;
use naam_abi::wire::Status;
use naam_cell::{Options, Quarantine, Tree};
use naam_handler::native::{Memory, Progress, Visit, WordVisit, run};
use naam_handler::{Msg, View1k};
use naam_handlers::cell::layout::NODE_BYTES;
use naam_handlers::cell::{self, Code, args};
use proptest::prelude::*;
use reader::{Handler, entries, get_message, scan_message, value};

/// Frames are used again at once.
const AT_ONCE: Options = Options { quarantine: Quarantine { blocks: 0, time: Duration::ZERO }, inline_max: 128 };

fn soak() -> bool {
    std::env::var_os("NAAM_SOAK").is_some()
}

/// A random word.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

/// A value that tells its key in every word, and that all its words are of one write.
fn tagged(key: u64, version: u64) -> Vec<u8> {
    let version = version & 0xff_ffff;
    (key << 24 | version).to_le_bytes().repeat(1 + version as usize % 3)
}

fn is_tagged(key: u64, value: &[u8]) -> bool {
    let words: Vec<u64> = value.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
    words.iter().all(|&word| word == words[0] && word >> 24 == key)
        && words.first().is_some_and(|word| words.len() as u64 == 1 + (word & 0xff_ffff) % 3)
}

/// Ends the other threads, also when this one panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Even keys stay and get new values, odd ones come and go.
fn churn(tree: &mut Tree<&Memory>, random: &mut u64, keys: u64) {
    let mut batch = tree.batch();
    for _ in 0..8 {
        let number = next(random) % keys;
        let key = number.to_be_bytes();
        match next(random) % 4 {
            0 if number % 2 == 1 => _ = batch.delete(&key).unwrap(),
            _ => _ = batch.insert(&key, &tagged(number, next(random))).unwrap(),
        }
    }
    batch.commit().unwrap();
}

#[test]
fn look_ups_in_a_large_tree_are_right_while_a_writer_splits() {
    let (keys, bytes): (u64, usize) = if soak() { (20_000_000, 1 << 30) } else { (2_000_000, 256 << 20) };
    let look_ups = keys / 2;
    let memory = Memory::new(&[bytes]);
    let options = Options { quarantine: Quarantine { blocks: 16, time: Duration::ZERO }, ..Options::default() };
    let mut tree = Tree::format(&memory, options).unwrap();
    let begin = Instant::now();
    tree.load((0..keys).step_by(2).map(|number| (number.to_be_bytes(), tagged(number, 0)))).unwrap();
    let loaded = begin.elapsed();
    let report = tree.verify().unwrap();
    println!("{} keys loaded in {loaded:.1?}: {report:?}", report.keys);
    let (done, restarts, retries) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let begin = Instant::now();
    let mut changes = 0u64;
    thread::scope(|scope| {
        let changes = &mut changes;
        let (done, memory, restarts, retries) = (&done, &memory, &restarts, &retries);
        scope.spawn(move || {
            let mut random = 1;
            let nodes = tree.nodes();
            while !done.load(Ordering::Relaxed) {
                churn(&mut tree, &mut random, keys);
                *changes += 8;
            }
            println!("{changes} changes, {nodes} nodes became {}", tree.nodes());
            assert!(tree.nodes() > nodes, "no node was split");
            tree.verify().unwrap();
        });
        let _done = Done(done);
        let mut random = 99;
        for _ in 0..look_ups {
            let number = next(&mut random) % look_ups * 2;
            loop {
                let mut m = get_message(&number.to_be_bytes());
                let status = run(cell::get, &mut m, memory);
                restarts.fetch_add(cell::restarts(&m), Ordering::Relaxed);
                match value(status, &m) {
                    Ok(Some(value)) => break assert!(is_tagged(number, &value), "{number}: {value:x?}"),
                    Ok(None) => panic!("{number} was not found"),
                    Err(code) => {
                        assert_eq!(code, Code::Retry);
                        retries.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    });
    println!("{look_ups} look-ups in {:.1?}: {restarts:?} began again, {retries:?} gave up", begin.elapsed());
    assert!(retries.into_inner() < look_ups / 100);
}

#[test]
fn scans_are_ordered_complete_and_of_one_publication() {
    const KEYS: u64 = 4_000;
    let memory = Memory::new(&[4 << 20]);
    let mut tree = Tree::format(&memory, AT_ONCE).unwrap();
    tree.load((0..KEYS).step_by(2).map(|number| (number.to_be_bytes(), tagged(number, 0)))).unwrap();
    let done = AtomicBool::new(false);
    let (mut scans, mut restarts, mut retries) = (0, 0, 0);
    thread::scope(|scope| {
        let (done, memory) = (&done, &memory);
        scope.spawn(move || {
            let mut random = 5;
            let mut version = 1;
            while !done.load(Ordering::Relaxed) {
                // A run of even keys changes at once; odd ones in between come and go.
                let first = next(&mut random) % (KEYS / 100) * 100;
                let mut batch = tree.batch();
                for number in first..first + 100 {
                    if number % 2 == 0 {
                        batch.insert(&number.to_be_bytes(), &tagged(number, version * 3)).unwrap();
                    } else if next(&mut random).is_multiple_of(2) {
                        batch.insert(&number.to_be_bytes(), &[0; 24]).unwrap();
                    } else {
                        batch.delete(&number.to_be_bytes()).unwrap();
                    }
                }
                batch.commit().unwrap();
                version += 1;
            }
            tree.verify().unwrap();
        });
        let _done = Done(done);
        let mut random = 7;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(if soak() { 60 } else { 3 }) {
            let from = next(&mut random) % KEYS;
            let flags = next(&mut random) % 2 * args::EXCLUSIVE;
            let mut m = scan_message(&from.to_be_bytes(), flags, 32);
            let status = run(cell::scan, &mut m, memory);
            restarts += cell::restarts(&m);
            let (found, has_more, _) = match entries(status, &m) {
                Ok(found) => found,
                Err(code) => {
                    assert_eq!(code, Code::Retry);
                    retries += 1;
                    continue;
                }
            };
            let numbers: Vec<u64> =
                found.iter().map(|(key, _)| u64::from_be_bytes(key[..].try_into().unwrap())).collect();
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
            let end = if has_more { *numbers.last().unwrap() } else { KEYS };
            let even: Vec<_> = numbers.iter().copied().filter(|number| number % 2 == 0).collect();
            let expected: Vec<_> = (from + flags..=end).filter(|number| number % 2 == 0 && *number < KEYS).collect();
            assert_eq!(even, expected);
            let mut versions = std::collections::HashMap::new();
            for ((_, value), number) in found.iter().zip(&numbers).filter(|(_, number)| *number % 2 == 0) {
                let value = value.as_ref().unwrap();
                assert!(is_tagged(*number, value), "{number}: {value:x?}");
                let version = u64::from_le_bytes(value[..8].try_into().unwrap()) & 0xff_ffff;
                assert_eq!(*versions.entry(number / 100).or_insert(version), version, "{numbers:?}");
            }
            scans += 1;
        }
    });
    println!("{scans} scans, {restarts} began again, {retries} gave up");
    assert!(scans > 1_000);
}

/// Runs a message a word at a time while the writer works in between.
fn interleaved(
    handler: Handler,
    m: Msg,
    memory: &Memory,
    random: &mut u64,
    mut writer: impl FnMut(&mut u64),
) -> (Status, Msg) {
    let mut visit = WordVisit::<View1k>::new(m);
    loop {
        let mut order = next(random);
        if let Some(status) = visit.tick(handler, memory, |below| {
            order = next(&mut order);
            order as usize % below
        }) {
            return (status, visit.message().clone());
        }
        if next(random).is_multiple_of(150) {
            writer(random);
        }
    }
}

#[test]
fn words_of_two_times_are_noticed_in_any_order() {
    const KEYS: u64 = 300;
    let memory = Memory::new(&[256 << 10]);
    let options = Options { inline_max: 16, ..AT_ONCE };
    let mut tree = Tree::format(&memory, options).unwrap();
    tree.load((0..KEYS).step_by(2).map(|number| (number.to_be_bytes(), tagged(number, 0)))).unwrap();
    let mut random = 17;
    let (mut restarts, mut found, mut retries) = (0, 0, 0);
    for _ in 0..if soak() { 300_000 } else { 6_000 } {
        let number = next(&mut random) % (KEYS / 2) * 2;
        let m = get_message(&number.to_be_bytes());
        let (status, m) = interleaved(cell::get, m, &memory, &mut random, |random| churn(&mut tree, random, KEYS));
        restarts += cell::restarts(&m);
        match value(status, &m) {
            Ok(Some(value)) => {
                assert!(is_tagged(number, &value), "{number}: {value:x?}");
                found += 1;
            }
            Err(Code::Retry) => retries += 1,
            other => panic!("{number}: {other:?}"),
        }
        let m = scan_message(&number.to_be_bytes(), 0, 20);
        let (status, m) = interleaved(cell::scan, m, &memory, &mut random, |random| churn(&mut tree, random, KEYS));
        restarts += cell::restarts(&m);
        if let Ok((entries, ..)) = entries(status, &m) {
            let keys = entries.iter().map(|(key, _)| u64::from_be_bytes(key[..].try_into().unwrap()));
            let even: Vec<_> = keys.clone().filter(|key| key % 2 == 0).collect();
            let last = keys.max().unwrap_or(number);
            assert_eq!(even, (number..=last).step_by(2).collect::<Vec<_>>());
            for (key, value) in &entries {
                let key = u64::from_be_bytes(key[..].try_into().unwrap());
                assert!(value.as_ref().is_none_or(|value| is_tagged(key, value)), "{key}: {value:x?}");
            }
        }
    }
    tree.verify().unwrap();
    println!("{found} found, {restarts} began again, {retries} gave up");
    assert!(restarts > 1_000 && found > retries, "{restarts} began again, {found} found, {retries} gave up");
}

/// A message that is about to read a leaf.
fn before_leaf(memory: &Memory, key: u64, height: u32) -> (Visit<View1k>, Msg) {
    let (mut visit, mut m) = (Visit::<View1k>::new(), get_message(&key.to_be_bytes()));
    // The header, and a node of each level.
    for _ in 0..=height {
        assert_eq!(visit.advance(cell::get, &mut m, memory), Progress::Pending(Step::Read));
    }
    (visit, m)
}

fn frame(memory: &Memory, offset: u64) -> Vec<u64> {
    (0..NODE_BYTES).step_by(8).map(|at| memory.read(0, offset + at)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// A frame of which some words are old and some new: the reader either finds what its own tree says,
    /// or begins again.
    #[test]
    fn any_mix_of_old_and_new_words_is_noticed(
        seed: u64,
        key in 0..200u64,
        masks in prop::collection::vec((any::<u64>(), any::<u64>(), 0..3u8), 8),
    ) {
        let memory = Memory::new(&[256 << 10]);
        let mut tree = Tree::format(&memory, AT_ONCE).unwrap();
        tree.load((0..400u64).step_by(2).map(|number| (number.to_be_bytes(), tagged(number, 0)))).unwrap();
        let number = key * 2;
        let (visit, message) = before_leaf(&memory, number, tree.height());
        let offset = message.op_offset;
        let old = frame(&memory, offset);
        let mut random = seed;
        let mut changes = 0;
        while frame(&memory, offset)[8..] == old[8..] && changes < 10_000 {
            churn(&mut tree, &mut random, 400);
            changes += 1;
        }
        let new = frame(&memory, offset);
        prop_assume!(new != old);
        for (low, high, density) in masks {
            // Few, half or most of the words are new.
            let mask = match density {
                0 => u128::from(low & high & (low >> 7)) | u128::from(low & (high >> 9) & (low >> 3)) << 64,
                1 => u128::from(low) | u128::from(high) << 64,
                _ => u128::from(low | high | (low >> 7)) | u128::from(low | (high >> 9)) << 64,
            };
            for at in 0..128 {
                let word = if mask >> at & 1 == 0 { old[at as usize] } else { new[at as usize] };
                memory.write(0, offset + at * 8, word);
            }
            let (mut visit, mut m) = (visit.clone(), message.clone());
            match visit.advance(cell::get, &mut m, &memory) {
                Progress::Finished(status) => {
                    let value = value(status, &m);
                    prop_assert_eq!(value, Ok(Some(tagged(number, 0))), "mask {:x}", mask);
                }
                Progress::Pending(_) => prop_assert_eq!(cell::restarts(&m), 1),
            }
        }
    }
}
