//! Both faces of the client against the model host, over UDP on loopback.

mod model;
#[path = "model/server.rs"]
mod server;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use model::{ARGS, expected_reply};
use naam_client::{AsyncClient, Call, CallError, Client, ClientError, Options, SessionInfo, Shard, SubmitError};
use naam_transport::{Choice, Target, Transport, open};
use server::Server;

fn transport(session: &SessionInfo) -> Box<dyn Transport> {
    open(Target::new(session.host, session.port_base), &Choice::Udp).unwrap().transport
}

fn blocking(server: &Server, options: &Options) -> Client {
    Client::new(server.session.clone(), options, transport(&server.session))
}

fn asynchronous(session: &SessionInfo, options: &Options) -> AsyncClient {
    AsyncClient::start(session.clone(), options, transport(session)).unwrap()
}

fn args(number: u64) -> [u8; ARGS] {
    let mut args = [9; ARGS];
    args[..8].copy_from_slice(&number.to_le_bytes());
    args
}

/// Runs a future on this thread: any executor will do.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

#[test]
fn a_call_brings_its_reply() {
    let server = Server::start(0);
    let mut client = blocking(&server, &Options::default());
    let function = client.function("read").unwrap();
    for number in 0..100 {
        let reply = client.call(&Call::new(function, &args(number)).shard(Shard::Number(number as u16 % 2))).unwrap();
        assert_eq!(reply.bytes, expected_reply(&args(number)));
    }
    assert_eq!((client.stats().succeeded, client.stats().datagrams), (100, 100));
}

#[test]
fn a_batch_larger_than_window_and_slots_goes_through() {
    let server = Server::start(0);
    let mut session = server.session.clone();
    session.slots = 3;
    let options = Options { window: 16, ..Options::default() };
    let mut client = Client::new(session.clone(), &options, transport(&session));
    let (read, write) = (client.function("read").unwrap(), client.function("write").unwrap());
    let all: Vec<_> = (0..1_000).map(args).collect();
    let calls: Vec<_> =
        all.iter().enumerate().map(|(i, args)| Call::new(if i % 3 == 0 { write } else { read }, args)).collect();
    let mut seen = vec![false; calls.len()];
    client
        .call_batch(&calls, |i, outcome| {
            assert_eq!(outcome.unwrap().bytes, expected_reply(&all[i]));
            assert!(!std::mem::replace(&mut seen[i], true));
        })
        .unwrap();
    assert!(seen.iter().all(|&seen| seen));
    let stats = client.stats();
    assert!(stats.datagrams < stats.messages, "{stats:?}");
    let effects = server.host.lock().unwrap().effects.clone();
    assert!(effects.len() == 334 && effects.values().all(|&times| times == 1));
}

#[test]
fn losses_are_made_good_and_writes_take_effect_once() {
    let server = Server::start(5);
    let mut client = blocking(&server, &Options { window: 32, ..Options::default() });
    let write = client.function("write").unwrap();
    let all: Vec<_> = (0..500).map(args).collect();
    let calls: Vec<_> = all
        .iter()
        .enumerate()
        .map(|(i, args)| Call::new(write, args).shard(Shard::Number(i as u16 % 2)).timeout(Duration::from_secs(20)))
        .collect();
    client.call_batch(&calls, |i, outcome| assert_eq!(outcome.unwrap().bytes, expected_reply(&all[i]))).unwrap();
    let effects = server.host.lock().unwrap().effects.clone();
    assert!(effects.len() == 500 && effects.values().all(|&times| times == 1));
    assert!(client.stats().retries > 0 && client.stats().from_slot > 0, "{:?}", client.stats());
}

#[test]
fn silence_is_a_timeout() {
    let mut session = model::session();
    session.port_base = 9_000;
    let mut client = Client::new(session.clone(), &Options::default(), transport(&session));
    let read = client.function("read").unwrap();
    let start = Instant::now();
    let error = client.call(&Call::new(read, &args(0)).timeout(Duration::from_millis(100))).unwrap_err();
    let ClientError::Call(CallError::Timeout { attempts, may_have_run: true }) = error else { panic!("{error}") };
    assert!(attempts > 1, "{attempts} attempts");
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn blocking_calls_do_not_swallow_submitted_ones() {
    let server = Server::start(0);
    let mut client = blocking(&server, &Options::default());
    let read = client.function("read").unwrap();
    let ticket = client.submit(&Call::new(read, &args(1))).unwrap();
    let error = client.call(&Call::new(read, &args(2))).unwrap_err();
    assert!(matches!(error, ClientError::Mixed { in_flight: 1 }), "{error}");
    let mut done = false;
    let end = Instant::now() + Duration::from_secs(10);
    while !done {
        assert!(Instant::now() < end, "no answer");
        client
            .poll(|completion| {
                assert_eq!(completion.ticket, ticket);
                done = true;
            })
            .unwrap();
        client.wait(Duration::from_millis(10)).unwrap();
    }
    client.call(&Call::new(read, &args(2))).unwrap();
}

#[test]
fn a_call_that_cannot_be_taken_ends_its_batch() {
    let server = Server::start(0);
    let mut client = blocking(&server, &Options::default());
    let read = client.function("read").unwrap();
    let (good, long) = (args(1), [0; 2_000]);
    let calls = [Call::new(read, &good), Call::new(read, &long), Call::new(read, &good)];
    let mut ended = Vec::new();
    let error = client.call_batch(&calls, |i, outcome| ended.push((i, outcome.is_ok()))).unwrap_err();
    assert!(matches!(error, ClientError::Submit(SubmitError::ArgsTooLong { len: 2_000, .. })), "{error}");
    assert_eq!(ended, [(0, true)]);
}

#[test]
fn futures_from_many_threads_share_a_window() {
    let server = Server::start(7);
    let client = asynchronous(&server.session, &Options { window: 8, ..Options::default() });
    let (read, write) = (client.function("read").unwrap(), client.function("write").unwrap());
    std::thread::scope(|scope| {
        for thread in 0..16u64 {
            let client = client.clone();
            scope.spawn(move || {
                for number in 0..20 {
                    let args = args(thread * 1_000 + number);
                    let function = if number % 2 == 0 { write } else { read };
                    let call = Call::new(function, &args).timeout(Duration::from_secs(20));
                    assert_eq!(block_on(client.call(&call)).unwrap().bytes, expected_reply(&args));
                }
            });
        }
    });
    let effects = server.host.lock().unwrap().effects.clone();
    assert!(effects.len() == 160 && effects.values().all(|&times| times == 1));
}

#[test]
fn a_client_closes_with_calls_in_flight() {
    let mut session = model::session();
    session.port_base = 9_000;
    let client = asynchronous(&session, &Options::default());
    let read = client.function("read").unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiting = client.clone();
    let thread = std::thread::spawn(move || {
        let (args, silent) = (args(0), Duration::from_secs(60));
        let call = Call::new(read, &args).timeout(silent);
        let mut future = pin!(waiting.call(&call));
        // Queued; then nobody waits for it any more.
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        sender.send(()).unwrap();
    });
    receiver.recv().unwrap();
    thread.join().unwrap();
    let start = Instant::now();
    drop(client);
    assert!(start.elapsed() < Duration::from_secs(10), "the driver hangs");
}

#[test]
fn errors_reach_the_future() {
    let mut session = model::session();
    session.port_base = 9_000;
    let client = asynchronous(&session, &Options::default());
    let read = client.function("read").unwrap();
    let error = block_on(client.call(&Call::new(read, &args(0)).timeout(Duration::from_millis(30)))).unwrap_err();
    assert!(matches!(error, ClientError::Call(CallError::Timeout { .. })), "{error}");
    let error = block_on(client.call(&Call::new(read, &[0; 2_000]))).unwrap_err();
    assert!(matches!(error, ClientError::Submit(SubmitError::ArgsTooLong { .. })), "{error}");
    // Both gave their places back.
    assert_eq!(client.function("no such function"), None);
    assert_eq!(client.stats().in_flight, 0);
}
