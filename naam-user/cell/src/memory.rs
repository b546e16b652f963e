//! What the owner needs of a region.

use std::sync::atomic::{Ordering, fence};

use naam_handler::native;
use naam_handlers::cell::layout::{NODE_WORDS, REGION};
use naam_region::Memory;
use naam_sys::Mapping;

/// The region's words, which others read at any time: whole words, never references.
///
/// Offsets are in bytes and multiples of 8, inside the region; an implementation may panic at others.
pub trait Words {
    /// Bytes of the region.
    fn bytes(&self) -> u64;
    /// Reads a word (acquire).
    fn load(&self, offset: u64) -> u64;
    /// Writes a word; whatever was written before is seen before it (release).
    fn publish(&self, offset: u64, word: u64);
    /// Copies a frame out.
    fn read_frame(&self, offset: u64) -> [u64; NODE_WORDS];
    /// Copies words in, which lie in one frame.
    fn write(&self, offset: u64, words: &[u64]);
}

impl<M: Words + ?Sized> Words for &M {
    fn bytes(&self) -> u64 {
        (**self).bytes()
    }

    fn load(&self, offset: u64) -> u64 {
        (**self).load(offset)
    }

    fn publish(&self, offset: u64, word: u64) {
        (**self).publish(offset, word);
    }

    fn read_frame(&self, offset: u64) -> [u64; NODE_WORDS] {
        (**self).read_frame(offset)
    }

    fn write(&self, offset: u64, words: &[u64]) {
        (**self).write(offset, words);
    }
}

/// A map mapped by its owner.
impl Words for Mapping {
    fn bytes(&self) -> u64 {
        self.len()
    }

    fn load(&self, offset: u64) -> u64 {
        Mapping::load(self, offset, Ordering::Acquire).expect("a word of the region")
    }

    fn publish(&self, offset: u64, word: u64) {
        self.store(offset, word, Ordering::Release).expect("a word of the region");
    }

    fn read_frame(&self, offset: u64) -> [u64; NODE_WORDS] {
        let mut bytes = [0; NODE_WORDS * 8];
        self.copy_out(offset, &mut bytes).expect("a frame of the region");
        std::array::from_fn(|at| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("8 bytes")))
    }

    fn write(&self, offset: u64, words: &[u64]) {
        let mut bytes = [0; NODE_WORDS * 8];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.copy_in(offset, &bytes[..words.len() * 8]).expect("words of a frame of the region");
    }
}

/// A region mapped by its owner.
impl Words for Memory {
    fn bytes(&self) -> u64 {
        Words::bytes(self.mapping())
    }

    fn load(&self, offset: u64) -> u64 {
        Words::load(self.mapping(), offset)
    }

    fn publish(&self, offset: u64, word: u64) {
        Words::publish(self.mapping(), offset, word);
    }

    fn read_frame(&self, offset: u64) -> [u64; NODE_WORDS] {
        self.mapping().read_frame(offset)
    }

    fn write(&self, offset: u64, words: &[u64]) {
        Words::write(self.mapping(), offset, words);
    }
}

/// Region 0 of an offline memory: for tests, and for stepping through messages.
impl Words for native::Memory {
    fn bytes(&self) -> u64 {
        self.words(REGION as usize).len() as u64 * 8
    }

    fn load(&self, offset: u64) -> u64 {
        self.words(REGION as usize)[offset as usize / 8].load(Ordering::Acquire)
    }

    fn publish(&self, offset: u64, word: u64) {
        self.words(REGION as usize)[offset as usize / 8].store(word, Ordering::Release);
    }

    fn read_frame(&self, offset: u64) -> [u64; NODE_WORDS] {
        let first = offset as usize / 8;
        let words = &self.words(REGION as usize)[first..first + NODE_WORDS];
        let copy = std::array::from_fn(|at| words[at].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        copy
    }

    fn write(&self, offset: u64, words: &[u64]) {
        fence(Ordering::Release);
        let first = offset as usize / 8;
        for (to, word) in self.words(REGION as usize)[first..].iter().zip(words) {
            to.store(*word, Ordering::Relaxed);
        }
    }
}
