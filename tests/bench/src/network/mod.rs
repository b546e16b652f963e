//! MICA GETs over veth: NAAM's host site against a userspace server.
//!
//! ```text
//!   client namespace                host namespace
//!   Client ─ AF_XDP ─ naam0 ── veth ── naam0 ─ entry, shell, mica_get    (NAAM)
//!   Client ─ AF_XDP ─ naam0 ── veth ── naam0 ─ UDP socket, mica::get     (baseline)
//! ```
//!
//! The same client sends the same datagrams to both, with tags; both run the same source of `mica_get` on the
//! same bytes. Only who serves differs: the kernel where the frame arrives, or a process behind a socket.

mod contents;
mod server;

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use naam_abi::limits::PORT_BASE;
use naam_client::{Call, Client, FunctionInfo, Options, SessionInfo, Shard};
use naam_handlers::mica::args;
use naam_loader::Hook;
use naam_loadgen::report::bench::{Bench as PairedBench, Row};
use naam_sys::Map;
use naam_testbed::{DEVICE, HOST_V4, Topology};
use naam_tests::bench::{Bench, SESSION, region};
use naam_tests::objects;
use naam_transport::xsk::XskOptions;
use naam_transport::{Choice, Target, open};

use contents::{Contents, KEYS, REPLY_BYTES, VALUE_BYTES, value};
use server::Server;

const APP: u16 = 4;
const GET: u16 = 16;
/// GETs of a run.
const OPERATIONS: u64 = 200_000;
/// GETs in flight: one at a time shows the latency, many the throughput.
const WINDOWS: [(&str, usize); 2] = [("net.mica.get", 256), ("net.mica.get.alone", 1)];

/// `net.mica.get`: 256 GETs in flight, up to 32 a datagram. `net.mica.get.alone`: one in flight.
/// Baseline: the userspace server.
pub fn benches(wanted: &dyn Fn(&str) -> bool, runs: usize) -> Result<Vec<Row>> {
    let names: Vec<_> = WINDOWS.into_iter().filter(|(name, _)| wanted(name)).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let contents = Contents::new()?;
    let (host, rival) = (Host::start(&contents)?, Rival::start(&contents)?);
    let mut rows = Vec::new();
    for (name, window) in names {
        let mut ours = host.client(window)?;
        let mut theirs = rival.client(window)?;
        let operations = if window == 1 { OPERATIONS / 20 } else { OPERATIONS };
        let run = |client: &mut Client| {
            measure(client, &contents, window, operations).map_err(|error| io::Error::other(format!("{error:#}")))
        };
        rows.push(
            PairedBench::new(name, "time per operation", "ns")
                .runs(runs)
                .paired(&mut || run(&mut theirs), &mut || run(&mut ours))?,
        );
    }
    Ok(rows)
}

/// NAAM on a network of its own.
struct Host {
    topology: Topology,
    _bench: Bench,
    _store: Map,
}

impl Host {
    fn start(contents: &Contents) -> Result<Self> {
        let topology = Topology::builder().build()?;
        let mut bench = Bench::new(Hook::Xdp, true);
        bench.app(APP);
        let store = region(contents.bytes() as u32, 1);
        contents.copy_to(&store.mmap()?);
        let code = naam_admission::admit(&objects::read("mica_get")).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        bench.load((APP, GET, 1), &code, &[&store])?;
        topology.host().run(|| bench.datapath.attach(DEVICE, Some(Hook::Xdp)))??;
        Ok(Self { topology, _bench: bench, _store: store })
    }

    fn client(&self, window: usize) -> Result<Client> {
        client(&self.topology, window)
    }
}

/// The userspace server on a network of its own.
struct Rival {
    topology: Topology,
    _server: Server,
}

impl Rival {
    fn start(contents: &Contents) -> Result<Self> {
        let topology = Topology::builder().build()?;
        let server = topology.host().run(|| Server::start(HOST_V4.into(), APP, contents.words()))??;
        Ok(Self { topology, _server: server })
    }

    fn client(&self, window: usize) -> Result<Client> {
        client(&self.topology, window)
    }
}

/// A client of shard 0, as the server has one socket.
fn client(topology: &Topology, window: usize) -> Result<Client> {
    let object = objects::read("xsk");
    let mut session = SessionInfo { shards: 1, ..SessionInfo::new(HOST_V4.into(), APP, SESSION) };
    let get = FunctionInfo { number: GET, version: 1, writes: false, reply_max: REPLY_BYTES as u16 };
    session.functions.insert("mica_get".to_owned(), get);
    let choice = Choice::AfXdp(XskOptions::attach(&object));
    let opened = topology.client().run(|| open(Target::new(session.host, PORT_BASE), &choice))??;
    Ok(Client::new(session, &Options { window, ..Options::default() }, opened.transport))
}

/// Nanoseconds of an operation, over `operations` of them with `window` in flight. Every value is compared.
fn measure(client: &mut Client, contents: &Contents, window: usize, operations: u64) -> Result<f64> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let function = client.function("mica_get").context("no mica_get")?;
    let mut keys = vec![0; client.core().window()];
    let (mut sent, mut ended, mut wrong) = (0, 0, 0u64);
    let begun = Instant::now();
    while ended < operations {
        while sent < operations && (sent - ended) < window as u64 {
            // A step that is no factor of the number of keys visits all of them.
            let key = sent * 40_503 % KEYS;
            let mut buffer = [0; args::GET_ARGS_MAX];
            let args = args::get(&mut buffer, contents.geometry(), &key.to_le_bytes());
            let call = Call::new(function, args).shard(Shard::Number(0)).reply_room(REPLY_BYTES as u16);
            let ticket = client.submit(&call)?;
            keys[ticket.index()] = key;
            sent += 1;
        }
        ended += client.poll(|completion| {
            let key = keys[completion.ticket.index()];
            let found = completion.outcome.ok().and_then(|reply| args::found(reply.bytes).map(|(_, value)| value));
            wrong += u64::from(found != Some(&value(key)[..]));
        })? as u64;
        ensure!(begun.elapsed() < PATIENCE, "{ended} of {operations} operations in {PATIENCE:?}");
    }
    let elapsed = begun.elapsed();
    ensure!(wrong == 0, "{wrong} of {operations} values of {VALUE_BYTES} bytes were wrong or missing");
    Ok(elapsed.as_nanos() as f64 / operations as f64)
}
