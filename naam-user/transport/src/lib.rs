//! Datagrams between a NAAM client and its host.
//!
//! A [`Transport`] carries whole datagrams to the ports of one host and brings back what comes
//! from them. It knows nothing of what is inside. These ways of carrying exist, behind one trait:
//!
//! | module | way | needs |
//! |---|---|---|
//! | [`xsk`] | AF_XDP sockets and an XDP program | Linux 5.9; CAP_NET_RAW, and CAP_BPF + CAP_NET_ADMIN for the program |
//! | [`udp`] | a UDP socket through io_uring | Linux 6.1; no privilege |
//! | [`udp::PlainTransport`] | a UDP socket, a system call a datagram | where io_uring is forbidden |
//!
//! [`open`] chooses. [`netlink`] asks the kernel about interfaces. One thread at a time drives a transport. Nothing is allocated after it was opened.

pub mod error;
pub mod netlink;
mod open;
pub mod target;
pub mod udp;
pub mod wake;
pub mod xsk;

use std::time::Duration;

pub use error::TransportError;
pub use open::{Choice, Opened, open};
pub use target::Target;
pub use wake::Waker;

/// Where a written datagram goes, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The host's UDP port.
    pub port: u16,
    /// Bytes written.
    pub len: usize,
}

/// What came of an offer to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A datagram was written and stands in the queue; [`Transport::flush`] sets it going.
    Queued,
    /// The writer had nothing to send.
    Idle,
    /// Every buffer is in flight. The writer was not called, so nothing is lost: offer again
    /// after [`Transport::poll`].
    Full,
}

/// A datagram that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The host's UDP port it came from.
    pub port: u16,
    /// UDP payload.
    pub bytes: &'a [u8],
}

/// Carries datagrams to one host.
pub trait Transport: Send {
    /// Short name for people and reports: `af_xdp`, `udp`, `udp_plain`.
    fn name(&self) -> &'static str;

    /// Longest datagram in bytes, a multiple of 8: what path and wire format allow.
    fn max_payload(&self) -> usize;

    /// Lets `write` put one datagram straight into a send buffer of [`max_payload`] bytes.
    ///
    /// `write` is called at most once, and not at all when every buffer is in flight. It returns
    /// `None` if it has nothing to send. The buffer holds old bytes: whatever lies below the
    /// returned length must have been written.
    ///
    /// [`max_payload`]: Transport::max_payload
    fn send(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<Sent, TransportError>;

    /// Sets everything queued going.
    fn flush(&mut self) -> Result<(), TransportError>;

    /// Hands over what has arrived, at most a batch, without waiting; returns how many.
    fn poll(&mut self, receive: &mut dyn FnMut(Incoming<'_>)) -> Result<usize, TransportError>;

    /// Flushes, then waits until something may have arrived, a send buffer is free again, the
    /// [`Waker`] was used, or `timeout` is over.
    fn wait(&mut self, timeout: Duration) -> Result<(), TransportError>;

    /// Ends a [`wait`](Transport::wait) from another thread.
    fn waker(&self) -> Waker;

    /// Counters since the transport was opened.
    fn stats(&self) -> TransportStats;

    /// Copies `datagram` into a send buffer.
    ///
    /// # Errors
    /// [`TransportError::TooLong`] above [`max_payload`](Transport::max_payload).
    fn send_datagram(&mut self, port: u16, datagram: &[u8]) -> Result<Sent, TransportError> {
        let max = self.max_payload();
        if datagram.len() > max {
            return Err(TransportError::TooLong { len: datagram.len(), max });
        }
        self.send(&mut |buffer| {
            buffer[..datagram.len()].copy_from_slice(datagram);
            Some(Outgoing { port, len: datagram.len() })
        })
    }
}

/// Counters of a transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TransportStats {
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// UDP payload bytes of these.
    pub sent_bytes: u64,
    /// Datagrams received from the host.
    pub received: u64,
    /// UDP payload bytes of these.
    pub received_bytes: u64,
    /// Offers refused because every send buffer was in flight.
    pub full: u64,
    /// Datagrams the kernel refused to send.
    pub send_errors: u64,
    /// Datagrams that were not from the host, or truncated; dropped.
    pub foreign: u64,
    /// Datagrams that the kernel dropped for want of a buffer of ours.
    pub overruns: u64,
    /// System calls made to send, receive or wait.
    pub syscalls: u64,
}
