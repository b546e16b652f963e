//! Values that the optimiser may not see through.

/// The value itself; the compiler can assume nothing about it afterwards, and moves no check
/// across it.
///
/// Between a compare and its use it keeps both on the same register, which is what the kernel's
/// verifier needs. Inside a copy loop it keeps the loop from becoming a call of `memcpy`.
///
/// In a loop that ends at a constant or at a length, whichever comes first, the counter goes through it: `while i < MAX
/// && i < len { …; i = opaque(i + 1); }`. Otherwise, where the compiler knows that the length is never above the
/// constant, it keeps one compare, `i != len`, of which kernels before 6.8 do not know that it ends.
#[inline(always)]
pub fn opaque(value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: the text is a comment; the only effect is that the compiler forgets the value.
        unsafe { core::arch::asm!("/* {0} */", inout(reg) value, options(pure, nomem, nostack, preserves_flags)) };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}

/// The value itself, of which admission and the kernel's verifier know nothing afterwards; `unknown` is any
/// word of the view or the message.
///
/// Both follow every path through a loop until a state is like one they saw before. What a loop carries
/// from turn to turn, and each path leaves at another value, is best forgotten at the turn's end.
#[inline(always)]
pub fn forget(value: u64, unknown: u64) -> u64 {
    value ^ (unknown ^ opaque(unknown))
}

/// `index` if it is below `N`, in a form that both the compiler and the verifier accept as proof.
#[inline(always)]
pub fn bounded<const N: usize>(index: u64) -> Option<usize> {
    let index = opaque(index);
    if index < N as u64 { Some(index as usize) } else { None }
}
