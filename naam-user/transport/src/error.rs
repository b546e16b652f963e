//! Why a transport cannot be opened or used.

use std::io;
use std::net::IpAddr;

/// Errors of this crate: operation, object, cause, and where there is one, the way out.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The kernel has no route to the host, or none with a source address.
    #[error("no route to host {host}: {source}")]
    NoRoute {
        /// The host.
        host: IpAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A UDP socket could not be made or set up.
    #[error("{operation} on the UDP socket for host {host}: {source}")]
    Socket {
        /// The call that failed.
        operation: &'static str,
        /// The host.
        host: IpAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// io_uring refused an operation.
    #[error(
        "io_uring: {operation}: {source} (needs Linux 6.1; sysctl kernel.io_uring_disabled and \
         seccomp filters may forbid it)"
    )]
    Ring {
        /// The operation.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The path to the host takes datagrams that are too short to be of use.
    #[error("the path to host {host} takes IP packets of {mtu} bytes; NAAM needs at least {needed}")]
    Mtu {
        /// The host.
        host: IpAddr,
        /// Bytes of an IP packet.
        mtu: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// A datagram longer than the path takes.
    #[error("a datagram of {len} bytes is longer than the {max} that this path takes")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The transport belongs to the thread that used it first.
    #[error("{transport}: used by another thread than the one that used it first; open one per thread")]
    WrongThread {
        /// Name of the transport.
        transport: &'static str,
    },
    /// A system call of the running transport failed.
    #[error("{transport}: {operation}: {source}")]
    Io {
        /// Name of the transport.
        transport: &'static str,
        /// The call that failed.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}
