//! The rivals' protocols against the real servers on loopback and in a network namespace. A test whose server is
//! not installed prints `SKIPPED name: reason`.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use naam_loadgen::keyspace::KeySpace;
use naam_loadgen::records::{Records, ValueSize};
use naam_loadgen::report::Summary;
use naam_loadgen::rivals::memcached::{Udp, connect_tcp};
use naam_loadgen::rivals::redis;
use naam_loadgen::rivals::server::{Rival, Server, ServerConfig, ServerError, enter_namespace};
use naam_loadgen::runner::{Load, RunConfig, Stop, run};
use naam_loadgen::source::{SweepSource, WorkloadSource};
use naam_loadgen::target::{Failure, Op, Outcome, Target, TargetError};
use naam_loadgen::workload::Workload;

const RECORDS: u64 = 2_000;

/// Past the test harness's capture, so that the line is seen in every run.
fn skipped(test: &str, reason: &str) {
    writeln!(std::io::stdout(), "SKIPPED {test}: {reason}").expect("standard output takes a line");
}

/// A port that is free for TCP and UDP.
fn free_address() -> SocketAddr {
    for _ in 0..100 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let address = tcp.local_addr().expect("a bound socket has an address");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free for both TCP and UDP");
}

fn start(rival: Rival, test: &str) -> Option<Server> {
    let Some(program) = rival.find() else {
        skipped(test, &format!("{} is not installed", rival.program()));
        return None;
    };
    let config = ServerConfig { memory_mib: 64, ..ServerConfig::new(rival, &program, free_address()) };
    Some(Server::start(&config).expect("an installed server starts on a free port"))
}

fn records() -> Records {
    Records::Generated(ValueSize::Uniform { min: 0, max: 1_000 })
}

/// Loads, runs every workload with verification, and reads everything back.
fn exercise<T: Target>(connect: impl Fn() -> Result<T, TargetError> + Sync) {
    let config = RunConfig { load: Load::Closed { window: 32 }, ..RunConfig::default() };
    let load = |_| Ok((SweepSource::load(records(), RECORDS, 0, 1), connect()?));
    let loaded = run(&config, load, &mut |_| true).expect("the server stays");
    assert_eq!((loaded.stats.ok(), loaded.stats.failed(), loaded.stats.lost), (RECORDS, 0, 0));

    let space = Arc::new(KeySpace::new(RECORDS));
    for workload in [Workload::a(), Workload::d(), Workload::e(), Workload::f()] {
        let config = RunConfig { threads: 2, stop: Stop::Ops(2_000), ..config.clone() };
        let build = |thread| {
            let source = WorkloadSource::new(&workload, records(), space.clone(), 11, thread)?;
            Ok((source, connect()?))
        };
        let result = run(&config, build, &mut |_| true).expect("the server stays");
        let summary = Summary::new(&workload.name, &result);
        assert!(summary.is_clean() && summary.late == 0 && summary.ops_total == 2_000, "{summary}");
    }

    let read = |_| Ok((SweepSource::read_back(records(), space.records(), 0, 1), connect()?));
    let back = run(&config, read, &mut |_| true).expect("the server stays");
    assert_eq!((back.stats.ok(), back.stats.failed(), back.stats.lost), (space.records(), 0, 0));

    let mut target = connect().expect("the server stays");
    assert_eq!(outcome(&mut target, &Op::Read { key: b"nobody" }), Ok(None));
    let scan = Op::Scan { key: b"user", records: 3 };
    assert_eq!(outcome(&mut target, &scan), Err(Failure::Unsupported));
}

/// Runs one operation: a value, none, or a failure.
fn outcome(target: &mut impl Target, op: &Op<'_>) -> Result<Option<Vec<u8>>, Failure> {
    target.submit(op, 77).expect("an idle target is not busy");
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut result = None;
    while result.is_none() {
        assert!(Instant::now() < deadline, "no reply in five seconds");
        let done = &mut |token, outcome: Outcome<'_>| {
            assert_eq!(token, 77);
            result = Some(match outcome {
                Outcome::Value(value) => Ok(Some(value.to_vec())),
                Outcome::Done | Outcome::Missing => Ok(None),
                Outcome::Failed(failure) => Err(failure),
            });
        };
        target.poll(Instant::now(), done).expect("the server stays");
    }
    result.expect("the loop ends with a result")
}

#[test]
fn redis_over_tcp() {
    let Some(server) = start(Rival::Redis, "redis_over_tcp") else { return };
    exercise(|| Ok(redis::connect(server.address())?));
    let mut target = redis::connect(server.address()).expect("the server stays");
    let (key, value) = (b"spaces and\r\nlines".as_slice(), b"kept\0as they are".as_slice());
    assert_eq!(outcome(&mut target, &Op::Insert { key, value }), Ok(None));
    assert_eq!(outcome(&mut target, &Op::Read { key }), Ok(Some(value.to_vec())));
}

#[test]
fn memcached_over_tcp() {
    let Some(server) = start(Rival::Memcached, "memcached_over_tcp") else { return };
    exercise(|| Ok(connect_tcp(server.address())?));
    let mut target = connect_tcp(server.address()).expect("the server stays");
    assert_eq!(outcome(&mut target, &Op::Read { key: b"a b" }), Err(Failure::Unsupported));
}

#[test]
fn memcached_over_udp() {
    let Some(server) = start(Rival::Memcached, "memcached_over_udp") else { return };
    exercise(|| Ok(Udp::connect(server.address(), 32)?));
}

#[test]
fn a_server_that_goes_away_ends_the_run() {
    let Some(server) = start(Rival::Redis, "a_server_that_goes_away_ends_the_run") else { return };
    let address = server.address();
    let mut server = Some(server);
    let space = Arc::new(KeySpace::new(RECORDS));
    let build = |thread| {
        let source = WorkloadSource::new(&Workload::c(), records(), space.clone(), 11, thread)?;
        Ok((source, redis::connect(address)?))
    };
    let config = RunConfig {
        stop: Stop::After(Duration::from_secs(30)),
        interval: Duration::from_millis(100),
        ..RunConfig::default()
    };
    let error = run(&config, build, &mut |_| {
        server = None;
        true
    });
    let error = error.expect_err("the server is gone").to_string();
    assert!(error.starts_with("the target of load thread 0 broke down"), "{error}");
    assert!(std::net::TcpStream::connect(address).is_err(), "dropping a server ends it");
}

#[test]
fn a_server_that_cannot_listen_says_why() {
    let test = "a_server_that_cannot_listen_says_why";
    let Some(program) = Rival::Memcached.find() else {
        return skipped(test, "memcached is not installed");
    };
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    let address = taken.local_addr().expect("a bound socket has an address");
    let error = Server::start(&ServerConfig::new(Rival::Memcached, &program, address)).expect_err("the port is taken");
    assert!(matches!(error, ServerError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("in use"), "{error}");
    let missing = ServerConfig::new(Rival::Redis, "/nonexistent/redis-server".as_ref(), address);
    assert!(matches!(Server::start(&missing), Err(ServerError::Start { .. })));
}

/// A network namespace that is deleted on drop.
struct Namespace(String);

impl Namespace {
    fn new() -> Result<Self, String> {
        let namespace = Self(format!("naam-loadgen-{}", std::process::id()));
        let ip = |args: &[&str]| match Command::new("ip").args(args).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("ip: {error}")),
        };
        ip(&["netns", "add", &namespace.0])?;
        ip(&["-n", &namespace.0, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).output();
    }
}

#[test]
fn a_server_in_a_namespace_is_reached_from_there_only() {
    let test = "a_server_in_a_namespace_is_reached_from_there_only";
    let Some(program) = Rival::Memcached.find() else {
        return skipped(test, "memcached is not installed");
    };
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(reason) => return skipped(test, &format!("no network namespace can be made: {reason}")),
    };
    let address = free_address();
    let config = ServerConfig {
        namespace: Some(namespace.0.clone()),
        memory_mib: 64,
        ..ServerConfig::new(Rival::Memcached, &program, address)
    };
    let server = Server::start(&config).expect("an installed server starts in a new namespace");
    assert!(std::net::TcpStream::connect(address).is_err(), "the server is not in this namespace");
    exercise(|| {
        // The first call of each load thread; the last target is made by the test's own thread.
        enter_namespace(&namespace.0)?;
        Ok(Udp::connect(address, 32)?)
    });
    drop(server);
}
