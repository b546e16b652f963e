//! Pipelined requests over one TCP connection: replies come in the order of the requests.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::target::{Busy, Failure, Op, Outcome, Target, TargetError};

/// Bytes that wait to be sent before the target is busy.
const OUT_BYTES_MAX: usize = 1 << 20;
/// Room for what was received and not yet understood; a reply is far smaller.
const IN_BYTES: usize = 1 << 16;

/// A request–reply protocol.
pub trait Protocol {
    /// Appends the request for `op`; if it cannot be expressed, appends nothing.
    fn encode(&mut self, op: &Op<'_>, out: &mut Vec<u8>) -> Result<(), Failure>;

    /// Reads the first reply in `input`.
    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<'a>;
}

/// What [`Protocol::decode`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The reply is not all there.
    Incomplete,
    /// A reply of so many bytes.
    Reply(usize, Outcome<'a>),
    /// No reply of this protocol; nothing after it can be understood.
    Broken,
}

/// A target that speaks `P` over TCP.
#[derive(Debug)]
pub struct Pipeline<P> {
    protocol: P,
    stream: TcpStream,
    out: Vec<u8>,
    sent: usize,
    input: Box<[u8]>,
    filled: usize,
    /// Requests without a reply, in order.
    waiting: VecDeque<u64>,
    /// Operations that were never sent.
    refused: Vec<(u64, Failure)>,
}

impl<P: Protocol> Pipeline<P> {
    /// Connects (blocking; all later calls do not block).
    pub fn connect(address: SocketAddr, protocol: P) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            protocol,
            stream,
            out: Vec::new(),
            sent: 0,
            input: vec![0; IN_BYTES].into(),
            filled: 0,
            waiting: VecDeque::new(),
            refused: Vec::new(),
        })
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Receives once; says whether there may be more.
    fn receive(&mut self) -> io::Result<bool> {
        let room = &mut self.input[self.filled..];
        let size = room.len();
        match self.stream.read(room) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                self.filled += bytes;
                Ok(bytes == size)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn complete(&mut self, done: &mut dyn FnMut(u64, Outcome<'_>)) -> Result<(), TargetError> {
        let mut taken = 0;
        loop {
            match self.protocol.decode(&self.input[taken..self.filled]) {
                Decoded::Reply(bytes, outcome) => {
                    taken += bytes;
                    let token = self.waiting.pop_front().ok_or("the server sent a reply without a request")?;
                    done(token, outcome);
                }
                Decoded::Incomplete if taken == 0 && self.filled == self.input.len() => {
                    return Err(format!("the server sent a reply of more than {IN_BYTES} bytes").into());
                }
                Decoded::Incomplete => break,
                Decoded::Broken => {
                    let text = String::from_utf8_lossy(&self.input[taken..self.filled.min(taken + 60)]).into_owned();
                    return Err(format!("the server sent no reply of its protocol: {text:?}").into());
                }
            }
        }
        self.input.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        Ok(())
    }
}

impl<P: Protocol> Target for Pipeline<P> {
    fn submit(&mut self, op: &Op<'_>, token: u64) -> Result<(), Busy> {
        if self.out.len() >= OUT_BYTES_MAX {
            return Err(Busy);
        }
        match self.protocol.encode(op, &mut self.out) {
            Ok(()) => self.waiting.push_back(token),
            Err(failure) => self.refused.push((token, failure)),
        }
        Ok(())
    }

    fn poll(&mut self, _now: Instant, done: &mut dyn FnMut(u64, Outcome<'_>)) -> Result<(), TargetError> {
        self.refused.drain(..).for_each(|(token, failure)| done(token, Outcome::Failed(failure)));
        self.send()?;
        if self.waiting.is_empty() {
            return Ok(());
        }
        loop {
            let more = self.receive()?;
            self.complete(done)?;
            if !more {
                return Ok(());
            }
        }
    }
}

/// The first line of `input` without its CRLF.
pub(super) fn line(input: &[u8]) -> Option<&[u8]> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    Some(&input[..end])
}

/// A decimal number of at most nine digits.
pub(super) fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + usize::from(digit - b'0')))
}

/// A reply with a value: `header` bytes, `bytes` of value, CRLF.
pub(super) fn value(input: &[u8], header: usize, bytes: usize) -> Decoded<'_> {
    let end = header + bytes;
    match input.get(end..end + 2) {
        None => Decoded::Incomplete,
        Some(b"\r\n") => Decoded::Reply(end + 2, Outcome::Value(&input[header..end])),
        Some(_) => Decoded::Broken,
    }
}
