//! memcached's meta commands (`mg`, `ms`; server 1.6 or later), pipelined over TCP or over UDP.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::pipeline::{Decoded, Pipeline, Protocol, line, number, value};
use crate::target::{Busy, Failure, Op, Outcome, Target, TargetError};

/// Connects to a memcached server over TCP.
pub fn connect_tcp(address: SocketAddr) -> io::Result<Pipeline<Meta>> {
    Pipeline::connect(address, Meta)
}

/// The meta commands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meta;

/// Whether a key can stand in a command line.
fn is_plain(key: &[u8]) -> bool {
    !key.is_empty() && key.iter().all(|&byte| byte > b' ' && byte != 0x7f)
}

impl Protocol for Meta {
    fn encode(&mut self, op: &Op<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        match *op {
            Op::Read { key } if is_plain(key) => {
                out.extend_from_slice(b"mg ");
                out.extend_from_slice(key);
                out.extend_from_slice(b" v\r\n");
            }
            Op::Update { key, value } | Op::Insert { key, value } if is_plain(key) => {
                out.extend_from_slice(b"ms ");
                out.extend_from_slice(key);
                out.push(b' ');
                out.extend_from_slice(itoa::Buffer::new().format(value.len()).as_bytes());
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
            }
            _ => return Err(Failure::Unsupported),
        }
        Ok(())
    }

    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<'a> {
        let Some(line) = line(input) else { return Decoded::Incomplete };
        let header = line.len() + 2;
        let reply = |outcome| Decoded::Reply(header, outcome);
        let mut words = line.split(|&byte| byte == b' ');
        match words.next() {
            Some(b"VA") => words.next().and_then(number).map_or(Decoded::Broken, |bytes| value(input, header, bytes)),
            Some(b"HD") => reply(Outcome::Done),
            Some(b"EN") => reply(Outcome::Missing),
            Some(b"NS") => reply(Outcome::Failed(Failure::Refused)),
            Some(b"SERVER_ERROR") if line.windows(6).any(|word| word == b"memory") => {
                reply(Outcome::Failed(Failure::NoSpace))
            }
            Some(b"SERVER_ERROR" | b"CLIENT_ERROR" | b"ERROR") => reply(Outcome::Failed(Failure::Refused)),
            _ => Decoded::Broken,
        }
    }
}

/// Bytes of the frame header of memcached's UDP protocol: request id, number of this datagram, datagrams of the
/// message, reserved; 16 bits each, big-endian.
const FRAME_BYTES: usize = 8;
/// Datagrams whose replies are awaited, late ones included; a power of two. Request ids count through all 16 bits,
/// so that a reply that comes too late finds its place taken by another id.
const DATAGRAMS_MAX: usize = 4_096;
/// A datagram without a reply for so long no longer counts as in flight.
const FLIGHT_TIME_MAX: Duration = Duration::from_millis(50);
/// The largest datagram that the server takes (its read buffer), and sends.
const DATAGRAM_BYTES: usize = 1_400;

fn frame(request: u16) -> [u8; FRAME_BYTES] {
    let [high, low] = request.to_be_bytes();
    [high, low, 0, 0, 0, 1, 0, 0]
}

/// A target that speaks the meta commands over UDP, one command a datagram: the server answers every command in a
/// datagram of its own anyway, and a miss names nothing but its datagram. Nothing is repeated: a lost datagram is a
/// lost operation.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    /// Datagrams to send: their bytes one after another, and where each ends.
    out: Vec<u8>,
    ends: Vec<usize>,
    /// Request id of the first of them.
    unsent_request: u16,
    next_request: u16,
    /// By request id, lowest bits.
    waiting: Box<[Option<Waiting>]>,
    /// Submitted and unanswered, but for those given up.
    in_flight: usize,
    in_flight_max: usize,
    /// Requests by the time they were sent.
    sent: VecDeque<(u16, Instant)>,
    refused: Vec<(u64, Failure)>,
    input: Box<[u8]>,
}

/// A request without a reply.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    request: u16,
    token: u64,
    /// Whether it counts as in flight.
    counted: bool,
}

impl Udp {
    /// A target from a free local port to `address`, with up to `in_flight` datagrams on the way (at most 2,048):
    /// with the kernel's default buffers, about 100 of the largest replies fit.
    pub fn connect(address: SocketAddr, in_flight: usize) -> io::Result<Self> {
        let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            out: Vec::new(),
            ends: Vec::new(),
            unsent_request: 0,
            next_request: 0,
            waiting: vec![None; DATAGRAMS_MAX].into(),
            in_flight: 0,
            in_flight_max: in_flight.clamp(1, DATAGRAMS_MAX / 2),
            sent: VecDeque::with_capacity(DATAGRAMS_MAX),
            refused: Vec::new(),
            input: vec![0; 1 << 16].into(),
        })
    }

    fn send(&mut self, now: Instant) -> io::Result<()> {
        let mut start = 0;
        let mut sent = 0;
        for &end in &self.ends {
            match self.socket.send(&self.out[start..end]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            self.sent.push_back((self.unsent_request, now));
            self.unsent_request = self.unsent_request.wrapping_add(1);
            start = end;
            sent += 1;
        }
        self.out.drain(..start);
        self.ends.drain(..sent);
        self.ends.iter_mut().for_each(|end| *end -= start);
        Ok(())
    }

    /// The place of a request that has no reply yet.
    fn place(&mut self, request: u16) -> Option<&mut Option<Waiting>> {
        let place = &mut self.waiting[usize::from(request) % DATAGRAMS_MAX];
        place.is_some_and(|waiting| waiting.request == request).then_some(place)
    }

    /// Lets others take the place of requests that are overdue.
    fn give_up(&mut self, now: Instant) {
        while let Some(&(request, at)) = self.sent.front() {
            let Some(Some(waiting)) = self.place(request) else {
                self.sent.pop_front();
                continue;
            };
            if now.duration_since(at) < FLIGHT_TIME_MAX {
                return;
            }
            waiting.counted = false;
            self.in_flight -= 1;
            self.sent.pop_front();
        }
    }

    fn answered(&mut self, request: u16) -> Option<u64> {
        let waiting = self.place(request)?.take()?;
        self.in_flight -= usize::from(waiting.counted);
        Some(waiting.token)
    }
}

/// The outcome in a reply datagram and the request it belongs to; nothing if it is no such datagram.
fn decode_datagram(datagram: &[u8]) -> Option<(u16, Outcome<'_>)> {
    let (header, body) = datagram.split_first_chunk::<FRAME_BYTES>()?;
    let request = u16::from_be_bytes([header[0], header[1]]);
    let whole = header[2..6] == [0, 0, 0, 1];
    match Meta.decode(body) {
        Decoded::Reply(bytes, outcome) if whole && bytes == body.len() => Some((request, outcome)),
        _ => Some((request, Outcome::Failed(Failure::Protocol))),
    }
}

impl Target for Udp {
    fn submit(&mut self, op: &Op<'_>, token: u64) -> Result<(), Busy> {
        if self.in_flight >= self.in_flight_max {
            return Err(Busy);
        }
        let start = self.out.len();
        self.out.extend_from_slice(&frame(self.next_request));
        let encoded = match Meta.encode(op, &mut self.out) {
            Ok(()) if self.out.len() - start > DATAGRAM_BYTES => Err(Failure::Unsupported),
            other => other,
        };
        if let Err(failure) = encoded {
            self.out.truncate(start);
            self.refused.push((token, failure));
            return Ok(());
        }
        self.ends.push(self.out.len());
        let request = self.next_request;
        let place = &mut self.waiting[usize::from(request) % DATAGRAMS_MAX];
        let displaced = place.replace(Waiting { request, token, counted: true });
        if displaced.is_none_or(|waiting| !waiting.counted) {
            self.in_flight += 1;
        }
        self.next_request = request.wrapping_add(1);
        Ok(())
    }

    fn poll(&mut self, now: Instant, done: &mut dyn FnMut(u64, Outcome<'_>)) -> Result<(), TargetError> {
        self.refused.drain(..).for_each(|(token, failure)| done(token, Outcome::Failed(failure)));
        self.send(now)?;
        self.give_up(now);
        loop {
            let bytes = match self.socket.recv(&mut self.input[..]) {
                Ok(bytes) => bytes,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            // The buffer leaves its owner while the outcome points into it.
            let input = std::mem::take(&mut self.input);
            if let Some((request, outcome)) = decode_datagram(&input[..bytes])
                && let Some(token) = self.answered(request)
            {
                done(token, outcome);
            }
            self.input = input;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_meta_commands() {
        let mut out = Vec::new();
        Meta.encode(&Op::Read { key: b"k" }, &mut out).expect("a read can be said");
        Meta.encode(&Op::Insert { key: b"k", value: b"a\r\nb" }, &mut out).expect("an insert can be said");
        assert_eq!(out, b"mg k v\r\nms k 4\r\na\r\nb\r\n");
        for key in [&b"a b"[..], b"", b"a\n", b"\x7f"] {
            assert_eq!(Meta.encode(&Op::Read { key }, &mut out), Err(Failure::Unsupported));
        }
        assert_eq!(out.len(), 22, "nothing of a refused request is left");
    }

    #[test]
    fn replies_are_understood_and_cut_ones_waited_for() {
        let cases: [(&[u8], Outcome<'_>); 6] = [
            (b"VA 4\r\na\r\nb\r\n", Outcome::Value(b"a\r\nb")),
            (b"VA 0 O7\r\n\r\n", Outcome::Value(b"")),
            (b"EN\r\n", Outcome::Missing),
            (b"HD\r\n", Outcome::Done),
            (b"SERVER_ERROR out of memory storing object\r\n", Outcome::Failed(Failure::NoSpace)),
            (b"CLIENT_ERROR bad data chunk\r\n", Outcome::Failed(Failure::Refused)),
        ];
        for (reply, outcome) in cases {
            assert_eq!(Meta.decode(reply), Decoded::Reply(reply.len(), outcome));
            for end in 0..reply.len() {
                assert_eq!(Meta.decode(&reply[..end]), Decoded::Incomplete);
            }
        }
        for broken in [&b"VA\r\n"[..], b"VA x\r\n", b"VA 1\r\nabc", b"\r\n", b"OK\r\n"] {
            assert_eq!(Meta.decode(broken), Decoded::Broken);
        }
    }

    #[test]
    fn datagrams_carry_the_frame_header() {
        assert_eq!(frame(0x1234), [0x12, 0x34, 0, 0, 0, 1, 0, 0]);
        let reply = [&frame(7)[..], b"VA 1\r\nx\r\n"].concat();
        assert_eq!(decode_datagram(&reply), Some((7, Outcome::Value(b"x"))));
        let mut second_of_two = reply.clone();
        second_of_two[5] = 2;
        assert_eq!(decode_datagram(&second_of_two), Some((7, Outcome::Failed(Failure::Protocol))));
        assert_eq!(decode_datagram(&reply[..reply.len() - 1]), Some((7, Outcome::Failed(Failure::Protocol))));
        assert_eq!(decode_datagram(&reply[..5]), None);
    }
}
