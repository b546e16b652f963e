//! Entry programs: parse, steer, tail call. One per hook and loop variant; loaded by aya.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the program macros add undocumented exports; the programs themselves are documented")]

use aya_ebpf::{
    EbpfContext, bindings,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use naam_abi::limits::PORT_BASE as DEFAULT_PORT_BASE;
use naam_shell::{
    count,
    frame::{Frame, TcFrame, Verdict, XdpFrame},
    loops::{BpfLoop, Looping, MayGoto},
};

mod log;
mod parse;
mod steer;

use parse::{Parsed, parse};
use steer::steer;

/// First port of the block; set by the loader.
#[unsafe(no_mangle)]
static PORT_BASE: u16 = DEFAULT_PORT_BASE;

#[inline(always)]
fn enter<F: Frame, L: Looping>(frame: F) -> Verdict {
    // SAFETY: a constant of this object; volatile, because the loader replaces it.
    let port_base = unsafe { (&raw const PORT_BASE).read_volatile() };
    match parse(frame, port_base) {
        Parsed::Pass => F::PASS,
        Parsed::Drop(app, reason) => {
            if let Some(stats) = count::of(app) {
                stats.datagrams += 1;
            }
            count::drop(app, reason);
            F::DROP
        }
        Parsed::Datagram(datagram) => {
            if let Some(stats) = count::of(datagram.app) {
                stats.datagrams += 1;
            }
            steer::<F, L>(frame, &datagram)
        }
    }
}

/// XDP, loops by `may_goto`: from 6.15 on.
#[xdp]
pub fn naam_entry(context: XdpContext) -> u32 {
    enter::<_, MayGoto>(XdpFrame(context.ctx)) as u32
}

/// XDP, loops by `bpf_loop`.
#[xdp]
pub fn naam_entry_loop(context: XdpContext) -> u32 {
    enter::<_, BpfLoop>(XdpFrame(context.ctx)) as u32
}

/// TC ingress, loops by `may_goto`: from 6.15 on.
#[classifier]
pub fn naam_entry_tc(context: TcContext) -> i32 {
    enter::<_, MayGoto>(TcFrame(context.as_ptr().cast::<bindings::__sk_buff>()))
}

/// TC ingress, loops by `bpf_loop`.
#[classifier]
pub fn naam_entry_tc_loop(context: TcContext) -> i32 {
    enter::<_, BpfLoop>(TcFrame(context.as_ptr().cast::<bindings::__sk_buff>()))
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
