//! Walking over a datagram's words, a few at a time.

use naam_abi::limits::DATAGRAM_BYTES;

use crate::frame::Frame;

/// Words taken in one turn while so many are left.
const STRIDE: usize = 4;

/// The words not yet taken.
///
/// What is left counts down from a length that the verifier does not know: the range it sees at
/// the loop's head then only shrinks, and it stops after two turns. Counting up from a known start
/// makes every turn a new state.
pub struct Words {
    end: u64,
    left: u64,
}

impl Words {
    /// Upper bound of turns for the longest datagram.
    pub const TURNS: u32 = (DATAGRAM_BYTES / 8) as u32;

    /// The words of the datagram of `length` bytes at `base`, without its first `skip` bytes.
    #[inline(always)]
    pub fn new(base: u64, length: u64, skip: u64) -> Self {
        Self { end: base + length, left: length - skip }
    }

    /// Gives the next words to `each`; false when none is left or the frame is shorter.
    #[inline(always)]
    pub fn take<F: Frame>(&mut self, frame: F, mut each: impl FnMut(u64)) -> bool {
        let at = self.end.wrapping_sub(self.left);
        if self.left >= (STRIDE * 8) as u64 {
            let Some(words) = frame.bytes(at, STRIDE * 8) else { return false };
            for i in 0..STRIDE {
                // SAFETY: STRIDE words were checked.
                each(unsafe { words.cast::<u64>().add(i).read_unaligned() });
            }
            self.left -= (STRIDE * 8) as u64;
            return true;
        }
        if self.left < 8 {
            return false;
        }
        let Some(word) = frame.bytes(at, 8) else { return false };
        // SAFETY: one word was checked.
        each(unsafe { word.cast::<u64>().read_unaligned() });
        self.left -= 8;
        true
    }
}
