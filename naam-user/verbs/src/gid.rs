//! Addresses of ports, and which of them a connection begins at.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    str::FromStr,
};

use crate::Error;

/// An address of a port: 16 bytes, for RoCE those of an IPv6 address or of a mapped IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Gid(pub [u8; 16]);

/// A line of a port's table. A card that speaks both versions of RoCE has every address twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) index: u8,
    pub(crate) gid: Gid,
    pub(crate) version: Version,
}

/// How packets of an address travel; the best goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// In UDP, through routers.
    RoceV2,
    /// The kernel does not say.
    Unknown,
    /// In Ethernet frames of their own kind, no farther than those go; or InfiniBand.
    V1,
}

/// Addresses of different kinds do not reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    V4,
    V6Local,
    V6,
}

/// The address at `index`; without an index `own`; or else the first that `peer` could reach; without a peer the first of
/// IPv4, or else the first. Of those that would do, one of RoCE version 2 if there is one.
pub(crate) fn choose(entries: &[Entry], index: Option<u8>, own: Option<Gid>, peer: Option<Gid>) -> Option<Entry> {
    let best = |fits: &dyn Fn(&Entry) -> bool| {
        entries.iter().filter(|entry| fits(entry)).min_by_key(|entry| entry.version).copied()
    };
    if let Some(index) = index {
        return entries.iter().find(|entry| entry.index == index).copied();
    }
    let own = own.and_then(|own| best(&|entry| entry.gid == own));
    own.or_else(|| match peer {
        Some(peer) => best(&|entry| entry.gid.kind() == peer.kind()),
        None => best(&|entry| entry.gid.kind() == Kind::V4).or_else(|| best(&|_| true)),
    })
}

impl Version {
    /// What the kernel says about a line of the table.
    pub(crate) fn of(device: &str, port: u8, index: u8) -> Self {
        let path = format!("/sys/class/infiniband/{device}/ports/{port}/gid_attrs/types/{index}");
        std::fs::read_to_string(path).map_or(Self::Unknown, |text| Self::named(text.trim_end()))
    }

    fn named(name: &str) -> Self {
        match name {
            "RoCE v2" => Self::RoceV2,
            "IB/RoCE v1" => Self::V1,
            _ => Self::Unknown,
        }
    }
}

/// The address of this machine from which it would send to `target`. Nothing is sent.
///
/// # Errors
/// When there is no way to it.
pub fn source_address(target: IpAddr) -> io::Result<IpAddr> {
    let any = match target {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    // Any port: it only chooses a route.
    socket.connect(SocketAddr::new(target, 9))?;
    Ok(socket.local_addr()?.ip())
}

impl Gid {
    /// The IP address that it is on Ethernet.
    pub fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.0).to_canonical()
    }

    fn kind(self) -> Kind {
        match self.ip() {
            IpAddr::V4(_) => Kind::V4,
            IpAddr::V6(address) if address.is_unicast_link_local() => Kind::V6Local,
            IpAddr::V6(_) => Kind::V6,
        }
    }
}

impl From<IpAddr> for Gid {
    fn from(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        })
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Gid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(number) if is_hex => Ok(Self(number.to_be_bytes())),
            _ => Err(Error::BadGid { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gid(address: &str) -> Gid {
        Gid::from(address.parse::<IpAddr>().unwrap())
    }

    /// As cards have it: every address twice, version 1 before version 2.
    fn table(addresses: &[&str]) -> Vec<Entry> {
        let versions = |address| [Version::V1, Version::RoceV2].map(|version| (gid(address), version));
        let lines = addresses.iter().flat_map(|address| versions(*address));
        (0..).zip(lines).map(|(index, (gid, version))| Entry { index, gid, version }).collect()
    }

    #[test]
    fn of_two_versions_the_one_that_is_routed_is_chosen() {
        let table = table(&["fe80::1", "10.0.0.1", "10.0.1.1", "fd77::1"]);
        let chosen = |index, own: Option<&str>, peer: Option<&str>| {
            choose(&table, index, own.map(gid), peer.map(gid)).map(|entry| entry.index)
        };
        // The address that is wanted; without it the first that the peer reaches; without a peer one of IPv4.
        assert_eq!(chosen(None, Some("10.0.1.1"), Some("10.0.0.9")), Some(5));
        assert_eq!(chosen(None, Some("10.9.9.9"), Some("10.0.1.9")), Some(3));
        assert_eq!(chosen(None, None, Some("fe80::9")), Some(1));
        assert_eq!(chosen(None, None, Some("fd77::9")), Some(7));
        assert_eq!(chosen(None, None, None), Some(3));
        // Who names a line gets that.
        assert_eq!((chosen(Some(2), None, None), chosen(Some(8), None, None)), (Some(2), None));
        assert_eq!(choose(&table[..2], None, None, Some(gid("10.0.0.9"))), None);
    }

    #[test]
    fn version_1_serves_where_there_is_no_other() {
        let first = |version| [Entry { index: 4, gid: gid("fd77::1"), version }];
        for version in [Version::V1, Version::Unknown] {
            assert_eq!(choose(&first(version), None, None, None).map(|entry| entry.index), Some(4));
        }
        assert_eq!((Version::named("RoCE v2"), Version::named("IB/RoCE v1")), (Version::RoceV2, Version::V1));
        assert_eq!((Version::named(""), Version::of("none", 1, 0)), (Version::Unknown, Version::Unknown));
    }

    #[test]
    fn routes_begin_at_an_address_of_ours() {
        for own in ["127.0.0.1", "::1"].map(|own| own.parse::<IpAddr>().unwrap()) {
            if let Ok(source) = source_address(own) {
                assert_eq!(source, own);
            } else {
                assert!(own.is_ipv6(), "IPv4 has its loopback address everywhere");
            }
        }
    }

    #[test]
    fn gids_are_hexadecimal() {
        let text = "00000000000000000000ffff0a4d0002";
        let gid: Gid = text.parse().unwrap();
        assert_eq!((gid.kind(), gid.ip()), (Kind::V4, "10.77.0.2".parse().unwrap()));
        assert_eq!((gid.to_string().as_str(), Gid::from(gid.ip())), (text, gid));
        let kind = |address: &str| Gid::from(address.parse::<IpAddr>().unwrap()).kind();
        assert_eq!((kind("fe80::1"), kind("fd77::2"), kind("10.0.0.1")), (Kind::V6Local, Kind::V6, Kind::V4));
        for bad in ["", "+0000000000000000000ffff0a4d0002", "fe80::1", "0"] {
            assert!(bad.parse::<Gid>().is_err(), "{bad}");
        }
    }
}
