//! What the shell costs, with a handler that only replies.

use anyhow::Result;
use naam_abi::tables::{APP_SERVING, APP_TAG};
use naam_loader::Hook;
use naam_loadgen::report::bench::{Bench as PairedBench, Row};
use naam_tests::bench::{Bench, SESSION, port};
use naam_tests::frame::{Message, Network, Request};

use crate::meter::Baseline;

const APP: u16 = 1;

/// `shell.trivial`: one message without arguments, echo as handler; with 16 messages per message;
/// and both with the tag.
pub fn benches(wanted: &dyn Fn(&str) -> bool, runs: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, count, flags) in [
        ("shell.trivial", 1, APP_SERVING),
        ("shell.trivial.tag", 1, APP_SERVING | APP_TAG),
        ("shell.trivial.16", 16, APP_SERVING),
        ("shell.trivial.16.tag", 16, APP_SERVING | APP_TAG),
    ] {
        if !wanted(name) {
            continue;
        }
        let baseline = Baseline::load()?;
        let bench = repeatable();
        bench.app_with(APP, flags);
        bench.load_built(APP, "echo", &[]);
        let messages = (0..count).map(|number| Message::new(number, &[], 8)).collect();
        rows.push(pair(name, runs, &baseline, &bench, &frame(APP, 16, messages), count)?);
    }
    Ok(rows)
}

/// An instance whose answers stay requests.
pub fn repeatable() -> Bench {
    let mut bench = Bench::new(Hook::Xdp, true);
    bench.repeatable = true;
    bench
}

/// A frame with equal ports, so that an answer is a request again.
pub fn frame(app: u16, function: u16, messages: Vec<Message>) -> Vec<u8> {
    let request = Request { app, function, handler: 0, shard: 0, session: SESSION, messages };
    Network { source_port: port(app, 0), ..Network::v4(port(app, 0)) }.frame(&request.datagram())
}

/// Measures a frame of `count` messages through the entry, per message, against bare echo of it.
pub fn pair(name: &str, runs: usize, baseline: &Baseline, bench: &Bench, frame: &[u8], count: u32) -> Result<Row> {
    let plain = |result: Result<f64>| result.map_err(|error| std::io::Error::other(format!("{error:#}")));
    let row = PairedBench::new(name, "time per message", "ns")
        .runs(runs)
        .paired(&mut || plain(Baseline::repeated(&baseline.echo, frame)), &mut || {
            plain(Baseline::repeated(&bench.entry, frame).map(|ns| ns / f64::from(count)))
        })?;
    Ok(row)
}
