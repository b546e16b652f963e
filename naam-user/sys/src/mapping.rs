//! The pages of a map in this process.
//!
//! Kernel programs, other processes and network devices write this memory at any time, so nothing
//! here makes a slice or a reference to plain data over it: words are read and written atomically,
//! and longer ranges are copied word by word.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};
use thiserror::Error;

use crate::Errno;

/// A range that does not lie in the mapping, or is not made of whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OutOfRange {
    /// The range ends after the mapping.
    #[error("{len} bytes at offset {offset} end after the mapping's {mapped} bytes")]
    End {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Bytes of the mapping.
        mapped: u64,
    },
    /// Words stand at multiples of 8.
    #[error("offset {offset} and length {len} are not both multiples of 8")]
    Unaligned {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
}

/// Shared, writable pages of a map; unmapped when dropped. The map itself stays.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is shared with the kernel anyway; every access goes through an atomic word.
unsafe impl Send for Mapping {}
// SAFETY: as above: there is no access but atomic words.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; nothing existing is touched.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0) }
            .map_err(Errno::from)?;
        let base = NonNull::new(base.cast()).ok_or(Errno::INVAL)?;
        Ok(Self { base, len })
    }

    /// Bytes of the mapping.
    #[allow(clippy::len_without_is_empty, reason = "a mapping is never empty: the kernel refuses length 0")]
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// The first byte, for handing the range to something else that treats it as raw memory, such
    /// as the registration of an RDMA memory region. Valid while the mapping lives; never make a
    /// reference of it.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.base
    }

    /// Reads the word at `offset`, a multiple of 8.
    pub fn load(&self, offset: u64, order: Ordering) -> Result<u64, OutOfRange> {
        Ok(self.word(offset)?.load(order))
    }

    /// Writes the word at `offset`, a multiple of 8.
    pub fn store(&self, offset: u64, value: u64, order: Ordering) -> Result<(), OutOfRange> {
        self.word(offset)?.store(value, order);
        Ok(())
    }

    /// Exchanges the word at `offset` if it is `expected`. The inner result is the word found:
    /// `Ok` if it was exchanged. Atomic with kernel programs too (not with an RDMA device's atomics).
    pub fn compare_exchange(&self, offset: u64, expected: u64, new: u64) -> Result<Result<u64, u64>, OutOfRange> {
        Ok(self.word(offset)?.compare_exchange(expected, new, Ordering::AcqRel, Ordering::Acquire))
    }

    /// Adds to the word at `offset`, wrapping, and returns the word found.
    pub fn fetch_add(&self, offset: u64, addend: u64) -> Result<u64, OutOfRange> {
        Ok(self.word(offset)?.fetch_add(addend, Ordering::AcqRel))
    }

    /// Copies `[offset, offset + bytes.len())` out of the map. Offset and length are multiples of
    /// 8; each word is whole, the range as such may be torn.
    pub fn copy_out(&self, offset: u64, bytes: &mut [u8]) -> Result<(), OutOfRange> {
        self.check(offset, bytes.len() as u64)?;
        for (at, word) in (offset as usize..).step_by(8).zip(bytes.chunks_exact_mut(8)) {
            word.copy_from_slice(&self.checked_word(at).load(Ordering::Relaxed).to_ne_bytes());
        }
        // Whatever is read after the copy was not read before it.
        std::sync::atomic::fence(Ordering::Acquire);
        Ok(())
    }

    /// Copies `bytes` to `offset`. Offset and length are multiples of 8; each word is written
    /// whole, the range as such may be seen torn.
    pub fn copy_in(&self, offset: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        self.check(offset, bytes.len() as u64)?;
        // Whatever was written before the copy is seen before it.
        std::sync::atomic::fence(Ordering::Release);
        for (at, word) in (offset as usize..).step_by(8).zip(bytes.chunks_exact(8)) {
            let word = u64::from_ne_bytes(word.try_into().expect("chunks of 8"));
            self.checked_word(at).store(word, Ordering::Relaxed);
        }
        Ok(())
    }

    fn check(&self, offset: u64, len: u64) -> Result<(), OutOfRange> {
        if !offset.is_multiple_of(8) || !len.is_multiple_of(8) {
            return Err(OutOfRange::Unaligned { offset, len });
        }
        let mapped = self.len as u64;
        match offset.checked_add(len) {
            Some(end) if end <= mapped => Ok(()),
            _ => Err(OutOfRange::End { offset, len, mapped }),
        }
    }

    fn word(&self, offset: u64) -> Result<&AtomicU64, OutOfRange> {
        self.check(offset, 8)?;
        Ok(self.checked_word(offset as usize))
    }

    /// `at` is a multiple of 8 with 8 bytes of the mapping behind it: `check` has said so.
    fn checked_word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at.is_multiple_of(8) && at + 8 <= self.len);
        // SAFETY: `at` was checked: the word lies in the mapping, which lives as long as `self`,
        // and is aligned, since the base is page-aligned. All accesses are atomic.
        unsafe { AtomicU64::from_ptr(self.base.add(at).as_ptr().cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of our own mmap, and no borrow of `self` is left.
        let result = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(result.is_ok(), "munmap of an own mapping: {result:?}");
    }
}
