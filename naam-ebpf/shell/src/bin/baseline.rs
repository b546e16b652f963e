//! What benches compare with: the least that an answering XDP program can do.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the program macros add undocumented exports; the programs themselves are documented")]

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

/// Swaps addresses and ports of an IPv4 UDP frame, clears the checksum, sends it back.
#[xdp]
pub fn bare_echo(context: XdpContext) -> u32 {
    const HEADERS: usize = 14 + 20 + 8;
    let start = context.data();
    if start + HEADERS > context.data_end() {
        return xdp_action::XDP_PASS;
    }
    let units = start as *mut u16;
    // SAFETY: HEADERS bytes were checked.
    unsafe {
        if units.add(6).read_unaligned() != 0x0800u16.to_be() {
            return xdp_action::XDP_PASS;
        }
        // Ethernet addresses, IP addresses, ports: pairs of 16-bit units.
        for (a, b) in [(0, 3), (1, 4), (2, 5), (13, 15), (14, 16), (17, 18)] {
            let (x, y) = (units.add(a).read_unaligned(), units.add(b).read_unaligned());
            units.add(a).write_unaligned(y);
            units.add(b).write_unaligned(x);
        }
        units.add(20).write_unaligned(0);
    }
    xdp_action::XDP_TX
}

/// Nothing: what a measurement costs by itself.
#[xdp]
pub fn nothing(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
