//! What AF_XDP must know and a socket would find out by itself: interface, next hop, its MAC; and what
//! a doctor asks of an interface.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The way to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Interface index.
    pub interface: u32,
    /// The host itself, or the gateway to it.
    pub next_hop: IpAddr,
}

/// A network interface.
#[derive(Clone, Debug, Default)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What kind of virtual device it is, as `ip` says: `veth`; none for hardware.
    pub kind: Option<String>,
    /// Whether it is up.
    pub up: bool,
    /// Bytes of an IP packet.
    pub mtu: u32,
    /// None if it is no Ethernet.
    pub mac: Option<Mac>,
    /// Receive queues it was made with; fewer may be in use.
    pub queues: u32,
    /// Id of the XDP program it carries, whatever the mode.
    pub program: Option<u32>,
    /// Index of the device it is bound to: a veth's other end.
    pub peer: Option<u32>,
    /// That device is in another network namespace, where `peer` counts.
    pub peer_is_elsewhere: bool,
}

/// A connection to the kernel's routing tables.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// In the calling thread's network namespace.
    pub fn connect() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Which way packets to `host` go.
    pub(crate) fn route(&mut self, host: IpAddr) -> io::Result<Route> {
        let mut message = RouteMessage::default();
        (message.header.address_family, message.header.destination_prefix_length) = match host {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message.attributes.push(RouteAttribute::Destination(host.into()));
        let answers = self.ask(RouteNetlinkMessage::GetRoute(message), 0)?;
        let Some(RouteNetlinkMessage::NewRoute(route)) = answers.into_iter().next() else {
            return Err(io::Error::from(io::ErrorKind::HostUnreachable));
        };
        if route.header.kind == RouteType::Local {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the host is this machine"));
        }
        let mut interface = None;
        let mut next_hop = host;
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => interface = Some(index),
                RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => next_hop = gateway.into(),
                RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => next_hop = gateway.into(),
                _ => {}
            }
        }
        let interface = interface.ok_or_else(|| io::Error::from(io::ErrorKind::HostUnreachable))?;
        Ok(Route { interface, next_hop })
    }

    /// The interface of that index.
    pub fn interface(&mut self, index: u32) -> io::Result<Interface> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.link(message)
    }

    /// The interface of that name.
    pub fn interface_by_name(&mut self, name: &str) -> io::Result<Interface> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.link(message)
    }

    fn link(&mut self, message: LinkMessage) -> io::Result<Interface> {
        let answers = self.ask(RouteNetlinkMessage::GetLink(message), 0)?;
        let Some(RouteNetlinkMessage::NewLink(link)) = answers.into_iter().next() else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        let up = link.header.flags.contains(LinkFlags::Up);
        let mut interface = Interface { index: link.header.index, up, queues: 1, ..Interface::default() };
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name = name,
                LinkAttribute::Address(mac) => interface.mac = mac.try_into().ok().filter(|mac| *mac != Mac::default()),
                LinkAttribute::LinkInfo(info) => {
                    interface.kind = info.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
                LinkAttribute::Link(peer) => interface.peer = Some(peer).filter(|peer| *peer != 0),
                LinkAttribute::LinkNetNsId(_) => interface.peer_is_elsewhere = true,
                LinkAttribute::NumRxQueues(queues) => interface.queues = queues,
                LinkAttribute::Xdp(xdp) => {
                    interface.program = xdp.into_iter().find_map(|attribute| match attribute {
                        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => Some(id),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        Ok(interface)
    }

    /// The MAC of `address` on an interface, if the kernel knows it.
    pub(crate) fn neighbour(&mut self, interface: u32, address: IpAddr) -> io::Result<Option<Mac>> {
        let mut message = NeighbourMessage::default();
        message.header.family = match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        let wanted = match address {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        };
        let answers = self.ask(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP)?;
        Ok(answers.into_iter().find_map(|answer| {
            let RouteNetlinkMessage::NewNeighbour(neighbour) = answer else { return None };
            let dead = matches!(neighbour.header.state, NeighbourState::Failed | NeighbourState::Incomplete);
            if neighbour.header.ifindex != interface || dead {
                return None;
            }
            let is_wanted =
                |attribute: &NeighbourAttribute| *attribute == NeighbourAttribute::Destination(wanted.clone());
            neighbour.attributes.iter().any(is_wanted).then_some(())?;
            neighbour.attributes.into_iter().find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) => mac.try_into().ok(),
                _ => None,
            })
        }))
    }

    /// Sends a request and gathers its answers.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{error}"));
        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(invalid)?;
                // Messages start on word boundaries.
                let len = (answer.header.length as usize).next_multiple_of(4).clamp(1, rest.len());
                rest = &rest[len..];
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
                if flags & NLM_F_DUMP == 0 {
                    return Ok(answers);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_has_no_mac() {
        let mut netlink = Netlink::connect().unwrap();
        let lo = netlink.interface_by_name("lo").unwrap();
        assert_eq!((lo.index, lo.mac, lo.kind), (1, None, None));
        assert!(lo.up && lo.mtu >= 1500 && lo.peer.is_none());
        assert_eq!(netlink.interface(1).unwrap().name, "lo");
        let error = netlink.route(IpAddr::from([127, 0, 0, 1])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(netlink.interface_by_name("no-such-device").is_err());
    }
}
