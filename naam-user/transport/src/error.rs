//! Why a transport cannot be opened or used.

use std::net::IpAddr;
use std::{fmt, io};

use crate::netlink::Interface;

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
    /// The interface cannot be looked up.
    #[error("look up interface {interface}: {source}")]
    Interface {
        /// Its name, or the host it should lead to.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The interface is of no use for AF_XDP.
    #[error("AF_XDP on {device}: {reason}")]
    Unsuitable {
        /// The interface.
        device: Device,
        /// Why not.
        reason: &'static str,
    },
    /// Another XDP program is in the way.
    #[error(
        "interface {device} carries XDP program {program} already (`bpftool prog show id {program}` says \
         whose); detach it or use UDP"
    )]
    Occupied {
        /// The interface.
        device: Device,
        /// Id of that program.
        program: u32,
    },
    /// The XDP program or its maps refused an operation.
    #[error("{operation} for {device}: {source}")]
    Program {
        /// The operation.
        operation: &'static str,
        /// The interface.
        device: Device,
        /// aya's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nobody answers for the next hop's address.
    #[error("no MAC address for {address} on {device} within {waited_ms} ms: is the host up, and on this network?")]
    Neighbour {
        /// The next hop.
        address: IpAddr,
        /// The interface.
        device: Device,
        /// How long we waited.
        waited_ms: u128,
    },
    /// An AF_XDP socket could not be made.
    #[error("{operation} for an AF_XDP socket on {device}, queue {queue}, flags {flags}: {source}{}", xsk_cure(source))]
    Xsk {
        /// The call that failed.
        operation: String,
        /// The interface.
        device: Device,
        /// The receive queue.
        queue: u32,
        /// Bind flags.
        flags: &'static str,
        /// The kernel's answer.
        source: io::Error,
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

/// A network interface, as errors show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (ifindex {})", self.interface, self.ifindex)
    }
}

impl From<&Interface> for Device {
    fn from(interface: &Interface) -> Self {
        Self { interface: interface.name.clone(), ifindex: interface.index }
    }
}

fn xsk_cure(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => " (needs CAP_NET_RAW)",
        Some(libc::EBUSY) => " (another socket has this queue)",
        Some(libc::ENOBUFS) => " (RLIMIT_MEMLOCK is too low for the frames)",
        Some(libc::EOPNOTSUPP) => " (the driver has no zero-copy; use copy mode)",
        _ => "",
    }
}
