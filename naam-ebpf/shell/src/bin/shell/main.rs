//! The shell around a handler. The loader takes two templates a hook: one for Requests, of the loop
//! variant that fits the kernel, and one for Continues. `naam_handler` is replaced by a handler's instructions before it reaches the kernel.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(missing_docs, reason = "the program macros add undocumented exports; the programs themselves are documented")]

use aya_ebpf::{
    EbpfContext, bindings,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use naam_shell::{
    frame::{TcFrame, XdpFrame},
    loops::{BpfLoop, MayGoto},
};

mod begin;
mod carried;
mod config;
mod finish;
mod maps;
mod resolve;
mod run;
mod scratch;
mod slot;

use run::run;

/// XDP, loops by `may_goto`: from 6.15 on.
#[xdp]
pub fn naam_shell_xdp(context: XdpContext) -> u32 {
    run::<_, MayGoto, false>(XdpFrame(context.ctx)) as u32
}

/// XDP, loops by `bpf_loop`.
#[xdp]
pub fn naam_shell_xdp_loop(context: XdpContext) -> u32 {
    run::<_, BpfLoop, false>(XdpFrame(context.ctx)) as u32
}

/// TC ingress, loops by `may_goto`: from 6.15 on.
#[classifier]
pub fn naam_shell_tc(context: TcContext) -> i32 {
    run::<_, MayGoto, false>(TcFrame(context.as_ptr().cast::<bindings::__sk_buff>()))
}

/// TC ingress, loops by `bpf_loop`.
#[classifier]
pub fn naam_shell_tc_loop(context: TcContext) -> i32 {
    run::<_, BpfLoop, false>(TcFrame(context.as_ptr().cast::<bindings::__sk_buff>()))
}

/// XDP, for Continues. Loops by `bpf_loop` on every kernel: with `may_goto` its many ways take the verifier
/// half a million instructions, with a callback fifteen thousand.
#[xdp]
pub fn naam_shell_xdp_continue(context: XdpContext) -> u32 {
    run::<_, BpfLoop, true>(XdpFrame(context.ctx)) as u32
}

/// TC ingress, for Continues.
#[classifier]
pub fn naam_shell_tc_continue(context: TcContext) -> i32 {
    run::<_, BpfLoop, true>(TcFrame(context.as_ptr().cast::<bindings::__sk_buff>()))
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
