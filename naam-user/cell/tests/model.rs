//! A tree is a sorted map, whatever is done to it and however it is read.

mod reader;

use std::collections::BTreeMap;
use std::time::Duration;

use naam_cell::{CellError, Options, Quarantine, Tree};
use naam_handler::native::Memory;
use naam_handlers::cell::{KEY_MAX, VALUE_MAX, args};
use proptest::prelude::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn options() -> Options {
    Options { quarantine: Quarantine { blocks: 64, time: Duration::ZERO }, ..Options::default() }
}

/// Keys of all lengths, many of which begin alike, end in zeros, or differ late.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![3 => Just(b'a'), 2 => Just(0u8), 1 => Just(255u8), 2 => any::<u8>()];
    prop_oneof![
        prop::collection::vec(byte(), 1..=KEY_MAX),
        (0..400u32).prop_map(|number| format!("user{:019}", number.wrapping_mul(2_654_435_761)).into_bytes()),
        (0..60u8, byte()).prop_map(|(len, last)| {
            let mut key = vec![b'/'; usize::from(len)];
            key.push(last);
            key
        }),
        (0..500u16).prop_map(|number| [&[b'x'; KEY_MAX - 2][..], &number.to_be_bytes()].concat()),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    (prop_oneof![4 => 0..40usize, 2 => 0..=128usize, 1 => 0..=VALUE_MAX], any::<u8>())
        .prop_map(|(len, seed)| (0..len).map(|at| seed.wrapping_add(at as u8)).collect())
}

#[derive(Clone, Debug)]
enum Change {
    Insert(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    /// Delete the key at this place among those that are there.
    DeleteAt(usize),
    /// Give the key at this place another value.
    Replace(usize, Vec<u8>),
    /// Insert that many ascending keys.
    Ascend(u16),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (key(), value()).prop_map(|(key, value)| Change::Insert(key, value)),
        1 => key().prop_map(Change::Delete),
        3 => any::<usize>().prop_map(Change::DeleteAt),
        2 => (any::<usize>(), value()).prop_map(|(at, value)| Change::Replace(at, value)),
        1 => (1..40u16).prop_map(Change::Ascend),
    ]
}

fn at(model: &Model, place: usize) -> Option<Vec<u8>> {
    model.keys().nth(place.checked_rem(model.len())?).cloned()
}

/// What a change does, as inserts and deletes.
fn steps(model: &Model, change: &Change) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    match change {
        Change::Insert(key, value) => vec![(key.clone(), Some(value.clone()))],
        Change::Delete(key) => vec![(key.clone(), None)],
        Change::DeleteAt(place) => at(model, *place).map(|key| (key, None)).into_iter().collect(),
        Change::Replace(place, value) => at(model, *place).map(|key| (key, Some(value.clone()))).into_iter().collect(),
        Change::Ascend(count) => {
            let last = model.len() as u64 * 1_000;
            (0..u64::from(*count)).map(|i| ((last + i).to_be_bytes().to_vec(), Some(vec![i as u8; 9]))).collect()
        }
    }
}

/// The tree as its owner and as handlers see it.
fn check(tree: &Tree<&Memory>, memory: &Memory, model: &Model, probes: &[Vec<u8>]) {
    let report = tree.verify().unwrap();
    assert_eq!(report.keys, model.len() as u64);
    assert_eq!(report.value_bytes, model.values().map(|value| value.len() as u64).sum::<u64>());
    let pairs: Vec<_> = tree.range(b"").map(Result::unwrap).collect();
    assert!(pairs.iter().map(|(key, value)| (key, value)).eq(model.iter()), "the owner's range");
    for (key, value) in model {
        assert_eq!(reader::get(memory, key).as_ref(), Some(value), "{key:?}");
    }
    for probe in probes {
        assert_eq!(reader::get(memory, probe).as_ref(), model.get(probe), "{probe:?}");
        assert_eq!(tree.get(probe).unwrap().as_ref(), model.get(probe), "{probe:?}");
        for flags in [0, args::EXCLUSIVE, args::KEYS_ONLY, args::EXCLUSIVE | args::KEYS_ONLY] {
            let keys = 1 + u64::from(probe[0]) % 32;
            let found = reader::scan_all(memory, probe, flags, keys);
            let is_behind = |key: &Vec<u8>| key > probe || (key == probe && flags & args::EXCLUSIVE == 0);
            let expected = model.iter().filter(|(key, _)| is_behind(key));
            assert!(found.iter().map(|(key, _)| key).eq(expected.clone().map(|(key, _)| key)), "{probe:?} {flags}");
            for ((key, found), (_, value)) in found.iter().zip(expected) {
                let included = flags & args::KEYS_ONLY == 0 && value.len() <= 128;
                assert_eq!(found.as_ref(), included.then_some(value), "{key:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_is_a_sorted_map(
        changes in prop::collection::vec((change(), any::<bool>()), 1..300),
        reopen in any::<bool>(),
        probes in prop::collection::vec(key(), 1..6),
    ) {
        let memory = Memory::new(&[4 << 20]);
        let mut tree = Tree::format(&memory, options()).unwrap();
        let mut model = Model::new();
        let mut batch = tree.batch();
        for (change, commit) in &changes {
            for (key, value) in steps(&model, change) {
                match value {
                    Some(value) => {
                        prop_assert_eq!(batch.insert(&key, &value).unwrap(), !model.contains_key(&key));
                        model.insert(key, value);
                    }
                    None => prop_assert_eq!(batch.delete(&key).unwrap(), model.remove(&key).is_some()),
                }
            }
            if *commit {
                batch.commit().unwrap();
                batch = tree.batch();
            }
        }
        batch.commit().unwrap();
        check(&tree, &memory, &model, &probes);
        if reopen {
            let frames = tree.frames().0 as usize - tree.waiting();
            drop(tree);
            let mut tree = Tree::open(&memory, options()).unwrap();
            prop_assert!(tree.frames().0 as usize <= frames + 64);
            check(&tree, &memory, &model, &probes);
            for key in model.keys() {
                prop_assert!(tree.delete(key).unwrap());
            }
            check(&tree, &memory, &Model::new(), &probes);
            prop_assert_eq!((tree.height(), tree.nodes()), (1, 1));
        }
    }

    #[test]
    fn a_loaded_tree_is_the_same_as_a_filled_one(
        keys in prop::collection::btree_map(key(), value(), 0..600),
        probes in prop::collection::vec(key(), 1..6),
    ) {
        let memory = Memory::new(&[4 << 20]);
        let mut tree = Tree::format(&memory, options()).unwrap();
        tree.load(&keys).unwrap();
        check(&tree, &memory, &keys, &probes);
        for key in keys.keys().step_by(2) {
            tree.insert(key, b"another").unwrap();
        }
        let changed: Model = keys.iter().enumerate().map(|(at, (key, value))| {
            (key.clone(), if at % 2 == 0 { b"another".to_vec() } else { value.clone() })
        }).collect();
        check(&tree, &memory, &changed, &probes);
    }
}

#[test]
fn an_abandoned_batch_never_was() {
    let memory = Memory::new(&[2 << 20]);
    let mut tree = Tree::format(&memory, options()).unwrap();
    let model: Model = (0..500u32).map(|i| (i.to_be_bytes().to_vec(), vec![i as u8; 200])).collect();
    tree.load(&model).unwrap();
    let frames = tree.frames();
    let mut batch = tree.batch();
    for i in 0..300u32 {
        batch.insert(&(i * 2).to_be_bytes(), &[1; 300]).unwrap();
        batch.delete(&(i * 2 + 1).to_be_bytes()).unwrap();
    }
    drop(batch);
    assert_eq!(tree.frames(), frames);
    check(&tree, &memory, &model, &[vec![0]]);
}

#[test]
fn a_full_region_is_refused_and_nothing_changed() {
    let memory = Memory::new(&[2 << 20]);
    let mut tree = Tree::format(&memory, options()).unwrap();
    let mut model = Model::new();
    let refused = loop {
        let key = format!("key{:05}", (model.len() * 7919) % 100_000).into_bytes();
        match tree.insert(&key, &[7; 100]) {
            Ok(_) => _ = model.insert(key, vec![7; 100]),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, CellError::Full { keys, .. } if keys == model.len() as u64), "{refused}");
    assert!(model.len() > 8_000, "only {} keys fit", model.len());
    check(&tree, &memory, &model, &[vec![0]]);
    // Room that is made can be used.
    for key in model.keys().take(500) {
        tree.delete(key).unwrap();
    }
    tree.insert(b"key", b"value").unwrap();
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let memory = Memory::new(&[2 << 20]);
    let mut tree = Tree::format(&memory, options()).unwrap();
    assert_eq!(tree.insert(b"", b""), Err(CellError::Key { len: 0 }));
    assert_eq!(tree.insert(&[1; 65], b""), Err(CellError::Key { len: 65 }));
    assert_eq!(tree.insert(b"k", &[0; 1001]), Err(CellError::Value { len: 1001 }));
    assert_eq!(tree.load([("b", ""), ("a", "")]), Err(CellError::Unsorted { number: 1 }));
    assert_eq!(tree.load([("b", ""), ("b", "")]), Err(CellError::Unsorted { number: 1 }));
    assert_eq!(tree.frames().0, 2);
    tree.insert(&[1; 64], &[2; 1000]).unwrap();
    assert_eq!(tree.load([("b", "")]), Err(CellError::NotEmpty { keys: 1 }));
    assert_eq!(reader::get(&memory, &[1; 64]), Some(vec![2; 1000]));
    assert!(matches!(Tree::format(Memory::new(&[1000]), options()), Err(CellError::RegionSize { bytes: 1000 })));
    assert!(matches!(Tree::open(Memory::new(&[2 << 20]), options()), Err(CellError::NoTree { .. })));
}

#[test]
fn damage_is_found_wherever_it_is() {
    let memory = Memory::new(&[2 << 20]);
    let mut tree = Tree::format(&memory, options()).unwrap();
    tree.load((0..2_000u32).map(|i| (i.to_be_bytes(), vec![i as u8; if i % 100 == 0 { 500 } else { 20 }]))).unwrap();
    let used = u64::from(tree.frames().0) * 1024;
    let mut unnoticed = 0;
    // Word 0 of a node is no part of a line; a block's padding counts, a free quarter does not.
    for at in (1024..used).step_by(8 * 37) {
        let word = memory.read(0, at);
        memory.write(0, at, word ^ 1 << (at % 64));
        unnoticed += u32::from(tree.verify().is_ok());
        memory.write(0, at, word);
    }
    tree.verify().unwrap();
    assert!(unnoticed < 20, "{unnoticed} changed words");
}
