//! The parse table: what passes untouched, what is dropped and counted, what is answered.

use naam_abi::stats::Drop;
use naam_admission::admit;
use naam_loader::Hook;
use naam_tests::bench::{Bench, SESSION, port, region};
use naam_tests::frame::{Message, Network, Request, sign};
use naam_tests::objects;
use naam_tests::verdict::Verdict;

const APP: u16 = 3;
const SHARD: u16 = 5;
const IPV4: usize = 14;
const UDP: usize = 34;
const DATAGRAM: usize = 42;

/// A bench that serves echo as function 16 of app 3.
fn benches() -> impl Iterator<Item = Bench> {
    Bench::variants().inspect(|bench| {
        bench.app(APP);
        bench.load_built(APP, "echo", &[]);
    })
}

fn request(messages: Vec<Message>) -> Request {
    Request { app: APP, function: 16, handler: 0, shard: SHARD, session: SESSION, messages }
}

fn datagram() -> Vec<u8> {
    request(vec![Message::new(1, b"hello, naam", 16), Message::new(2, b"again", 24)]).datagram()
}

fn v4() -> Network {
    Network::v4(port(APP, SHARD))
}

fn v6() -> Network {
    Network::v6(port(APP, SHARD))
}

fn with(mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut bytes);
    bytes
}

fn put_be(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn put_le(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// `network` around a datagram that `change` has worked on before it was signed.
fn signed(network: &Network, mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut bytes);
    if bytes.len() >= 48 && bytes.len().is_multiple_of(8) {
        sign(&mut bytes);
    }
    network.frame(&bytes)
}

#[test]
fn requests_in_every_envelope_are_answered() {
    let vlan = |network: Network, tag| Network { vlan: Some(tag), ..network };
    let envelopes = [
        ("IPv4", v4()),
        ("IPv6", v6()),
        ("IPv4 in a VLAN", vlan(v4(), 77)),
        ("IPv6 in a VLAN with priority", vlan(v6(), 0xe00f)),
        ("the first port", Network::v4(port(0, 0))),
        ("the last port", Network::v6(port(63, 63))),
    ];
    for bench in benches() {
        bench.app_with(0, naam_abi::tables::APP_SERVING | naam_abi::tables::APP_TAG);
        bench.app(APP);
        for (what, network) in &envelopes {
            let what = format!("{}, {what}", bench.name());
            let unit = network.port - port(0, 0);
            let (app, shard) = (unit / 64, unit % 64);
            let datagram = Request { app, shard, ..request(vec![Message::new(9, b"hello", 8)]) }.datagram();
            let frame = network.frame(&datagram);
            let reply = bench.judge(app.into(), &frame).assert_answered(network, &frame, &what);
            assert!(reply.signed, "{what}");
            assert_eq!(reply.kind, if app == APP { 2 } else { 5 }, "{what}");
        }
    }
}

#[test]
fn harmless_differences_are_served() {
    for bench in benches() {
        let frame = v4().frame(&datagram());
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("don't fragment, and no don't fragment", with(frame.clone(), |f| f[IPV4 + 6] = 0)),
            ("type of service", with(frame.clone(), |f| f[IPV4 + 1] = 0xff)),
            ("identification", with(frame.clone(), |f| put_be(f, IPV4 + 4, 0xbeef))),
            ("a time to live of 1", with(frame.clone(), |f| f[IPV4 + 8] = 1)),
            ("a UDP checksum of zero", with(frame.clone(), |f| put_be(f, UDP + 6, 0))),
            ("padding by Ethernet", with(frame.clone(), |f| f.extend([0xaa; 18]))),
            (
                "padding within IP",
                with(frame.clone(), |f| {
                    f.extend([0xaa; 4]);
                    let total = (f.len() - IPV4) as u16;
                    put_be(f, IPV4 + 2, total);
                }),
            ),
        ];
        for (what, frame) in cases {
            let what = format!("{}, {what}", bench.name());
            let reply = bench.judge(APP.into(), &frame).assert_answered(&v4(), &frame, &what);
            assert_eq!(reply.kind, 2, "{what}");
            assert_eq!(reply.answers[0].reply, b"hello, naam", "{what}");
        }
        let frame = with(v6().frame(&datagram()), |f| f[14..18].copy_from_slice(&[0x6f, 0xff, 0xab, 0xcd]));
        bench.judge(APP.into(), &frame).assert_answered(&v6(), &frame, "traffic class and flow label");
    }
}

#[test]
fn what_is_not_ours_passes_untouched() {
    let frame4 = || v4().frame(&datagram());
    let frame6 = || v6().frame(&datagram());
    let vlan = || Network { vlan: Some(7), ..v4() }.frame(&datagram());
    let protocol = |protocol: u8| with(frame4(), |f| f[IPV4 + 9] = protocol);
    let next = |header: u8| with(frame6(), |f| f[20] = header);
    let ethertype = |ethertype: u16| with(frame4(), |f| put_be(f, 12, ethertype));
    let mut cases: Vec<(String, Vec<u8>)> = vec![
        ("more fragments".into(), with(frame4(), |f| f[IPV4 + 6] |= 0x20)),
        ("the first unit of a fragment offset".into(), with(frame4(), |f| f[IPV4 + 7] = 1)),
        ("the last unit of a fragment offset".into(), with(frame4(), |f| f[IPV4 + 6] |= 0x10)),
        ("a fragment in the middle".into(), with(frame4(), |f| put_be(f, IPV4 + 6, 0x2001))),
        ("no IPv4 version".into(), with(frame4(), |f| f[IPV4] = 0x55)),
        ("too short an IPv4 header length".into(), with(frame4(), |f| f[IPV4] = 0x44)),
        (
            "IPv4 options".into(),
            with(frame4(), |f| {
                f[IPV4] = 0x46;
                f.splice(UDP..UDP, [1, 1, 1, 0]);
            }),
        ),
        ("IPv4 options that the length hides".into(), with(frame4(), |f| f[IPV4] = 0x4f)),
        ("no IPv6 version".into(), with(frame6(), |f| f[14] = 0x40)),
        (
            "an IPv6 fragment".into(),
            with(frame6(), |f| {
                f[20] = 44;
                f.splice(54..54, [17, 0, 0, 0, 0, 0, 0, 1]);
            }),
        ),
        ("ARP".into(), with(ethertype(0x0806), |f| f[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]))),
        ("neighbour discovery".into(), with(next(58), |f| f[54] = 135)),
        (
            "two VLAN tags, 802.1ad outside".into(),
            with(vlan(), |f| {
                put_be(f, 12, 0x88a8);
                f.splice(16..16, [0x81, 0, 0, 7]);
            }),
        ),
        (
            "two VLAN tags, both 802.1Q".into(),
            with(vlan(), |f| {
                f.splice(16..16, [0x81, 0, 0, 7]);
            }),
        ),
        ("an Ethernet length instead of a type".into(), ethertype(0x0100)),
        ("the port before the block".into(), Network::v4(port(0, 0) - 1).frame(&datagram())),
        ("the port behind the block".into(), Network::v4(port(64, 0)).frame(&datagram())),
        ("port 0".into(), Network::v4(0).frame(&datagram())),
        ("port 65535".into(), Network::v6(u16::MAX).frame(&datagram())),
        (
            "our port as the source only".into(),
            Network { source_port: port(APP, SHARD), ..Network::v4(53) }.frame(&datagram()),
        ),
    ];
    // Another service on one of our ports.
    let payload = |bytes: &[u8]| v4().frame(bytes);
    cases.extend([
        ("no payload".into(), payload(&[])),
        ("a payload too short for the magic".into(), payload(&datagram()[..3])),
        ("a UDP length of 0".into(), with(frame4(), |f| put_be(f, UDP + 4, 0))),
        ("a UDP length of 11".into(), with(frame4(), |f| put_be(f, UDP + 4, 11))),
        ("another magic".into(), payload(&with(datagram(), |d| d[0] = b'n'))),
        ("another magic over IPv6".into(), v6().frame(&with(datagram(), |d| d[3] = b'm'))),
        ("the magic backwards".into(), payload(&with(datagram(), |d| d[..4].reverse()))),
        (
            "another service's words".into(),
            payload(b"NAA, but not ours; as long as a datagram's header is, and a bit more"),
        ),
    ]);
    cases.extend([0u8, 1, 2, 6, 16, 18, 47, 50, 132, 136, 255].map(|p| (format!("IPv4 protocol {p}"), protocol(p))));
    // Hop-by-hop, TCP, routing, fragment, ESP, AH, ICMP, none, destination options, mobility, HIP.
    cases.extend([0u8, 6, 43, 44, 50, 51, 58, 59, 60, 135, 139].map(|h| (format!("IPv6 next header {h}"), next(h))));
    cases.extend([0u16, 0x88cc, 0x8847, 0x8863, 0x9100, 0xffff].map(|e| (format!("Ethertype {e:#06x}"), ethertype(e))));
    for bench in benches() {
        for (what, frame) in &cases {
            bench.judge(APP.into(), frame).assert_passed(frame, &format!("{}, {what}", bench.name()));
        }
    }
}

/// A frame to a group is not ours: its reply would come from the group's address.
#[test]
fn frames_to_groups_pass_untouched() {
    for bench in benches() {
        for (what, address) in [("broadcast", [0xff; 6]), ("multicast", [0x01, 0, 0x5e, 0, 0, 1])] {
            let frame = with(v4().frame(&datagram()), |f| f[..6].copy_from_slice(&address));
            bench.judge(APP.into(), &frame).assert_passed(&frame, &format!("{}, {what}", bench.name()));
        }
        let groups: [(&str, Vec<u8>); 4] = [
            ("IPv4 multicast", with(v4().frame(&datagram()), |f| f[30..34].copy_from_slice(&[224, 0, 0, 1]))),
            ("the last IPv4 multicast", with(v4().frame(&datagram()), |f| f[30..34].copy_from_slice(&[239, 9, 9, 9]))),
            ("IPv4 broadcast", with(v4().frame(&datagram()), |f| f[30..34].fill(255))),
            ("IPv6 multicast", with(v6().frame(&datagram()), |f| f[38..40].copy_from_slice(&[0xff, 0x02]))),
        ];
        for (what, frame) in groups {
            bench.judge(APP.into(), &frame).assert_passed(&frame, &format!("{}, {what}", bench.name()));
        }
    }
}

/// A frame that claims to come from a group, or from nobody, is not ours: one frame would be answered to many.
#[test]
fn frames_from_groups_pass_untouched() {
    for bench in benches() {
        let v4 = |change: &dyn Fn(&mut Vec<u8>)| with(v4().frame(&datagram()), |frame| change(frame));
        let v6 = |change: &dyn Fn(&mut Vec<u8>)| with(v6().frame(&datagram()), |frame| change(frame));
        let cases: [(&str, Vec<u8>); 10] = [
            ("Ethernet broadcast", v4(&|f| f[6..12].fill(0xff))),
            ("Ethernet multicast", v6(&|f| f[6] |= 1)),
            ("IPv4 nobody", v4(&|f| f[26..30].fill(0))),
            ("IPv4 this network", v4(&|f| f[26] = 0)),
            ("IPv4 multicast", v4(&|f| f[26..30].copy_from_slice(&[224, 0, 0, 1]))),
            ("IPv4 broadcast", v4(&|f| f[26..30].fill(255))),
            ("IPv6 nobody", v6(&|f| f[22..38].fill(0))),
            ("IPv6 multicast", v6(&|f| f[22..24].copy_from_slice(&[0xff, 0x02]))),
            ("IPv4, port 0", v4(&|f| f[34..36].fill(0))),
            ("IPv6, port 0", v6(&|f| f[54..56].fill(0))),
        ];
        for (what, frame) in cases {
            bench.judge(APP.into(), &frame).assert_passed(&frame, &format!("{}, from {what}", bench.name()));
        }
        // A station whose address begins with zeros is one. The sum of its words, and with it the checksum, is the same.
        for at in [24, 34] {
            let frame = v6(&|f| f.swap(22, at));
            let frame = with(frame, |f| f.swap(23, at + 1));
            let judged = bench.judge(APP.into(), &frame);
            judged.assert_answered(
                &Network::v6(port(APP, SHARD)),
                &frame,
                &format!("{}, from {:x?}", bench.name(), &frame[22..38]),
            );
        }
    }
}

/// The interface listens to everything, or a switch floods. At TC the kernel knows its address, at XDP
/// the daemon has said it: test runs come by loopback, interface 1.
#[test]
fn frames_to_others_pass_untouched() {
    for bench in benches() {
        let frame = v4().frame(&datagram());
        let elsewhere = with(frame.clone(), |f| f[5] = 9);
        bench.datapath.tables().set_interfaces(&[(1, [0; 6]), (7, [2, 0, 0, 0, 0, 7])]);
        bench.judge(APP.into(), &frame).assert_answered(&v4(), &frame, &bench.name());
        bench.judge(APP.into(), &elsewhere).assert_passed(&elsewhere, &bench.name());
        bench.datapath.tables().set_interfaces(&[(7, [2, 0, 0, 0, 0, 7])]);
        let unknown = bench.judge(APP.into(), &elsewhere);
        match bench.hook {
            Hook::Xdp => drop(unknown.assert_answered(&v4(), &elsewhere, "an interface that nobody has told of")),
            Hook::Tc => unknown.assert_passed(&elsewhere, "the kernel knows"),
        }
    }
}

#[test]
fn every_malformed_header_is_dropped_for_its_reason() {
    let signed4 = |change: fn(&mut Vec<u8>)| signed(&v4(), datagram(), change);
    let one = |args: usize, room| request(vec![Message { room, ..Message::new(1, &vec![7; args], room) }]).datagram();
    let cases: Vec<(&str, Drop, Vec<u8>)> = vec![
        ("a payload of the magic alone", Drop::Short, v4().frame(&datagram()[..4])),
        ("a payload of one byte less than a header", Drop::Short, v4().frame(&datagram()[..47])),
        ("a UDP length of 12", Drop::Short, with(v4().frame(&datagram()), |f| put_be(f, UDP + 4, 12))),
        ("version 0", Drop::Version, signed4(|d| d[4] = 0)),
        ("version 2", Drop::Version, signed4(|d| d[4] = 2)),
        ("kind 0", Drop::Kind, signed4(|d| d[5] = 0)),
        ("a reply", Drop::Kind, signed4(|d| d[5] = 2)),
        ("a pushback", Drop::Kind, signed4(|d| d[5] = 4)),
        ("an error", Drop::Kind, signed4(|d| d[5] = 5)),
        ("a control datagram", Drop::Kind, signed4(|d| d[5] = 6)),
        ("kind 255", Drop::Kind, signed4(|d| d[5] = 255)),
        (
            "a length below the UDP payload",
            Drop::Length,
            signed4(|d| {
                let length = d.len() as u16 - 8;
                put_le(d, 20, length);
            }),
        ),
        (
            "a length above the UDP payload",
            Drop::Length,
            signed4(|d| {
                let length = d.len() as u16 + 8;
                put_le(d, 20, length);
            }),
        ),
        ("a length of 0", Drop::Length, signed4(|d| put_le(d, 20, 0))),
        ("a length of 65535", Drop::Length, signed4(|d| put_le(d, 20, u16::MAX))),
        (
            "a length that is no whole number of words",
            Drop::Length,
            signed4(|d| {
                d.extend([0; 4]);
                let length = d.len() as u16;
                put_le(d, 20, length);
            }),
        ),
        ("a byte behind the datagram in UDP", Drop::Length, signed4(|d| d.push(0))),
        (
            "an IPv4 length above the frame's",
            Drop::Length,
            with(v4().frame(&datagram()), |f| {
                let total = (f.len() - IPV4) as u16 + 1;
                put_be(f, IPV4 + 2, total);
            }),
        ),
        ("an IPv4 length of 65535", Drop::Length, with(v4().frame(&datagram()), |f| put_be(f, IPV4 + 2, u16::MAX))),
        (
            "an IPv6 length above the frame's",
            Drop::Length,
            with(v6().frame(&datagram()), |f| {
                let payload = (f.len() - IPV4 - 40) as u16 + 1;
                put_be(f, IPV4 + 4, payload);
            }),
        ),
        (
            "a UDP length above IP's",
            Drop::Length,
            with(v4().frame(&datagram()), |f| {
                let length = (f.len() - UDP) as u16 + 8;
                put_be(f, UDP + 4, length);
                f.extend([0; 8]);
            }),
        ),
        (
            "an IP length below UDP's",
            Drop::Length,
            with(v4().frame(&datagram()), |f| {
                let total = (f.len() - IPV4) as u16 - 8;
                put_be(f, IPV4 + 2, total);
            }),
        ),
        (
            "an IP length below its own header's",
            Drop::Length,
            with(v4().frame(&datagram()), |f| put_be(f, IPV4 + 2, 19)),
        ),
        ("an IP length of 0", Drop::Length, with(v4().frame(&datagram()), |f| put_be(f, IPV4 + 2, 0))),
        ("an IPv6 payload length of 0", Drop::Length, with(v6().frame(&datagram()), |f| put_be(f, 18, 0))),
        ("a datagram longer than the limit", Drop::Length, signed(&v4(), one(16, 3424 - 80 + 8), |_| {})),
        ("no message", Drop::Count, signed4(|d| d[7] = 0)),
        (
            "33 messages",
            Drop::Count,
            signed(&v4(), vec![0; 48 + 33 * 32], |d| {
                d[..48].copy_from_slice(&datagram()[..48]);
                d[7] = 33;
                let length = d.len() as u16;
                put_le(d, 20, length);
            }),
        ),
        ("255 messages", Drop::Count, signed4(|d| d[7] = 255)),
        ("more messages than there is room for", Drop::Count, signed4(|d| d[7] = 5)),
        (
            "a header alone",
            Drop::Count,
            signed(&v4(), datagram()[..48].to_vec(), |d| {
                d[7] = 1;
                put_le(d, 20, 48);
            }),
        ),
        ("another app than the port's", Drop::Port, signed4(|d| put_le(d, 8, APP + 1))),
        ("an app out of range", Drop::Port, signed4(|d| put_le(d, 8, APP + 64))),
        ("another shard than the port's", Drop::Port, signed4(|d| put_le(d, 14, SHARD + 1))),
        ("a shard out of range", Drop::Port, signed4(|d| put_le(d, 14, SHARD + 64))),
        ("a neighbour's port", Drop::Port, Network::v4(port(APP, SHARD + 1)).frame(&datagram())),
    ];
    for bench in benches() {
        for (what, reason, frame) in &cases {
            bench.judge(APP.into(), frame).assert_dropped(*reason, &format!("{}, {what}", bench.name()));
        }
    }
}

#[test]
fn every_lie_of_a_message_is_dropped_before_anything_runs() {
    let first = DATAGRAM + 48;
    let lie = |change: fn(&mut Vec<u8>)| signed(&v4(), datagram(), change);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("arguments longer than the room", lie(|d| put_le(d, 48 + 20, 17))),
        ("arguments of 65535 bytes", lie(|d| put_le(d, 48 + 20, u16::MAX))),
        ("a room that is no whole number of words", lie(|d| put_le(d, 48 + 24, 12))),
        ("a room that ends before the next message", lie(|d| put_le(d, 48 + 24, 8))),
        ("a room that reaches into the next message", lie(|d| put_le(d, 48 + 24, 24))),
        ("a room that reaches behind the datagram", lie(|d| put_le(d, 48 + 24, 4096))),
        ("a room of 65528 bytes", lie(|d| put_le(d, 48 + 24, 65528))),
        ("the last room one word too long", lie(|d| put_le(d, 48 + 32 + 16 + 24, 32))),
        ("the last room one word too short", lie(|d| put_le(d, 48 + 32 + 16 + 24, 16))),
        ("a count that is too low", lie(|d| d[7] = 1)),
        ("a message that says it was served", lie(|d| d[48 + 17] = 1)),
        ("a message that says it carries state", lie(|d| d[48 + 17] = 2)),
        ("an unknown flag", lie(|d| d[48 + 17] = 0x80)),
        ("a lie in the last message only", lie(|d| d[48 + 32 + 16 + 17] = 2)),
    ];
    for bench in benches() {
        let memory = region(2 << 20, 1);
        let counter = admit(&objects::read("counter")).expect("our own handler");
        bench.load((APP, 17, 1), &counter, &[&memory]).unwrap_or_else(|error| panic!("{error}"));
        for (what, frame) in &cases {
            assert!(frame.len() > first);
            let what = format!("{}, {what}", bench.name());
            bench.judge(APP.into(), frame).assert_dropped(Drop::Message, &what);
            // The same to a handler that writes.
            let mut frame = frame.clone();
            put_le(&mut frame, DATAGRAM + 10, 17);
            sign(&mut frame[DATAGRAM..]);
            bench.judge(APP.into(), &frame).assert_dropped(Drop::Message, &what);
        }
    }
}

/// Arguments of more than 1,088 bytes: no handler has a place for them.
#[test]
fn arguments_beyond_the_limit_are_dropped_and_those_at_the_limit_served() {
    for bench in benches() {
        let datagram = |args: usize| request(vec![Message::new(1, &vec![7; args], 0)]).datagram();
        let frame = v4().frame(&datagram(1088));
        let reply = bench.judge(APP.into(), &frame).assert_answered(&v4(), &frame, "1088 bytes");
        assert_eq!(reply.answers[0].status, 0, "{}", bench.name());
        bench.judge(APP.into(), &v4().frame(&datagram(1089))).assert_dropped(Drop::Message, "1089 bytes");
    }
}

#[test]
fn every_flipped_byte_breaks_the_tag() {
    for bench in benches() {
        let datagram = request(vec![Message::new(1, b"hello", 8)]).datagram();
        // Bytes that are checked before the tag have reasons of their own.
        let structural = |at: usize| matches!(at, 4..=5 | 7 | 8..=9 | 14..=15 | 20..=21);
        for at in (4..datagram.len()).filter(|at| !structural(*at)) {
            for bit in [0x01, 0x80] {
                let frame = v4().frame(&with(datagram.clone(), |d| d[at] ^= bit));
                let what = format!("{}, byte {at} ^ {bit:#x}", bench.name());
                bench.judge(APP.into(), &frame).assert_dropped(Drop::Tag, &what);
            }
        }
    }
}

#[test]
fn without_integrity_any_tag_is_taken() {
    for bench in Bench::variants() {
        bench.app_with(APP, naam_abi::tables::APP_SERVING);
        bench.load_built(APP, "echo", &[]);
        let frame = v4().frame(&with(datagram(), |d| d[40..48].fill(0)));
        let reply = bench.judge(APP.into(), &frame).assert_answered(&v4(), &frame, &bench.name());
        assert_eq!((reply.kind, &reply.answers[0].reply[..]), (2, &b"hello, naam"[..]));
    }
}

#[test]
fn truncated_anywhere_nothing_is_answered() {
    for bench in benches() {
        for network in [v4(), v6(), Network { vlan: Some(1), ..v4() }] {
            let frame = network.frame(&datagram());
            // TC's test run itself refuses frames whose IP header is not whole.
            let shortest = match (bench.hook, network.vlan) {
                (Hook::Xdp, _) => 14,
                (Hook::Tc, Some(_)) => 15,
                (Hook::Tc, None) => network.header_len() - 8,
            };
            for len in shortest..frame.len() {
                let what = format!("{}, {network:?}, {len} of {} bytes", bench.name(), frame.len());
                let outcome = bench.judge(APP.into(), &frame[..len]);
                if len < network.header_len() + 4 {
                    // Too little to tell that it is ours.
                    outcome.assert_passed(&frame[..len], &what);
                } else {
                    outcome.assert_dropped(Drop::Length, &what);
                }
            }
        }
    }
}

/// The same with lengths that match what is left: whatever is dropped, only the whole is answered.
#[test]
fn shortened_datagrams_are_answered_only_when_whole() {
    for bench in benches() {
        let whole = datagram();
        for len in 0..whole.len() {
            let bytes = with(whole[..len].to_vec(), |d| {
                if len >= 48 {
                    put_le(d, 20, len as u16);
                    if len.is_multiple_of(8) {
                        sign(d);
                    }
                }
            });
            let what = format!("{}, {len} bytes", bench.name());
            let outcome = bench.judge(APP.into(), &v4().frame(&bytes));
            if len < 4 {
                // Too little for the magic: another service's.
                outcome.assert_passed(&v4().frame(&bytes), &what);
                continue;
            }
            assert_eq!(outcome.verdict, Verdict::Drop, "{what}");
            let reason = match len {
                0..48 => Drop::Short,
                _ if !len.is_multiple_of(8) => Drop::Length,
                48..112 => Drop::Count,
                _ => Drop::Message,
            };
            outcome.assert_dropped(reason, &what);
        }
    }
}

/// A frame with tail room of its own, as TC has them, and one without, as XDP has them.
#[test]
fn the_largest_datagram_is_answered() {
    for bench in benches() {
        let message = |request| Message::new(request, &[request as u8; 37], 72);
        let messages: Vec<_> = (0..32).map(message).collect();
        let mut largest = request(messages);
        let used = largest.datagram().len();
        largest.messages[31].room += 3424 - used;
        let datagram = largest.datagram();
        assert_eq!(datagram.len(), 3424);
        for network in [v4(), v6()] {
            let frame = network.frame(&datagram);
            let reply = bench.judge(APP.into(), &frame).assert_answered(&network, &frame, &bench.name());
            assert!(reply.signed && reply.answers.len() == 32);
            assert!(reply.answers.iter().enumerate().all(|(i, answer)| answer.reply == [i as u8; 37]));
        }
    }
}

/// TC answers by redirection to the interface that the frame came from.
#[test]
fn hooks_answer_each_in_its_way() {
    for bench in benches() {
        let frame = v4().frame(&datagram());
        let expected = if bench.hook == Hook::Xdp { 3 } else { 7 };
        assert_eq!(bench.send(&frame).retval, expected, "{}", bench.name());
    }
}
