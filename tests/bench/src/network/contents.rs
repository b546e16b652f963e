//! What both sides serve: a MICA store or a Cell tree, filled by their own code, and how a value is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use naam_abi::handler::Step;
use naam_cell::{Options, Tree};
use naam_handler::native::{Memory, request, run};
use naam_handler::{Msg, View1k};
use naam_handlers::mica::layout::Geometry;
use naam_handlers::{cell, mica};
use naam_sys::Mapping;

/// Keys, of 8 bytes: a tree of three levels.
pub const KEYS: u64 = 65_536;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 16;
/// Bytes of the region.
pub const REGION_BYTES: usize = 16 << 20;

/// The value of `key`.
pub fn value(key: u64) -> [u8; VALUE_BYTES] {
    let mut bytes = [0; VALUE_BYTES];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes[8..].copy_from_slice(&(!key).to_le_bytes());
    bytes
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    /// A MICA store of this geometry.
    Mica(Geometry),
    /// A Cell tree.
    Cell,
}

impl Service {
    /// The handler that looks a key up.
    pub fn handler(self) -> &'static str {
        match self {
            Self::Mica(_) => "mica_get",
            Self::Cell => "cell_get",
        }
    }

    /// Its source, compiled for this machine.
    pub fn step(self) -> fn(&mut Msg, &View1k) -> Step {
        match self {
            Self::Mica(_) => mica::get,
            Self::Cell => cell::get,
        }
    }

    /// Bytes of its longest reply.
    pub fn reply_max(self) -> usize {
        match self {
            Self::Mica(_) => mica::GET_REPLY_MAX,
            Self::Cell => cell::GET_REPLY_MAX,
        }
    }

    /// Bytes of a reply with a value of ours.
    pub fn reply_bytes(self) -> usize {
        match self {
            Self::Mica(_) => 8 + VALUE_BYTES,
            Self::Cell => VALUE_BYTES,
        }
    }

    /// The arguments that ask for a key.
    pub fn args(self, key: u64) -> Vec<u8> {
        match self {
            Self::Mica(geometry) => {
                mica::args::get(&mut [0; mica::args::GET_ARGS_MAX], geometry, &key.to_le_bytes()).to_vec()
            }
            Self::Cell => cell::args::get(&mut [0; cell::args::ARGS_MAX], &key.to_be_bytes()).to_vec(),
        }
    }

    /// The value in a reply.
    pub fn found(self, code: u32, reply: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Mica(_) => mica::args::found(reply).map(|(_, value)| value),
            Self::Cell => (code == cell::Code::Ok as u32).then_some(reply),
        }
    }
}

/// A service and its memory.
pub struct Contents {
    /// The service.
    pub service: Service,
    memory: Memory,
}

impl Contents {
    /// A store with all keys.
    pub fn mica() -> Result<Self> {
        let geometry = Geometry::plan(REGION_BYTES as u64, 8, VALUE_BYTES as u64)?;
        let memory = Memory::new(&[REGION_BYTES]);
        geometry.format(|at, word| memory.write(0, at, word));
        for key in 0..KEYS {
            let mut buffer = [0; mica::args::WRITE_ARGS_MAX];
            let mut message = request(mica::args::set(&mut buffer, &key.to_le_bytes(), &value(key)));
            let status = run(mica::set, &mut message, &memory);
            ensure!(message.code == 0, "key {key} was not stored: {status:?}, code {}", message.code);
        }
        Ok(Self { service: Service::Mica(geometry), memory })
    }

    /// A tree with all keys.
    pub fn cell() -> Result<Self> {
        let memory = Memory::new(&[REGION_BYTES]);
        let mut tree = Tree::format(&memory, Options::default())?;
        tree.load((0..KEYS).map(|key| (key.to_be_bytes(), value(key))))?;
        Ok(Self { service: Service::Cell, memory })
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
