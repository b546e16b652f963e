//! Look-ups over veth, in a MICA store and in a Cell tree: NAAM's sites against a userspace server.
//!
//! ```text
//!   client namespace                              host namespace
//!   Client ─ AF_XDP ──────────── naam0 ─ veth ─ naam0 ─ entry, shell, handler      host
//!   engine: handler ─ AF_XDP ─── naam0 ─ veth ─ naam0 ─ entry, shell, naam_read    client
//!   its source ─ AF_XDP ──────── naam0 ─ veth ─ naam0 ─ entry, shell, naam_read    reads
//!   Client ─ AF_XDP ──────────── naam0 ─ veth ─ naam0 ─ UDP socket, its source     baseline
//! ```
//!
//! All carry tags, use the same transport, and run the same source of the handler on the same bytes. What differs is who
//! serves: the kernel where the frame arrives, a process behind a socket, or the client itself, as the handler that the
//! host would run, or as code of its own that needs no handler.

mod contents;
mod server;
mod who;

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use naam_abi::limits::PORT_BASE;
use naam_abi::onesided;
use naam_abi::tables::RIGHT_READ;
use naam_admission::admit;
use naam_client::site::{Placement, SiteClient};
use naam_client::{Client, FunctionInfo, Options, RegionInfo, SessionInfo};
use naam_loader::Hook;
use naam_loadgen::report::bench::{Bench as PairedBench, Row};
use naam_sys::Map;
use naam_testbed::{DEVICE, HOST_V4, Topology};
use naam_tests::bench::{Bench, SESSION, region};
use naam_tests::objects;
use naam_transport::xsk::XskOptions;
use naam_transport::{Choice, Target, open};

use contents::{Contents, KEYS, REGION_BYTES, Service, VALUE_BYTES, value};
use server::Server;
use sha2::{Digest as _, Sha256};
use who::{ByEngine, ByReads, ByRequest, Gets};

const APP: u16 = 4;
const GET: u16 = 16;
const READ: &str = onesided::NAMES[onesided::READ as usize];
/// Look-ups of a run.
const OPERATIONS: u64 = 200_000;
/// Look-ups in flight: one at a time shows the latency, many the throughput.
const WINDOWS: [(&str, usize); 2] = [("", 256), (".alone", 1)];

/// Who performs them.
const WHO: [&str; 3] = ["host", "client", "reads"];

/// `net.mica.get.WHO`, `net.cell.lookup.WHO`: 256 look-ups in flight, up to 32 a datagram; with `.alone` before WHO one in
/// flight. WHO is `host` (the host's kernel), `client` (the client's engine) or `reads` (the client without a handler).
/// Baseline: the userspace server.
pub fn benches(wanted: &dyn Fn(&str) -> bool, runs: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (bench, contents) in [("net.mica.get", Contents::mica as fn() -> _), ("net.cell.lookup", Contents::cell)] {
        let names =
            WINDOWS.iter().flat_map(|(way, window)| WHO.map(|who| (format!("{bench}{way}.{who}"), *window, who)));
        let names: Vec<_> = names.filter(|(name, ..)| wanted(name)).collect();
        if !names.is_empty() {
            rows.extend(pairs(&contents()?, &names, runs)?);
        }
    }
    Ok(rows)
}

fn pairs(contents: &Contents, names: &[(String, usize, &str)], runs: usize) -> Result<Vec<Row>> {
    let service = contents.service;
    let (host, rival) = (Host::start(contents)?, Rival::start(contents)?);
    let mut rows = Vec::new();
    for (name, window, who) in names {
        let window = *window;
        let mut ours: Box<dyn Gets> = match *who {
            "host" => Box::new(ByRequest::new(host.client(window)?, service)?),
            "client" => Box::new(ByEngine::new(host.site(window)?, service)?),
            _ => Box::new(ByReads::new(host.client(window)?, service)?),
        };
        let mut theirs = ByRequest::new(rival.client(window)?, service)?;
        let operations = if window == 1 { OPERATIONS / 20 } else { OPERATIONS };
        let run = |gets: &mut dyn Gets| {
            measure(gets, service, window, operations).map_err(|error| io::Error::other(format!("{error:#}")))
        };
        rows.push(
            PairedBench::new(name, "time per operation", "ns")
                .runs(runs)
                .paired(&mut || run(&mut theirs), &mut || run(&mut *ours))?,
        );
    }
    Ok(rows)
}

/// NAAM on a network of its own.
struct Host {
    topology: Topology,
    service: Service,
    _bench: Bench,
    _region: Map,
}

impl Host {
    fn start(contents: &Contents) -> Result<Self> {
        let topology = Topology::builder().build()?;
        let mut bench = Bench::new(Hook::Xdp, true);
        bench.app(APP);
        let region = region(REGION_BYTES as u32, 1);
        contents.copy_to(&region.mmap()?);
        for (number, name) in [(onesided::READ, READ), (GET, contents.service.handler())] {
            let code = admit(&objects::read(name)).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
            bench.load((APP, number, 1), &code, &[&region])?;
        }
        bench.datapath.tables().set_rights(SESSION, [RIGHT_READ; 8], [RIGHT_READ; 8]);
        topology.host().run(|| bench.datapath.attach(DEVICE, Some(Hook::Xdp)))??;
        Ok(Self { topology, service: contents.service, _bench: bench, _region: region })
    }

    fn client(&self, window: usize) -> Result<Client> {
        client(&self.topology, self.service, window)
    }

    /// A client that runs the handler itself.
    fn site(&self, window: usize) -> Result<SiteClient> {
        let mut site = SiteClient::new(self.client(window)?, Placement::Client);
        let name = self.service.handler();
        let object = objects::read(name);
        let sha256: String = Sha256::digest(&object).iter().map(|byte| format!("{byte:02x}")).collect();
        site.learn(name, &sha256, &object)?;
        Ok(site)
    }
}

/// The userspace server on a network of its own.
struct Rival {
    topology: Topology,
    service: Service,
    _server: Server,
}

impl Rival {
    fn start(contents: &Contents) -> Result<Self> {
        let topology = Topology::builder().build()?;
        let step = contents.service.step();
        let server = topology.host().run(|| Server::start(HOST_V4.into(), APP, step, contents.words()))??;
        Ok(Self { topology, service: contents.service, _server: server })
    }

    fn client(&self, window: usize) -> Result<Client> {
        client(&self.topology, self.service, window)
    }
}

/// A client of shard 0, as the server has one socket.
fn client(topology: &Topology, service: Service, window: usize) -> Result<Client> {
    let object = objects::read("xsk");
    let mut session = SessionInfo { shards: 1, ..SessionInfo::new(HOST_V4.into(), APP, SESSION) };
    let get = FunctionInfo { number: GET, version: 1, writes: false, reply_max: service.reply_max() as u16 };
    session.functions.insert(service.handler().to_owned(), get);
    let read = FunctionInfo { number: onesided::READ, reply_max: onesided::READ_BYTES_MAX as u16, ..get };
    session.functions.insert(READ.to_owned(), read);
    let bytes = REGION_BYTES as u64;
    let store = RegionInfo { index: 0, bytes, value_len: bytes, handler_rights: RIGHT_READ, raw_rights: RIGHT_READ };
    session.regions.insert("store".to_owned(), store);
    let choice = Choice::AfXdp(XskOptions::attach(&object));
    let opened = topology.client().run(|| open(Target::new(session.host, PORT_BASE), &choice))??;
    Ok(Client::new(session, &Options { window, ..Options::default() }, opened.transport))
}

/// Nanoseconds of an operation, over `operations` of them with `window` in flight. Every value is compared.
fn measure(gets: &mut dyn Gets, service: Service, window: usize, operations: u64) -> Result<f64> {
    const PATIENCE: Duration = Duration::from_secs(60);
    // A step that is no factor of the number of keys visits all of them.
    let key = |number: u64| number * 40_503 % KEYS;
    let (mut sent, mut ended, mut wrong) = (0, 0, 0u64);
    let begun = Instant::now();
    while ended < operations {
        while sent < operations && (sent - ended) < window as u64 {
            gets.submit(sent, &service.args(key(sent)))?;
            sent += 1;
        }
        ended += gets.poll(&mut |number, found| wrong += u64::from(found != Some(&value(key(number))[..])))? as u64;
        ensure!(begun.elapsed() < PATIENCE, "{ended} of {operations} operations in {PATIENCE:?}");
    }
    let elapsed = begun.elapsed();
    ensure!(wrong == 0, "{wrong} of {operations} values of {VALUE_BYTES} bytes were wrong or missing");
    Ok(elapsed.as_nanos() as f64 / operations as f64)
}
