//! Insert and delete: the nodes from the leaf to the root are written anew, then the root is published.

use std::collections::HashMap;
use std::time::Instant;

use naam_handlers::cell::layout::{NODE_WORDS, NodePtr, QUARTER_BYTES, ROOT_AT, Root, ValuePtr, block_words};

use crate::CellError;
use crate::memory::Words;
use crate::node::{Branch, Entry, Node, Pair, Value, padded, size};
use crate::number::Number;
use crate::space::Block;
use crate::tree::{State, Tree, check_value, generation_after, generation_for, number};

/// A node with fewer words is merged with a neighbour, or gets some of its entries.
const UNDERFULL_WORDS: usize = NODE_WORDS * 3 / 8;

/// Changes that become visible at once, by [`Batch::commit`]; dropped, they never were.
#[derive(Debug)]
pub struct Batch<'t, M: Words> {
    pub(crate) tree: &'t mut Tree<M>,
    pub(crate) state: State,
    generation: u32,
    /// What was taken, and the word that stood there: nobody knows of it yet, so it may be written again. No
    /// generation tells that: after 2^32 publications published nodes have this batch's.
    fresh: HashMap<Block, u64>,
    /// What the publication takes out of the tree.
    retired: Vec<Block>,
    failed: Option<CellError>,
}

/// What happens at the leaf.
enum Change<'v> {
    Insert(&'v [u8]),
    Delete,
}

/// What a node became.
pub(crate) struct Changed {
    pub parts: Vec<Branch>,
    /// Words of the last.
    words: usize,
}

impl<'t, M: Words> Batch<'t, M> {
    pub(crate) fn new(tree: &'t mut Tree<M>) -> Self {
        let generation = generation_after(tree.generation());
        let state = tree.state;
        let failed = tree.check_owner("begin a batch").err();
        Self { tree, state, generation, fresh: HashMap::new(), retired: Vec::new(), failed }
    }

    /// Gives a key a value; whether the key is new.
    ///
    /// # Errors
    /// [`CellError::Key`], [`CellError::Value`]; [`CellError::Full`], [`CellError::Damaged`] and
    /// [`CellError::ChangedByAnother`], after which the batch can only be dropped.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<bool, CellError> {
        let key = number(key)?;
        check_value(value)?;
        self.unless_failed(|batch| {
            let (low, high) = batch.widen(&key);
            let keys = batch.state.keys;
            let changed = batch.change(batch.state.root, low, high, &key, &Change::Insert(value))?;
            if let Some(changed) = changed {
                batch.set_root(changed.parts, batch.state.root.height(), low, high)?;
            }
            Ok(batch.state.keys > keys)
        })
    }

    /// Removes a key; whether it was there.
    ///
    /// # Errors
    /// [`CellError::Key`]; [`CellError::Full`], [`CellError::Damaged`] and [`CellError::ChangedByAnother`], after
    /// which the batch can only be dropped.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, CellError> {
        let key = number(key)?;
        self.unless_failed(|_| Ok(()))?;
        let Some((low, high)) = self.state.bounds.filter(|(low, high)| *low <= key && key < *high) else {
            return Ok(false);
        };
        self.unless_failed(|batch| {
            let changed = batch.change(batch.state.root, low, Some(high), &key, &Change::Delete)?;
            let Some(changed) = changed else { return Ok(false) };
            batch.set_root(changed.parts, batch.state.root.height(), low, Some(high))?;
            batch.lower_root()?;
            Ok(true)
        })
    }

    /// Makes a bulk-loaded tree the one to publish, in place of an empty leaf.
    pub(crate) fn finish_load(
        &mut self,
        root: NodePtr,
        height: u32,
        keys: u64,
        bounds: (Number, Number),
        old: NodePtr,
    ) {
        self.discard_node(old);
        self.state = State { root: Root::new(root, height), bounds: Some(bounds), keys, ..self.state };
    }

    /// Publishes all changes by one store.
    ///
    /// # Errors
    /// What failed before, [`CellError::ChangedByAnother`]: then nothing is changed.
    pub fn commit(mut self) -> Result<(), CellError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.tree.check_owner("commit a batch")?;
        if self.state.root != self.tree.state.root {
            self.tree.memory.publish(ROOT_AT, self.state.root.0);
        }
        self.tree.state = self.state;
        self.fresh.clear();
        let now = Instant::now();
        for block in std::mem::take(&mut self.retired) {
            self.tree.space.retire(block, now);
        }
        Ok(())
    }

    pub(crate) fn unless_failed<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, CellError>,
    ) -> Result<T, CellError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.tree.check_owner("change the tree").and_then(|()| change(self));
        self.failed = result.as_ref().err().cloned();
        result
    }

    /// The tree's bounds, wide enough for `key`. They are as short as the keys allow, since nodes leave out
    /// what their fences share.
    fn widen(&mut self, key: &Number) -> (Number, Option<Number>) {
        const MORE: usize = 2;
        let (low, high) = match self.state.bounds {
            None => (key.truncated(naam_handlers::cell::KEY_MAX), key.after(naam_handlers::cell::KEY_MAX)),
            Some((low, high)) if *key < low => (key.truncated(key.common(&high) + MORE), high),
            Some((low, high)) if *key >= high => (low, key.after(key.common(&low) + MORE)),
            Some(bounds) => bounds,
        };
        self.state.bounds = Some((low, high));
        (low, Some(high))
    }

    fn change(
        &mut self,
        root: Root,
        low: Number,
        high: Option<Number>,
        key: &Number,
        change: &Change<'_>,
    ) -> Result<Option<Changed>, CellError> {
        self.descend(root.node(), root.height() - 1, (low, high), key, change)
    }

    /// Changes the node at `ptr`, whose fences are to be `fences`; `None` if nothing is to be changed.
    fn descend(
        &mut self,
        ptr: NodePtr,
        level: u32,
        (low, high): (Number, Option<Number>),
        key: &Number,
        change: &Change<'_>,
    ) -> Result<Option<Changed>, CellError> {
        let is_last = high == self.state.bounds.map(|(_, high)| high);
        if level == 0 {
            let mut leaf = Node::<Pair> { low, high, ..self.tree.node(ptr, level)? };
            let found = leaf.entries.binary_search_by(|pair| pair.key.cmp(key));
            let at = found.unwrap_or_else(|at| at);
            match (change, found) {
                (Change::Insert(bytes), Ok(at)) => {
                    let value = self.value(bytes, ptr.index() as u32)?;
                    let old = std::mem::replace(&mut leaf.entries[at].value, value);
                    self.discard_value(old);
                }
                (Change::Insert(bytes), Err(at)) => {
                    let value = self.value(bytes, ptr.index() as u32)?;
                    leaf.entries.insert(at, Pair { key: *key, value });
                    self.state.keys += 1;
                }
                (Change::Delete, Ok(at)) => {
                    let pair = leaf.entries.remove(at);
                    self.discard_value(pair.value);
                    self.state.keys -= 1;
                }
                (Change::Delete, Err(_)) => return Ok(None),
            }
            let is_append = is_last && at + 1 == leaf.entries.len();
            return self.store(Some(ptr), leaf, is_append).map(Some);
        }
        let mut node = Node::<Branch> { low, high, ..self.tree.node(ptr, level)? };
        node.entries[0].from = low;
        let at = node.entries.partition_point(|branch| branch.from <= *key) - 1;
        let fences = (node.entries[at].from, node.entries.get(at + 1).map(|branch| branch.from).or(high));
        let Some(changed) = self.descend(node.entries[at].node, level - 1, fences, key, change)? else {
            return Ok(None);
        };
        let is_underfull = changed.parts.len() == 1 && changed.words < UNDERFULL_WORDS;
        let is_append = is_last && at + 1 == node.entries.len();
        node.entries.splice(at..=at, changed.parts);
        if is_underfull && matches!(change, Change::Delete) {
            if level == 1 { self.merge::<Pair>(&mut node, at)? } else { self.merge::<Branch>(&mut node, at)? }
        }
        self.store(Some(ptr), node, is_append).map(Some)
    }

    /// Joins the child in slot `at` with a neighbour below the same parent: one node, or two that are alike.
    fn merge<E: Entry>(&mut self, parent: &mut Node<Branch>, at: usize) -> Result<(), CellError> {
        let left = if at + 1 < parent.entries.len() { at } else { at.wrapping_sub(1) };
        let Some([first, second]) = parent.entries.get(left..left.wrapping_add(2)).map(|pair| [pair[0], pair[1]])
        else {
            return Ok(());
        };
        let level = parent.level - 1;
        let (mut node, right) = (self.tree.node::<E>(first.node, level)?, self.tree.node::<E>(second.node, level)?);
        node.low = first.from;
        node.high = parent.entries.get(left + 2).map(|branch| branch.from).or(parent.high);
        node.entries.extend(right.entries);
        let changed = self.store(Some(first.node), node, false)?;
        self.discard_node(second.node);
        parent.entries.splice(left..left + 2, changed.parts);
        Ok(())
    }

    /// Makes `parts` the tree, under as many new levels as they take.
    fn set_root(
        &mut self,
        mut parts: Vec<Branch>,
        mut height: u32,
        low: Number,
        high: Option<Number>,
    ) -> Result<(), CellError> {
        while parts.len() > 1 {
            let node = Node { level: height, low, high, entries: parts };
            parts = self.store(None, node, false)?.parts;
            height += 1;
        }
        self.state.root = Root::new(parts[0].node, height);
        Ok(())
    }

    /// Takes away roots that have one child.
    fn lower_root(&mut self) -> Result<(), CellError> {
        while self.state.root.height() > 1 {
            let root = self.state.root;
            let node = self.tree.node::<Branch>(root.node(), root.height() - 1)?;
            let [only] = node.entries[..] else { break };
            self.discard_node(root.node());
            self.state.root = Root::new(only.node, root.height() - 1);
        }
        Ok(())
    }

    /// Writes a node in place of `old`, as more than one if it has grown too large.
    pub(crate) fn store<E: Entry>(
        &mut self,
        old: Option<NodePtr>,
        node: Node<E>,
        is_append: bool,
    ) -> Result<Changed, CellError> {
        self.tree.check_owner("write a node")?;
        let mut nodes = Vec::with_capacity(1);
        split(node, is_append, &mut nodes);
        let mut parts = Vec::with_capacity(nodes.len());
        let mut words = 0;
        let mut old = old;
        for node in nodes {
            let ptr = match old.take() {
                Some(ptr) if self.fresh.contains_key(&Block::frame(ptr.index() as u32)) => ptr,
                Some(ptr) => {
                    let new = self.place(ptr.index() as u32)?;
                    self.discard_node(ptr);
                    new
                }
                None => self.place(parts.last().map_or(0, |part: &Branch| part.node.index() as u32))?,
            };
            words = node.size();
            self.tree.memory.write(ptr.offset(), &node.encode(ptr));
            parts.push(Branch { from: node.low, node: ptr });
        }
        Ok(Changed { parts, words })
    }

    /// A place for a new node, near frame `near`.
    fn place(&mut self, near: u32) -> Result<NodePtr, CellError> {
        let index = self.tree.space.take_frame(near).ok_or_else(|| self.full())?;
        let generation = self.take(Block::frame(index));
        self.state.nodes += 1;
        Ok(NodePtr::new(index, generation))
    }

    /// Notes that a block was taken; the generation for what is written there.
    fn take(&mut self, block: Block) -> u32 {
        let word = self.tree.memory.load(block.offset());
        self.fresh.insert(block, word);
        generation_for(self.generation, word)
    }

    /// Makes a block free that was taken, with the generation of what was last published there. In a region that
    /// another changed nothing is written.
    fn put_back(&mut self, block: Block, word: u64) {
        if self.tree.check_owner("drop a batch").is_ok() {
            self.tree.memory.publish(block.offset(), word);
        }
        self.tree.space.release(block);
    }

    fn full(&self) -> CellError {
        let State { keys, nodes, .. } = self.tree.state;
        CellError::Full { bytes: self.tree.memory.bytes(), keys, nodes }
    }

    fn discard_node(&mut self, ptr: NodePtr) {
        self.state.nodes -= 1;
        self.discard(Block::frame(ptr.index() as u32));
    }

    fn discard_value(&mut self, value: Value) {
        if let Value::Block { block, .. } = value {
            self.discard(Block { first: block.first() as u32, quarters: block.quarters() as u32 });
        }
    }

    fn discard(&mut self, block: Block) {
        match self.fresh.remove(&block) {
            Some(word) => self.put_back(block, word),
            None => self.retired.push(block),
        }
    }

    /// A value as its leaf is to hold it; a long one is written to a block near frame `near`.
    pub(crate) fn value(&mut self, bytes: &[u8], near: u32) -> Result<Value, CellError> {
        if bytes.len() <= self.tree.inline_max {
            return Ok(Value::inline(bytes));
        }
        self.tree.check_owner("write a value")?;
        let words = block_words(bytes.len() as u64) as usize;
        let quarters = (words as u64 * 8).div_ceil(QUARTER_BYTES) as u32;
        let block = self.tree.space.take_quarters(quarters, near).ok_or_else(|| self.full())?;
        let ptr = ValuePtr::new(block.first, quarters, self.take(block));
        self.tree.memory.write(ptr.offset(), &value_words(ptr, bytes)[..words]);
        Ok(Value::Block { len: bytes.len() as u16, block: ptr })
    }
}

impl<M: Words> Drop for Batch<'_, M> {
    fn drop(&mut self) {
        // After a commit nothing is fresh any more.
        for (block, word) in std::mem::take(&mut self.fresh) {
            self.put_back(block, word);
        }
    }
}

/// The words of a value's block for the place `ptr`.
pub(crate) fn value_words(ptr: ValuePtr, bytes: &[u8]) -> [u64; NODE_WORDS] {
    let mut frame = [0; NODE_WORDS];
    for (word, bytes) in frame[1..].iter_mut().zip(bytes.chunks(8)) {
        *word = padded(bytes);
    }
    frame[0] = value_check(ptr, bytes.len() as u64, &frame) | u64::from(ptr.generation());
    frame
}

/// Word 0 of a value's block, its lower half left 0.
pub(crate) fn value_check(ptr: ValuePtr, len: u64, frame: &[u64; NODE_WORDS]) -> u64 {
    let mut lanes = ptr.lanes(len);
    lanes.take([0, frame[1], frame[2], frame[3]]);
    for words in frame[4..block_words(len).max(4) as usize].as_chunks::<4>().0 {
        lanes.take(*words);
    }
    lanes.checksum() & !0xffff_ffff
}

/// Cuts a node into ones that fit.
fn split<E: Entry>(node: Node<E>, is_append: bool, to: &mut Vec<Node<E>>) {
    if node.size() <= NODE_WORDS {
        to.push(node);
        return;
    }
    let Node { level, low, high, mut entries } = node;
    let at = if is_append { entries.len() - 1 } else { middle(&entries, &low, high.as_ref()) };
    let boundary = E::boundary(&entries[at - 1], &entries[at]);
    let right = entries.split_off(at);
    split(Node { level, low, high: Some(boundary), entries }, false, to);
    split(Node { level, low: boundary, high, entries: right }, false, to);
}

/// Where to cut: of the places that leave both halves between two and three fifths, the one with the shortest
/// fence; if there is none, the place nearest to the middle.
fn middle<E: Entry>(entries: &[E], low: &Number, high: Option<&Number>) -> usize {
    let whole = size(entries, low, high);
    let header = size::<E>(&[], low, high);
    let mut left = header;
    let mut best = (usize::MAX, 0);
    for at in 1..entries.len() {
        left += size(&entries[at - 1..at], low, high) - header;
        let off_middle = (2 * left).abs_diff(whole);
        let rank = if off_middle * 5 <= whole {
            E::boundary(&entries[at - 1], &entries[at]).bytes() * NODE_WORDS * 4 + off_middle
        } else {
            usize::MAX / 2 + off_middle
        };
        best = best.min((rank, at));
    }
    best.1
}
