//! The owner's own look-ups and scans.

use naam_handlers::cell::layout::{Root, block_words};

use crate::change::value_check;
use crate::memory::Words;
use crate::node::{Branch, Frame, Node, Pair, Value};
use crate::number::Number;
use crate::tree::{Tree, number};
use crate::{CellError, space::Block};

impl<M: Words> Tree<M> {
    /// A key's value.
    ///
    /// # Errors
    /// [`CellError::Key`], [`CellError::Damaged`]
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CellError> {
        let key = number(key)?;
        let mut ptr = self.state.root.node();
        for level in (1..self.state.root.height()).rev() {
            let node: Node<Branch> = self.node(ptr, level)?;
            // Below the root's low fence the first child is as good as any.
            let at = node.entries.partition_point(|branch| branch.from <= key).saturating_sub(1);
            ptr = node.entries[at].node;
        }
        let leaf: Node<Pair> = self.node(ptr, 0)?;
        let found = leaf.entries.binary_search_by(|pair| pair.key.cmp(&key));
        found.ok().map(|at| self.bytes_of(&leaf.entries[at].value)).transpose()
    }

    /// Keys and values from `from` on, sorted.
    pub fn range(&self, from: &[u8]) -> Range<'_, M> {
        Range { tree: self, root: self.state.root, path: Vec::new(), leaf: None, from: Some(Number::of_key(from)) }
    }

    /// The bytes of a value.
    pub(crate) fn bytes_of(&self, value: &Value) -> Result<Vec<u8>, CellError> {
        bytes_of(&self.memory, value)
    }
}

/// The bytes of a value, which are checked if it stands in a block.
pub(crate) fn bytes_of(memory: &impl Words, value: &Value) -> Result<Vec<u8>, CellError> {
    let bytes = |words: &[u64], len: u16| {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(len.into());
        bytes
    };
    match value {
        Value::Inline { len, words } => Ok(bytes(words, *len)),
        Value::Block { len, block } => {
            let damaged = CellError::Damaged { what: "a value whose check differs", offset: block.offset() };
            let words = block_words((*len).into()) as usize;
            let place = Block { first: block.first() as u32, quarters: block.quarters() as u32 };
            let is_inside = block.offset() + words as u64 * 8 <= memory.bytes();
            if !is_inside || place.first % 4 + place.quarters > 4 || words * 8 > place.quarters as usize * 256 {
                return Err(damaged);
            }
            let frame = memory.read_frame(u64::from(place.index()) * 1024);
            let first = (place.first % 4) as usize * 32;
            let mut own: Frame = [0; _];
            own[..words].copy_from_slice(&frame[first..first + words]);
            if value_check(*block, (*len).into(), &own) >> 32 != own[0] >> 32 {
                return Err(damaged);
            }
            Ok(bytes(&own[1..], *len))
        }
    }
}

/// Keys and values in order; see [`Tree::range`].
#[derive(Debug)]
pub struct Range<'t, M> {
    tree: &'t Tree<M>,
    root: Root,
    /// Inner nodes from the root down, each with the slot that is next.
    path: Vec<(Node<Branch>, usize)>,
    leaf: Option<std::vec::IntoIter<Pair>>,
    /// Where to begin.
    from: Option<Number>,
}

impl<M: Words> Range<'_, M> {
    /// Goes down to the next leaf; false behind the last.
    fn next_leaf(&mut self) -> Result<bool, CellError> {
        let from = self.from.take();
        let (mut ptr, mut level) = if from.is_some() {
            (self.root.node(), self.root.height() - 1)
        } else {
            loop {
                let Some((node, slot)) = self.path.last_mut() else { return Ok(false) };
                if let Some(branch) = node.entries.get(*slot) {
                    *slot += 1;
                    break (branch.node, node.level - 1);
                }
                self.path.pop();
            }
        };
        while level > 0 {
            let node: Node<Branch> = self.tree.node(ptr, level)?;
            let at =
                from.map_or(0, |from| node.entries.partition_point(|branch| branch.from <= from).saturating_sub(1));
            ptr = node.entries[at].node;
            self.path.push((node, at + 1));
            level -= 1;
        }
        let mut leaf: Node<Pair> = self.tree.node(ptr, 0)?;
        if let Some(from) = from {
            leaf.entries.retain(|pair| pair.key >= from);
        }
        self.leaf = Some(leaf.entries.into_iter());
        Ok(true)
    }
}

impl<M: Words> Iterator for Range<'_, M> {
    type Item = Result<(Vec<u8>, Vec<u8>), CellError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(pair) = self.leaf.as_mut().and_then(Iterator::next) {
                return Some(self.tree.bytes_of(&pair.value).map(|value| (pair.key.key(), value)));
            }
            match self.next_leaf() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.path.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}
