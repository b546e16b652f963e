//! Ethernet, IP and UDP around a datagram.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netlink::Mac;
use crate::target::{Target, UDP_BYTES};

const ETHERNET_BYTES: usize = 14;
const VLAN_BYTES: usize = 4;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
/// The longest header in front of a datagram.
pub(super) const HEADER_BYTES_MAX: usize = ETHERNET_BYTES + VLAN_BYTES + IPV6_BYTES + UDP_BYTES;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
const TYPE_VLAN: u16 = 0x8100;
const PROTOCOL_UDP: u8 = 17;
const HOP_LIMIT: u8 = 64;

/// Both ends of a conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub target: Target,
    pub source: IpAddr,
    /// Our UDP port.
    pub port: u16,
    pub source_mac: Mac,
    /// Of the target, or of the gateway to it.
    pub next_mac: Mac,
    /// 802.1Q tag to put on frames: VLAN and priority.
    pub vlan: Option<u16>,
}

/// Writes and reads the headers of one conversation.
#[derive(Clone, Debug)]
pub(super) struct Framing {
    ends: Ends,
    /// All headers, with zero where a datagram's length, port and checksums go.
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    /// Where the IP header starts.
    ip: usize,
    /// Sum of what never changes: the IPv4 header, or IPv6's pseudo header and our port.
    constant_sum: u64,
}

impl Framing {
    /// # Panics
    /// If source and target are of different families; the kernel's routing gave both.
    pub(super) fn new(ends: Ends) -> Self {
        let mut header = [0; HEADER_BYTES_MAX];
        header[..6].copy_from_slice(&ends.next_mac);
        header[6..12].copy_from_slice(&ends.source_mac);
        let mut ip = ETHERNET_BYTES;
        if let Some(tag) = ends.vlan {
            header[12..14].copy_from_slice(&TYPE_VLAN.to_be_bytes());
            header[14..16].copy_from_slice(&tag.to_be_bytes());
            ip += VLAN_BYTES;
        }
        let (kind, udp, constant_sum) = match (ends.source, ends.target.host) {
            (IpAddr::V4(source), IpAddr::V4(host)) => {
                write_ipv4(&mut header[ip..ip + IPV4_BYTES], source, host);
                (TYPE_IPV4, ip + IPV4_BYTES, sum(&header[ip..ip + IPV4_BYTES]))
            }
            (IpAddr::V6(source), IpAddr::V6(host)) => {
                write_ipv6(&mut header[ip..ip + IPV6_BYTES], source, host);
                let addresses = sum(&header[ip + 8..ip + IPV6_BYTES]);
                let constant = sum(&[0, PROTOCOL_UDP]) + sum(&ends.port.to_be_bytes());
                (TYPE_IPV6, ip + IPV6_BYTES, addresses + constant)
            }
            _ => unreachable!("source and target are of one family"),
        };
        header[ip - 2..ip].copy_from_slice(&kind.to_be_bytes());
        header[udp..udp + 2].copy_from_slice(&ends.port.to_be_bytes());
        Self { ends, header, header_len: udp + UDP_BYTES, ip, constant_sum }
    }

    /// Our UDP port.
    pub(super) fn port(&self) -> u16 {
        self.ends.port
    }

    /// Bytes in front of a datagram.
    pub(super) fn header_len(&self) -> usize {
        self.header_len
    }

    /// Writes the headers over the start of `frame`, whose datagram for `port` is in place.
    pub(super) fn write(&self, frame: &mut [u8], port: u16) {
        let (header, payload) = frame.split_at_mut(self.header_len);
        header.copy_from_slice(&self.header[..self.header_len]);
        let udp_len = (UDP_BYTES + payload.len()) as u16;
        let (ip, udp) = header.split_at_mut(self.header_len - UDP_BYTES);
        let ip = &mut ip[self.ip..];
        udp[2..4].copy_from_slice(&port.to_be_bytes());
        udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
        match self.ends.target.host {
            IpAddr::V4(_) => {
                let total = (IPV4_BYTES as u16 + udp_len).to_be_bytes();
                ip[2..4].copy_from_slice(&total);
                let check = fold(self.constant_sum + sum(&total));
                ip[10..12].copy_from_slice(&(!check).to_ne_bytes());
                // UDP checksum 0: none. The datagram's tag covers more than it would.
            }
            IpAddr::V6(_) => {
                let len = udp_len.to_be_bytes();
                ip[4..6].copy_from_slice(&len);
                // The length counts twice: in the pseudo header and in UDP's own.
                let total = self.constant_sum + 2 * sum(&len) + sum(&port.to_be_bytes()) + sum(payload);
                let check = match !fold(total) {
                    // Zero would mean "none", which IPv6 forbids.
                    0 => 0xffff,
                    check => check,
                };
                udp[6..8].copy_from_slice(&check.to_ne_bytes());
            }
        }
    }

    /// Source port and datagram, if the frame is the target's answer to us. Checksums are not
    /// looked at: on veth they are left open, and the tag covers more.
    pub(super) fn read<'a>(&self, frame: &'a [u8]) -> Option<(u16, &'a [u8])> {
        // Hardware may have taken the VLAN tag off.
        let tagged = big_endian(frame, 12)? == TYPE_VLAN;
        let ip = if tagged { ETHERNET_BYTES + VLAN_BYTES } else { ETHERNET_BYTES };
        let kind = big_endian(frame, ip - 2)?;
        let packet = frame.get(ip..)?;
        let udp = match (kind, self.ends.target.host, self.ends.source) {
            (TYPE_IPV4, IpAddr::V4(host), IpAddr::V4(own)) => {
                let plain = *packet.first()? == 0x45 && *packet.get(9)? == PROTOCOL_UDP;
                let ours = packet.get(12..16)? == host.octets() && packet.get(16..20)? == own.octets();
                (plain && ours).then_some(IPV4_BYTES)
            }
            (TYPE_IPV6, IpAddr::V6(host), IpAddr::V6(own)) => {
                let plain = *packet.get(6)? == PROTOCOL_UDP;
                let ours = packet.get(8..24)? == host.octets() && packet.get(24..40)? == own.octets();
                (plain && ours).then_some(IPV6_BYTES)
            }
            _ => None,
        }?;
        let segment = packet.get(udp..)?;
        let (from, to) = (big_endian(segment, 0)?, big_endian(segment, 2)?);
        let payload = segment.get(UDP_BYTES..usize::from(big_endian(segment, 4)?))?;
        (self.ends.target.owns_port(from) && to == self.ends.port).then_some((from, payload))
    }
}

fn write_ipv4(ip: &mut [u8], source: Ipv4Addr, host: Ipv4Addr) {
    ip[0] = 0x45;
    // Do not fragment: a fragment never reaches a handler.
    ip[6] = 0x40;
    ip[8] = HOP_LIMIT;
    ip[9] = PROTOCOL_UDP;
    ip[12..16].copy_from_slice(&source.octets());
    ip[16..20].copy_from_slice(&host.octets());
}

fn write_ipv6(ip: &mut [u8], source: Ipv6Addr, host: Ipv6Addr) {
    ip[0] = 0x60;
    ip[6] = PROTOCOL_UDP;
    ip[7] = HOP_LIMIT;
    ip[8..24].copy_from_slice(&source.octets());
    ip[24..40].copy_from_slice(&host.octets());
}

fn big_endian(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Sum of 16-bit words in memory order, to be folded. The ones' complement sum is the same in
/// either byte order, swapped, so wide words in the machine's own order will do.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let (pairs, odd) = rest.as_chunks::<2>();
    total += pairs.iter().map(|pair| u64::from(u16::from_ne_bytes(*pair))).sum::<u64>();
    if let [last] = odd {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    total
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(v6: bool, vlan: Option<u16>) -> Ends {
        let (source, host) = if v6 {
            ("fd77::1".parse().unwrap(), "fd77::2".parse().unwrap())
        } else {
            ([10, 77, 0, 1].into(), [10, 77, 0, 2].into())
        };
        let target = Target::new(host, 28_672);
        Ends { target, source, port: 40_000, source_mac: [2, 0, 0, 0, 0, 1], next_mac: [2, 0, 0, 0, 0, 2], vlan }
    }

    /// The frame that the host would answer with.
    fn turned(frame: &[u8], framing: &Framing) -> Vec<u8> {
        let mut reply = frame.to_vec();
        let (ip, udp) = (framing.ip, framing.header_len - UDP_BYTES);
        let (at, len) = if framing.ends.source.is_ipv6() { (ip + 8, 16) } else { (ip + 12, 4) };
        let (source, host) = (reply[at..at + len].to_vec(), reply[at + len..at + 2 * len].to_vec());
        reply[at..at + len].copy_from_slice(&host);
        reply[at + len..at + 2 * len].copy_from_slice(&source);
        reply.copy_within(udp..udp + 2, udp + 6);
        reply.copy_within(udp + 2..udp + 4, udp);
        reply.copy_within(udp + 6..udp + 8, udp + 2);
        reply
    }

    fn frame(framing: &Framing, payload: &[u8], port: u16) -> Vec<u8> {
        let mut frame = vec![0xee; framing.header_len()];
        frame.extend_from_slice(payload);
        framing.write(&mut frame, port);
        frame
    }

    #[test]
    fn what_is_written_can_be_read_when_turned_around() {
        for (v6, vlan) in [(false, None), (true, None), (false, Some(5)), (true, Some(5))] {
            let framing = Framing::new(ends(v6, vlan));
            let payload: Vec<u8> = (0..96).collect();
            let frame = frame(&framing, &payload, 28_700);
            assert_eq!(framing.read(&frame), None, "our own frames are not for us");
            let mut reply = turned(&frame, &framing);
            assert_eq!(framing.read(&reply), Some((28_700, &payload[..])), "v6 {v6}, vlan {vlan:?}");
            reply.extend_from_slice(&[0; 7]);
            assert_eq!(framing.read(&reply), Some((28_700, &payload[..])), "padding behind the datagram");
            for len in 0..frame.len() {
                assert_eq!(framing.read(&reply[..len]), None, "cut at {len}");
            }
            let udp = framing.header_len() - UDP_BYTES;
            for (at, why) in
                [(udp, "another port block"), (udp + 3, "another client's port"), (framing.ip + 15, "a stranger")]
            {
                let mut other = reply.clone();
                other[at] ^= 0x40;
                assert_eq!(framing.read(&other), None, "{why}");
            }
        }
    }

    #[test]
    fn ipv4_headers_sum_to_all_ones() {
        let framing = Framing::new(ends(false, None));
        let frame = frame(&framing, &[7; 64], 30_000);
        assert_eq!(fold(sum(&frame[14..34])), 0xffff);
        assert_eq!(frame[16..18], (28u16 + 64).to_be_bytes());
        assert_eq!(frame[40..42], [0, 0], "no UDP checksum");
    }

    #[test]
    fn ipv6_checksums_cover_pseudo_header_and_payload() {
        let framing = Framing::new(ends(true, None));
        for seed in 0..200u8 {
            let payload: Vec<u8> = (0..64).map(|i| seed.wrapping_mul(i).wrapping_add(seed)).collect();
            let frame = frame(&framing, &payload, 30_000);
            let len = (UDP_BYTES + payload.len()) as u16;
            let pseudo = sum(&frame[22..54]) + sum(&len.to_be_bytes()) + sum(&[0, PROTOCOL_UDP]);
            assert_eq!(fold(pseudo + sum(&frame[54..])), 0xffff, "seed {seed}");
            assert_ne!(frame[60..62], [0, 0]);
        }
    }

    #[test]
    fn tags_stand_between_addresses_and_type() {
        let framing = Framing::new(ends(false, Some(0x2005)));
        let frame = frame(&framing, &[7; 8], 30_000);
        assert_eq!(frame[12..18], [0x81, 0, 0x20, 5, 8, 0]);
        assert_eq!(frame.len(), 18 + 20 + 8 + 8);
    }
}
