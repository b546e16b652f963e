//! The owner's door: a region's pages in this process.

use std::sync::atomic::Ordering;

use naam_sys::{Mapping, OutOfRange};

use crate::{AccessError, Geometry};

/// A region mapped into this process.
///
/// Handlers and other owners write this memory at any time. Words are atomic, ranges are copied
/// word by word and may be torn; what a range means is for versions or checksums inside it to say.
/// Ranges follow the rule of the kernel side ([`Geometry::check_object`]): whole words within one
/// map value.
#[derive(Debug)]
pub struct Memory {
    mapping: Mapping,
    geometry: Geometry,
}

impl Memory {
    pub(crate) fn new(mapping: Mapping, geometry: Geometry) -> Self {
        debug_assert_eq!(mapping.len(), geometry.bytes());
        Self { mapping, geometry }
    }

    /// The region's shape.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Bytes of the region.
    pub fn bytes(&self) -> u64 {
        self.geometry.bytes()
    }

    /// The pages themselves, for registration with a device.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Reads a word (acquire).
    pub fn load(&self, offset: u64) -> Result<u64, AccessError> {
        self.mapping.load(offset, Ordering::Acquire).map_err(access)
    }

    /// Writes a word (release).
    pub fn store(&self, offset: u64, value: u64) -> Result<(), AccessError> {
        self.mapping.store(offset, value, Ordering::Release).map_err(access)
    }

    /// Exchanges a word if it is `expected`; the inner result is the word found, `Ok` if exchanged.
    pub fn compare_exchange(&self, offset: u64, expected: u64, new: u64) -> Result<Result<u64, u64>, AccessError> {
        self.mapping.compare_exchange(offset, expected, new).map_err(access)
    }

    /// Adds to a word, wrapping; returns the word found.
    pub fn fetch_add(&self, offset: u64, addend: u64) -> Result<u64, AccessError> {
        self.mapping.fetch_add(offset, addend).map_err(access)
    }

    /// Copies an object out.
    pub fn copy_out(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.geometry.check_object(offset, bytes.len() as u64)?;
        self.mapping.copy_out(offset, bytes).map_err(access)
    }

    /// Copies an object in.
    pub fn copy_in(&self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.geometry.check_object(offset, bytes.len() as u64)?;
        self.mapping.copy_in(offset, bytes).map_err(access)
    }
}

fn access(error: OutOfRange) -> AccessError {
    match error {
        OutOfRange::End { offset, len, mapped } => AccessError::End { offset, len, bytes: mapped },
        OutOfRange::Unaligned { offset, len } => AccessError::Unaligned { offset, len },
    }
}
