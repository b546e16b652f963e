//! Clients against the real datapath: core, transport, wire, entry, shell, handlers.
//!
//! ```text
//!   client namespace                     host namespace
//!   Client ─ AF_XDP or UDP ─ naam0 ──── veth ──── naam0 ─ entry, shell, echo, counter
//! ```

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use naam_abi::limits::{PORT_BASE, SESSIONS_MAX, SLOTS_MAX};
use naam_abi::onesided;
use naam_abi::tables::RIGHT_ALL;
use naam_abi::wire::Status;
use naam_client::onesided::{Chain, ChainResult, Chained, OneSidedError};
use naam_client::{Call, CallError, Client, ClientError, FunctionInfo, Options, RegionInfo, SessionInfo, Shard};
use naam_loader::Hook;
use naam_testbed::{DEVICE, HOST_V4, HOST_V6, Topology, object};
use naam_tests::bench::{Bench, SESSION, region};
use naam_transport::xsk::{Mode, XskOptions, XskProgram};
use naam_transport::{Choice, Target, open};

const APP: u16 = 3;
const ECHO: u16 = 16;
const COUNTER: u16 = 17;

/// The namespaces and the datapath in them.
struct Host {
    topology: Topology,
    bench: Bench,
    counters: naam_sys::Map,
}

impl Host {
    fn start() -> Self {
        let topology = Topology::builder().build().expect("two namespaces and a veth pair");
        let mut bench = Bench::new(Hook::Xdp, true);
        bench.app(APP);
        bench.load_built(APP, "echo", &[]);
        let counters = region(2 << 20, 1);
        let code = naam_admission::admit(&object("counter").unwrap()).unwrap();
        bench.load((APP, COUNTER, 1), &code, &[&counters]).unwrap();
        topology.host().run(|| bench.datapath.attach(DEVICE, Some(Hook::Xdp)).unwrap()).unwrap();
        Self { topology, bench, counters }
    }

    /// A session with every raw right, for the one-sided functions of the counters' region.
    fn onesided_session(&self) -> SessionInfo {
        let mut session = self.session(HOST_V4);
        for (number, name) in (0..).zip(onesided::NAMES) {
            let code = naam_admission::admit(&object(name).unwrap()).unwrap();
            self.bench.load((APP, number, 1), &code, &[&self.counters]).unwrap();
            let (writes, reply_max) = (number != onesided::READ, code.meta.reply_max as u16);
            session.functions.insert(name.to_owned(), FunctionInfo { number, version: 1, writes, reply_max });
        }
        self.bench.datapath.tables().set_rights(session.session, [0; 8], [RIGHT_ALL; 8]);
        let all = RIGHT_ALL;
        let info = RegionInfo { index: 0, bytes: 2 << 20, value_len: 2 << 20, handler_rights: 0, raw_rights: all };
        session.regions.insert("counters".to_owned(), info);
        session
    }

    /// A session of its own: sequences start anew with every client, so no two may share one.
    fn session(&self, host: impl Into<std::net::IpAddr>) -> SessionInfo {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = SESSION + SESSIONS_MAX as u32 * NUMBER.fetch_add(1, Ordering::Relaxed);
        self.bench.session(number, APP, RIGHT_ALL);
        let mut session = SessionInfo::new(host.into(), APP, number);
        let function = |number, writes, reply_max| FunctionInfo { number, version: 1, writes, reply_max };
        session.functions.insert("echo".to_owned(), function(ECHO, false, 1024));
        session.functions.insert("counter".to_owned(), function(COUNTER, true, 8));
        session
    }

    fn client(&self, session: SessionInfo, choice: &Choice<'_>) -> Client {
        let target = Target::new(session.host, PORT_BASE);
        let opened = self.topology.client().run(|| open(target, choice)).unwrap().unwrap();
        Client::new(session, &Options::default(), opened.transport)
    }

    fn word(&self, offset: u64) -> u64 {
        self.counters.mmap().expect("mmap").load(offset, Ordering::SeqCst).expect("inside")
    }
}

/// Echoes of all lengths, then additions to one word; each counts once.
fn calls_are_answered(host: &Host, client: &mut Client) {
    let (echo, counter) = (client.function("echo").unwrap(), client.function("counter").unwrap());
    let texts: Vec<Vec<u8>> = (0..600).map(|i| vec![i as u8; i]).collect();
    let calls: Vec<_> = texts
        .iter()
        .map(|text| Call::new(echo, text).shard(Shard::Number(text.len() as u16 % 64)).reply_room(text.len() as u16))
        .collect();
    let mut answered = 0;
    client
        .call_batch(&calls, |i, outcome| {
            assert_eq!(outcome.unwrap().bytes, texts[i]);
            answered += 1;
        })
        .unwrap();
    assert_eq!(answered, texts.len());
    let before = host.word(64);
    let one = [64u64.to_le_bytes(), 1u64.to_le_bytes()].concat();
    let additions = vec![Call::new(counter, &one).shard(Shard::Number(5)); 10 * SLOTS_MAX];
    client.call_batch(&additions, |_, outcome| assert_eq!(outcome.unwrap().bytes.len(), 8)).unwrap();
    assert_eq!(host.word(64) - before, additions.len() as u64);
    let stats = client.stats();
    assert_eq!((stats.wrong_tag, stats.malformed, stats.foreign, stats.unexpected), (0, 0, 0, 0), "{stats:?}");
    assert!(stats.datagrams < stats.messages, "{stats:?}");
}

#[test]
fn regions_are_reached_without_a_handler() {
    let host = Host::start();
    let session = host.onesided_session();
    let number = session.session;
    let xsk = object("xsk").unwrap();
    let mut client = host.client(session, &Choice::AfXdp(XskOptions::attach(&xsk)));
    let region = client.region("counters").expect("a region");
    let bytes: Vec<u8> = (0..250).cycle().take(1000).collect();
    client.write(region, 1024, &bytes).unwrap();
    assert_eq!(client.read(region, 1024, 1000).unwrap(), bytes);
    assert_eq!(client.read(region, 0, 1024).unwrap(), [0; 1024]);
    assert_eq!(client.fetch_add(region, 64, 5).unwrap(), 0);
    assert_eq!(client.compare_exchange(region, 64, 5, 9).unwrap(), Ok(5));
    assert_eq!(client.compare_exchange(region, 64, 5, 11).unwrap(), Err(9));
    assert_eq!(host.word(64), 9);

    let chain = Chain::new().compare_exchange(region, 64, 9, 1).write(region, 72, &[3; 8]).read(region, 64, 16);
    let done = client.chain(&chain).unwrap();
    let read = [&1u64.to_le_bytes()[..], &[3; 8]].concat();
    let results = vec![ChainResult::Word(9), ChainResult::Written, ChainResult::Bytes(read)];
    assert_eq!(done, Chained { done: 3, results });
    let stopped = client.chain(&chain).unwrap();
    assert_eq!(stopped, Chained { done: 0, results: vec![ChainResult::Word(1)] });

    let error = client.chain(&Chain::new().fetch_add(region, 64, 1).fetch_add(region, 2 << 20, 1)).unwrap_err();
    let OneSidedError::Client(ClientError::Call(error)) = error else { panic!("{error}") };
    assert_eq!(error, CallError::Refused { status: Status::Bounds, code: 1, may_have_run: true });
    assert_eq!(host.word(64), 2);
    assert!(matches!(client.read(region, 0, 1032), Err(OneSidedError::TooLong { len: 1032, .. })));
    host.bench.datapath.tables().set_rights(number, [RIGHT_ALL; 8], [0; 8]);
    assert!(client.read(region, 0, 8).unwrap_err().is_denied());
    assert!(client.fetch_add(region, 64, 1).unwrap_err().is_denied());
    assert_eq!(host.word(64), 2);
}

#[test]
fn af_xdp_clients_are_served() {
    let host = Host::start();
    let xsk = object("xsk").unwrap();
    for address in [HOST_V4.into(), std::net::IpAddr::from(HOST_V6)] {
        let mut client = host.client(host.session(address), &Choice::AfXdp(XskOptions::attach(&xsk)));
        calls_are_answered(&host, &mut client);
    }
}

#[test]
fn udp_clients_are_served() {
    let host = Host::start();
    let xsk = object("xsk").unwrap();
    // veth delivers XDP_TX only to an end with a program of its own.
    let program = host.topology.client().run(|| XskProgram::attach(&xsk, DEVICE, PORT_BASE, Mode::Native).unwrap());
    for address in [HOST_V4.into(), std::net::IpAddr::from(HOST_V6)] {
        let mut client = host.client(host.session(address), &Choice::Udp);
        calls_are_answered(&host, &mut client);
    }
    drop(program);
}

#[test]
fn refusals_have_their_reasons() {
    let host = Host::start();
    let xsk = object("xsk").unwrap();
    let mut session = host.session(HOST_V4);
    let missing = FunctionInfo { number: 40, version: 0, writes: false, reply_max: 8 };
    session.functions.insert("missing".to_owned(), missing);
    session.functions.get_mut("echo").unwrap().version = 9;
    let mut client = host.client(session, &Choice::AfXdp(XskOptions::attach(&xsk)));
    let call = Call::new(client.function("missing").unwrap(), &[]).timeout(Duration::from_secs(5));
    let error = client.call(&call).unwrap_err();
    let ClientError::Call(CallError::Refused { status, may_have_run: false, .. }) = error else { panic!("{error}") };
    assert_eq!(status, naam_abi::wire::Status::NoFunction);
    // Version 9 does not exist; the answer names the one that serves.
    let reply = client.call(&Call::new(client.function("echo").unwrap(), b"hello")).unwrap();
    assert_eq!((reply.bytes, client.stats().version_refreshes), (b"hello".to_vec(), 1));
    assert_eq!(host.bench.datapath.tables().stats(APP.into()).unwrap().drops.iter().sum::<u64>(), 0);
}
