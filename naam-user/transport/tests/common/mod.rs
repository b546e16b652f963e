//! A host made of UDP sockets: answers every request with its own arguments.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use naam_abi::limits::DATAGRAM_BYTES;
use naam_abi::siphash::PUBLIC_KEY;
use naam_abi::wire::{self, HEADER_BYTES, Header, Kind, MESSAGE_BYTES, MESSAGE_SERVED, Message, Status};
use naam_transport::{Sent, Transport};

/// Serves some ports from threads until dropped.
pub struct Responder {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Responder {
    /// Serves `ports` ports from `base` on, in the calling thread's network namespace.
    pub fn start(address: IpAddr, base: u16, ports: u16) -> std::io::Result<Self> {
        let sockets: Vec<_> =
            (base..base + ports).map(|port| UdpSocket::bind((address, port))).collect::<Result<_, _>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let serve = |socket| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || answer_all(&socket, &stop))
        };
        let threads = sockets.into_iter().map(serve).collect();
        Ok(Self { stop, threads })
    }

    /// On loopback, on a block of ports that is free.
    pub fn on_loopback(ports: u16) -> (Self, u16) {
        let address = IpAddr::from([127, 0, 0, 1]);
        let first = 20_000 + (std::process::id() % 4_000) as u16;
        (first..28_000)
            .step_by(usize::from(ports))
            .find_map(|base| Some((Self::start(address, base, ports).ok()?, base)))
            .expect("no free block of ports on loopback")
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread shows as missing answers in the test.
            let _ = thread.join();
        }
    }
}

fn answer_all(socket: &UdpSocket, stop: &AtomicBool) {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut bytes = [0; DATAGRAM_BYTES];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, client)) = socket.recv_from(&mut bytes)
            && answer(&mut bytes[..len]).is_some()
        {
            socket.send_to(&bytes[..len], client).unwrap();
        }
    }
}

/// Turns a request into its reply in place.
pub fn answer(bytes: &mut [u8]) -> Option<()> {
    let (mut header, messages) = wire::parse(bytes).ok()?;
    let lens: Vec<_> = messages.map(|message| message.map(|(message, _)| message)).collect::<Result<_, _>>().ok()?;
    let mut at = HEADER_BYTES;
    for message in lens {
        let served = Message {
            status: Status::Ok as u16,
            flags: MESSAGE_SERVED,
            reply_len: message.arg_len,
            code: 7,
            ..message
        };
        served.encode(&mut bytes[at..]);
        at += MESSAGE_BYTES + usize::from(message.room);
    }
    header.kind = Kind::Reply;
    header.encode(bytes);
    header.tag = wire::tag(PUBLIC_KEY, bytes);
    header.encode(bytes);
    Some(())
}

/// A request with `count` messages numbered from `first`, each with 16 bytes of arguments.
pub fn request(shard: u16, first: u32, count: u8) -> Vec<u8> {
    const ROOM: usize = 48;
    let length = HEADER_BYTES + usize::from(count) * (MESSAGE_BYTES + ROOM);
    let mut bytes = vec![0; length];
    let header = Header {
        kind: Kind::Request,
        flags: 0,
        count,
        app: 0,
        function: 16,
        handler: 0,
        shard,
        session: 1,
        length: length as u16,
        status: 0,
        epoch: 0,
        key: 0,
        placement: 0,
        lease: 0,
        nonce: u64::from(first),
        tag: 0,
    };
    header.encode(&mut bytes);
    for i in 0..u32::from(count) {
        let at = HEADER_BYTES + i as usize * (MESSAGE_BYTES + ROOM);
        let message = Message { request: first + i, arg_len: 16, room: ROOM as u16, ..Message::default() };
        message.encode(&mut bytes[at..]);
        bytes[at + MESSAGE_BYTES..][..16].fill((first + i) as u8);
    }
    bytes
}

/// Sends `count` requests of 4 messages round robin over `shards`, at most `window` unanswered,
/// and checks that each is answered exactly once, from the right port, with its own bytes.
pub fn echo_all(transport: &mut dyn Transport, base: u16, shards: u16, count: u32, window: u32) {
    let mut answered = vec![false; count as usize];
    let (mut sent, mut received) = (0, 0);
    let end = Instant::now() + Duration::from_secs(20);
    while received < count {
        assert!(Instant::now() < end, "{sent} sent, {received} answered: {:?}", transport.stats());
        while sent < count && sent - received < window {
            let shard = sent as u16 % shards;
            match transport.send_datagram(base + shard, &request(shard, sent * 4, 4)).unwrap() {
                Sent::Queued => sent += 1,
                Sent::Full => break,
                Sent::Idle => unreachable!("send_datagram always has something to send"),
            }
        }
        transport.flush().unwrap();
        let got = transport
            .poll(&mut |incoming| {
                let (header, messages) = wire::parse(incoming.bytes).expect("a whole datagram");
                assert_eq!(header.kind, Kind::Reply);
                assert_eq!(incoming.port, base + header.shard);
                let number = header.nonce as u32 / 4;
                assert!(!std::mem::replace(&mut answered[number as usize], true), "answered twice");
                for (i, message) in messages.enumerate() {
                    let (message, room) = message.unwrap();
                    assert_eq!((message.request, message.code), (number * 4 + i as u32, 7));
                    assert!(room[..16].iter().all(|&byte| byte == message.request as u8));
                }
            })
            .unwrap();
        received += got as u32;
        if got == 0 {
            transport.wait(Duration::from_millis(100)).unwrap();
        }
    }
    assert!(answered.iter().all(|&done| done));
}
