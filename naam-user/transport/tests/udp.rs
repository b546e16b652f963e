//! The UDP transport over loopback: needs no privilege.

mod common;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use common::{Responder, echo_all, request};
use naam_abi::limits::DATAGRAM_BYTES;
use naam_transport::udp::{PlainTransport, UdpTransport};
use naam_transport::{Choice, Sent, Target, Transport, TransportError};

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

fn plain(base: u16) -> PlainTransport {
    PlainTransport::open(Target::new(IpAddr::from([127, 0, 0, 1]), base)).unwrap()
}

#[test]
fn plain_sockets_do_the_same() {
    let (_responder, base) = Responder::on_loopback(4);
    let mut transport = plain(base);
    echo_all(&mut transport, base, 4, 2_000, 100);
    let stats = transport.stats();
    assert_eq!((stats.sent, stats.received, stats.foreign, stats.overruns), (2_000, 2_000, 0, 0));
    let error = transport.send_datagram(base, &[0; DATAGRAM_BYTES + 8]).unwrap_err();
    assert!(matches!(error, TransportError::TooLong { .. }), "{error}");

    let mut elsewhere = plain(base + 1);
    elsewhere.send_datagram(base, &request(0, 0, 1)).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while elsewhere.stats().foreign == 0 {
        assert!(Instant::now() < end, "{:?}", elsewhere.stats());
        elsewhere.wait(Duration::from_millis(50)).unwrap();
        elsewhere.poll(&mut |_| panic!("a stranger's datagram was delivered")).unwrap();
    }
    // Nobody is there: the kernel says so at the next call, which is no error of ours.
    let mut nobody = plain(1);
    for _ in 0..3 {
        nobody.send_datagram(1, &request(0, 0, 1)).unwrap();
        nobody.flush().unwrap();
        assert_eq!(nobody.poll(&mut |_| ()).unwrap(), 0);
    }
}

#[test]
fn plain_sockets_are_woken() {
    let mut transport = plain(28_000);
    for _ in 0..2 {
        transport.waker().wake();
        let start = Instant::now();
        transport.wait(Duration::from_secs(20)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(10), "an early wake was lost");
    }
    let start = Instant::now();
    transport.wait(Duration::from_millis(30)).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(25), "an old wake ended a new wait");
}

/// As in a container: a filter of system calls refuses this thread io_uring.
#[test]
fn forbidden_io_uring_is_done_without() {
    let (_responder, base) = Responder::on_loopback(2);
    std::thread::spawn(move || {
        forbid_io_uring();
        let target = Target::new(IpAddr::from([127, 0, 0, 1]), base);
        assert!(matches!(UdpTransport::open(target), Err(TransportError::Ring { .. })));
        let mut opened = naam_transport::open(target, &Choice::Udp).unwrap();
        assert_eq!(opened.transport.name(), "udp_plain");
        assert!(opened.reason.contains("seccomp filters may forbid it"), "{}", opened.reason);
        echo_all(&mut *opened.transport, base, 2, 200, 20);
    })
    .join()
    .unwrap();
}

/// Answers EPERM to `io_uring_setup` from now on, in this thread.
fn forbid_io_uring() {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut filter = [
        // Offset 0 of seccomp_data: the number of the system call.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, refuse),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: plain numbers.
    let promised = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: `program` and its filter live through the call, which copies them.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!((promised, set), (0, 0), "{}", std::io::Error::last_os_error());
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
