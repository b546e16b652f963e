//! Barriers that keep LLVM from moving or folding what the verifier has to see in order.

use core::arch::asm;

/// The same value, of which LLVM knows nothing: keeps a bounds check in front of the use it guards,
/// and a loop index from being turned into a pointer.
#[inline(always)]
pub fn opaque(mut value: u64) -> u64 {
    // SAFETY: the register keeps its value. A real instruction, because an empty sequence makes
    // LLVM emit two line entries for one instruction, and the kernel refuses such line info.
    unsafe { asm!("{0} = {0}", inout(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Whether a length is 0, by a compare that proves to the verifier that it is not: before 6.8 it learns nothing from
/// `len != 0`, and the compiler makes that of every compare with a constant.
#[inline(always)]
pub fn is_zero(len: u64) -> bool {
    len < opaque(1)
}

/// Exchanges the word at `word` for `new` if it is `expected`; the word found there either way.
/// A full barrier.
///
/// # Safety
/// `word` points to 8 aligned bytes of a map value.
#[inline(always)]
pub unsafe fn compare_exchange(word: *mut u64, expected: u64, new: u64) -> u64 {
    let mut found = expected;
    // SAFETY: the caller vouches for `word`; r0 is the instruction's comparand and result.
    unsafe { asm!("r0 = cmpxchg_64({p} + 0, r0, {n})", p = in(reg) word, n = in(reg) new, inout("r0") found) };
    found
}

/// Adds to the word at `word`; the word found there before. A full barrier.
///
/// # Safety
/// `word` points to 8 aligned bytes of a map value.
#[inline(always)]
pub unsafe fn fetch_add(word: *mut u64, addend: u64) -> u64 {
    let mut value = addend;
    // SAFETY: the caller vouches for `word`.
    unsafe { asm!("{v} = atomic_fetch_add((u64 *)({p} + 0), {v})", p = in(reg) word, v = inout(reg) value) };
    value
}

/// Puts zero into the argument registers that a call of two arguments leaves alone.
///
/// The verifier takes all five for live before a call, so that garbage in them would make the loop
/// around the call look different at every turn.
#[inline(always)]
pub fn clear_unused_arguments() {
    // SAFETY: sets registers that are declared as overwritten.
    unsafe { asm!("r3 = 0", "r4 = 0", "r5 = 0", out("r3") _, out("r4") _, out("r5") _, options(nomem, nostack)) };
}

/// Stores `value` where the compiler cannot join it with its neighbours: stores of zeros in a row
/// would become a call of `memset`, which on this target is a loop over bytes.
#[inline(always)]
pub fn set<T: Copy>(place: &mut T, value: T) {
    // SAFETY: a live reference.
    unsafe { core::ptr::from_mut(place).write_volatile(value) };
}
