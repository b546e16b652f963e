//! The AF_XDP transport over veth. Needs root and the BPF object `xsk` (`cargo xtask build`).
//!
//! ```text
//!   client namespace                   host namespace
//!   XskTransport ─ naam0 ──── veth ──── naam0 ─ Responder (UDP sockets)
//!                   └ naam_xsk
//! ```

// The UDP tests of naam-transport use it too.
#[path = "../../naam-user/transport/tests/common/mod.rs"]
mod common;

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::{Responder, echo_all, request};
use naam_testbed::{CLIENT_V4, DEVICE, HOST_V4, HOST_V6, Pins, Topology, object};
use naam_transport::udp::UdpTransport;
use naam_transport::xsk::{Copying, Mode, Setup, XskOptions, XskProgram, XskTransport};
use naam_transport::{Choice, Outgoing, Sent, Target, Transport, TransportError, open};

const BASE: u16 = 28_672;

fn topology(queues: u32) -> Topology {
    Topology::builder().queues(queues).build().expect("two namespaces and a veth pair")
}

fn responder(topology: &Topology, host: impl Into<IpAddr>) -> Responder {
    let host = host.into();
    topology.host().run(|| Responder::start(host, BASE, 4).unwrap()).unwrap()
}

fn opened(topology: &Topology, host: impl Into<IpAddr>) -> Result<XskTransport, TransportError> {
    let object = object("xsk").unwrap();
    let target = Target::new(host.into(), BASE);
    topology.client().run(|| XskTransport::open(target, &XskOptions::attach(&object))).unwrap()
}

fn program_on(topology: &Topology) -> Option<u32> {
    let text = topology.client().ip(&format!("-details link show dev {DEVICE}")).unwrap();
    let (_, rest) = text.split_once("prog/xdp id ")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn echoes(queues: u32, host: impl Into<IpAddr>) {
    let host = host.into();
    let topology = topology(queues);
    let _responder = responder(&topology, host);
    let mut transport = opened(&topology, host).unwrap();
    assert_eq!(transport.queues(), queues as usize);
    // More than there are frames, so that all are used again.
    echo_all(&mut transport, BASE, 4, 3_000, 100);
    let stats = transport.stats();
    assert_eq!((stats.sent, stats.received, stats.foreign, stats.overruns), (3_000, 3_000, 0, 0), "{stats:?}");
    assert!(program_on(&topology).is_some());
    drop(transport);
    assert_eq!(program_on(&topology), None, "the program leaves with its transport");
}

#[test]
fn every_request_is_answered_over_ipv4() {
    echoes(1, HOST_V4);
}

#[test]
fn every_request_is_answered_over_ipv6() {
    echoes(1, HOST_V6);
}

#[test]
fn every_queue_is_served() {
    echoes(2, HOST_V4);
}

#[test]
fn copying_can_be_chosen_and_refused() {
    let topology = topology(1);
    let _responder = responder(&topology, HOST_V4);
    let object = object("xsk").unwrap();
    let target = Target::new(HOST_V4.into(), BASE);
    let with = |copying| {
        let options = XskOptions { copying, ..XskOptions::attach(&object) };
        topology.client().run(|| XskTransport::open(target, &options)).unwrap()
    };
    let mut transport = with(Copying::Copy).unwrap();
    echo_all(&mut transport, BASE, 4, 100, 10);
    drop(transport);
    // veth has no zero-copy.
    let error = with(Copying::Zero).err().expect("veth cannot");
    let text = error.to_string();
    assert!(text.contains(DEVICE) && text.contains("queue 0") && text.contains("XDP_ZEROCOPY"), "{text}");
    assert_eq!(program_on(&topology), None, "nothing stays behind an error");
}

#[test]
fn other_clients_on_the_interface_keep_their_replies() {
    let topology = topology(1);
    let _responder = responder(&topology, HOST_V4);
    let mut transport = opened(&topology, HOST_V4).unwrap();
    let target = Target::new(HOST_V4.into(), BASE);
    let mut other = topology.client().run(|| UdpTransport::open(target)).unwrap().unwrap();
    for _ in 0..3 {
        echo_all(&mut other, BASE, 4, 50, 10);
        echo_all(&mut transport, BASE, 4, 50, 10);
    }
    assert_eq!((transport.stats().foreign, other.stats().foreign), (0, 0));
}

#[test]
fn a_full_queue_refuses_without_taking_and_recovers() {
    let topology = topology(1);
    let _responder = responder(&topology, HOST_V4);
    let mut transport = opened(&topology, HOST_V4).unwrap();
    let mut queued = 0;
    loop {
        let mut called = false;
        let bytes = request(0, queued * 4, 1);
        let sent = transport
            .send(&mut |buffer| {
                called = true;
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Some(Outgoing { port: BASE, len: bytes.len() })
            })
            .unwrap();
        if sent == Sent::Full {
            assert!(!called, "a refused writer must not be called");
            break;
        }
        queued += 1;
        assert!(queued < 100_000, "never full");
    }
    let end = Instant::now() + Duration::from_secs(10);
    while transport.stats().received < u64::from(queued) {
        assert!(Instant::now() < end, "{queued} queued, {:?}", transport.stats());
        transport.wait(Duration::from_millis(10)).unwrap();
        transport.poll(&mut |_| {}).unwrap();
    }
    echo_all(&mut transport, BASE, 4, 500, 64);
}

#[test]
fn an_occupied_interface_names_its_program_and_udp_takes_over() {
    let topology = topology(1);
    let _responder = responder(&topology, HOST_V4);
    let object = object("xsk").unwrap();
    let first = topology.client().run(|| XskProgram::attach(&object, DEVICE, BASE, Mode::Native)).unwrap().unwrap();
    let id = program_on(&topology).expect("attached");
    let error = opened(&topology, HOST_V4).err().expect("the interface is taken");
    assert!(matches!(&error, TransportError::Occupied { program, .. } if *program == id), "{error}");
    assert!(error.to_string().contains(&format!("{DEVICE} (ifindex ")) && error.to_string().contains(&id.to_string()));
    let target = Target::new(HOST_V4.into(), BASE);
    let choice = Choice::Best(XskOptions::attach(&object));
    let mut fallback = topology.client().run(|| open(target, &choice)).unwrap().unwrap();
    assert_eq!(fallback.transport.name(), "udp");
    assert!(fallback.reason.contains(&id.to_string()), "{}", fallback.reason);
    echo_all(&mut *fallback.transport, BASE, 4, 50, 10);
    drop(first);
    let mut best = topology.client().run(|| open(target, &choice)).unwrap().unwrap();
    assert_eq!(best.transport.name(), "af_xdp");
    echo_all(&mut *best.transport, BASE, 4, 50, 10);
}

#[test]
fn a_host_on_this_machine_is_reached_by_udp() {
    let (_responder, base) = Responder::on_loopback(1);
    let object = object("xsk").unwrap();
    let target = Target::new(IpAddr::from([127, 0, 0, 1]), base);
    let mut opened = open(target, &Choice::Best(XskOptions::attach(&object))).unwrap();
    assert_eq!(opened.transport.name(), "udp");
    assert!(opened.reason.contains("this machine"), "{}", opened.reason);
    echo_all(&mut *opened.transport, base, 1, 20, 5);
}

#[test]
fn the_next_hop_is_asked_for_its_mac() {
    let topology = topology(1);
    let _responder = responder(&topology, HOST_V4);
    for end in [topology.client(), topology.host()] {
        end.ip(&format!("link set {DEVICE} arp on")).unwrap();
    }
    let known = topology.client().ip(&format!("neigh show {HOST_V4} dev {DEVICE}")).unwrap();
    assert_eq!(known, "", "turning ARP on forgets what was entered by hand");
    let mut transport = opened(&topology, HOST_V4).unwrap();
    echo_all(&mut transport, BASE, 4, 20, 5);
}

#[test]
fn a_silent_next_hop_is_an_error_with_its_address() {
    let topology = topology(1);
    let nobody = IpAddr::from([10, 77, 0, 99]);
    topology.client().ip(&format!("link set {DEVICE} arp on")).unwrap();
    let error = opened(&topology, nobody).err().expect("nobody there");
    assert!(matches!(&error, TransportError::Neighbour { address, .. } if *address == nobody), "{error}");
    assert_eq!(program_on(&topology), None);
}

#[test]
fn a_helper_can_set_up_the_program() {
    let topology = topology(1);
    let _responder = responder(&topology, HOST_V4);
    let pins = Pins::new().unwrap();
    let object = object("xsk").unwrap();
    topology
        .client()
        .run(|| XskProgram::attach(&object, DEVICE, BASE, Mode::Native).unwrap().pin(pins.path()))
        .unwrap()
        .unwrap();
    let id = program_on(&topology).expect("pinned programs stay");
    let target = Target::new(HOST_V4.into(), BASE);
    let options = XskOptions { setup: Setup::Pinned(pins.path()), ..XskOptions::attach(&[]) };
    for _ in 0..2 {
        let mut transport = topology.client().run(|| XskTransport::open(target, &options)).unwrap().unwrap();
        echo_all(&mut transport, BASE, 4, 50, 10);
        drop(transport);
        assert_eq!(program_on(&topology), Some(id), "the helper's program stays");
    }
    drop(pins);
    let end = Instant::now() + Duration::from_secs(5);
    while program_on(&topology).is_some() {
        assert!(Instant::now() < end, "the program goes with its link's pin");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn generic_mode_serves_any_driver() {
    let topology = topology(1);
    let _responder = responder(&topology, HOST_V4);
    let object = object("xsk").unwrap();
    let options = XskOptions {
        setup: Setup::Attach { object: &object, mode: Mode::Generic },
        copying: Copying::Copy,
        interface: Some(DEVICE),
        vlan: None,
    };
    let target = Target::new(HOST_V4.into(), BASE);
    let mut transport = topology.client().run(|| XskTransport::open(target, &options)).unwrap().unwrap();
    echo_all(&mut transport, BASE, 4, 200, 20);
    // Whoever has the client's address but not its port is not answered by us.
    let stranger = topology.client().run(|| UdpSocket::bind((CLIENT_V4, 0))).unwrap().unwrap();
    stranger.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stranger.send_to(&request(0, 4, 1), (HOST_V4, BASE)).unwrap();
    let mut bytes = [0; 512];
    assert_eq!(stranger.recv(&mut bytes).unwrap(), request(0, 4, 1).len());
}
