//! Where a message's ops are performed, if that can be done at once.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use naam_abi::limits::{REGIONS_MAX, region_value_len};
use naam_abi::tables::{RIGHT_ATOMIC, RIGHT_READ, RIGHT_WRITE};
use naam_abi::wire::Status;
use naam_region::AccessError;

/// Memory that performs ops while one waits. What takes longer is for the [`Run`](crate::Run)'s caller to drive.
///
/// Lengths and alignments have been checked; whether the range is there is for the memory to say. Words are read and
/// written whole, ranges may be torn.
pub trait Memory {
    /// Copies `[offset, offset + view.len())` of a region to `view`.
    ///
    /// # Errors
    /// [`Status::Denied`], [`Status::NoRegion`] or [`Status::Bounds`], and nothing is done. So with all others.
    fn read(&self, region: u32, offset: u64, view: &mut [u8]) -> Result<(), Status>;

    /// Copies `bytes` to `[offset, offset + bytes.len())`. What comes later is seen later.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn write(&self, region: u32, offset: u64, bytes: &[u8]) -> Result<(), Status>;

    /// Exchanges a word for `new` if it is `expect`; the word found.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn compare_exchange(&self, region: u32, offset: u64, expect: u64, new: u64) -> Result<u64, Status>;

    /// Adds to a word, wrapping; the word found.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn fetch_add(&self, region: u32, offset: u64, addend: u64) -> Result<u64, Status>;
}

fn refused(error: AccessError) -> Status {
    match error {
        AccessError::End { .. } | AccessError::Straddles { .. } => Status::Bounds,
        AccessError::Unaligned { .. } => Status::BadStep,
    }
}

/// The owner's door: an app's regions, mapped into this process, in the order in which they are bound.
impl Memory for [naam_region::Memory] {
    fn read(&self, region: u32, offset: u64, view: &mut [u8]) -> Result<(), Status> {
        self.get(region as usize).ok_or(Status::NoRegion)?.copy_out(offset, view).map_err(refused)
    }

    fn write(&self, region: u32, offset: u64, bytes: &[u8]) -> Result<(), Status> {
        self.get(region as usize).ok_or(Status::NoRegion)?.copy_in(offset, bytes).map_err(refused)?;
        fence(Ordering::SeqCst);
        Ok(())
    }

    fn compare_exchange(&self, region: u32, offset: u64, expect: u64, new: u64) -> Result<u64, Status> {
        let region = self.get(region as usize).ok_or(Status::NoRegion)?;
        let found = region.compare_exchange(offset, expect, new).map_err(refused)?;
        Ok(found.unwrap_or_else(|found| found))
    }

    fn fetch_add(&self, region: u32, offset: u64, addend: u64) -> Result<u64, Status> {
        self.get(region as usize).ok_or(Status::NoRegion)?.fetch_add(offset, addend).map_err(refused)
    }
}

/// Regions that are nobody else's: for stepping through a message offline, and for tests.
#[derive(Debug, Default)]
pub struct Image {
    regions: Vec<ImageRegion>,
}

#[derive(Debug)]
struct ImageRegion {
    words: Box<[AtomicU64]>,
    value_len: u64,
}

impl Image {
    /// No region yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next region, with `bytes` in it, cut into values as a region of that size is.
    ///
    /// # Errors
    /// The number of bytes, if no region has it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let value_len = region_value_len(bytes.len() as u64).ok_or(bytes.len())?;
        self.push_values(bytes, value_len)
    }

    /// Adds the next region, cut into values of `value_len` bytes.
    ///
    /// # Errors
    /// The number of bytes, if it is no multiple of the values', or these are no whole words.
    pub fn push_values(&mut self, bytes: &[u8], value_len: u64) -> Result<(), usize> {
        if !value_len.is_multiple_of(8) || !(bytes.len() as u64).is_multiple_of(value_len) {
            return Err(bytes.len());
        }
        let words = bytes.as_chunks().0.iter().map(|word| AtomicU64::new(u64::from_le_bytes(*word))).collect();
        self.regions.push(ImageRegion { words, value_len });
        Ok(())
    }

    /// The words of a region; empty if there is none.
    pub fn words(&self, region: usize) -> &[AtomicU64] {
        self.regions.get(region).map_or(&[], |region| &region.words)
    }

    fn object(&self, region: u32, offset: u64, len: u64) -> Result<&[AtomicU64], Status> {
        let region = self.regions.get(region as usize).ok_or(Status::NoRegion)?;
        let end = offset.checked_add(len).ok_or(Status::Bounds)?;
        if !(offset | len).is_multiple_of(8) {
            return Err(Status::BadStep);
        }
        if end > region.words.len() as u64 * 8 || offset % region.value_len + len > region.value_len {
            return Err(Status::Bounds);
        }
        Ok(&region.words[offset as usize / 8..end as usize / 8])
    }
}

impl Memory for Image {
    fn read(&self, region: u32, offset: u64, view: &mut [u8]) -> Result<(), Status> {
        let words = self.object(region, offset, view.len() as u64)?;
        for (to, from) in view.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_le_bytes());
        }
        fence(Ordering::Acquire);
        Ok(())
    }

    fn write(&self, region: u32, offset: u64, bytes: &[u8]) -> Result<(), Status> {
        let words = self.object(region, offset, bytes.len() as u64)?;
        fence(Ordering::Release);
        for (to, from) in words.iter().zip(bytes.as_chunks().0) {
            to.store(u64::from_le_bytes(*from), Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        Ok(())
    }

    fn compare_exchange(&self, region: u32, offset: u64, expect: u64, new: u64) -> Result<u64, Status> {
        let word = &self.object(region, offset, 8)?[0];
        Ok(word.compare_exchange(expect, new, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|found| found))
    }

    fn fetch_add(&self, region: u32, offset: u64, addend: u64) -> Result<u64, Status> {
        Ok(self.object(region, offset, 8)?[0].fetch_add(addend, Ordering::SeqCst))
    }
}

/// Memory behind a session's rights: a byte of `RIGHT_*` for each region.
#[derive(Clone, Copy, Debug)]
pub struct Limited<'a, M: ?Sized> {
    /// The memory.
    pub memory: &'a M,
    /// What may be done with each region.
    pub rights: [u8; REGIONS_MAX],
}

impl<M: ?Sized> Limited<'_, M> {
    fn check(&self, region: u32, right: u8) -> Result<(), Status> {
        // As the shell does: a region that no app has is refused for its number, not for a right.
        let held = self.rights[region as usize % REGIONS_MAX];
        if held & right != 0 { Ok(()) } else { Err(Status::Denied) }
    }
}

impl<M: Memory + ?Sized> Memory for Limited<'_, M> {
    fn read(&self, region: u32, offset: u64, view: &mut [u8]) -> Result<(), Status> {
        self.check(region, RIGHT_READ)?;
        self.memory.read(region, offset, view)
    }

    fn write(&self, region: u32, offset: u64, bytes: &[u8]) -> Result<(), Status> {
        self.check(region, RIGHT_WRITE)?;
        self.memory.write(region, offset, bytes)
    }

    fn compare_exchange(&self, region: u32, offset: u64, expect: u64, new: u64) -> Result<u64, Status> {
        self.check(region, RIGHT_ATOMIC)?;
        self.memory.compare_exchange(region, offset, expect, new)
    }

    fn fetch_add(&self, region: u32, offset: u64, addend: u64) -> Result<u64, Status> {
        self.check(region, RIGHT_ATOMIC)?;
        self.memory.fetch_add(region, offset, addend)
    }
}
