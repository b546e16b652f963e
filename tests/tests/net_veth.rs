//! What veth makes of replies by XDP_TX; see `kernel-notes/veth-xdp-tx.md`.
//!
//! ```text
//!   client namespace                     host namespace
//!   UDP socket ─ naam0 ──── veth ──── naam0 ─ entry, shell, echo
//! ```

use std::net::UdpSocket;
use std::time::Duration;

use naam_abi::limits::PORT_BASE;
use naam_loader::Hook;
use naam_testbed::{CLIENT_V4, DEVICE, HOST_V4, Topology, object};
use naam_tests::bench::{Bench, SESSION, port};
use naam_tests::frame::{Message, Reply, Request};
use naam_transport::xsk::{Mode, XskProgram};

const APP: u16 = 3;

fn answers(socket: &UdpSocket) -> Option<Vec<u8>> {
    let request = Request {
        app: APP,
        function: 16,
        handler: 0,
        shard: 0,
        session: SESSION,
        messages: vec![Message::new(1, b"hello", 8)],
    };
    socket.send_to(&request.datagram(), (HOST_V4, port(APP, 0))).unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    Some(Reply::read(&buffer[..length]).answers[0].reply.clone())
}

/// The host answers at XDP in every case; without a program on the client's end, the answer goes
/// nowhere. GRO, which gives that end a ring for it, is not enough. TC does without.
#[test]
fn xdp_replies_need_a_program_on_the_other_end() {
    let topology = Topology::builder().build().unwrap();
    let (client, host) = (topology.client(), topology.host());
    let socket = client.run(|| UdpSocket::bind((CLIENT_V4, 0)).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();

    let mut bench = Bench::new(Hook::Xdp, true);
    bench.app(APP);
    bench.load_built(APP, "echo", &[]);
    host.run(|| bench.datapath.attach(DEVICE, Some(Hook::Xdp)).unwrap()).unwrap();
    let replies = || bench.datapath.tables().stats(APP.into()).unwrap().replies;
    assert_eq!((answers(&socket), replies()), (None, 1));
    let gro = client.command("ethtool").args(["-K", DEVICE, "gro", "on"]).output().unwrap();
    assert!(gro.status.success(), "{gro:?}");
    assert_eq!((answers(&socket), replies()), (None, 2));

    let xsk = object("xsk").unwrap();
    let program = client.run(|| XskProgram::attach(&xsk, DEVICE, PORT_BASE, Mode::Native).unwrap()).unwrap();
    // What waited in the ring comes first.
    let answer = std::iter::repeat_with(|| answers(&socket)).take(3).flatten().next();
    assert_eq!(answer.as_deref(), Some(&b"hello"[..]));
    drop(program);
    drop(bench);

    let mut bench = Bench::new(Hook::Tc, true);
    bench.app(APP);
    bench.load_built(APP, "echo", &[]);
    host.run(|| bench.datapath.attach(DEVICE, Some(Hook::Tc)).unwrap()).unwrap();
    while socket.recv(&mut [0; 4096]).is_ok() {}
    assert_eq!(answers(&socket).as_deref(), Some(&b"hello"[..]));
}
