//! The UDP transport over loopback: needs no privilege.

mod common;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use common::{Responder, echo_all, request};
use naam_abi::limits::DATAGRAM_BYTES;
use naam_transport::udp::UdpTransport;
use naam_transport::{Sent, Target, Transport, TransportError};

fn loopback(base: u16) -> UdpTransport {
    UdpTransport::open(Target::new(IpAddr::from([127, 0, 0, 1]), base)).unwrap()
}

#[test]
fn every_request_is_answered_from_its_port() {
    let (_responder, base) = Responder::on_loopback(4);
    let mut transport = loopback(base);
    // More than there are receive buffers and send slots, so that all are used again.
    echo_all(&mut transport, base, 4, 2_000, 100);
    let stats = transport.stats();
    assert_eq!((stats.sent, stats.received, stats.foreign, stats.overruns), (2_000, 2_000, 0, 0));
}

#[test]
fn a_full_queue_refuses_without_taking() {
    let mut transport = loopback(28_000);
    let mut queued = 0;
    let full = loop {
        let mut called = false;
        let sent = transport
            .send(&mut |buffer| {
                called = true;
                buffer[..8].fill(1);
                Some(naam_transport::Outgoing { port: 28_000, len: 8 })
            })
            .unwrap();
        if sent == Sent::Full {
            break called;
        }
        queued += 1;
        assert!(queued < 100_000, "never full");
    };
    assert!(!full, "a refused writer must not be called");
    assert_eq!(transport.stats().full, 1);
}

#[test]
fn what_is_too_long_is_an_error() {
    let mut transport = loopback(28_000);
    let error = transport.send_datagram(28_000, &[0; DATAGRAM_BYTES + 8]).unwrap_err();
    assert!(
        matches!(error, TransportError::TooLong { len, max } if (len, max) == (DATAGRAM_BYTES + 8, DATAGRAM_BYTES))
    );
}

#[test]
fn strangers_are_dropped_and_counted() {
    let (_responder, base) = Responder::on_loopback(1);
    let mut transport = loopback(base);
    echo_all(&mut transport, base, 1, 1, 1);
    // A transport's own port is not known outside; the responder's answer shows where it is, so a
    // stranger is played by a host whose block of ports does not hold the answering port.
    let mut elsewhere = loopback(base + 1);
    elsewhere.send_datagram(base, &request(0, 0, 1)).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while elsewhere.stats().foreign == 0 {
        assert!(Instant::now() < end, "{:?}", elsewhere.stats());
        elsewhere.wait(Duration::from_millis(50)).unwrap();
        elsewhere.poll(&mut |_| panic!("a stranger's datagram was delivered")).unwrap();
    }
}

#[test]
fn a_waker_ends_the_wait_and_is_not_lost() {
    let mut transport = loopback(28_000);
    let waker = transport.waker();
    let start = Instant::now();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        waker.wake();
        waker
    });
    transport.wait(Duration::from_secs(20)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "not woken");
    let waker = thread.join().unwrap();
    transport.poll(&mut |_| {}).unwrap();
    // Twice, so that the descriptor is watched again after its first use.
    for _ in 0..2 {
        waker.wake();
        let start = Instant::now();
        transport.wait(Duration::from_secs(20)).unwrap();
        transport.poll(&mut |_| {}).unwrap();
        assert!(start.elapsed() < Duration::from_secs(10), "an early wake was lost");
    }
    let start = Instant::now();
    transport.wait(Duration::from_millis(30)).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(25), "an old wake ended a new wait");
}

#[test]
fn a_second_thread_is_told() {
    let mut transport = loopback(28_000);
    transport.flush().unwrap();
    transport.wait(Duration::ZERO).unwrap();
    std::thread::spawn(move || {
        let error = transport.wait(Duration::ZERO).unwrap_err();
        assert!(matches!(error, TransportError::WrongThread { transport: "udp" }), "{error}");
    })
    .join()
    .unwrap();
}
