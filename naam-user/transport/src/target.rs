//! The host that a transport carries to, and the path there.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};

use naam_abi::limits::{DATAGRAM_BYTES, PORTS};
use naam_abi::wire::{HEADER_BYTES, MESSAGE_BYTES};
use rustix::net::sockopt;

use crate::TransportError;

/// Bytes of a UDP header.
pub(crate) const UDP_BYTES: usize = 8;
/// Shortest payload worth a transport: a header and a message with 64 bytes of room.
const PAYLOAD_MIN: usize = HEADER_BYTES + MESSAGE_BYTES + 64;

/// A NAAM host as clients address it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub host: IpAddr,
    /// Interface index for IPv6 link-local addresses, otherwise 0.
    pub scope_id: u32,
    /// First UDP port of its block; the block has [`PORTS`] ports.
    pub port_base: u16,
}

impl Target {
    /// A host with a global address.
    pub const fn new(host: IpAddr, port_base: u16) -> Self {
        Self { host, scope_id: 0, port_base }
    }

    /// Whether datagrams from `port` are the host's answers.
    pub const fn owns_port(&self, port: u16) -> bool {
        port.wrapping_sub(self.port_base) < PORTS
    }

    pub(crate) fn socket_address(&self, port: u16) -> SocketAddr {
        match self.host {
            IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope_id).into(),
        }
    }

    /// Bytes of the IP header on the way there.
    pub(crate) const fn ip_bytes(&self) -> usize {
        match self.host {
            IpAddr::V4(_) => 20,
            IpAddr::V6(_) => 40,
        }
    }
}

/// What the kernel's routing says of the way to a target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// Our address on that way.
    pub source: IpAddr,
    /// Longest datagram, a multiple of 8.
    pub max_payload: usize,
}

impl Path {
    /// Asks by connecting a socket, which sends nothing.
    pub(crate) fn to(target: &Target) -> Result<Self, TransportError> {
        let no_route = |source| TransportError::NoRoute { host: target.host, source };
        let probe = bound(unspecified(target)).map_err(no_route)?;
        probe.connect(target.socket_address(target.port_base)).map_err(no_route)?;
        let source = probe.local_addr().map_err(no_route)?.ip();
        let mtu = match target.host {
            IpAddr::V4(_) => sockopt::ip_mtu(&probe),
            IpAddr::V6(_) => sockopt::ipv6_mtu(&probe),
        };
        let mtu = mtu.map_err(|error| no_route(error.into()))? as usize;
        let headers = target.ip_bytes() + UDP_BYTES;
        let payload = mtu.saturating_sub(headers).min(DATAGRAM_BYTES) / 8 * 8;
        if payload < PAYLOAD_MIN {
            return Err(TransportError::Mtu { host: target.host, mtu, needed: PAYLOAD_MIN + headers });
        }
        Ok(Self { source, max_payload: payload })
    }
}

fn unspecified(target: &Target) -> IpAddr {
    match target.host {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A UDP socket on `address` and a port of the kernel's choice.
pub(crate) fn bound(address: IpAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind((address, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_of_ports_has_two_ends() {
        let target = Target::new(IpAddr::from([127, 0, 0, 1]), 28_672);
        assert!(target.owns_port(28_672) && target.owns_port(28_672 + PORTS - 1));
        assert!(!target.owns_port(28_671) && !target.owns_port(28_672 + PORTS));
    }

    #[test]
    fn loopback_takes_the_longest_datagram() {
        let path = Path::to(&Target::new(IpAddr::from([127, 0, 0, 1]), 28_672)).unwrap();
        assert_eq!((path.source, path.max_payload), (IpAddr::from([127, 0, 0, 1]), DATAGRAM_BYTES));
    }
}
