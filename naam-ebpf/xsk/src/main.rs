//! The XDP program of a client's interface: replies for the client go to its AF_XDP sockets, the
//! rest goes on to the network stack.
//!
//! A reply is UDP over IPv4 without options or IPv6 without extension headers, unfragmented, with
//! at most one VLAN tag, from the NAAM block of ports to the port that the client entered for the
//! receive queue. Other clients on the interface, which use UDP sockets, keep their replies.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the program macros add undocumented exports; the program itself is documented")]

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, XskMap},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use naam_abi::limits::{PORT_BASE as DEFAULT_PORT_BASE, PORTS, XSK_QUEUES_MAX};

/// First port of the host's block; set by the loader.
#[unsafe(no_mangle)]
static PORT_BASE: u16 = DEFAULT_PORT_BASE;

/// Sockets by receive queue.
#[btf_map]
static XSKS: XskMap<XSK_QUEUES_MAX> = XskMap::new();

/// The UDP port of the queue's client; 0 if there is none.
#[btf_map]
static CLIENT_PORTS: Array<u32, XSK_QUEUES_MAX> = Array::new();

const ETHERNET_BYTES: usize = 14;
const VLAN_BYTES: usize = 4;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
const TYPE_VLAN: u16 = 0x8100;
const TYPE_QINQ: u16 = 0x88a8;
const PROTOCOL_UDP: u8 = 17;
/// Version 4, five words of header.
const IPV4_PLAIN: u8 = 0x45;
/// "More fragments" and the fragment offset.
const IPV4_FRAGMENT: u16 = 0x3fff;

/// Redirects replies to the socket of their queue.
#[xdp]
pub fn naam_xsk(context: XdpContext) -> u32 {
    // SAFETY: the kernel's context, valid while the program runs.
    let queue = unsafe { (*context.ctx).rx_queue_index };
    let Some(&port) = CLIENT_PORTS.get(queue) else { return xdp_action::XDP_PASS };
    match udp_ports(&context) {
        Some((source, destination)) if is_reply(source) && u32::from(destination) == port => {
            // A queue without a socket passes.
            XSKS.redirect(queue, u64::from(xdp_action::XDP_PASS)).unwrap_or(xdp_action::XDP_PASS)
        }
        _ => xdp_action::XDP_PASS,
    }
}

#[inline(always)]
fn is_reply(source: u16) -> bool {
    // SAFETY: a constant of this object; volatile, because the loader replaces it.
    let base = unsafe { (&raw const PORT_BASE).read_volatile() };
    source.wrapping_sub(base) < PORTS
}

/// Source and destination port of a plain UDP datagram.
#[inline(always)]
fn udp_ports(context: &XdpContext) -> Option<(u16, u16)> {
    match big_endian(context, ETHERNET_BYTES - 2)? {
        TYPE_VLAN | TYPE_QINQ => {
            let kind = big_endian(context, ETHERNET_BYTES + VLAN_BYTES - 2)?;
            ports_behind(context, kind, ETHERNET_BYTES + VLAN_BYTES)
        }
        kind => ports_behind(context, kind, ETHERNET_BYTES),
    }
}

#[inline(always)]
fn ports_behind(context: &XdpContext, kind: u16, ip: usize) -> Option<(u16, u16)> {
    let udp = match kind {
        TYPE_IPV4 => {
            let plain = byte(context, ip)? == IPV4_PLAIN
                && big_endian(context, ip + 6)? & IPV4_FRAGMENT == 0
                && byte(context, ip + 9)? == PROTOCOL_UDP;
            plain.then_some(ip + IPV4_BYTES)
        }
        TYPE_IPV6 => (byte(context, ip + 6)? == PROTOCOL_UDP).then_some(ip + IPV6_BYTES),
        _ => None,
    }?;
    Some((big_endian(context, udp)?, big_endian(context, udp + 2)?))
}

#[inline(always)]
fn big_endian(context: &XdpContext, at: usize) -> Option<u16> {
    let bytes = field::<[u8; 2]>(context, at)?;
    Some(u16::from_be_bytes(bytes))
}

#[inline(always)]
fn byte(context: &XdpContext, at: usize) -> Option<u8> {
    field(context, at)
}

/// The bytes at `at`, if the frame has them.
#[inline(always)]
fn field<T: Copy>(context: &XdpContext, at: usize) -> Option<T> {
    let start = context.data() + at;
    if start + size_of::<T>() > context.data_end() {
        return None;
    }
    // SAFETY: inside the frame, as just compared; T is bytes, for which any value and address will do.
    Some(unsafe { (start as *const T).read_unaligned() })
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
