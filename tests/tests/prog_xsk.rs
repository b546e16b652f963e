//! The XDP program of a client's interface, packet by packet: what goes to the AF_XDP socket, and
//! what goes on to the network stack.

use naam_abi::limits::PORTS;
use naam_sys::{Program, RunInput};
use naam_testbed::{DEVICE, HOST_V4, Pins, Topology, object};
use naam_transport::Target;
use naam_transport::xsk::{Mode, Setup, XskOptions, XskProgram, XskTransport};

const BASE: u16 = 20_000;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ARP: [u8; 2] = [0x08, 0x06];
const VLAN: [u8; 2] = [0x81, 0x00];
const QINQ: [u8; 2] = [0x88, 0xa8];

/// An Ethernet frame: addresses, tags, type, then the packet.
fn frame(tags: &[[u8; 2]], kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in tags {
        frame.extend_from_slice(tag);
        frame.extend_from_slice(&[0, 5]);
    }
    frame.extend_from_slice(&kind);
    frame.extend_from_slice(packet);
    frame
}

fn udp(source: u16, destination: u16) -> Vec<u8> {
    let mut udp = [source.to_be_bytes(), destination.to_be_bytes(), 16u16.to_be_bytes(), [0, 0]].concat();
    udp.extend_from_slice(&[7; 8]);
    udp
}

fn ipv4(edit: impl FnOnce(&mut [u8]), payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    (packet[0], packet[8], packet[9]) = (0x45, 64, 17);
    edit(&mut packet);
    packet.extend_from_slice(payload);
    packet
}

fn ipv6(edit: impl FnOnce(&mut [u8]), payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    (packet[0], packet[6], packet[7]) = (0x60, 17, 64);
    edit(&mut packet);
    packet.extend_from_slice(payload);
    packet
}

#[test]
fn replies_to_the_client_are_redirected_and_nothing_else() {
    let topology = Topology::builder().build().expect("two namespaces and a veth pair");
    let pins = Pins::new().unwrap();
    let object = object("xsk").unwrap();
    let target = Target::new(HOST_V4.into(), BASE);
    let options = XskOptions { setup: Setup::Pinned(pins.path()), ..XskOptions::attach(&[]) };
    let transport = topology.client().run(|| {
        XskProgram::attach(&object, DEVICE, BASE, Mode::Native).unwrap().pin(pins.path()).unwrap();
        XskTransport::open(target, &options).unwrap()
    });
    let port = transport.as_ref().unwrap().port();
    let program = Program::open_pinned(&pins.path().join("program")).unwrap();
    let verdict = |frame: &[u8]| {
        let output = program.test_run(&RunInput { data: frame, ..RunInput::default() }).unwrap();
        output.retval
    };
    let reply = udp(BASE, port);
    let plain = |_: &mut [u8]| {};

    for (what, frame) in [
        ("IPv4", frame(&[], IPV4, &ipv4(plain, &reply))),
        ("IPv6", frame(&[], IPV6, &ipv6(plain, &reply))),
        ("IPv4 in a VLAN", frame(&[VLAN], IPV4, &ipv4(plain, &reply))),
        ("IPv6 in a VLAN", frame(&[VLAN], IPV6, &ipv6(plain, &reply))),
        ("a service tag", frame(&[QINQ], IPV4, &ipv4(plain, &reply))),
        ("the last port of the block", frame(&[], IPV4, &ipv4(plain, &udp(BASE + PORTS - 1, port)))),
        ("do not fragment", frame(&[], IPV4, &ipv4(|ip| ip[6] = 0x40, &reply))),
    ] {
        assert_eq!(verdict(&frame), REDIRECT, "{what}");
        let ports_end = frame.len() - reply.len() + 4;
        for len in 14..ports_end {
            assert_eq!(verdict(&frame[..len]), PASS, "{what}, cut at {len} bytes");
        }
    }
    for (what, frame) in [
        ("below the block", frame(&[], IPV4, &ipv4(plain, &udp(BASE - 1, port)))),
        ("above the block", frame(&[], IPV6, &ipv6(plain, &udp(BASE + PORTS, port)))),
        ("another client", frame(&[], IPV4, &ipv4(plain, &udp(BASE, port ^ 1)))),
        ("no client", frame(&[], IPV6, &ipv6(plain, &udp(BASE, 0)))),
        ("TCP", frame(&[], IPV4, &ipv4(|ip| ip[9] = 6, &reply))),
        ("TCP over IPv6", frame(&[], IPV6, &ipv6(|ip| ip[6] = 6, &reply))),
        ("a first fragment", frame(&[], IPV4, &ipv4(|ip| ip[6] = 0x20, &reply))),
        ("a later fragment", frame(&[], IPV4, &ipv4(|ip| ip[7] = 1, &reply))),
        ("IPv4 options", frame(&[], IPV4, &ipv4(|ip| ip[0] = 0x46, &reply))),
        ("an IPv6 fragment header", frame(&[], IPV6, &ipv6(|ip| ip[6] = 44, &reply))),
        ("two tags", frame(&[QINQ, VLAN], IPV4, &ipv4(plain, &reply))),
        ("ARP", frame(&[], ARP, &ipv4(plain, &reply))),
    ] {
        assert_eq!(verdict(&frame), PASS, "{what}");
    }

    drop(transport);
    assert_eq!(verdict(&frame(&[], IPV4, &ipv4(plain, &reply))), PASS, "the client is gone");
}
