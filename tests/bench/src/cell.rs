//! What a look-up in a Cell B-tree costs, in the cache and out of it.

use anyhow::{Result, ensure};
use naam_abi::tables::APP_SERVING;
use naam_admission::admit;
use naam_cell::{Options, Tree};
use naam_handlers::cell::args;
use naam_loadgen::report::bench::{Bench as PairedBench, Row};
use naam_sys::Map;
use naam_tests::bench::{Bench, XDP_TX, region};
use naam_tests::frame::{Message, Reply};
use naam_tests::objects;

use crate::meter::Baseline;
use crate::shell::{frame, pair, repeatable};

const APP: u16 = 2;
const GET: u16 = 16;
/// A million keys of 8 bytes with values of 16: four levels, 30 MB of nodes.
const KEYS: u64 = 1_000_000;
pub const VALUE_BYTES: usize = 16;
const REGION_BYTES: u32 = 64 << 20;
const HOT_KEYS: u64 = 256;
/// Messages of a datagram out of the cache.
const BATCH: u32 = 16;
/// Datagrams of a run out of the cache.
const DATAGRAMS: usize = 3_000;

/// A tree in the kernel.
pub struct Served {
    pub bench: Bench,
    pub region: Map,
}

impl Served {
    /// A tree with all keys, and the handler.
    pub fn new() -> Result<Self> {
        let bench = repeatable();
        bench.app_with(APP, APP_SERVING);
        let region = region(REGION_BYTES, 1);
        let code = admit(&objects::read("cell_get")).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        bench.load((APP, GET, 1), &code, &[&region])?;
        let mut tree = Tree::format(region.mmap()?, Options::default())?;
        tree.load((0..KEYS).map(|key| (key.to_be_bytes(), [key as u8; VALUE_BYTES])))?;
        Ok(Self { bench, region })
    }

    /// A datagram that gets these keys.
    pub fn get(keys: impl Iterator<Item = u64>) -> Vec<u8> {
        let messages = keys.map(|key| {
            let mut buffer = [0; args::ARGS_MAX];
            let arguments = args::get(&mut buffer, &key.to_be_bytes());
            Message::new(key as u32, arguments, arguments.len() + VALUE_BYTES)
        });
        frame(APP, GET, messages.collect())
    }

    /// Whether every message of the datagram finds its value.
    pub fn check(&self, frame: &[u8]) -> Result<()> {
        let output = self.bench.send(frame);
        ensure!(output.retval == XDP_TX, "a GET got verdict {}", output.retval);
        let reply = Reply::read(&output.data[42..]);
        let wrong = reply.answers.iter().find(|answer| answer.status != 0 || answer.reply.len() != VALUE_BYTES);
        ensure!(wrong.is_none(), "a GET failed: {wrong:?}");
        Ok(())
    }
}

/// `cell.lookup`: one message, 256 keys of a million; `.16` with 16 messages a datagram, per message;
/// `.random`: 16 messages over all keys.
pub fn benches(wanted: &dyn Fn(&str) -> bool, runs: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, count) in [("cell.lookup", 1), ("cell.lookup.16", BATCH)] {
        if wanted(name) {
            let served = Served::new()?;
            let frame = Served::get((0..count.into()).map(|number| number * 37 % HOT_KEYS * (KEYS / HOT_KEYS)));
            served.check(&frame)?;
            rows.push(pair(name, runs, &Baseline::load()?, &served.bench, &frame, count)?);
        }
    }
    if wanted("cell.lookup.random") {
        rows.push(random("cell.lookup.random", runs)?);
    }
    Ok(rows)
}

fn random(name: &str, runs: usize) -> Result<Row> {
    let served = Served::new()?;
    let baseline = Baseline::load()?;
    let mut state = 1u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % KEYS
    };
    let frames: Vec<_> = (0..DATAGRAMS).map(|_| Served::get((0..BATCH).map(|_| draw()))).collect();
    frames.iter().take(100).try_for_each(|frame| served.check(frame))?;
    let plain = |result: Result<f64>| result.map_err(|error| std::io::Error::other(format!("{error:#}")));
    let row = PairedBench::new(name, "time per message", "ns")
        .runs(runs)
        .paired(&mut || plain(Baseline::repeated(&baseline.echo, &frames[0])), &mut || {
            plain(baseline.once_each(&served.bench.entry, &frames).map(|ns| ns / f64::from(BATCH)))
        })?;
    Ok(row)
}
