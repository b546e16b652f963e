//! UDP without io_uring.

use std::collections::VecDeque;
use std::io;
use std::net::UdpSocket;
use std::time::Duration;

use naam_abi::limits::DATAGRAM_BYTES;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{harmless, socket_drops, socket_to};
use crate::target::Target;
use crate::{Incoming, Outgoing, Sent, Transport, TransportError, TransportStats, Waker};

/// Datagrams that may wait to be sent.
const SENDS: usize = 64;
/// Datagrams handed over in one poll.
const BATCH: usize = 256;

const NAME: &str = "udp_plain";

/// UDP by plain system calls, a datagram each: for where io_uring is forbidden. Containers commonly do
/// that by seccomp, administrators by `kernel.io_uring_disabled`. Any kernel, no privilege.
pub struct PlainTransport {
    socket: UdpSocket,
    target: Target,
    max_payload: usize,
    /// A ring of buffers; from `first` on, as many as are queued hold datagrams.
    buffers: Box<[[u8; DATAGRAM_BYTES]]>,
    first: usize,
    queued: VecDeque<Outgoing>,
    arrived: Box<[u8; DATAGRAM_BYTES + 1]>,
    waker: Waker,
    stats: TransportStats,
}

fn failure(operation: &'static str) -> impl FnOnce(io::Error) -> TransportError {
    move |source| TransportError::Io { transport: NAME, operation, source }
}

impl PlainTransport {
    /// Opens a socket for `target` on the address the kernel would choose.
    pub fn open(target: Target) -> Result<Self, TransportError> {
        let (socket, max_payload) = socket_to(&target)?;
        let failed = |operation| move |source| TransportError::Socket { operation, host: target.host, source };
        socket.set_nonblocking(true).map_err(failed("set O_NONBLOCK"))?;
        let waker = Waker::new().map_err(|error| failed("make an eventfd")(error.into()))?;
        Ok(Self {
            socket,
            target,
            max_payload,
            buffers: vec![[0; DATAGRAM_BYTES]; SENDS].into(),
            first: 0,
            queued: VecDeque::with_capacity(SENDS),
            arrived: Box::new([0; DATAGRAM_BYTES + 1]),
            waker,
            stats: TransportStats::default(),
        })
    }
}

impl Transport for PlainTransport {
    fn name(&self) -> &'static str {
        NAME
    }

    fn max_payload(&self) -> usize {
        self.max_payload
    }

    fn send(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<Sent, TransportError> {
        if self.queued.len() == SENDS {
            self.flush()?;
        }
        if self.queued.len() == SENDS {
            self.stats.full += 1;
            return Ok(Sent::Full);
        }
        let buffer = &mut self.buffers[(self.first + self.queued.len()) % SENDS];
        let max = self.max_payload;
        let Some(outgoing) = write(&mut buffer[..max]) else { return Ok(Sent::Idle) };
        assert!(outgoing.len <= max, "the writer wrote into a buffer of {max} bytes");
        self.queued.push_back(outgoing);
        Ok(Sent::Queued)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        while let Some(&Outgoing { port, len }) = self.queued.front() {
            self.stats.syscalls += 1;
            let sent = self.socket.send_to(&self.buffers[self.first][..len], self.target.socket_address(port));
            // The rest when there is room.
            if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
            self.queued.pop_front();
            self.first = (self.first + 1) % SENDS;
            match sent {
                Ok(_) => {
                    self.stats.sent += 1;
                    self.stats.sent_bytes += len as u64;
                }
                Err(error) => {
                    self.stats.send_errors += 1;
                    if !harmless(&error) {
                        return Err(failure("sendto")(error));
                    }
                }
            }
        }
        Ok(())
    }

    fn poll(&mut self, receive: &mut dyn FnMut(Incoming<'_>)) -> Result<usize, TransportError> {
        self.flush()?;
        let mut received = 0;
        for _ in 0..BATCH {
            self.stats.syscalls += 1;
            let (len, from) = match self.socket.recv_from(&mut self.arrived[..]) {
                Ok(arrived) => arrived,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if harmless(&error) => continue,
                Err(error) => return Err(failure("recvfrom")(error)),
            };
            // A byte more than the longest means that the datagram was longer.
            if len > DATAGRAM_BYTES || from.ip() != self.target.host || !self.target.owns_port(from.port()) {
                self.stats.foreign += 1;
                continue;
            }
            received += 1;
            self.stats.received_bytes += len as u64;
            receive(Incoming { port: from.port(), bytes: &self.arrived[..len] });
        }
        self.stats.received += received;
        Ok(received as usize)
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), TransportError> {
        self.flush()?;
        if !self.waker.is_signalled() {
            let unsent = if self.queued.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let mut polled =
                [PollFd::new(&self.socket, PollFlags::IN | unsent), PollFd::new(&self.waker, PollFlags::IN)];
            // Longer than the kernel counts is for ever.
            let timeout = Timespec::try_from(timeout).ok();
            self.stats.syscalls += 1;
            match poll(&mut polled, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(failure("poll")(errno.into())),
            }
        }
        self.waker.clear();
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn stats(&self) -> TransportStats {
        TransportStats { overruns: socket_drops(&self.socket), ..self.stats }
    }
}
