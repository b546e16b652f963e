//! What both sides serve: a MICA store, filled by its own handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use naam_handler::native::{Memory, request, run};
use naam_handlers::mica::{self, args, layout::Geometry};
use naam_sys::Mapping;

/// Keys in the store.
pub const KEYS: u64 = 65_536;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 16;
/// Bytes of a GET's reply.
pub const REPLY_BYTES: usize = 8 + VALUE_BYTES;
/// Bytes of the store.
pub const STORE_BYTES: usize = 16 << 20;

/// The store.
pub struct Contents {
    geometry: Geometry,
    memory: Memory,
}

/// The value of `key`.
pub fn value(key: u64) -> [u8; VALUE_BYTES] {
    let mut bytes = [0; VALUE_BYTES];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes[8..].copy_from_slice(&(!key).to_le_bytes());
    bytes
}

impl Contents {
    /// Formats and fills it.
    pub fn new() -> Result<Self> {
        let geometry = Geometry::plan(STORE_BYTES as u64, 8, VALUE_BYTES as u64)?;
        let memory = Memory::new(&[STORE_BYTES]);
        geometry.format(|at, word| memory.write(0, at, word));
        for key in 0..KEYS {
            let mut buffer = [0; args::WRITE_ARGS_MAX];
            let mut message = request(args::set(&mut buffer, &key.to_le_bytes(), &value(key)));
            let status = run(mica::set, &mut message, &memory);
            ensure!(message.code == 0, "key {key} was not stored: {status:?}, code {}", message.code);
        }
        Ok(Self { geometry, memory })
    }

    /// Its geometry.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// A copy of its words.
    pub fn words(&self) -> Arc<[AtomicU64]> {
        self.memory.words(0).iter().map(|word| AtomicU64::new(word.load(Ordering::Relaxed))).collect()
    }

    /// Copies its words to a region.
    pub fn copy_to(&self, region: &Mapping) {
        for (at, word) in (0u64..).step_by(8).zip(self.memory.words(0)) {
            region.store(at, word.load(Ordering::Relaxed), Ordering::Relaxed).expect("the region is as large");
        }
    }
}
