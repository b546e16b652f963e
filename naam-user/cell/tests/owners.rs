//! An owner whose region was changed by another notices it, and changes nothing.

mod reader;

use std::time::Duration;

use naam_cell::{CellError, Options, Quarantine, Tree};
use naam_handler::native::Memory;
use naam_handlers::cell::layout::{ROOT_AT, Root};

const KEYS: u32 = 600;

fn options() -> Options {
    Options { quarantine: Quarantine { blocks: 0, time: Duration::ZERO }, inline_max: 64 }
}

fn key(number: u32) -> Vec<u8> {
    format!("key{number:06}").into_bytes()
}

fn loaded(memory: &Memory) -> Tree<&Memory> {
    let mut tree = Tree::format(memory, options()).unwrap();
    tree.load((0..KEYS).map(|number| (key(number), vec![1; if number % 5 == 0 { 300 } else { 20 }]))).unwrap();
    tree
}

fn copy(memory: &Memory) -> Vec<u64> {
    (0..memory.words(0).len() as u64).map(|at| memory.read(0, at * 8)).collect()
}

fn restore(memory: &Memory, words: &[u64]) {
    (0..).zip(words).for_each(|(at, word)| memory.write(0, at * 8, *word));
}

#[track_caller]
fn assert_changed<T: std::fmt::Debug>(result: Result<T, CellError>, operation: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, CellError::ChangedByAnother { operation: tried, .. } if tried == operation), "{error}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot {operation}: the region was changed by another")), "{text}");
    assert!(text.contains("open the tree again"), "{text}");
}

/// The region is the tree that was restored, and an owner may go on with it.
fn check_restored(memory: &Memory, snapshot: &[u64]) {
    assert!(copy(memory) == snapshot, "the restored region was changed");
    let mut tree = Tree::open(memory, options()).unwrap();
    assert_eq!(tree.verify().unwrap().keys, u64::from(KEYS));
    tree.insert(b"behind", b"again").unwrap();
    assert_eq!(reader::get(memory, b"behind").as_deref(), Some(&b"again"[..]));
    tree.verify().unwrap();
}

#[test]
fn a_region_that_was_restored_under_its_owner_is_left_alone() {
    let memory = Memory::new(&[1 << 20]);
    let mut tree = loaded(&memory);
    let snapshot = copy(&memory);
    for number in 0..KEYS / 2 {
        tree.insert(&key(number * 2), &[2; 200]).unwrap();
    }
    restore(&memory, &snapshot);
    assert_changed(tree.verify(), "verify the tree");
    assert_changed(tree.insert(b"key", b"value"), "begin a batch");
    assert_changed(tree.delete(&key(3)), "begin a batch");
    assert_changed(tree.delete(b"not there"), "begin a batch");
    assert_changed(tree.batch().commit(), "begin a batch");
    check_restored(&memory, &snapshot);
}

#[test]
fn a_batch_in_hand_while_the_region_is_restored_changes_nothing() {
    let memory = Memory::new(&[1 << 20]);
    // What becomes of it after the restore.
    for end in ["insert", "delete", "commit", "drop"] {
        let mut tree = loaded(&memory);
        let snapshot = copy(&memory);
        tree.insert(b"behind", b"value").unwrap();
        let mut batch = tree.batch();
        for number in 0..KEYS / 3 {
            batch.insert(&key(number * 3), &[3; 300]).unwrap();
        }
        restore(&memory, &snapshot);
        match end {
            "insert" => assert_changed(batch.insert(&key(1), &[4; 300]), "change the tree"),
            "delete" => assert_changed(batch.delete(&key(1)), "change the tree"),
            "commit" => assert_changed(batch.commit(), "commit a batch"),
            _ => drop(batch),
        }
        check_restored(&memory, &snapshot);
    }
}

#[test]
fn a_load_in_hand_while_the_region_is_formatted_changes_nothing() {
    let memory = Memory::new(&[1 << 20]);
    let mut tree = Tree::format(&memory, options()).unwrap();
    let mut after = Vec::new();
    let pairs = (0..KEYS).inspect(|number| {
        if *number == KEYS / 2 {
            loaded(&memory);
            after = copy(&memory);
        }
    });
    let result = tree.load(pairs.map(|number| (key(number), vec![5; 20])));
    assert_changed(result, "write a node");
    check_restored(&memory, &after);
}

#[test]
fn of_two_owners_the_one_that_was_overtaken_is_told() {
    let memory = Memory::new(&[1 << 20]);
    let mut first = loaded(&memory);
    let mut second = Tree::open(&memory, options()).unwrap();
    let root = Root(memory.read(0, ROOT_AT)).node().generation();
    second.insert(b"key", b"the second's").unwrap();
    let error = first.insert(b"key", b"the first's").unwrap_err();
    let expected = CellError::ChangedByAnother { operation: "begin a batch", found: root + 1, known: root };
    assert_eq!(error, expected);
    assert_eq!(reader::get(&memory, b"key").as_deref(), Some(&b"the second's"[..]));
    second.verify().unwrap();
    let mut first = Tree::open(&memory, options()).unwrap();
    first.insert(b"key", b"the first's").unwrap();
    assert_eq!(reader::get(&memory, b"key").as_deref(), Some(&b"the first's"[..]));
}
