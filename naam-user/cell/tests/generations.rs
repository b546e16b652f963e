//! Generations come round: a tree lives longer than 2^32 publications.

mod reader;

use std::collections::BTreeMap;
use std::time::Duration;

use naam_cell::{Options, Quarantine, Tree};
use naam_handler::native::Memory;
use naam_handlers::cell::layout::{LINES, NODE_BYTES, NodePtr, ROOT_AT, Root, line_check};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const BYTES: usize = 2 << 20;
const KEYS: u32 = 1_500;

/// Frames are used again at once; values are longer than some leaves take.
fn options() -> Options {
    Options { quarantine: Quarantine { blocks: 0, time: Duration::ZERO }, inline_max: 64 }
}

fn pair(number: u32, version: u8) -> (Vec<u8>, Vec<u8>) {
    let len = if number.is_multiple_of(7) { 700 } else { 30 };
    (format!("key{number:06}").into_bytes(), vec![version; len])
}

fn loaded(memory: &Memory) -> (Tree<&Memory>, Model) {
    let mut tree = Tree::format(memory, options()).unwrap();
    let model: Model = (0..KEYS).map(|number| pair(number, 0)).collect();
    tree.load(&model).unwrap();
    (tree, model)
}

fn frame(memory: &Memory, index: u64) -> [u64; 128] {
    std::array::from_fn(|at| memory.read(0, index * NODE_BYTES + at as u64 * 8))
}

/// Makes the root one of publication `generation`, as if so many had gone by with the rest left as it is.
fn age(memory: &Memory, generation: u32) {
    let root = Root(memory.read(0, ROOT_AT));
    let ptr = NodePtr::new(root.node().index() as u32, generation);
    let mut words = frame(memory, ptr.index());
    words[..8].fill(0);
    words[0] = generation.into();
    for line in 1..LINES {
        words[line / 2] |= u64::from(line_check(&words, line, ptr.seed())) << (line % 2 * 32);
    }
    for (at, word) in (0..).zip(words) {
        memory.write(0, ptr.offset() + at * 8, word);
    }
    memory.write(0, ROOT_AT, Root::new(ptr, root.height()).0);
}

fn check(tree: &Tree<&Memory>, memory: &Memory, model: &Model) {
    assert_eq!(tree.verify().unwrap().keys, model.len() as u64);
    for (key, value) in model {
        assert_eq!(reader::get(memory, key).as_ref(), Some(value), "{key:?}");
    }
    assert!(reader::scan_all(memory, b"", 0, 32).iter().map(|(key, _)| key).eq(model.keys()));
}

#[test]
fn a_tree_outlives_its_generations() {
    for generation in [1 << 31, (1 << 31) + 1, (1 << 31) - 5, u32::MAX - 5, u32::MAX, 1] {
        let memory = Memory::new(&[BYTES]);
        let (tree, mut model) = loaded(&memory);
        assert!(tree.height() > 2);
        drop(tree);
        age(&memory, generation);
        let mut tree = Tree::open(&memory, options()).unwrap();
        check(&tree, &memory, &model);
        for round in 0..20u32 {
            let before = tree.generation();
            let (key, value) = pair(round * 611 % (KEYS * 2), round as u8);
            if round % 3 == 2 {
                let (key, _) = model.pop_first().unwrap();
                assert!(tree.delete(&key).unwrap());
            }
            tree.insert(&key, &value).unwrap();
            model.insert(key, value);
            assert_ne!(tree.generation(), 0);
            assert!((1..=4).contains(&tree.generation().wrapping_sub(before)), "{before}: {}", tree.generation());
            tree.verify().unwrap();
        }
        check(&tree, &memory, &model);
        drop(tree);
        check(&Tree::open(&memory, options()).unwrap(), &memory, &model);
    }
}

#[test]
fn published_nodes_of_the_generation_that_comes_are_never_written() {
    let memory = Memory::new(&[BYTES]);
    let (tree, model) = loaded(&memory);
    // All nodes but the root are of the load's generation: the next batch's.
    let generation = tree.generation();
    drop(tree);
    age(&memory, generation - 1);
    let mut tree = Tree::open(&memory, options()).unwrap();
    let before: Vec<_> = reached(&memory).into_iter().map(|index| (index, frame(&memory, index))).collect();
    let mut batch = tree.batch();
    for number in (0..KEYS).step_by(40) {
        let (key, value) = pair(number, 1);
        batch.insert(&key, &value).unwrap();
        batch.delete(&pair(number + 1, 0).0).unwrap();
    }
    assert!(before.iter().all(|(index, words)| frame(&memory, *index) == *words), "a published node was changed");
    drop(batch);
    check(&tree, &memory, &model);
}

/// Frames and the generation that each has, be it a node's or that of a block in its first quarter.
fn generations(memory: &Memory, frames: u64) -> Vec<(u32, [u64; 128])> {
    (0..frames).map(|index| frame(memory, index)).map(|words| (words[0] as u32, words)).collect()
}

#[test]
fn a_frame_never_gets_the_generation_that_it_had() {
    let memory = Memory::new(&[BYTES]);
    let (tree, mut model) = loaded(&memory);
    let generation = tree.generation();
    drop(tree);
    let mut changed = 0;
    for round in 0..120u32 {
        // 2^32 publications on: this batch has the number of the last.
        age(&memory, generation - 1);
        let mut tree = Tree::open(&memory, options()).unwrap();
        let before = generations(&memory, BYTES as u64 / NODE_BYTES);
        // What is dropped leaves no trace.
        let mut batch = tree.batch();
        (0..5).for_each(|i| _ = batch.insert(&pair(i * 7, 200).0, &[200; 700]).unwrap());
        drop(batch);
        let mut batch = tree.batch();
        for number in [round * 7 % KEYS, (round * 7 + 14) % KEYS, round * 7 % KEYS] {
            let (key, value) = pair(number, round as u8 + 1);
            batch.insert(&key, &value).unwrap();
            model.insert(key, value);
        }
        batch.commit().unwrap();
        let reached = reached(&memory);
        for (index, (before, after)) in before.iter().zip(generations(&memory, before.len() as u64)).enumerate().skip(1)
        {
            // Free frames hold what a batch left there unpublished.
            if before.1 != after.1 && reached.contains(&(index as u64)) {
                assert_ne!(before.0, after.0, "frame {index} in round {round}");
                changed += 1;
            }
        }
        if round % 20 == 0 {
            check(&tree, &memory, &model);
        }
    }
    assert!(changed > 500, "{changed}");
}

/// Frames of nodes, and of blocks that begin one, as an own walk from the root finds them.
fn reached(memory: &Memory) -> Vec<u64> {
    use naam_handlers::cell::layout::{Child, Item, META_AT, Meta, ValuePtr};
    let mut frames = vec![Root(memory.read(0, ROOT_AT)).node().index()];
    let mut at = 0;
    let mut blocks = Vec::new();
    while let Some(&index) = frames.get(at) {
        at += 1;
        let words = frame(memory, index);
        let meta = Meta(words[META_AT]);
        for slot in 0..meta.count() {
            let info = words[(meta.slots() + slot * 2 + 1) as usize];
            let item = Item(info);
            if meta.level() != 0 {
                frames.push(Child(info).node().index());
            } else if item.is_block() {
                let block = ValuePtr(words[(item.at() + item.rest_words(meta.skip())) as usize]);
                if block.first().is_multiple_of(4) {
                    blocks.push(block.first() / 4);
                }
            }
        }
    }
    frames.extend(blocks);
    frames
}
