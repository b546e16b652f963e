//! Bulk load: leaves one behind the other, and each level above them as they come.

use naam_handlers::cell::KEY_MAX;

use crate::CellError;
use crate::change::Batch;
use crate::memory::Words;
use crate::node::{Branch, Entry, Node, Pair, size};
use crate::number::Number;
use crate::tree::{Tree, check_value, number};

/// Words of a node that a load fills; the rest is for what is inserted later.
const FILL_WORDS: usize = naam_handlers::cell::layout::NODE_WORDS * 9 / 10;

/// Entries of a node that is not closed yet. All but the last are known to fit.
struct Open<E> {
    low: Number,
    entries: Vec<E>,
}

impl<E: Entry> Open<E> {
    /// Adds an entry behind the others; the node that is closed by it.
    fn push(&mut self, level: u32, entry: E) -> Option<Node<E>> {
        let Some(last) = self.entries.last() else {
            self.entries.push(entry);
            return None;
        };
        let boundary = E::boundary(last, &entry);
        let fits = size(&self.entries, &self.low, Some(&boundary)) <= FILL_WORDS;
        let closed = if fits || self.entries.len() == 1 { None } else { Some(self.close(level)) };
        self.entries.push(entry);
        closed
    }

    /// Closes all but the last entry, which begins the next node.
    fn close(&mut self, level: u32) -> Node<E> {
        let last = self.entries.pop().expect("two entries or more");
        let boundary = E::boundary(self.entries.last().expect("two entries or more"), &last);
        let entries = std::mem::replace(&mut self.entries, vec![last]);
        let low = std::mem::replace(&mut self.low, boundary);
        Node { level, low, high: Some(boundary), entries }
    }

    /// Closes everything below `high`.
    fn finish(mut self, level: u32, high: Number) -> Vec<Node<E>> {
        let mut nodes = Vec::new();
        if self.entries.len() > 1 && size(&self.entries, &self.low, Some(&high)) > FILL_WORDS {
            nodes.push(self.close(level));
        }
        nodes.push(Node { level, low: self.low, high: Some(high), entries: self.entries });
        nodes
    }
}

struct Loader<'t, M: Words> {
    batch: Batch<'t, M>,
    low: Number,
    leaf: Open<Pair>,
    /// From the level above the leaves on.
    levels: Vec<Open<Branch>>,
}

impl<M: Words> Loader<'_, M> {
    fn store<E: Entry>(&mut self, node: Node<E>) -> Result<(), CellError> {
        let level = node.level as usize;
        let changed = self.batch.store(None, node, false)?;
        changed.parts.into_iter().try_for_each(|branch| self.add(level, branch))
    }

    /// Adds a node of `level` to its parent.
    fn add(&mut self, level: usize, branch: Branch) -> Result<(), CellError> {
        if self.levels.len() == level {
            self.levels.push(Open { low: self.low, entries: Vec::new() });
        }
        match self.levels[level].push(level as u32 + 1, branch) {
            Some(node) => self.store(node),
            None => Ok(()),
        }
    }
}

impl<M: Words> Tree<M> {
    /// Fills an empty tree with ascending pairs; all become visible at once.
    ///
    /// # Errors
    /// [`CellError::NotEmpty`], [`CellError::Unsorted`], [`CellError::Key`], [`CellError::Value`],
    /// [`CellError::Full`], [`CellError::ChangedByAnother`]: the tree is empty still.
    pub fn load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), CellError> {
        if self.state.keys != 0 {
            return Err(CellError::NotEmpty { keys: self.state.keys });
        }
        let old = self.state.root.node();
        let mut batch = self.batch();
        batch.unless_failed(|_| Ok(()))?;
        let mut pairs = pairs.into_iter();
        let Some((key, value)) = pairs.next() else { return Ok(()) };
        let key = number(key.as_ref())?;
        check_value(value.as_ref())?;
        let value = batch.value(value.as_ref(), 0)?;
        let mut keys = 1;
        let (low, mut last) = (key.truncated(KEY_MAX), key);
        let leaf = Open { low, entries: vec![Pair { key, value }] };
        let mut loader = Loader { batch, low, leaf, levels: Vec::new() };
        for (key, value) in pairs {
            let key = number(key.as_ref())?;
            check_value(value.as_ref())?;
            if key <= last {
                return Err(CellError::Unsorted { number: keys });
            }
            let value = loader.batch.value(value.as_ref(), 0)?;
            if let Some(node) = loader.leaf.push(0, Pair { key, value }) {
                loader.store(node)?;
            }
            last = key;
            keys += 1;
        }
        let high = last.after(last.common(&low) + 2);
        let leaf = std::mem::replace(&mut loader.leaf, Open { low, entries: Vec::new() });
        for node in leaf.finish(0, high) {
            loader.store(node)?;
        }
        let mut level = 0;
        while level < loader.levels.len() {
            let is_top = level + 1 == loader.levels.len();
            if is_top && loader.levels[level].entries.len() == 1 {
                break;
            }
            let open = std::mem::replace(&mut loader.levels[level], Open { low, entries: Vec::new() });
            for node in open.finish(level as u32 + 1, high) {
                loader.store(node)?;
            }
            level += 1;
        }
        let Loader { mut batch, levels, .. } = loader;
        let root = levels.last().expect("the leaves have a parent").entries[0].node;
        batch.finish_load(root, levels.len() as u32, keys, (low, high), old);
        batch.commit()
    }
}
