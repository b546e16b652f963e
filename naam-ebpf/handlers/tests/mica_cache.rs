//! A store that forgets what is oldest.

mod store;

use std::collections::HashMap;

use proptest::prelude::*;
use store::{Call, Outcome, Store};

fn key(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

#[test]
fn keeps_the_newest_items_and_forgets_the_oldest() {
    // Blocks of 128 bytes; 512 of them fit the heap, and 256 buckets are more than enough for them.
    let store = Store::cache(9_216 + (64 << 8) + 512 * 128, 8);
    for number in 0..5_000 {
        assert!(matches!(store.call(&key(number), &Call::Set(vec![number as u8; 80])), Outcome::Stored(_)));
    }
    let is_there = |number: u64| match store.call(&key(number), &Call::Get) {
        Outcome::Found(_, value) => {
            assert_eq!(value, [number as u8; 80]);
            true
        }
        _ => false,
    };
    assert_eq!((5_000 - 512..5_000).filter(|&number| is_there(number)).count(), 512);
    assert_eq!((0..5_000 - 512).filter(|&number| is_there(number)).count(), 0);
}

#[test]
fn the_oldest_entry_of_a_full_bucket_makes_way() {
    let store = Store::cache(64 << 10, 0);
    for number in 0..20 {
        assert!(matches!(store.call(&key(number), &Call::Set(vec![1])), Outcome::Stored(_)));
    }
    let found = |number: &u64| matches!(store.call(&key(*number), &Call::Get), Outcome::Found(..));
    assert_eq!((0..20).filter(found).collect::<Vec<_>>(), (13..20).collect::<Vec<_>>());
}

#[test]
fn a_key_that_is_forgotten_again_and_again_leaves_no_dead_entries() {
    // One bucket; ten blocks of 1,088 bytes.
    let store = Store::cache(9_216 + 64 + 10 * 1_088, 0);
    for round in 0..50 {
        assert!(matches!(store.call(b"key", &Call::Set(vec![round; 1_000])), Outcome::Stored(_)), "round {round}");
        for _ in 0..12 {
            assert!(matches!(store.call(b"large", &Call::Set(vec![round; 1_000])), Outcome::Stored(_)));
        }
        assert_eq!(store.call(b"key", &Call::Get), Outcome::Not(naam_handlers::mica::Code::NotFound));
        assert!(store.steps(b"key", &Call::Get) <= 4, "round {round}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_it_gives_is_what_was_stored_last(
        calls in prop::collection::vec((0..60u64, 0..=1000usize, 0..4u8), 1..600),
        log2_buckets in 0..5u32,
    ) {
        let store = Store::cache((9_216 + (64 << log2_buckets) + 8_000) / 64 * 64, log2_buckets);
        let mut model: HashMap<u64, (u64, Vec<u8>)> = HashMap::new();
        for (round, (number, len, what)) in calls.into_iter().enumerate() {
            let value = vec![round as u8; len];
            let call = match what {
                0 => Call::Get,
                1 => Call::Delete,
                2 => Call::Cas(model.get(&number).map_or(7, |(version, _)| *version), value.clone()),
                _ => Call::Set(value.clone()),
            };
            match store.call(&key(number), &call) {
                Outcome::Found(version, value) => prop_assert_eq!(model.get(&number), Some(&(version, value))),
                Outcome::Stored(version) => {
                    model.insert(number, (version, value.clone()));
                    prop_assert_eq!(store.call(&key(number), &Call::Get), Outcome::Found(version, value));
                }
                Outcome::Deleted => prop_assert!(model.remove(&number).is_some()),
                Outcome::Not(code) => prop_assert_eq!(code, naam_handlers::mica::Code::NotFound),
                Outcome::Differs(_) => prop_assert!(false, "the model has another version"),
            }
        }
    }
}
