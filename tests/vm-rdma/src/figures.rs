//! How long a READ and a GET take, by each way, in turn.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use naam_abi::onesided::{self, read_args};
use naam_client::Call;
use naam_control::protocol::session::{RegionRights, Rights};
use serde_json::json;

use crate::{
    read,
    reader::{Reader, Structure, Way, client},
    session::Peer,
};

/// As many of each kind before another kind's turn.
const TURN: usize = 50;
/// Bytes of a READ.
const BYTES: usize = 64;

/// Prints medians in microseconds.
pub fn print(control: &str, turns: usize) -> Result<()> {
    let raw = Rights { read: true, ..Rights::NONE };
    let rights = RegionRights { region: "store".parse()?, handler: Rights::ALL, raw };
    let mut peer = Peer::connect(control, "kv", None, None, rights.clone())?;
    let (mut plain, _lease, _) = client(control, "kv", vec![rights])?;
    let function = plain.function(onesided::NAMES[usize::from(onesided::READ)]).context("no one-sided functions")?;
    let args = read_args(0, 0, BYTES as u32);
    let call = Call { reply_room: Some(BYTES as u16), timeout: Duration::from_secs(20), ..Call::new(function, &args) };
    let mut readers = Vec::new();
    for way in [Way::Verbs, Way::Onesided, Way::Host] {
        readers.push(Reader::open(control, Structure::Mica, way)?);
    }
    let mut took: [Vec<Duration>; 5] = Default::default();
    let local = peer.buffer(BYTES)?;
    for turn in 0..turns {
        let mut times: [Vec<Duration>; 5] = Default::default();
        for _ in 0..TURN {
            times[0].push(timed(|| read(&mut peer, &local, 0, BYTES / 8).map(drop))?);
        }
        for _ in 0..TURN {
            times[1].push(timed(|| Ok(plain.call(&call).map(drop)?))?);
        }
        for (reader, times) in readers.iter_mut().zip(&mut times[2..]) {
            for _ in 0..TURN {
                times.push(timed(|| reader.get(b"key").map(drop))?);
            }
        }
        // The first turn warms everything up.
        if turn > 0 {
            took.iter_mut().zip(times).for_each(|(all, times)| all.extend(times));
        }
    }
    let [verbs_read, onesided_read, get_verbs, get_onesided, get_host] = took.map(median_us);
    println!(
        "{}",
        json!({
            "verbs_read": verbs_read, "onesided_read": onesided_read,
            "get_verbs": get_verbs, "get_onesided": get_onesided, "get_host": get_host,
            "stats": readers[0].site.stats(),
        })
    );
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let began = Instant::now();
    work().map(|()| began.elapsed())
}

fn median_us(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_nanos() as f64 / 1e3)
}
