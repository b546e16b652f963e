//! The crate for authors of NAAM handlers.
//!
//! A handler is a pure function: it sees its message and a window of memory (the *view*), and
//! answers with one [`Step`]: done, failed, or a memory operation that the runtime performs before
//! it calls again. Whatever has to survive until then stands in [`NaamMsg::state`].
//!
//! A whole handler, `src/bin/lookup.rs`:
//!
//! ```
//! # #![allow(unused_doc_comments)]
//! #![cfg_attr(target_arch = "bpf", no_std, no_main)]
//! use naam_handler::{Msg, Step, View64};
//!
//! /// Replies with the word at the offset that is the first argument.
//! pub fn step(m: &mut Msg, v: &View64) -> Step {
//!     if m.step == 0 {
//!         return m.read(0, m.args[0], 8);
//!     }
//!     m.reply[0] = v.w[0];
//!     m.done(0, 8)
//! }
//!
//! naam_handler::handler! { name = lookup, view = View64, writes = false, reply_max = 8, state_len = 0, step = step }
//! ```
//!
//! and its test, which runs the same function over native memory:
//!
//! ```
//! # use naam_handler::{Msg, Step, View64};
//! # fn step(m: &mut Msg, v: &View64) -> Step {
//! #     if m.step == 0 { return m.read(0, m.args[0], 8); }
//! #     m.reply[0] = v.w[0];
//! #     m.done(0, 8)
//! # }
//! use naam_handler::native::{Memory, request, run};
//! let memory = Memory::new(&[2 << 20]);
//! memory.write(0, 64, 4711);
//! let mut m = request(&64u64.to_le_bytes());
//! assert_eq!(run(step, &mut m, &memory), naam_abi::wire::Status::Ok);
//! assert_eq!(m.reply[0], 4711);
//! ```
//!
//! # What the kernel and admission want
//!
//! No calls but to the object's own functions, no `static`s, no panics, loops with a constant
//! bound. Index arrays by constants, or behind a compare or mask that the compiler cannot move:
//! [`Msg::arg`], [`Msg::set_reply`] and [`bounded`] are such. Copy with [`Msg::reply_from`]: a loop
//! written by hand becomes a call of `memcpy`.
//!
//! # In C
//!
//! `include/naam.h` has the same declarations for authors in C; `naam-ebpf/handlers/c` shows its use.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod export;
mod message;
#[cfg(not(target_arch = "bpf"))]
pub mod native;
mod opaque;

#[doc(hidden)]
pub use export::{entry, meta};
pub use message::Msg;
pub use naam_abi::handler::{Meta, NaamMsg, NaamView1k as View1k, NaamView64 as View64, Step};
pub use opaque::{bounded, forget, opaque};

/// A view: what a READ fills.
pub trait View {
    /// Its size in bytes: the longest READ.
    const BYTES: usize;
    /// Its words.
    fn words(&self) -> &[u64];
    /// Its words, for the runtime to fill.
    fn words_mut(&mut self) -> &mut [u64];
    /// The view before the first READ.
    fn zero() -> Self;
}

macro_rules! view {
    ($($view:ty: $bytes:expr),*) => {$(
        impl View for $view {
            const BYTES: usize = $bytes;
            #[inline(always)]
            fn words(&self) -> &[u64] {
                &self.w
            }
            #[inline(always)]
            fn words_mut(&mut self) -> &mut [u64] {
                &mut self.w
            }
            #[inline(always)]
            fn zero() -> Self {
                Self { w: [0; $bytes / 8] }
            }
        }
    )*};
}

view!(View64: naam_abi::limits::VIEW_SMALL, View1k: naam_abi::limits::VIEW_LARGE);
