//! Walking over a datagram's words, a few at a time.

use naam_abi::limits::DATAGRAM_BYTES;

use crate::{frame::Frame, visit::Visit};

/// Words taken in one turn while so many are left.
const STRIDE: usize = 4;

/// The words not yet taken.
///
/// How many are left stands in map memory: the verifier then does not follow the count, and a turn
/// looks to it like the one before. In a register each turn is a new state, up to its limit.
pub struct Words {
    end: u64,
    left: *mut u64,
}

impl Words {
    /// Upper bound of turns for the longest datagram.
    pub const TURNS: u32 = (DATAGRAM_BYTES / 8) as u32;

    /// The words of the datagram of `length` bytes at `base`, without its first `skip` bytes.
    #[inline(always)]
    pub fn new(base: u64, length: u64, skip: u64) -> Option<Self> {
        let left = &raw mut Visit::get()?.left;
        // SAFETY: this CPU's visit.
        unsafe { left.write_volatile(length - skip) };
        Some(Self { end: base + length, left })
    }

    /// Gives the next words to `each`; false when none is left or the frame is shorter.
    #[inline(always)]
    pub fn take<F: Frame>(&mut self, frame: F, mut each: impl FnMut(u64)) -> bool {
        // SAFETY: this CPU's visit.
        let left = unsafe { self.left.read_volatile() };
        let at = self.end.wrapping_sub(left);
        let taken = if left >= (STRIDE * 8) as u64 {
            let Some(words) = frame.bytes(at, STRIDE * 8) else { return false };
            for i in 0..STRIDE {
                // SAFETY: STRIDE words were checked.
                each(unsafe { words.cast::<u64>().add(i).read_unaligned() });
            }
            STRIDE * 8
        } else if left >= 8 {
            let Some(word) = frame.bytes(at, 8) else { return false };
            // SAFETY: one word was checked.
            each(unsafe { word.cast::<u64>().read_unaligned() });
            8
        } else {
            return false;
        };
        // SAFETY: see above.
        unsafe { self.left.write_volatile(left - taken as u64) };
        true
    }
}
