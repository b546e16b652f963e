//! Memory that a device may reach.

use std::{
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering, fence},
    },
};

use naam_verbs_sys as sys;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use serde::{Deserialize, Serialize};

use crate::{Domain, Error};

pub(crate) const REGISTER: &str = "register memory";

/// Pages that a device may be given.
///
/// # Safety
/// They are mapped at [`base`](Self::base), readable and writable, for [`bytes`](Self::bytes) bytes as long as the value
/// lives, and nothing makes a reference to plain data in them: a device reads and writes them at any time.
pub unsafe trait Pages: Send + Sync {
    /// The first byte.
    fn base(&self) -> NonNull<u8>;
    /// How many bytes.
    fn bytes(&self) -> u64;
}

#[cfg(feature = "region")]
// SAFETY: the mapping lives as long as the value, and gives nothing but atomic words and copies.
unsafe impl Pages for naam_region::Memory {
    fn base(&self) -> NonNull<u8> {
        self.mapping().as_ptr()
    }

    fn bytes(&self) -> u64 {
        naam_region::Memory::bytes(self)
    }
}

/// Pages of this process, for what a device fetches.
#[derive(Debug)]
pub struct Buffer {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: there is no access but by atomic words.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

// SAFETY: mapped until dropped; nothing but atomic words and copies.
unsafe impl Pages for Buffer {
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn bytes(&self) -> u64 {
        self.len as u64
    }
}

impl Buffer {
    /// Zero bytes, `len` of them or as many more as fill a page of 4 KiB.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(len: usize) -> std::io::Result<Self> {
        let len = len.max(1).next_multiple_of(4096);
        // SAFETY: a new mapping at an address that the kernel chooses; nothing existing is touched.
        let base = unsafe {
            mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }?;
        let base = NonNull::new(base.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    /// Copies words out, from `offset` on, a multiple of 8. Each is whole; all of them need not be of one moment.
    ///
    /// # Panics
    /// When they do not lie in the buffer, or `offset` is no multiple of 8.
    pub fn copy_out(&self, offset: usize, words: &mut [u64]) {
        let end = offset.checked_add(words.len() * 8);
        assert!(offset.is_multiple_of(8) && end.is_some_and(|end| end <= self.len), "{offset} + {} words", words.len());
        for (at, word) in (offset..).step_by(8).zip(words) {
            // SAFETY: the range was checked; the base is page-aligned, so that words are aligned. All accesses are atomic.
            *word = unsafe { AtomicU64::from_ptr(self.base.add(at).as_ptr().cast()) }.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
    }
}

impl Buffer {
    /// Copies words in, from `offset` on, a multiple of 8, for a device to send.
    ///
    /// # Panics
    /// When they do not lie in the buffer, or `offset` is no multiple of 8.
    pub fn copy_in(&self, offset: usize, words: &[u64]) {
        let end = offset.checked_add(words.len() * 8);
        assert!(offset.is_multiple_of(8) && end.is_some_and(|end| end <= self.len), "{offset} + {} words", words.len());
        for (at, word) in (offset..).step_by(8).zip(words) {
            // SAFETY: the range was checked; the base is page-aligned, so that words are aligned. All accesses are atomic.
            unsafe { AtomicU64::from_ptr(self.base.add(at).as_ptr().cast()) }.store(*word, Ordering::Relaxed);
        }
        fence(Ordering::Release);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: base and length are those of our own mapping, and nothing borrows it any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of an own mapping: {unmapped:?}");
    }
}

/// What peers may do with memory. The owner's own requests may always write to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// RDMA READ.
    pub read: bool,
    /// RDMA WRITE.
    pub write: bool,
    /// RDMA CAS and FAA. Not atomic with the processor's or a handler's, on devices that do them on their own.
    pub atomic: bool,
}

impl Access {
    pub(crate) fn bits(self) -> i32 {
        use sys::ibv_access_flags as flags;
        let mut bits = flags::IBV_ACCESS_LOCAL_WRITE.0;
        for (granted, bit) in [
            (self.read, flags::IBV_ACCESS_REMOTE_READ),
            (self.write, flags::IBV_ACCESS_REMOTE_WRITE),
            (self.atomic, flags::IBV_ACCESS_REMOTE_ATOMIC),
        ] {
            bits |= if granted { bit.0 } else { 0 };
        }
        bits as i32
    }
}

/// Where a peer's memory is, as it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteMemory {
    /// The first byte, in the peer's own numbers.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
    /// The key that the peer's device gave it.
    pub rkey: u32,
}

/// Memory that is registered with a device. It stays mapped, and its domain stays, until it is deregistered, which
/// happens when the last reference to it goes, requests on their way included.
pub struct MemoryRegion {
    region: NonNull<sys::ibv_mr>,
    domain: Arc<Domain>,
    pages: Arc<dyn Pages>,
}

// SAFETY: a handle; libibverbs may be called with it from any thread, by several at a time.
unsafe impl Send for MemoryRegion {}
// SAFETY: as above.
unsafe impl Sync for MemoryRegion {}

impl MemoryRegion {
    /// Registers pages. The kernel pins them: they count against the limit of locked memory.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn register(domain: &Arc<Domain>, pages: Arc<dyn Pages>, access: Access) -> Result<Arc<Self>, Error> {
        let device = domain.device();
        let (base, len) = (pages.base().as_ptr().cast(), pages.bytes() as usize);
        // SAFETY: the domain is live, the pages are mapped, and both stay so for as long as the result lives.
        let made = unsafe { device.verbs().ibv_reg_mr(domain.as_ptr(), base, len, access.bits()) };
        let region = device.made(REGISTER, made)?;
        Ok(Arc::new(Self { region, domain: Arc::clone(domain), pages }))
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.pages.bytes()
    }

    /// What a peer has to know to reach it, as far as its rights go.
    pub fn remote(&self) -> RemoteMemory {
        // SAFETY: the region is registered; the library does not change its key.
        let rkey = unsafe { self.region.as_ref().rkey };
        RemoteMemory { address: self.address(), bytes: self.bytes(), rkey }
    }

    pub(crate) fn address(&self) -> u64 {
        self.pages.base().as_ptr() as u64
    }

    pub(crate) fn lkey(&self) -> u32 {
        // SAFETY: the region is registered; the library does not change its key.
        unsafe { self.region.as_ref().lkey }
    }
}

impl std::fmt::Debug for MemoryRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryRegion").field("remote", &self.remote()).finish_non_exhaustive()
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        // SAFETY: it is ours, and no request on its way names it: those hold references.
        let outcome = unsafe { self.domain.device().verbs().ibv_dereg_mr(self.region.as_ptr()) };
        if !self.domain.device().destroyed("deregister memory", outcome) {
            // A device that may still write to pages must not find others in their place.
            std::mem::forget(Arc::clone(&self.pages));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_whole_pages_of_zeros() {
        let buffer = Buffer::new(100).unwrap();
        assert_eq!(buffer.bytes(), 4096);
        let mut words = [1; 4];
        buffer.copy_out(4096 - 32, &mut words);
        assert_eq!(words, [0; 4]);
    }

    #[test]
    #[should_panic(expected = "4072 + 4 words")]
    fn nothing_is_copied_from_behind_a_buffer() {
        Buffer::new(4096).unwrap().copy_out(4072, &mut [0; 4]);
    }

    #[test]
    fn rights_are_bits() {
        assert_eq!(Access::default().bits(), 1);
        assert_eq!(Access { read: true, ..Access::default() }.bits(), 1 | 4);
        assert_eq!(Access { read: true, write: true, atomic: true }.bits(), 1 | 2 | 4 | 8);
    }
}
