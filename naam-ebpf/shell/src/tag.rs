//! The tag: SipHash-2-4 over a datagram, header without tag first, then the messages.

use naam_abi::{
    siphash::{Key, SipHash},
    wire::{HEADER_BYTES, TAG_OFFSET},
};

use crate::{
    frame::Frame,
    loops::{Looping, Turn},
    words::Words,
};

struct Tagging<F> {
    frame: F,
    hash: SipHash,
    words: Words,
}

impl<F: Frame> Turn for Tagging<F> {
    #[inline(always)]
    fn turn(&mut self) -> bool {
        let hash = &mut self.hash;
        self.words.take(self.frame, |word| *hash = hash.word(word))
    }
}

/// The tag of the datagram of `length` bytes at `base`; `None` if the frame is shorter.
#[inline(always)]
pub fn tag<F: Frame, L: Looping>(frame: F, base: u64, length: u32, key: Key) -> Option<u64> {
    let header = frame.bytes(base, HEADER_BYTES)?;
    let mut hash = SipHash::new(key);
    for i in 0..TAG_OFFSET / 8 {
        // SAFETY: the header was checked.
        hash = hash.word(unsafe { header.cast::<u64>().add(i).read_unaligned() });
    }
    let words = Words::new(base, u64::from(length), HEADER_BYTES as u64)?;
    let mut tagging = Tagging { frame, hash, words };
    L::repeat(Words::TURNS, &mut tagging);
    Some(tagging.hash.finish(length as usize - 8))
}
