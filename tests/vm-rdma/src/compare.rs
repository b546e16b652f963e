//! The same answers by RDMA as from home, while keys change at home.
//!
//! Every key's value is the number of the round in which it was written, again and again. Whoever asks, by whichever way, sees
//! whole values, and never one older than what somebody saw before.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use naam_cell::{Options, Tree};
use naam_client::Call;
use naam_handlers::mica::args;
use naam_region::Regions;
use serde_json::json;

use crate::reader::{Reader, Structure, Way, client};

const KEYS: u64 = 100;
/// Words of a value: more than a cache line, and more than stands in a leaf of a tree.
const WORDS: usize = 25;
const PINS: &str = "/sys/fs/bpf/naam/host";

fn key(number: u64) -> Vec<u8> {
    format!("key {number:04}").into_bytes()
}

fn value(round: u64) -> Vec<u8> {
    round.to_le_bytes().repeat(WORDS)
}

/// The round that a value is of.
fn round(value: &[u8]) -> Result<u64> {
    let words: Vec<u64> = value.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    match words.first() {
        Some(first) if words.len() == WORDS && words.iter().all(|word| word == first) => Ok(*first),
        _ => bail!("no value was ever {words:?}"),
    }
}

/// Owns the tree and changes every key of it, round after round.
pub fn own() -> Result<()> {
    let memory = Regions::new(PINS).open("tree", "nodes")?.map()?;
    let mut tree = Tree::format(memory, Options::default())?;
    for round in 1.. {
        for number in 0..KEYS {
            tree.insert(&key(number), &value(round))?;
        }
        if round == 1 {
            println!("ready");
        }
    }
    Ok(())
}

/// Sets every key of the store, round after round.
fn write(control: &str, stop: &AtomicBool, first: u64) -> Result<u64> {
    let (mut client, _lease, _) = client(control, "kv", vec![])?;
    let set = client.function("mica_set").expect("configured");
    let mut round = first;
    while !stop.load(Ordering::Relaxed) || round == first {
        for number in 0..KEYS {
            let args = args::set(&mut [0; args::WRITE_ARGS_MAX], &key(number), &value(round)).to_vec();
            let reply = client.call(&Call { timeout: Duration::from_secs(20), ..Call::new(set, &args) })?;
            ensure!(reply.code == 0, "a SET answers code {}", reply.code);
        }
        round += 1;
    }
    Ok(round - 1)
}

/// Reads every key by RDMA and at home in turn; prints what was counted.
pub fn compare(control: &str, structure: Structure, time: Duration) -> Result<()> {
    let (mut verbs, mut host) =
        (Reader::open(control, structure, Way::Verbs)?, Reader::open(control, structure, Way::Host)?);
    let stop = AtomicBool::new(true);
    if structure == Structure::Mica {
        write(control, &stop, 1)?;
        stop.store(false, Ordering::Relaxed);
    }
    let mut seen = vec![0; KEYS as usize];
    let mut look = |reader: &mut Reader, number: u64| -> Result<()> {
        let (now, seen) = (round(&reader.get(&key(number))?)?, &mut seen[number as usize]);
        ensure!(now >= *seen, "key {number} was of round {seen}, and then of {now}");
        *seen = now;
        Ok(())
    };
    let mut both = || -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for number in 0..KEYS {
                look(&mut verbs, number)?;
                look(&mut host, number)?;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let writer = (structure == Structure::Mica).then(|| scope.spawn(|| write(control, &stop, 2)));
        let compared = both();
        stop.store(true, Ordering::Relaxed);
        if let Some(writer) = writer {
            writer.join().expect("a writer does not panic")?;
        }
        compared
    })?;
    let (first, last) = (seen.iter().min(), seen.iter().max());
    println!("{}", json!({ "verbs": verbs.site.stats(), "host": host.site.stats(), "rounds": [first, last] }));
    Ok(())
}
