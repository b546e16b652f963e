//! What a MICA GET costs, in the cache and out of it.

use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use naam_abi::tables::{APP_SERVING, APP_TAG};
use naam_admission::admit;
use naam_handlers::mica::{args, layout::Geometry};
use naam_loadgen::report::bench::{Bench as PairedBench, Row};
use naam_sys::Map;
use naam_tests::bench::{Bench, XDP_TX, region};
use naam_tests::frame::{Message, Reply};
use naam_tests::objects;

use crate::meter::Baseline;
use crate::shell::{frame, pair, repeatable};

const APP: u16 = 2;
const GET: u16 = 16;
const SET: u16 = 17;
/// Key of 8 bytes, value of 16: an item is one cache line, as in MICA's own "tiny" workload.
const VALUE_BYTES: usize = 16;
pub const REPLY_BYTES: usize = 8 + VALUE_BYTES;
const TABLE_BYTES: u32 = 64 << 20;
const HOT_KEYS: u64 = 256;
/// Messages of a datagram out of the cache.
const BATCH: u32 = 16;
/// Datagrams of a run out of the cache: together they touch far more than a cache holds.
const DATAGRAMS: usize = 3_000;

pub struct Store {
    pub bench: Bench,
    pub geometry: Geometry,
    pub region: Map,
}

impl Store {
    /// A 64 MiB store with `keys` keys.
    pub fn new(flags: u32, keys: u64) -> Result<Self> {
        let bench = repeatable();
        bench.app_with(APP, flags);
        let region = region(TABLE_BYTES, 1);
        for (function, name) in [(GET, "mica_get"), (SET, "mica_set")] {
            let code = admit(&objects::read(name)).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
            bench.load((APP, function, 1), &code, &[&region])?;
        }
        let geometry = Geometry::plan(TABLE_BYTES.into(), 8, VALUE_BYTES as u64)?;
        let words = region.mmap()?;
        geometry.format(|at, word| words.store(at, word, Ordering::Relaxed).expect("inside the region"));
        let store = Self { bench, geometry, region };
        store.fill(keys)?;
        Ok(store)
    }

    fn fill(&self, keys: u64) -> Result<()> {
        const SLOTS: u64 = 14;
        for first in (0..keys).step_by(SLOTS as usize) {
            let messages = (first..keys.min(first + SLOTS))
                .map(|key| {
                    let mut buffer = [0; args::WRITE_ARGS_MAX];
                    let arguments = args::set(&mut buffer, &key.to_le_bytes(), &[key as u8; VALUE_BYTES]);
                    let slot = (key % SLOTS) as u16;
                    let sequence = (key / SLOTS) as u32 + 1;
                    Message { slot, sequence, ..Message::new(key as u32, arguments, arguments.len() + 8) }
                })
                .collect();
            let frame = frame(APP, SET, messages);
            let output = self.bench.send(&frame);
            ensure!(output.retval == XDP_TX, "a SET got verdict {}", output.retval);
            let reply = Reply::read(&output.data[42..]);
            let failed = reply.answers.iter().find(|answer| answer.status != 0 || answer.code != 0);
            ensure!(failed.is_none(), "a SET failed: {failed:?}");
        }
        Ok(())
    }

    /// A datagram that gets these keys.
    pub fn get(&self, keys: impl Iterator<Item = u64>) -> Vec<u8> {
        let messages = keys
            .map(|key| {
                let mut buffer = [0; args::GET_ARGS_MAX];
                let arguments = args::get(&mut buffer, self.geometry, &key.to_le_bytes());
                Message::new(key as u32, arguments, arguments.len() + REPLY_BYTES)
            })
            .collect();
        frame(APP, GET, messages)
    }

    /// Whether every message of the datagram finds its value.
    pub fn check(&self, frame: &[u8]) -> Result<()> {
        let output = self.bench.send(frame);
        ensure!(output.retval == XDP_TX, "a GET got verdict {}", output.retval);
        let reply = Reply::read(&output.data[42..]);
        let wrong = reply.answers.iter().find(|answer| answer.status != 0 || answer.code != 0);
        ensure!(wrong.is_none(), "a GET failed: {wrong:?}");
        Ok(())
    }
}

/// `mica.get.hot`: one message, 256 keys. `mica.get.random`: 16 messages a datagram over a full
/// 64 MiB table, per message. Each also with the tag.
pub fn benches(wanted: &dyn Fn(&str) -> bool, runs: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let tags = [("", APP_SERVING), (".tag", APP_SERVING | APP_TAG)];
    for (suffix, flags) in tags {
        for (name, count) in [(format!("mica.get.hot{suffix}"), 1), (format!("mica.get.hot.16{suffix}"), BATCH)] {
            if wanted(&name) {
                let store = Store::new(flags, HOT_KEYS)?;
                let frame = store.get((0..count.into()).map(|number| number * 37 % HOT_KEYS));
                store.check(&frame)?;
                rows.push(pair(&name, runs, &Baseline::load()?, &store.bench, &frame, count)?);
            }
        }
        let name = format!("mica.get.random{suffix}");
        if wanted(&name) {
            rows.push(random(&name, runs, flags)?);
        }
    }
    Ok(rows)
}

fn random(name: &str, runs: usize, flags: u32) -> Result<Row> {
    // Three quarters of the items that fit.
    let keys = u64::from(TABLE_BYTES) / 80 * 3 / 4;
    let store = Store::new(flags, keys)?;
    let baseline = Baseline::load()?;
    let mut state = 1u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % keys
    };
    let frames: Vec<_> = (0..DATAGRAMS).map(|_| store.get((0..BATCH).map(|_| draw()))).collect();
    frames.iter().take(100).try_for_each(|frame| store.check(frame))?;
    let plain = |result: Result<f64>| result.map_err(|error| std::io::Error::other(format!("{error:#}")));
    let row = PairedBench::new(name, "time per message", "ns")
        .runs(runs)
        .paired(&mut || plain(Baseline::repeated(&baseline.echo, &frames[0])), &mut || {
            plain(baseline.once_each(&store.bench.entry, &frames).map(|ns| ns / f64::from(BATCH)))
        })?;
    Ok(row)
}
