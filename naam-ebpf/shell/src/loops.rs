//! How the shell loops.
//!
//! From 6.15 on a loop ends with `may_goto`: the verifier sees its body about twice and the counter
//! costs a nanosecond. The instruction is there from 6.9 on, but only since 6.15 the verifier gets
//! through bodies of this size. Older kernels, and Continues on all of them, get `bpf_loop`, whose
//! callback is verified once and costs a call per turn. The loader picks the program variant; the
//! body is the same source.

use aya_ebpf::helpers::generated::bpf_loop;
use core::{arch::asm, ffi::c_void};

use crate::opaque::opaque;

/// A loop's body and what it works on.
pub trait Turn {
    /// One turn; false ends the loop.
    fn turn(&mut self) -> bool;
}

/// Which loop a program variant uses.
pub trait Looping {
    /// Takes turns until one returns false, at most `turns`. For small bodies: what they work on
    /// stays in registers.
    fn repeat<T: Turn>(turns: u32, body: &mut T);

    /// The same, in a function of its own. For large bodies: wherever in them the loop ends, the
    /// verifier goes on in one state behind the call, not in one for each way out.
    fn repeat_apart<T: Turn>(turns: u32, body: &mut T);
}

/// Loops by `may_goto` (kernel 6.9; taken from 6.15 on).
pub struct MayGoto;

/// Loops by `bpf_loop` (kernel 5.17).
pub struct BpfLoop;

impl Looping for MayGoto {
    /// `turns` is not counted: the body ends the loop, and the kernel's own count (8 M turns, or
    /// 250 ms) stands behind it.
    #[inline(always)]
    fn repeat<T: Turn>(_turns: u32, body: &mut T) {
        while !exhausted() && body.turn() {}
    }

    #[inline(always)]
    fn repeat_apart<T: Turn>(_turns: u32, body: &mut T) {
        opaque(apart(body));
    }
}

impl Looping for BpfLoop {
    #[inline(always)]
    fn repeat<T: Turn>(turns: u32, body: &mut T) {
        let body: *mut T = body;
        // SAFETY: the kernel calls `callback` with `body`, which outlives the helper call.
        unsafe { bpf_loop(turns, callback::<T> as *mut c_void, body.cast(), 0) };
    }

    /// `bpf_loop`'s callback is such a function already.
    #[inline(always)]
    fn repeat_apart<T: Turn>(turns: u32, body: &mut T) {
        Self::repeat(turns, body);
    }
}

/// The loop in a function of its own. It returns something, and its caller uses it, because an exit
/// reads r0: otherwise whatever stands in r0 would count as live at the loop's head, and each turn
/// with something else in it as a new state.
#[inline(never)]
fn apart<T: Turn>(body: &mut T) -> u64 {
    while !exhausted() && body.turn() {}
    opaque(0)
}

/// `bpf_loop`'s callback: 1 ends the loop.
unsafe extern "C" fn callback<T: Turn>(_index: u64, body: *mut T) -> i64 {
    // SAFETY: `repeat` passed an exclusive, live reference and waits for the loop to end.
    i64::from(!unsafe { &mut *body }.turn())
}

/// True when the kernel wants the loop to end.
#[inline(always)]
fn exhausted() -> bool {
    // SAFETY: the instruction touches only the verifier's own counter.
    unsafe {
        asm!("may_goto {over}", over = label {
            return true;
        });
    }
    false
}
