//! Threads at one store, as processors are in the kernel.

mod store;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use naam_handlers::mica::Code;
use store::{Call, Outcome, Store};

const THREADS: u64 = 4;

/// A value that tells its key and its writer in every word, and how long it is.
fn value(key: u64, writer: u64) -> Vec<u8> {
    let len = 16 + (writer % 61) as usize * 16;
    let mut bytes = (writer << 16 | key).to_le_bytes().repeat(len / 8);
    bytes[..8].copy_from_slice(&(len as u64).to_le_bytes());
    bytes
}

/// Panics at a value with words of two writers.
fn check_value(key: u64, value: &[u8]) {
    let words: Vec<u64> = value.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(words[0], value.len() as u64);
    assert!(words[1..].iter().all(|&word| word == words[1] && word & 0xffff == key), "key {key}: {words:x?}");
}

#[test]
fn no_value_is_mixed_and_no_block_lost() {
    const KEYS: u64 = 40;
    let store = Store::new(512 << 10, 2);
    let retries = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (store, retries) = (&store, &retries);
            scope.spawn(move || {
                let mut random = number;
                for round in 0..4_000 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let key = (random >> 33) % KEYS;
                    let call = match random >> 60 {
                        0..=5 => Call::Get,
                        6..=12 => Call::Set(value(key, number * 1_000_000 + round)),
                        _ => Call::Delete,
                    };
                    match store.call(&key.to_le_bytes(), &call) {
                        Outcome::Found(_, value) => check_value(key, &value),
                        Outcome::Not(Code::Retry) => _ = retries.fetch_add(1, Ordering::Relaxed),
                        Outcome::Not(Code::NotFound) | Outcome::Stored(_) | Outcome::Deleted => {}
                        outcome => panic!("{call:?}: {outcome:?}"),
                    }
                }
            });
        }
    });
    let audit = store.audit();
    assert_eq!((audit.leaked(), audit.tentative), (0, 0));
    for (key, (_, value)) in &audit.items {
        check_value(u64::from_le_bytes(key[..].try_into().unwrap()), value);
    }
    let retries = retries.into_inner();
    assert!(retries < THREADS * 40, "{retries} of {} messages gave up", THREADS * 4_000);
}

#[test]
fn additions_by_cas_are_never_lost() {
    const ROUNDS: u64 = 500;
    let store = Store::new(64 << 10, 2);
    assert!(matches!(store.call(b"sum", &Call::Set(0u64.to_le_bytes().to_vec())), Outcome::Stored(_)));
    let add = |number: u64| {
        for _ in 0..ROUNDS {
            loop {
                let Outcome::Found(version, value) = store.call(b"sum", &Call::Get) else { continue };
                let sum = u64::from_le_bytes(value.try_into().unwrap()) + number;
                match store.call(b"sum", &Call::Cas(version, sum.to_le_bytes().to_vec())) {
                    Outcome::Stored(new) => {
                        assert_eq!(new, version.wrapping_add(1));
                        break;
                    }
                    Outcome::Differs(_) | Outcome::Not(Code::Retry) => {}
                    outcome => panic!("{outcome:?}"),
                }
            }
        }
    };
    thread::scope(|scope| {
        for number in 1..=THREADS {
            let add = &add;
            scope.spawn(move || add(number));
        }
    });
    let total = ROUNDS * THREADS * (THREADS + 1) / 2;
    assert!(matches!(store.call(b"sum", &Call::Get), Outcome::Found(_, sum) if sum == total.to_le_bytes()));
}

#[test]
fn a_key_that_many_insert_at_once_is_there_once() {
    let store = Store::new(256 << 10, 0);
    for round in 0..200u64 {
        let stored = Mutex::new(HashMap::new());
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (store, stored) = (&store, &stored);
                scope.spawn(move || {
                    let bytes = value(round, number);
                    if let Outcome::Stored(version) = store.call(b"key", &Call::Set(bytes.clone())) {
                        stored.lock().unwrap().insert(bytes, version);
                    }
                });
            }
        });
        let stored = stored.into_inner().unwrap();
        assert!(!stored.is_empty(), "round {round}: nobody got through");
        // The audit panics at a key that is there twice.
        let items = store.audit().items;
        let (version, bytes) = &items[&b"key"[..]];
        assert_eq!(stored.get(bytes), Some(version), "round {round}");
        assert_eq!(store.call(b"key", &Call::Delete), Outcome::Deleted);
    }
    assert_eq!(store.audit().leaked(), 0);
}
