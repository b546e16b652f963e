//! A store in native memory, calls to it, and an audit of everything in it.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::{HashMap, HashSet};

use naam_abi::wire::Status;
use naam_handler::native::{Memory, reply, request, run};
use naam_handler::{Msg, Step, View1k};
use naam_handlers::mica::layout::{
    Block, CLASS_MAX, Entry, Geometry, ItemHeader, LINE_BYTES, LINES, MARK, SLOTS, item_words, line,
};
use naam_handlers::mica::{self, Code, args};

pub type Handler = fn(&mut Msg, &View1k) -> Step;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Get,
    Set(Vec<u8>),
    Cas(u64, Vec<u8>),
    Delete,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Found(u64, Vec<u8>),
    Stored(u64),
    Differs(u64),
    Deleted,
    Not(Code),
}

impl Call {
    pub fn handler(&self) -> Handler {
        match self {
            Self::Get => mica::get,
            Self::Set(_) => mica::set,
            Self::Cas(..) => mica::cas,
            Self::Delete => mica::delete,
        }
    }

    pub fn message(&self, geometry: Geometry, key: &[u8]) -> Msg {
        let mut buffer = [0; args::WRITE_ARGS_MAX];
        request(match self {
            Self::Get => args::get(&mut buffer, geometry, key),
            Self::Set(value) => args::set(&mut buffer, key, value),
            Self::Cas(version, value) => args::cas(&mut buffer, key, *version, value),
            Self::Delete => args::delete(&mut buffer, key),
        })
    }

    pub fn outcome(&self, status: Status, m: &Msg) -> Outcome {
        assert_eq!(status, Status::Ok, "{self:?} ended with code {}", m.code);
        let bytes = reply(m);
        match (self, Code::from_code(m.code).unwrap()) {
            (Self::Get, Code::Ok) => {
                let (version, value) = args::found(&bytes).unwrap();
                Outcome::Found(version, value.to_vec())
            }
            (Self::Set(_) | Self::Cas(..), Code::Ok) => Outcome::Stored(args::version(&bytes).unwrap()),
            (Self::Cas(..), Code::VersionDiffers) => Outcome::Differs(args::version(&bytes).unwrap()),
            (Self::Delete, Code::Ok) => Outcome::Deleted,
            (_, code) => {
                assert!(bytes.is_empty());
                Outcome::Not(code)
            }
        }
    }
}

pub struct Store {
    pub memory: Memory,
    pub geometry: Geometry,
}

impl Store {
    pub fn new(region_bytes: usize, log2_buckets: u32) -> Self {
        Self::format(Geometry::new(region_bytes as u64, log2_buckets).unwrap())
    }

    pub fn cache(region_bytes: usize, log2_buckets: u32) -> Self {
        Self::format(Geometry::new(region_bytes as u64, log2_buckets).unwrap().cache())
    }

    fn format(geometry: Geometry) -> Self {
        let memory = Memory::new(&[geometry.heap_end() as usize]);
        geometry.format(|at, word| memory.write(0, at, word));
        Self { memory, geometry }
    }

    pub fn call(&self, key: &[u8], call: &Call) -> Outcome {
        let mut m = call.message(self.geometry, key);
        let status = run(call.handler(), &mut m, &self.memory);
        call.outcome(status, &m)
    }

    /// Steps that a call takes.
    pub fn steps(&self, key: &[u8], call: &Call) -> u32 {
        let mut m = call.message(self.geometry, key);
        assert_eq!(run(call.handler(), &mut m, &self.memory), Status::Ok);
        m.step
    }

    fn word(&self, at: u64) -> u64 {
        self.memory.read(0, at)
    }

    fn bytes(&self, at: u64, len: u64) -> Vec<u8> {
        let words = (0..len.div_ceil(8)).flat_map(|i| self.word(at + i * 8).to_le_bytes());
        words.take(len as usize).collect()
    }

    /// Walks everything that is reachable, once nobody is at work, and panics at what may not be:
    /// a block in two places, a key in two entries, an entry in the wrong chain, a cycle.
    pub fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        let mut seen = HashSet::new();
        let mut own = |block: Block, what: &str| {
            assert!((1..=CLASS_MAX).contains(&block.class()), "{what}: class {}", block.class());
            let from = block.offset();
            assert!(from >= self.geometry.heap_start() && from + block.class() * 64 <= self.geometry.heap_end());
            for at in (from..from + block.class() * LINE_BYTES).step_by(LINE_BYTES as usize) {
                assert!(seen.insert(at), "{what}: block at {from} is used twice");
            }
            block.class() * LINE_BYTES
        };
        for bucket in 0..1u64 << self.geometry.log2_buckets() {
            let mut at = self.geometry.home(bucket);
            loop {
                for slot in 1..=SLOTS {
                    let entry = Entry(self.word(at + slot * 8));
                    if entry == Entry::EMPTY {
                        continue;
                    }
                    let block = entry.block();
                    if entry.is_tentative() {
                        audit.tentative += 1;
                        continue;
                    }
                    audit.items_bytes += own(block, "entry");
                    let header = ItemHeader(self.word(block.offset()));
                    assert_eq!(header.generation(), block.generation(), "an entry and its item differ");
                    let key_at = block.offset() + item_words(0, header.value_len()) * 8;
                    let key = self.bytes(key_at, header.key_len());
                    assert_eq!(self.geometry.home(mica::hash::hash(&key)), self.geometry.home(bucket));
                    let value = self.bytes(block.offset() + 24, header.value_len());
                    let version = self.word(block.offset() + 8);
                    assert!(audit.items.insert(key.clone(), (version, value)).is_none(), "{key:?} is there twice");
                }
                let next = Block(self.word(at));
                if next.number() == 0 {
                    break;
                }
                audit.bucket_bytes += own(Block::new(next.offset(), 1, 0), "chain");
                at = next.offset();
            }
        }
        for class in 1..=CLASS_MAX {
            for head in (0..LINES).flat_map(|number| (1..=SLOTS).map(move |list| line(class, number) + list * 8)) {
                let mut block = Block(self.word(head));
                while block.0 != 0 {
                    assert_eq!(block.class(), class, "a list of free blocks");
                    audit.free_bytes += own(block, "free");
                    block = if block.has_next() { Block(self.word(block.offset() + 8)) } else { Block::NONE };
                }
            }
        }
        audit.used_bytes = self.word(MARK).min(self.geometry.heap_end()) - self.geometry.heap_start();
        audit
    }
}

#[derive(Debug, Default)]
pub struct Audit {
    pub items: HashMap<Vec<u8>, (u64, Vec<u8>)>,
    pub items_bytes: u64,
    pub bucket_bytes: u64,
    pub free_bytes: u64,
    /// Bytes of the heap that were ever taken.
    pub used_bytes: u64,
    /// Tentative entries that nobody works at any more.
    pub tentative: u64,
}

impl Audit {
    /// Bytes that nothing refers to.
    pub fn leaked(&self) -> u64 {
        self.used_bytes - self.items_bytes - self.bucket_bytes - self.free_bytes
    }
}
