//! The store against a map: one message after another.

mod store;

use std::collections::HashMap;

use naam_handlers::mica::{Code, KEY_MAX, VALUE_MAX};
use proptest::prelude::*;
use store::{Call, Outcome, Store};

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few keys, so that they meet again; of all lengths, and prefixes of one another.
    (1..=KEY_MAX, 0..3u8).prop_map(|(len, byte)| vec![byte; len])
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![0..=64usize, 900..=VALUE_MAX];
    (len, any::<u8>()).prop_map(|(len, seed)| (0..len).map(|i| (i as u8).wrapping_mul(7) ^ seed).collect())
}

/// A call; a CAS expects the version that the model has if `true`.
fn call() -> impl Strategy<Value = (Call, bool)> {
    prop_oneof![
        Just((Call::Get, false)),
        value().prop_map(|value| (Call::Set(value), false)),
        (value(), any::<bool>()).prop_map(|(value, fits)| (Call::Cas(0, value), fits)),
        Just((Call::Delete, false)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_map(calls in prop::collection::vec((key(), call()), 1..400), log2_buckets in 4..7u32) {
        let store = Store::new(2 << 20, log2_buckets);
        let mut model: HashMap<Vec<u8>, (u64, Vec<u8>)> = HashMap::new();
        let mut versions = std::collections::HashSet::new();
        for (key, (mut call, fits)) in calls {
            let there = model.get(&key).cloned();
            if let Call::Cas(version, _) = &mut call {
                *version = there.as_ref().map_or(1, |(version, _)| if fits { *version } else { version ^ 1 });
            }
            let outcome = store.call(&key, &call);
            match (call, there) {
                (Call::Get, Some((version, value))) => prop_assert_eq!(outcome, Outcome::Found(version, value)),
                (Call::Set(value), _) => {
                    let Outcome::Stored(version) = outcome else { panic!("{outcome:?}") };
                    prop_assert!(version != 0 && versions.insert((key.clone(), version)), "version {version} again");
                    model.insert(key, (version, value));
                }
                (Call::Cas(_, value), Some((version, _))) if fits => {
                    prop_assert_eq!(outcome, Outcome::Stored(version + 1));
                    prop_assert!(versions.insert((key.clone(), version + 1)));
                    model.insert(key, (version + 1, value));
                }
                (Call::Cas(..), Some((version, _))) => prop_assert_eq!(outcome, Outcome::Differs(version)),
                (Call::Delete, Some(_)) => {
                    prop_assert_eq!(outcome, Outcome::Deleted);
                    model.remove(&key);
                }
                (Call::Get | Call::Cas(..) | Call::Delete, None) => {
                    prop_assert_eq!(outcome, Outcome::Not(Code::NotFound));
                }
            }
        }
        let audit = store.audit();
        prop_assert_eq!(audit.leaked(), 0);
        prop_assert_eq!(audit.tentative, 0);
        prop_assert_eq!(audit.items, model);
    }
}

#[test]
fn a_hot_get_takes_three_steps() {
    let store = Store::new(2 << 20, 8);
    store.call(b"key", &Call::Set(vec![1; 900]));
    assert_eq!(store.steps(b"key", &Call::Get), 3);
    assert_eq!(store.steps(b"key", &Call::Set(vec![2; 900])), 8, "update with a new block");
    assert_eq!(store.steps(b"key", &Call::Set(vec![3; 900])), 8, "update with a block that was freed");
    assert_eq!(store.steps(b"other", &Call::Set(vec![3; 900])), 8, "insert");
    assert_eq!(store.steps(b"key", &Call::Delete), 8, "the freed block goes before another in its list");
    assert_eq!(store.steps(b"other", &Call::Delete), 6);
    assert_eq!(store.steps(b"key", &Call::Get), 2);
}

#[test]
fn every_length_is_stored() {
    let store = Store::new(8 << 20, 10);
    for key_len in 1..=KEY_MAX {
        for value_len in (0..=VALUE_MAX).step_by(37).chain([985, 992, 993, 999, VALUE_MAX]) {
            let (key, value) = (vec![7; key_len], vec![key_len as u8; value_len]);
            let Outcome::Stored(version) = store.call(&key, &Call::Set(value.clone())) else { panic!() };
            assert_eq!(store.call(&key, &Call::Get), Outcome::Found(version, value), "{key_len}, {value_len} bytes");
        }
    }
    assert_eq!(store.audit().items.len(), KEY_MAX);
    assert_eq!(store.audit().leaked(), 0);
}

#[test]
fn a_full_store_loses_nothing_and_takes_again_what_fits() {
    let store = Store::new(64 << 10, 6);
    let key = |i: u32| i.to_le_bytes();
    let value = |i: u32| vec![i as u8; 200];
    let mut stored = 0;
    while let Outcome::Stored(_) = store.call(&key(stored), &Call::Set(value(stored))) {
        stored += 1;
    }
    assert_eq!(store.call(&key(stored), &Call::Set(value(stored))), Outcome::Not(Code::StoreFull));
    // Replacing needs a second block, which there is none of.
    assert_eq!(store.call(&key(0), &Call::Set(value(9))), Outcome::Not(Code::StoreFull));
    assert!(stored > 150, "{stored} items");
    for i in 0..stored {
        assert!(matches!(store.call(&key(i), &Call::Get), Outcome::Found(_, found) if found == value(i)), "{i}");
    }
    assert_eq!(store.call(&key(3), &Call::Delete), Outcome::Deleted);
    for i in 0..=3 {
        let outcome = store.call(&key(i), &Call::Set(value(i)));
        assert!(matches!(outcome, Outcome::Stored(_)), "{i}: {outcome:?}");
    }
    let audit = store.audit();
    assert_eq!(audit.items.len(), stored as usize);
    assert!(audit.leaked() < 256, "only the heap's end is too short for a block: {audit:?}");
}

#[test]
fn chains_grow_to_their_limit() {
    let store = Store::new(1 << 20, 0);
    let mut keys = 0u64;
    while let Outcome::Stored(_) = store.call(&keys.to_le_bytes(), &Call::Set(vec![1])) {
        keys += 1;
    }
    assert_eq!(keys, 28);
    assert_eq!(store.call(&keys.to_le_bytes(), &Call::Set(vec![1])), Outcome::Not(Code::ChainFull));
    assert_eq!(store.call(&7u64.to_le_bytes(), &Call::Delete), Outcome::Deleted);
    assert!(matches!(store.call(&keys.to_le_bytes(), &Call::Set(vec![2])), Outcome::Stored(_)));
    let audit = store.audit();
    assert_eq!((audit.items.len(), audit.bucket_bytes, audit.leaked()), (28, 3 * 64, 0));
}
