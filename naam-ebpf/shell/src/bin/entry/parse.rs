//! Parse: is the frame ours, and is it well-formed?
//!
//! Ours is UDP to our port block with our magic, in IPv4 without options or IPv6 without extension
//! headers, with at most one VLAN tag in the frame, from one station to the interface that it came by.
//! Everything else passes: fragments, options, other protocols, other services on such a port, frames
//! that a switch flooded or somebody else is to forward. Which addresses of IP are the host's is not
//! asked: the frame was sent to it, and replies come from the address that was asked.

use naam_abi::{
    limits::{APPS_MAX, CONTINUE_OFFSET, DATAGRAM_BYTES, MESSAGES_MAX, PORTS, SHARDS_MAX},
    stats::Drop,
    wire::{HEADER_BYTES, Kind, MAGIC, MESSAGE_BYTES, VERSION},
};

use naam_shell::frame::Frame;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
/// In the first byte of an Ethernet address: many receivers.
const GROUP: u8 = 1;
const PROTOCOL_UDP: u8 = 17;
const ETHERNET_BYTES: u64 = 14;
const VLAN_BYTES: u64 = 4;
const IPV4_BYTES: u64 = 20;
const IPV6_BYTES: u64 = 40;
const UDP_BYTES: u64 = 8;
const MAGIC_BYTES: u64 = 4;
/// The longest way to the end of the magic.
const HEADS_BYTES: u64 = ETHERNET_BYTES + VLAN_BYTES + IPV6_BYTES + UDP_BYTES + MAGIC_BYTES;
/// From this first byte of an IPv4 address on: many receivers, or none.
const IPV4_GROUPS: u8 = 224;
/// The first byte of an IPv6 address: many receivers.
const IPV6_GROUPS: u8 = 0xff;

/// What a frame is to us.
pub enum Parsed {
    /// Not ours.
    Pass,
    /// Ours, malformed; the app as far as the port tells it.
    Drop(u32, Drop),
    /// A well-formed request header.
    Datagram(Datagram),
}

/// A datagram whose header is well-formed. Nothing in it is authenticated yet.
pub struct Datagram {
    /// Where the IP header starts.
    pub ip: u64,
    /// Where the datagram starts.
    pub at: u64,
    /// Whether the frame is IPv6.
    pub v6: bool,
    /// Bytes of the datagram.
    pub length: u32,
    /// The app, by port and header.
    pub app: u32,
    /// The shard, by port and header.
    pub shard: u32,
    /// Messages.
    pub count: u32,
    /// Where the program stands behind its function's place: Continues have programs of their own.
    pub offset: u32,
    /// The function called.
    pub function: u32,
    /// Handler version named by the sender.
    pub handler: u16,
    /// Session named by the sender.
    pub session: u32,
    /// The sender's tag.
    pub tag: u64,
}

/// Reads a `T` without regard to alignment.
///
/// # Safety
/// `at + offset` points into checked bytes.
#[inline(always)]
unsafe fn read<T: Copy>(at: *const u8, offset: usize) -> T {
    // SAFETY: the caller vouches for the bytes.
    unsafe { at.add(offset).cast::<T>().read_unaligned() }
}

/// Parses the frame up to and including the datagram header.
#[inline(always)]
pub fn parse<F: Frame>(frame: F, port_base: u16) -> Parsed {
    frame.reach(HEADS_BYTES as u32);
    let Some(ethernet) = frame.bytes(0, ETHERNET_BYTES as usize) else { return Parsed::Pass };
    // A frame to a group is for the stack: its reply would claim to come from the group. So is one that claims to come
    // from a group, here and below: one frame would be answered to many.
    // SAFETY: 14 bytes were checked.
    let (to, from) = unsafe { (read::<u8>(ethernet, 0), read::<u8>(ethernet, 6)) };
    if (to | from) & GROUP != 0 {
        return Parsed::Pass;
    }
    // SAFETY: 14 bytes were checked.
    let mut ethertype = u16::from_be(unsafe { read(ethernet, 12) });
    let mut ip = ETHERNET_BYTES;
    if ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ {
        let Some(tag) = frame.bytes(ip, VLAN_BYTES as usize) else { return Parsed::Pass };
        // SAFETY: 4 bytes were checked.
        ethertype = u16::from_be(unsafe { read(tag, 2) });
        ip += VLAN_BYTES;
    }
    let v6 = ethertype == ETHERTYPE_IPV6;
    let (udp, ip_payload) = if v6 {
        let Some(header) = frame.bytes(ip, IPV6_BYTES as usize) else { return Parsed::Pass };
        // SAFETY: 40 bytes were checked.
        let (version, payload, next, to): (u8, u16, u8, u8) =
            unsafe { (read(header, 0), read(header, 4), read(header, 6), read(header, 24)) };
        // SAFETY: as above.
        let from: (u64, u64) = unsafe { (read(header, 8), read(header, 16)) };
        if version >> 4 != 6 || next != PROTOCOL_UDP || to == IPV6_GROUPS {
            return Parsed::Pass;
        }
        if from.0.to_le_bytes()[0] == IPV6_GROUPS || from.0 | from.1 == 0 {
            return Parsed::Pass;
        }
        (ip + IPV6_BYTES, u64::from(u16::from_be(payload)))
    } else if ethertype == ETHERTYPE_IPV4 {
        let Some(header) = frame.bytes(ip, IPV4_BYTES as usize) else { return Parsed::Pass };
        // SAFETY: 20 bytes were checked.
        let (version, total, fragment, protocol): (u8, u16, u16, u8) =
            unsafe { (read(header, 0), read(header, 2), read(header, 6), read(header, 9)) };
        // SAFETY: as above.
        let (from, to): (u8, u8) = unsafe { (read(header, 12), read(header, 16)) };
        // More fragments, or an offset; "don't fragment" is fine.
        let fragmented = u16::from_be(fragment) & 0x3fff != 0;
        if version != 0x45 || protocol != PROTOCOL_UDP || fragmented || to >= IPV4_GROUPS {
            return Parsed::Pass;
        }
        // Nor does one host begin with 0.
        if from >= IPV4_GROUPS || from == 0 {
            return Parsed::Pass;
        }
        (ip + IPV4_BYTES, u64::from(u16::from_be(total)).saturating_sub(IPV4_BYTES))
    } else {
        return Parsed::Pass;
    };
    let Some(header) = frame.bytes(udp, UDP_BYTES as usize) else { return Parsed::Pass };
    // SAFETY: 8 bytes were checked.
    let (from, port, udp_length): (u16, u16, u16) = unsafe { (read(header, 0), read(header, 2), read(header, 4)) };
    let unit = u16::from_be(port).wrapping_sub(port_base);
    // A sender that has no port wants no reply.
    if unit >= PORTS || from == 0 {
        return Parsed::Pass;
    }
    let udp_length = u64::from(u16::from_be(udp_length));
    let at = udp + UDP_BYTES;
    let Some(start) = frame.bytes(at, MAGIC_BYTES as usize) else { return Parsed::Pass };
    // Another service may use such a port.
    // SAFETY: 4 bytes were checked.
    if udp_length < UDP_BYTES + MAGIC_BYTES || unsafe { read::<u32>(start, 0) } != MAGIC {
        return Parsed::Pass;
    }
    if !frame.is_to_this_interface() {
        return Parsed::Pass;
    }
    let app = u32::from(unit) / SHARDS_MAX as u32 % APPS_MAX as u32;
    // The frame may be longer than IP says, by Ethernet's padding.
    if udp_length > ip_payload || udp + ip_payload > frame.length() {
        return Parsed::Drop(app, Drop::Length);
    }
    let payload = udp_length.wrapping_sub(UDP_BYTES);
    if udp_length < UDP_BYTES + HEADER_BYTES as u64 {
        return Parsed::Drop(app, Drop::Short);
    }
    if payload > DATAGRAM_BYTES as u64 {
        return Parsed::Drop(app, Drop::Length);
    }
    if at + payload > frame.length() {
        return Parsed::Drop(app, Drop::Length);
    }
    if !frame.linear((at + payload) as u32) {
        return Parsed::Drop(app, Drop::Frame);
    }
    datagram(frame, Place { ip, at, v6, payload, app, shard: u32::from(unit) % SHARDS_MAX as u32 })
}

/// Where a datagram lies and what its port says.
struct Place {
    ip: u64,
    at: u64,
    v6: bool,
    payload: u64,
    app: u32,
    shard: u32,
}

/// Checks the datagram header. Every row has its drop reason.
#[inline(always)]
fn datagram<F: Frame>(frame: F, place: Place) -> Parsed {
    let Place { ip, at, v6, payload, app, shard } = place;
    let Some(header) = frame.bytes(at, HEADER_BYTES) else { return Parsed::Drop(app, Drop::Length) };
    // SAFETY: HEADER_BYTES bytes were checked; this holds for every read in this function.
    let (version, kind, count): (u8, u8, u8) = unsafe { (read(header, 4), read(header, 5), read(header, 7)) };
    if version != VERSION {
        return Parsed::Drop(app, Drop::Version);
    }
    if kind != Kind::Request as u8 && kind != Kind::Continue as u8 {
        return Parsed::Drop(app, Drop::Kind);
    }
    // SAFETY: see above.
    let (said_app, function, handler, said_shard): (u16, u16, u16, u16) =
        unsafe { (read(header, 8), read(header, 10), read(header, 12), read(header, 14)) };
    // SAFETY: see above.
    let (session, length, tag): (u32, u16, u64) = unsafe { (read(header, 16), read(header, 20), read(header, 40)) };
    let length = u32::from(length);
    if u64::from(length) != payload || !length.is_multiple_of(8) {
        return Parsed::Drop(app, Drop::Length);
    }
    if count == 0
        || u32::from(count) > MESSAGES_MAX as u32
        || length < HEADER_BYTES as u32 + u32::from(count) * MESSAGE_BYTES as u32
    {
        return Parsed::Drop(app, Drop::Count);
    }
    if u32::from(said_app) != app || u32::from(said_shard) != shard {
        return Parsed::Drop(app, Drop::Port);
    }
    Parsed::Datagram(Datagram {
        ip,
        at,
        v6,
        length,
        app,
        shard,
        count: u32::from(count),
        offset: if kind == Kind::Continue as u8 { CONTINUE_OFFSET } else { 0 },
        function: u32::from(function),
        handler,
        session,
        tag,
    })
}
