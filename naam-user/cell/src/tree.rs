//! A tree: made, opened, published.

use naam_handlers::cell::layout::{EXTENT_BYTES, INLINE_MAX, MAGIC, NODE_BYTES, NodePtr, ROOT_AT, Root, VERSION};
use naam_handlers::cell::{KEY_MAX, VALUE_MAX};

use crate::change::Batch;
use crate::memory::Words;
use crate::node::{Entry, Frame, Node, Pair};
use crate::number::Number;
use crate::space::{Quarantine, Space};
use crate::walk::Report;
use crate::{CellError, walk};

/// What an owner may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long freed nodes wait before they are used again.
    pub quarantine: Quarantine,
    /// Longest value that stands in its leaf, at most 128 bytes; longer ones stand in blocks of their
    /// own, which costs a look-up one more READ.
    pub inline_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { quarantine: Quarantine::default(), inline_max: INLINE_MAX }
    }
}

/// A tree, in the hands of its owner.
#[derive(Debug)]
pub struct Tree<M> {
    pub(crate) memory: M,
    pub(crate) space: Space,
    pub(crate) state: State,
    pub(crate) inline_max: usize,
}

/// What a publication replaces as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub root: Root,
    /// All keys are in between; `None` before the first.
    pub bounds: Option<(Number, Number)>,
    pub keys: u64,
    pub nodes: u64,
}

impl<M: Words> Tree<M> {
    /// Makes the region an empty tree. What was in it is lost.
    ///
    /// # Errors
    /// [`CellError::RegionSize`]
    pub fn format(memory: M, options: Options) -> Result<Self, CellError> {
        let mut space = space(&memory, options)?;
        // A region may have been a tree before: no reader of that may take a new node for an old one.
        let generation = generation_after(Root(memory.load(ROOT_AT)).node().generation());
        memory.publish(0, 0);
        let bytes = memory.bytes();
        for (number, index) in (0u64..).zip(space.headers()) {
            let magic = if number == 0 { 0 } else { MAGIC };
            memory.write(u64::from(index) * NODE_BYTES, &[magic, 0, number << 32 | VERSION, bytes]);
        }
        let index = space.take_frame(0).ok_or(CellError::RegionSize { bytes })?;
        let at = NodePtr::new(index, generation).offset();
        let ptr = NodePtr::new(index, generation_for(generation, memory.load(at)));
        let empty = Node::<Pair> { level: 0, low: Number::ZERO, high: None, entries: Vec::new() };
        memory.write(ptr.offset(), &empty.encode(ptr));
        let state = State { root: Root::new(ptr, 1), bounds: None, keys: 0, nodes: 1 };
        memory.publish(ROOT_AT, state.root.0);
        memory.publish(0, MAGIC);
        Ok(Self { memory, space, state, inline_max: options.inline_max.min(INLINE_MAX) })
    }

    /// Takes over a tree, also after its owner crashed: whatever is reached from the root is whole, the
    /// rest is free. Reads and checks the whole tree.
    ///
    /// # Errors
    /// [`CellError::NoTree`], [`CellError::Damaged`]
    pub fn open(memory: M, options: Options) -> Result<Self, CellError> {
        let mut space = space(&memory, options)?;
        if memory.load(0) != MAGIC {
            return Err(CellError::NoTree { what: "the first word is another" });
        }
        for (number, index) in (0u64..).zip(space.headers()) {
            let at = u64::from(index) * NODE_BYTES;
            let header = [memory.load(at), memory.load(at + 16), memory.load(at + 24)];
            if header != [MAGIC, number << 32 | VERSION, memory.bytes()] {
                return Err(CellError::NoTree {
                    what: "its extents are of another version, or of a region of another size",
                });
            }
        }
        let root = Root(memory.load(ROOT_AT));
        let (report, bounds) = walk::walk(&memory, root, Some(&mut space))?;
        space.free_unmarked();
        let state = State { root, bounds, keys: report.keys, nodes: report.nodes() };
        Ok(Self { memory, space, state, inline_max: options.inline_max.min(INLINE_MAX) })
    }

    /// Several changes that become visible at once. If the region was changed by another, the first of them fails.
    pub fn batch(&mut self) -> Batch<'_, M> {
        Batch::new(self)
    }

    /// Gives a key a value; whether the key is new.
    ///
    /// # Errors
    /// [`CellError::Key`], [`CellError::Value`], [`CellError::Full`], [`CellError::ChangedByAnother`]: nothing was
    /// changed.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<bool, CellError> {
        let mut batch = self.batch();
        let is_new = batch.insert(key, value)?;
        batch.commit()?;
        Ok(is_new)
    }

    /// Removes a key; whether it was there.
    ///
    /// # Errors
    /// [`CellError::Full`], as paths are copied for that too, [`CellError::ChangedByAnother`]: nothing was changed.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, CellError> {
        let mut batch = self.batch();
        let was_there = batch.delete(key)?;
        batch.commit()?;
        Ok(was_there)
    }

    /// Walks through everything and checks it: lines (which tell generation and place), order, fences, levels,
    /// blocks.
    ///
    /// # Errors
    /// [`CellError::Damaged`], [`CellError::ChangedByAnother`]
    pub fn verify(&self) -> Result<Report, CellError> {
        self.check_owner("verify the tree")?;
        let (report, _) = walk::walk(&self.memory, self.state.root, None)?;
        if (report.keys, report.nodes()) != (self.state.keys, self.state.nodes) {
            return Err(CellError::Damaged { what: "a tree with another number of keys or nodes", offset: 0 });
        }
        Ok(report)
    }

    /// Keys in the tree.
    pub fn keys(&self) -> u64 {
        self.state.keys
    }

    /// Nodes of the tree.
    pub fn nodes(&self) -> u64 {
        self.state.nodes
    }

    /// Levels, leaves included.
    pub fn height(&self) -> u32 {
        self.state.root.height()
    }

    /// Number of the last publication.
    pub fn generation(&self) -> u32 {
        self.state.root.node().generation()
    }

    /// Frames of 1 KiB in use, those in quarantine and the extents' headers included, and all there are.
    pub fn frames(&self) -> (u32, u32) {
        (self.space.frames_used(), self.space.frames())
    }

    /// Blocks that wait before they are used again.
    pub fn waiting(&self) -> usize {
        self.space.waiting()
    }

    /// The memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Whether the region's root is the one that this owner published. A guard, not a lock: who publishes between
    /// this look and a store is not seen.
    pub(crate) fn check_owner(&self, operation: &'static str) -> Result<(), CellError> {
        let found = Root(self.memory.load(ROOT_AT));
        if found == self.state.root {
            return Ok(());
        }
        let [found, known] = [found, self.state.root].map(|root| root.node().generation());
        Err(CellError::ChangedByAnother { operation, found, known })
    }

    pub(crate) fn frame(&self, ptr: NodePtr) -> Result<Frame, CellError> {
        if ptr.offset() >= self.memory.bytes() {
            return Err(CellError::Damaged { what: "a pointer out of the region", offset: ptr.offset() });
        }
        Ok(self.memory.read_frame(ptr.offset()))
    }

    pub(crate) fn node<E: Entry>(&self, ptr: NodePtr, level: u32) -> Result<Node<E>, CellError> {
        Node::decode(&self.frame(ptr)?, ptr, level)
    }
}

/// The generation that follows; 0 is none.
pub(crate) fn generation_after(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// The generation of what publication `generation` writes to a place whose first word is `word`: what was there
/// last had another.
pub(crate) fn generation_for(generation: u32, word: u64) -> u32 {
    if word as u32 == generation { generation_after(generation) } else { generation }
}

/// The number of a key that may be stored.
pub(crate) fn number(key: &[u8]) -> Result<Number, CellError> {
    if key.is_empty() || key.len() > KEY_MAX {
        return Err(CellError::Key { len: key.len() });
    }
    Ok(Number::of_key(key))
}

pub(crate) fn check_value(value: &[u8]) -> Result<(), CellError> {
    if value.len() > VALUE_MAX { Err(CellError::Value { len: value.len() }) } else { Ok(()) }
}

fn space<M: Words>(memory: &M, options: Options) -> Result<Space, CellError> {
    let bytes = memory.bytes();
    let is_whole = bytes <= EXTENT_BYTES || bytes.is_multiple_of(EXTENT_BYTES);
    if bytes < 4 * NODE_BYTES || !bytes.is_multiple_of(NODE_BYTES) || !is_whole || bytes / NODE_BYTES > 1 << 22 {
        return Err(CellError::RegionSize { bytes });
    }
    Ok(Space::new(bytes, options.quarantine))
}
