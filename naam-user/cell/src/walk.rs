//! A walk through everything in a tree, which checks it on the way.

use naam_handlers::cell::layout::{HEIGHT_MAX, NODE_WORDS, NodePtr, Root};

use crate::CellError;
use crate::memory::Words;
use crate::node::{Branch, Entry, Frame, Node, Pair, Value, level};
use crate::number::Number;
use crate::read::bytes_of;
use crate::space::{Block, Quarantine, Space};

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Keys.
    pub keys: u64,
    /// Nodes of each level, leaves first.
    pub levels: Vec<u64>,
    /// Words in use in the nodes of each level, of 128 each.
    pub words: Vec<u64>,
    /// Values in blocks.
    pub blocks: u64,
    /// Quarters of frames (256 bytes) that they take.
    pub quarters: u64,
    /// Bytes of all keys.
    pub key_bytes: u64,
    /// Bytes of all values.
    pub value_bytes: u64,
}

impl Report {
    /// Nodes.
    pub fn nodes(&self) -> u64 {
        self.levels.iter().sum()
    }
}

type Bounds = Option<(Number, Number)>;

struct Walk<'m, M> {
    memory: &'m M,
    space: &'m mut Space,
    report: Report,
}

/// Walks from `root`; marks what it finds in `space`. What it found, and between what bounds all keys are.
pub fn walk<M: Words>(memory: &M, root: Root, space: Option<&mut Space>) -> Result<(Report, Bounds), CellError> {
    let mut own;
    let space = match space {
        Some(space) => space,
        None => {
            own = Space::new(memory.bytes(), Quarantine::default());
            &mut own
        }
    };
    let height = root.height();
    if height == 0 || height > HEIGHT_MAX {
        return Err(CellError::Damaged { what: "an impossible height", offset: 8 });
    }
    let levels = vec![0; height as usize];
    let report = Report { levels: levels.clone(), words: levels, ..Report::default() };
    let mut walk = Walk { memory, space, report };
    let frame = walk.frame(root.node())?;
    let (low, high) = if level(&frame) == 0 {
        let Node { low, high, .. } = Node::<Pair>::decode(&frame, root.node(), 0)?;
        (low, high)
    } else {
        let Node { low, high, .. } = Node::<Branch>::decode(&frame, root.node(), height - 1)?;
        (low, high)
    };
    walk.node(root.node(), &frame, height - 1, low, high)?;
    Ok((walk.report, high.map(|high| (low, high))))
}

impl<M: Words> Walk<'_, M> {
    /// A node's words. Its age is not compared with its parent's: generations come round.
    fn frame(&mut self, ptr: NodePtr) -> Result<Frame, CellError> {
        if !self.space.mark(Block::frame(ptr.index() as u32)) {
            let what = "a node in a frame that is in use, or out of the region";
            return Err(CellError::Damaged { what, offset: ptr.offset() });
        }
        Ok(self.memory.read_frame(ptr.offset()))
    }

    fn node(
        &mut self,
        ptr: NodePtr,
        frame: &Frame,
        level: u32,
        low: Number,
        high: Option<Number>,
    ) -> Result<(), CellError> {
        if level != 0 {
            let node = self.decode::<Branch>(ptr, frame, level, low, high)?;
            if node.entries.is_empty() {
                return Err(CellError::Damaged { what: "an inner node without children", offset: ptr.offset() });
            }
            for (at, branch) in node.entries.iter().enumerate() {
                let next = node.entries.get(at + 1).map(|next| next.from).or(high);
                let frame = self.frame(branch.node)?;
                self.node(branch.node, &frame, level - 1, branch.from, next)?;
            }
            return Ok(());
        }
        let leaf = self.decode::<Pair>(ptr, frame, level, low, high)?;
        for pair in &leaf.entries {
            self.report.key_bytes += pair.key.key_len() as u64;
            if let Value::Block { block, .. } = &pair.value {
                let place = Block { first: block.first() as u32, quarters: block.quarters() as u32 };
                if !self.space.mark(place) {
                    let what = "a value in a block that is in use, or out of the region";
                    return Err(CellError::Damaged { what, offset: block.offset() });
                }
                self.report.blocks += 1;
                self.report.quarters += block.quarters();
            }
            self.report.value_bytes += match &pair.value {
                Value::Inline { len, .. } => u64::from(*len),
                block => bytes_of(self.memory, block)?.len() as u64,
            };
        }
        self.report.keys += leaf.entries.len() as u64;
        Ok(())
    }

    /// A node with the fences that its parent says, in order.
    fn decode<E: Entry>(
        &mut self,
        ptr: NodePtr,
        frame: &Frame,
        level: u32,
        low: Number,
        high: Option<Number>,
    ) -> Result<Node<E>, CellError> {
        let node = Node::<E>::decode(frame, ptr, level)?;
        let damaged = |what| Err(CellError::Damaged { what, offset: ptr.offset() });
        if (node.low, node.high) != (low, high) {
            return damaged("a node with other fences than its parent says");
        }
        let numbers: Vec<Number> = node.entries.iter().map(Entry::number).collect();
        let is_sorted = numbers.windows(2).all(|pair| pair[0] < pair[1]);
        let is_inside = numbers.first().is_none_or(|first| *first >= low)
            && numbers.last().is_none_or(|last| high.is_none_or(|high| *last < high));
        if !is_sorted || !is_inside {
            return damaged("keys out of order or beyond their fences");
        }
        debug_assert!(node.size() <= NODE_WORDS);
        self.report.levels[level as usize] += 1;
        self.report.words[level as usize] += node.size() as u64;
        Ok(node)
    }
}
