//! The client site: handlers run in the client, on memory that one-sided READs fetch from the host's kernel.
//!
//! ```text
//!   client namespace                            host namespace
//!   SiteClient ─ engine: mica_get ─ READ ─ naam0 ─ veth ─ naam0 ─ entry, shell, naam_read, mica_*, counter
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use naam_abi::limits::{PORT_BASE, SHARDS_MAX};
use naam_abi::tables::{RIGHT_ALL, RIGHT_READ, Site, SteerEntry};
use naam_abi::wire::Status;
use naam_client::site::memory::{Lost, Memory};
use naam_client::site::{LearnError, Placement, SiteClient};
use naam_client::{Call, CallError, Client, FunctionInfo, Options, RegionInfo, SessionInfo, Shard, SubmitError};
use naam_handlers::mica::layout::Geometry;
use naam_handlers::mica::{Code, args};
use naam_loader::Hook;
use naam_testbed::{DEVICE, HOST_V4, Topology, object};
use naam_tests::bench::{Bench, SESSION, region};
use naam_transport::{Choice, Target, open};
use sha2::{Digest, Sha256};

const APP: u16 = 3;
const SHARD: u16 = 5;
const REGION_BYTES: u32 = 4 << 20;
/// Where the counter's word lies: behind all that MICA formats, in a region of its own.
const COUNTED: u64 = 64;
/// The app's functions; the first is built in.
const FUNCTIONS: [(u16, &str); 5] =
    [(0, "naam_read"), (16, "mica_get"), (17, "mica_set"), (18, "counter"), (19, "chain")];

struct Host {
    topology: Topology,
    bench: Bench,
    store: naam_sys::Map,
    counters: naam_sys::Map,
    geometry: Geometry,
}

impl Host {
    fn start() -> Self {
        let topology = Topology::builder().build().expect("two namespaces and a veth pair");
        let mut bench = Bench::new(Hook::Tc, true);
        bench.app(APP);
        let (store, counters) = (region(REGION_BYTES, 1), region(2 << 20, 1));
        for (number, name) in FUNCTIONS {
            let code = naam_admission::admit(&object(name).unwrap()).unwrap();
            // The counter counts in its region 0.
            let regions = if name == "counter" { [&counters, &store] } else { [&store, &counters] };
            bench.load((APP, number, 1), &code, &regions).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let geometry = Geometry::plan(REGION_BYTES.into(), 16, 100).expect("geometry");
        let words = store.mmap().expect("mmap");
        geometry.format(|at, word| words.store(at, word, Ordering::SeqCst).expect("inside"));
        topology.host().run(|| bench.datapath.attach(DEVICE, Some(Hook::Tc)).unwrap()).unwrap();
        Self { topology, bench, store, counters, geometry }
    }

    /// A client of a session of its own, with this raw right to the store.
    fn client(&self, raw: u8) -> Client {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = SESSION + NUMBER.fetch_add(1, Ordering::Relaxed);
        self.bench.session(number, APP, RIGHT_ALL);
        self.bench.datapath.tables().set_rights(number, [RIGHT_ALL; 8], [raw; 8]);
        let mut session = SessionInfo::new(HOST_V4.into(), APP, number);
        for (number, name) in FUNCTIONS {
            let meta = naam_admission::admit(&object(name).unwrap()).unwrap().meta;
            let info = FunctionInfo {
                number,
                version: 1,
                writes: meta.flags & naam_abi::handler::META_WRITES != 0,
                reply_max: meta.reply_max as u16,
            };
            session.functions.insert(name.to_owned(), info);
        }
        for (index, name, bytes) in [(0, "store", u64::from(REGION_BYTES)), (1, "counters", 2 << 20)] {
            let info = RegionInfo { index, bytes, value_len: bytes, handler_rights: RIGHT_ALL, raw_rights: raw };
            session.regions.insert(name.to_owned(), info);
        }
        let target = Target::new(session.host, PORT_BASE);
        let opened = self.topology.client().run(|| open(target, &Choice::Udp)).unwrap().unwrap();
        Client::new(session, &Options::default(), opened.transport)
    }

    fn site(&self, raw: u8, placement: Placement) -> SiteClient {
        let mut site = SiteClient::new(self.client(raw), placement);
        for (_, name) in &FUNCTIONS[1..] {
            let bytes = object(name).unwrap();
            site.learn(name, &sha256(&bytes), &bytes).unwrap_or_else(|error| panic!("{error}"));
        }
        site
    }

    /// Moves the shard.
    fn steer(&self, site: Site, lease_ms: u16) {
        let tables = self.bench.datapath.tables();
        let epoch = tables.placement(APP, SHARD).epoch + 1;
        tables.set_placement(APP, SHARD, SteerEntry { epoch, site: site as u8, lease_ms });
    }

    /// What the daemon does after a replace.
    fn announce(&self) {
        let tables = self.bench.datapath.tables();
        for shard in 0..SHARDS_MAX as u16 {
            let now = tables.placement(APP, shard);
            tables.set_placement(APP, shard, SteerEntry { epoch: now.epoch + 1, ..now });
        }
    }

    fn load(&self, number: u16, version: u16, name: &str) {
        let code = naam_admission::admit(&object(name).unwrap()).unwrap();
        self.bench.load((APP, number, version), &code, &[&self.store, &self.counters]).unwrap();
    }

    fn get_args(&self, key: &[u8]) -> Vec<u8> {
        args::get(&mut [0; args::GET_ARGS_MAX], self.geometry, key).to_vec()
    }

    /// The store, read past the kernel.
    fn direct(&self) -> Direct {
        Direct { words: self.store.mmap().expect("mmap"), wanted: Vec::new(), left: u32::MAX, silent: Arc::default() }
    }

    fn counted(&self) -> u64 {
        self.counters.mmap().expect("mmap").load(COUNTED, Ordering::SeqCst).expect("inside")
    }
}

/// A memory as RDMA is one: it serves region 0, and breaks after so many READs, some of which are then on their way.
struct Direct {
    words: naam_sys::Mapping,
    wanted: Vec<(u64, u64, u32)>,
    left: u32,
    /// Nothing arrives.
    silent: Arc<AtomicBool>,
}

impl Memory for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn read(&mut self, tag: u64, region: u32, offset: u64, len: u32) -> bool {
        let is_here = region == 0 && offset + u64::from(len) <= u64::from(REGION_BYTES);
        if is_here {
            self.wanted.push((tag, offset, len));
        }
        is_here
    }

    fn flush(&mut self) -> Result<(), Lost> {
        Ok(())
    }

    fn poll(&mut self, each: &mut dyn FnMut(u64, &[u8])) -> Result<(), Lost> {
        if self.silent.load(Ordering::SeqCst) {
            return Ok(());
        }
        for (tag, offset, len) in std::mem::take(&mut self.wanted) {
            self.left = self.left.checked_sub(1).ok_or(Lost { memory: "direct", cause: "it broke".into() })?;
            let mut bytes = vec![0; len as usize];
            self.words.copy_out(offset, &mut bytes).unwrap();
            each(tag, &bytes);
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.wanted.len()
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn set_args(key: &[u8], value: &[u8]) -> Vec<u8> {
    args::set(&mut [0; args::WRITE_ARGS_MAX], key, value).to_vec()
}

fn key(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(1 + number as usize % 8)
}

/// Values of all lengths, some longer than a READ.
fn value(number: u64, round: u64) -> Vec<u8> {
    vec![(number * 31 + round) as u8; (number * 97 + round * 13) as usize % 1001]
}

/// What a call says at the client is what it says at home, and it was the client that ran it.
#[test]
fn both_sites_give_the_same_answers() {
    let host = Host::start();
    let mut home = host.site(RIGHT_READ, Placement::Host);
    let mut here = host.site(RIGHT_READ, Placement::Client);
    let (get, set) = (home.client().function("mica_get").unwrap(), home.client().function("mica_set").unwrap());
    for number in 0..60 {
        let arguments = set_args(&key(number), &value(number, 0));
        let answer = here.call(&Call::new(set, &arguments).shard(Shard::Number(SHARD))).unwrap();
        let outcome = answer.outcome.unwrap_or_else(|error| panic!("key {number}: {error}"));
        assert_eq!((answer.site, outcome.code), (Site::Host, Code::Ok as u32), "writers stay at home");
    }
    for number in 0..80 {
        let arguments = host.get_args(&key(number));
        let call = Call::new(get, &arguments).shard(Shard::Number(SHARD));
        let (at_home, at_client) = (home.call(&call).unwrap(), here.call(&call).unwrap());
        assert_eq!((at_home.site, at_client.site), (Site::Host, Site::Client), "key {number}");
        let (at_home, at_client) = (at_home.outcome.unwrap(), at_client.outcome.unwrap());
        assert_eq!((at_home.code, &at_home.bytes, at_home.steps), (at_client.code, &at_client.bytes, at_client.steps));
        match args::found(&at_client.bytes) {
            Some((_, found)) if number < 60 => assert_eq!(found, value(number, 0)),
            found => assert!(number >= 60 && at_client.code == Code::NotFound as u32, "key {number}: {found:?}"),
        }
    }
    // Too little room, arguments that make no sense, a READ outside of the region.
    let chain = home.client().function("chain").unwrap();
    let outside = [u64::from(REGION_BYTES), 3].map(u64::to_le_bytes).concat();
    let short = host.get_args(&key(59));
    for call in [Call::new(get, &[1, 2, 3]), Call::new(chain, &outside), Call::new(get, &short).reply_room(8)] {
        let call = call.shard(Shard::Number(SHARD));
        let (at_home, at_client) = (home.call(&call).unwrap(), here.call(&call).unwrap());
        assert_eq!((at_home.site, at_client.site), (Site::Host, Site::Client), "{call:?}");
        let plain = |error: CallError| match error {
            CallError::Refused { status, code, .. } => (status, code),
            CallError::Failed { code } => (Status::Failed, code),
            other => panic!("{other}"),
        };
        let told = |answer: naam_client::site::SiteAnswer| {
            answer.outcome.map(|reply| (reply.code, reply.bytes)).map_err(plain)
        };
        assert_eq!(told(at_home), told(at_client), "{call:?}");
    }
    let (home, here) = (home.stats(), here.stats());
    assert_eq!((home.ended_here, home.reads), (0, 0), "{home:?}");
    assert_eq!((here.ended_here, here.ended_at_host, here.sent_home), (83, 60, 0), "{here:?}");
    assert!(here.reads > 80 && here.steps > here.reads, "{here:?}");
}

/// The shard moves to and fro while it is called: every addition counts once, every SET stands, every GET finds what
/// was set last.
#[test]
fn moved_under_load_nothing_is_lost_or_repeated() {
    let host = Host::start();
    let stop = AtomicBool::new(false);
    let moves = AtomicU64::new(0);
    let (counted, set, here, at_host) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for site in [Site::Client, Site::Host] {
                    host.steer(site, 40);
                    moves.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(15));
                }
            }
        });
        let workers: Vec<_> = (0..2u64)
            .map(|worker| {
                let host = &host;
                scope.spawn(move || work(host, worker))
            })
            .collect();
        let done: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        stop.store(true, Ordering::Relaxed);
        let done = done.into_iter().map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        done.fold((0, 0, 0, 0), |all, one| (all.0 + one.0, all.1 + one.1, all.2 + one.2, all.3 + one.3))
    });
    let moves = moves.load(Ordering::Relaxed);
    println!("{moves} moves; {counted} additions, {set} SETs, {here} calls ended at the client, {at_host} at the host");
    assert_eq!(host.counted(), counted, "additions that were answered, and additions that the memory has");
    assert!(moves > 50 && here > 500 && at_host > 500 && set > 100, "the shard moved, and both sites ran calls");
}

/// One client's part: additions answered, SETs answered, calls ended here and at the host.
fn work(host: &Host, worker: u64) -> (u64, u64, u64, u64) {
    const KEYS: u64 = 16;
    // One of the two may carry its messages home, the other begins its writes there.
    let mut site = host.site(if worker == 0 { RIGHT_ALL } else { RIGHT_READ }, Placement::Hint);
    let function = |name| site.client().function(name).expect("a function of the session");
    let (get, set, counter) = (function("mica_get"), function("mica_set"), function("counter"));
    let one = [COUNTED, 1].map(u64::to_le_bytes).concat();
    let (mut counted, mut sets, mut rounds) = (0, 0, 0u64);
    let end = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < end {
        // Side by side: a SET of each key and additions; then a GET of each key.
        let mut outstanding = std::collections::HashMap::new();
        let arguments: Vec<_> = (0..KEYS).map(|at| set_args(&key(worker * KEYS + at), &value(at, rounds))).collect();
        for arguments in &arguments {
            outstanding.insert(site.submit(&Call::new(set, arguments).shard(Shard::Number(SHARD))).unwrap(), set);
            outstanding.insert(site.submit(&Call::new(counter, &one).shard(Shard::Number(SHARD))).unwrap(), counter);
        }
        while !outstanding.is_empty() {
            site.poll(|completion| {
                let function = outstanding.remove(&completion.ticket).expect("one end for each ticket");
                let reply = completion.outcome.unwrap_or_else(|error| panic!("{function:?}: {error}"));
                if function == set {
                    assert_eq!(reply.code, Code::Ok as u32);
                    sets += 1;
                } else {
                    counted += 1;
                }
            })
            .unwrap();
            site.wait(Duration::from_millis(1)).unwrap();
        }
        let arguments: Vec<_> = (0..KEYS).map(|at| host.get_args(&key(worker * KEYS + at))).collect();
        let mut outstanding: std::collections::HashMap<_, _> = (0..KEYS)
            .zip(&arguments)
            .map(|(at, arguments)| (site.submit(&Call::new(get, arguments).shard(Shard::Number(SHARD))).unwrap(), at))
            .collect();
        while !outstanding.is_empty() {
            site.poll(|completion| {
                let at = outstanding.remove(&completion.ticket).expect("one end for each ticket");
                let reply = completion.outcome.unwrap_or_else(|error| panic!("GET: {error}"));
                let (_, found) = args::found(reply.bytes).expect("it was set");
                assert_eq!(found, value(at, rounds), "at the {:?}, round {rounds}", completion.site);
            })
            .unwrap();
            site.wait(Duration::from_millis(1)).unwrap();
        }
        rounds += 1;
    }
    let stats = site.stats();
    assert_eq!(stats.ended_here + stats.ended_at_host, rounds * KEYS * 3, "{stats:?}");
    assert_eq!((stats.strange_reads, stats.sent_home), (0, stats.carried_home), "{stats:?}");
    assert_eq!(stats.carried_home > 0, worker == 0, "{stats:?}");
    (counted, sets, stats.ended_here, stats.ended_at_host)
}

/// A function that writes begins here; at its first op that writes it is cut, and home goes on.
#[test]
fn writes_are_carried_home() {
    let host = Host::start();
    let mut site = host.site(RIGHT_ALL, Placement::Client);
    let function = |name| site.client().function(name).expect("a function of the session");
    let (get, set, counter) = (function("mica_get"), function("mica_set"), function("counter"));
    for round in 0..2 {
        for number in 0..40 {
            let arguments = set_args(&key(number), &value(number, round));
            let answer = site.call(&Call::new(set, &arguments).shard(Shard::Number(SHARD))).unwrap();
            assert_eq!((answer.site, answer.outcome.unwrap().code), (Site::Host, Code::Ok as u32), "key {number}");
            let arguments = host.get_args(&key(number));
            let answer = site.call(&Call::new(get, &arguments).shard(Shard::Number(SHARD))).unwrap();
            assert_eq!(answer.site, Site::Client);
            let reply = answer.outcome.unwrap();
            assert_eq!(args::found(&reply.bytes).expect("it was set").1, value(number, round), "key {number}");
        }
    }
    let one = [COUNTED, 1].map(u64::to_le_bytes).concat();
    for before in 0..20u64 {
        let answer = site.call(&Call::new(counter, &one).shard(Shard::Number(SHARD))).unwrap();
        assert_eq!(answer.outcome.unwrap().bytes, before.to_le_bytes());
    }
    let stats = site.stats();
    assert_eq!((host.counted(), stats.carried_home, stats.sent_home), (20, 100, 100), "{stats:?}");
    assert_eq!((stats.begun_here, stats.ended_here, stats.ended_at_host), (180, 80, 100), "{stats:?}");
}

/// A hint is followed while its lease holds; a session without the raw right has its calls at home.
#[test]
fn leases_end_and_rights_are_needed() {
    let host = Host::start();
    let mut site = host.site(RIGHT_READ, Placement::Hint);
    let get = site.client().function("mica_get").unwrap();
    let arguments = host.get_args(b"nobody");
    let call = Call::new(get, &arguments).shard(Shard::Number(SHARD));
    host.steer(Site::Client, 200);
    let mut ran_at = || {
        let answer = site.call(&call).unwrap();
        assert_eq!(answer.outcome.unwrap().code, Code::NotFound as u32);
        answer.site
    };
    assert_eq!(ran_at(), Site::Host, "nobody has told it yet");
    assert_eq!(ran_at(), Site::Client);
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(ran_at(), Site::Host, "the lease is over");
    assert_eq!(ran_at(), Site::Client, "the answer has renewed it");
    host.steer(Site::Host, 200);
    assert_eq!(ran_at(), Site::Client, "its READs bring the news");
    assert_eq!(ran_at(), Site::Host);

    let mut without = host.site(0, Placement::Client);
    let answer = without.call(&call).unwrap();
    assert_eq!((answer.site, answer.outcome.unwrap().code), (Site::Host, Code::NotFound as u32));
    let stats = without.stats();
    assert_eq!(
        (stats.begun_here, stats.sent_home, stats.without_right, stats.ended_at_host),
        (1, 1, 1, 1),
        "{stats:?}"
    );
    // A right that the session was told of and that the host has taken away meanwhile.
    let mut site = host.site(RIGHT_READ, Placement::Client);
    host.bench.datapath.tables().set_rights(site.client().core().session().session, [RIGHT_ALL; 8], [0; 8]);
    let answer = site.call(&call).unwrap();
    assert_eq!((answer.site, answer.outcome.unwrap().code), (Site::Host, Code::NotFound as u32));
    assert_eq!((site.stats().reads, site.stats().without_right), (1, 1));
    assert_eq!(host.store.mmap().expect("mmap").len(), u64::from(REGION_BYTES));
}

/// A handler that was replaced answers no call here that begins after a reply has brought the epoch: not even while the
/// host still serves it to messages that name it.
#[test]
fn replaced_handlers_end_with_the_next_reply() {
    for placement in [Placement::Client, Placement::Hint] {
        let host = Host::start();
        host.steer(Site::Client, 10_000);
        let mut site = host.site(RIGHT_READ, placement);
        let get = site.client().function("mica_get").unwrap();
        let arguments = host.get_args(b"nobody");
        let call = |site: &mut SiteClient, shard| {
            let answer = site.call(&Call::new(get, &arguments).shard(Shard::Number(shard))).unwrap();
            let reply = answer.outcome.unwrap();
            let old = reply.code == Code::NotFound as u32;
            assert!(old || reply.bytes[..arguments.len()] == arguments[..], "neither version answers so: {reply:?}");
            (answer.site, old)
        };
        // The first brings the epoch, by itself or by its READs; the second confirms the handler, if need be.
        call(&mut site, SHARD);
        call(&mut site, SHARD);
        assert_eq!(call(&mut site, SHARD), (Site::Client, true), "{placement:?}");
        // A move that replaces nothing: home confirms the handler once more.
        host.announce();
        assert_eq!(call(&mut site, SHARD), (Site::Client, true), "its READs bring the epoch");
        assert_eq!(call(&mut site, SHARD), (Site::Host, true), "home is asked");
        assert_eq!(call(&mut site, SHARD), (Site::Client, true), "and has confirmed it");

        host.load(16, 2, "echo");
        host.announce();
        assert_eq!(call(&mut site, SHARD), (Site::Client, true), "its READs bring the epoch");
        for _ in 0..5 {
            assert_eq!(call(&mut site, SHARD), (Site::Host, false), "{placement:?}: the version before is over");
        }
        assert_eq!(call(&mut site, SHARD + 1), (Site::Host, false), "on every shard");
    }
}

/// An unloaded handler runs no more, and runs again once it was listed and learned anew.
#[test]
fn unloaded_handlers_end_with_the_next_reply() {
    let host = Host::start();
    let mut site = host.site(RIGHT_READ, Placement::Client);
    let chain = site.client().function("chain").unwrap();
    let arguments = [0, 1].map(u64::to_le_bytes).concat();
    let call = |site: &mut SiteClient| {
        let answer = site.call(&Call::new(chain, &arguments).shard(Shard::Number(SHARD))).unwrap();
        (
            answer.site,
            answer
                .outcome
                .map(|_| ())
                .map_err(|error| matches!(error, CallError::Refused { status: Status::NoFunction, .. })),
        )
    };
    let first = call(&mut site);
    assert_eq!(first.0, Site::Client);
    assert_eq!(call(&mut site), first);
    host.bench.datapath.unload(APP, 19).unwrap();
    host.announce();
    assert_eq!(call(&mut site), first, "its READ brings the epoch");
    for _ in 0..3 {
        assert_eq!(call(&mut site), (Site::Host, Err(true)));
    }
    host.load(19, 2, "chain");
    host.announce();
    assert_eq!(call(&mut site).0, Site::Host, "version 2 was not learned");
    assert_eq!(call(&mut site).0, Site::Host);
    let info = *site.client().core().session().functions.get("chain").unwrap();
    site.list("chain", FunctionInfo { version: 2, ..info }).unwrap();
    let bytes = object("chain").unwrap();
    site.learn("chain", &sha256(&bytes), &bytes).unwrap();
    assert_eq!(call(&mut site).0, Site::Host, "home confirms it");
    assert_eq!(call(&mut site), first);
}

/// Handler bytes that are not what the daemon lists never run here.
#[test]
fn altered_handlers_are_refused_and_counted() {
    let host = Host::start();
    let mut site = SiteClient::new(host.client(RIGHT_READ), Placement::Client);
    let (bytes, other) = (object("mica_get").unwrap(), object("chain").unwrap());
    let listed = sha256(&bytes);
    for at in [0, 100, bytes.len() / 2, bytes.len() - 1] {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        let error = site.learn("mica_get", &listed, &altered).unwrap_err();
        assert!(matches!(error, LearnError::NotListed { .. }), "{error}");
    }
    let error = site.learn("mica_get", &listed, &bytes[..bytes.len() - 8]).unwrap_err();
    assert!(matches!(error, LearnError::NotListed { .. }), "{error}");
    // A list that lies: the bytes are what it says, and still not the function.
    let error = site.learn("mica_get", &sha256(&other), &other).unwrap_err();
    assert!(matches!(error, LearnError::Differs { .. }), "{error}");
    let error = site.learn("mica_get", &sha256(b"no object"), b"no object").unwrap_err();
    assert!(matches!(error, LearnError::Refused { .. }), "{error}");
    let error = site.learn("nobody", &listed, &bytes).unwrap_err();
    assert!(matches!(error, LearnError::NoFunction { .. }), "{error}");
    assert_eq!(site.stats().refused_objects, 8);
    let arguments = host.get_args(b"nobody");
    let get = site.client().function("mica_get").unwrap();
    let ran_at = |site: &mut SiteClient| {
        let answer = site.call(&Call::new(get, &arguments)).unwrap();
        assert_eq!(answer.outcome.unwrap().code, Code::NotFound as u32);
        answer.site
    };
    assert_eq!(ran_at(&mut site), Site::Host, "nothing was learned");
    site.learn("mica_get", &listed, &bytes).unwrap();
    assert_eq!(ran_at(&mut site), Site::Client);
}

/// READs come from a memory of another kind; when it breaks, those on their way are asked for again.
#[test]
fn a_memory_that_is_lost_is_not_missed() {
    const CALLS: u64 = 200;
    let host = Host::start();
    let mut site = host.site(RIGHT_READ, Placement::Client);
    let (set, get) = (site.client().function("mica_set").unwrap(), site.client().function("mica_get").unwrap());
    let shard = Shard::Number(SHARD);
    for number in 0..16 {
        let args = set_args(&key(number), &value(number, 1));
        assert!(site.call(&Call { shard, ..Call::new(set, &args) }).unwrap().outcome.is_ok());
    }
    for (left, lost) in [(u32::MAX, 0), (101, 1)] {
        let before = site.stats();
        site.set_memory(Box::new(Direct { left, ..host.direct() }));
        assert_eq!(site.memory_name(), "direct");
        let (mut taken, mut ended) = (0, 0);
        while ended < CALLS {
            while taken < CALLS {
                let args = host.get_args(&key(taken % 16));
                match site.submit(&Call { shard, timeout: Duration::from_secs(20), ..Call::new(get, &args) }) {
                    Ok(_) => taken += 1,
                    Err(SubmitError::Busy { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            let done = site.poll(|completion| {
                let reply = completion.outcome.unwrap();
                assert_eq!(reply.code, Code::Ok as u32);
                ended += 1;
            });
            if done.unwrap() == 0 {
                site.wait(Duration::from_millis(50)).unwrap();
            }
        }
        let stats = site.stats();
        assert_eq!(stats.memory_lost, lost, "{stats:?}");
        let (read, fetched) = (stats.reads - before.reads, stats.memory_reads - before.memory_reads);
        if lost == 0 {
            assert!(fetched >= 2 * CALLS && read == 0, "{stats:?}");
        } else {
            assert!(fetched == 101 && stats.memory_again > 0 && read > CALLS, "{stats:?}");
            assert_eq!(site.lost().unwrap().to_string(), "direct is lost: it broke");
            assert_eq!(site.memory_name(), "onesided");
        }
    }
}

/// A memory that stands still holds no call beyond its time; what comes later is nobody's, and the memory goes on.
#[test]
fn a_memory_that_is_silent_holds_no_call() {
    let host = Host::start();
    let mut site = host.site(RIGHT_READ, Placement::Client);
    let (set, get) = (site.client().function("mica_set").unwrap(), site.client().function("mica_get").unwrap());
    let shard = Shard::Number(SHARD);
    let args = set_args(&key(1), &value(1, 1));
    assert!(site.call(&Call { shard, ..Call::new(set, &args) }).unwrap().outcome.is_ok());
    let silent = Arc::new(AtomicBool::new(true));
    site.set_memory(Box::new(Direct { silent: Arc::clone(&silent), ..host.direct() }));
    let args = host.get_args(&key(1));
    let call = Call { shard, timeout: Duration::from_millis(30), ..Call::new(get, &args) };
    let started = Instant::now();
    let answer = site.call(&call).unwrap();
    assert!(started.elapsed() >= call.timeout);
    assert!(matches!(answer.outcome, Err(CallError::Timeout { may_have_run: false, .. })), "{answer:?}");
    assert_eq!((site.in_flight(), site.stats().memory_lost), (0, 0));
    // The old READ arrives together with those of the next call, whose place may be the same.
    silent.store(false, Ordering::SeqCst);
    let answer = site.call(&Call { timeout: Duration::from_secs(20), ..call }).unwrap();
    assert_eq!(answer.outcome.unwrap().code, Code::Ok as u32);
    assert_eq!(site.stats().strange_reads, 0);
}
