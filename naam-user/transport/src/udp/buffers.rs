//! Receive buffers that the kernel takes from a ring by itself.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// A ring of equal buffers provided to one buffer group of an io_uring.
///
/// A buffer belongs to the kernel until a completion names it, then to us until [`recycle`].
///
/// [`recycle`]: ReceiveBuffers::recycle
pub(super) struct ReceiveBuffers {
    ring: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    buffer_len: usize,
    tail: u16,
}

/// io_uring wants the ring on a page boundary.
const PAGE: usize = 4096;

// SAFETY: both allocations belong to this value alone; nothing is tied to a thread.
unsafe impl Send for ReceiveBuffers {}

impl ReceiveBuffers {
    /// `count` (a power of two) buffers of `buffer_len` bytes, all provided to `group` of `ring`.
    ///
    /// # Safety
    /// The value must live until `ring` is gone or has no receive request.
    pub(super) unsafe fn register(ring: &IoUring, group: u16, count: u16, buffer_len: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two());
        let mut buffers = Self {
            ring: allocate(Self::ring_layout(count)).cast(),
            memory: allocate(Self::memory_layout(count, buffer_len)),
            count,
            buffer_len,
            tail: 0,
        };
        for id in 0..count {
            buffers.provide(id);
        }
        buffers.publish();
        // SAFETY: the ring memory has `count` entries and the caller keeps it alive.
        unsafe { ring.submitter().register_buf_ring_with_flags(buffers.ring.as_ptr() as u64, count, group, 0) }?;
        Ok(buffers)
    }

    fn ring_layout(count: u16) -> Layout {
        Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE).expect("a small constant")
    }

    fn memory_layout(count: u16, buffer_len: usize) -> Layout {
        Layout::from_size_align(usize::from(count) * buffer_len, PAGE).expect("a small constant")
    }

    fn buffer(&self, id: u16) -> NonNull<u8> {
        assert!(id < self.count);
        // SAFETY: id is below count, so the offset lies inside the allocation.
        unsafe { self.memory.add(usize::from(id) * self.buffer_len) }
    }

    fn provide(&mut self, id: u16) {
        let address = self.buffer(id).as_ptr() as u64;
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: the index is masked to the ring; entries from the published tail on belong to us.
        let entry = unsafe { self.ring.add(index).as_mut() };
        entry.set_addr(address);
        entry.set_len(self.buffer_len as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: the first entry's tail field is where the kernel reads the ring's tail; it is
        // aligned, lives as long as the ring and is only ever accessed atomically.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The first `len` bytes of the buffer that a completion named.
    ///
    /// # Safety
    /// A completion must have named `id` since it was last recycled.
    pub(super) unsafe fn received(&self, id: u16, len: usize) -> &[u8] {
        // SAFETY: the length is bounded by the buffer, its bytes are initialised (zeroed at
        // first), and the caller says that the kernel has let go of it.
        unsafe { std::slice::from_raw_parts(self.buffer(id).as_ptr(), len.min(self.buffer_len)) }
    }

    /// Gives a buffer back to the kernel.
    pub(super) fn recycle(&mut self, id: u16) {
        self.provide(id);
        self.publish();
    }
}

impl Drop for ReceiveBuffers {
    fn drop(&mut self) {
        // SAFETY: allocated with these layouts; `register` promises that no request is left.
        unsafe {
            dealloc(self.ring.as_ptr().cast(), Self::ring_layout(self.count));
            dealloc(self.memory.as_ptr(), Self::memory_layout(self.count, self.buffer_len));
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layouts above are not empty.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
