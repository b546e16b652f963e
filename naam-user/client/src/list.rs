//! Doubly linked lists over a fixed set of nodes, by index: no allocation, O(1) removal.

/// No node, or no list.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
    list: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    head: u32,
    tail: u32,
    len: u32,
}

/// Some lists over `nodes` nodes. A node stands in at most one of them.
#[derive(Clone, Debug)]
pub(crate) struct Lists {
    links: Box<[Link]>,
    ends: Box<[Ends]>,
}

impl Lists {
    pub(crate) fn new(nodes: usize, lists: usize) -> Self {
        Self {
            links: vec![Link { previous: NONE, next: NONE, list: NONE }; nodes].into(),
            ends: vec![Ends { head: NONE, tail: NONE, len: 0 }; lists].into(),
        }
    }

    /// Appends a node that stands in no list.
    pub(crate) fn push_back(&mut self, list: u32, node: u32) {
        let tail = self.ends[list as usize].tail;
        self.insert(list, node, tail, NONE);
    }

    /// Puts a node that stands in no list before all others.
    pub(crate) fn push_front(&mut self, list: u32, node: u32) {
        let head = self.ends[list as usize].head;
        self.insert(list, node, NONE, head);
    }

    fn insert(&mut self, list: u32, node: u32, previous: u32, next: u32) {
        debug_assert_eq!(self.links[node as usize].list, NONE, "node {node} stands in a list already");
        self.links[node as usize] = Link { previous, next, list };
        let ends = &mut self.ends[list as usize];
        ends.len += 1;
        match previous {
            NONE => ends.head = node,
            previous => self.links[previous as usize].next = node,
        }
        match next {
            NONE => ends.tail = node,
            next => self.links[next as usize].previous = node,
        }
    }

    /// Takes a node out of its list; returns which that was, if any.
    pub(crate) fn remove(&mut self, node: u32) -> Option<u32> {
        let Link { previous, next, list } = self.links[node as usize];
        if list == NONE {
            return None;
        }
        let ends = &mut self.ends[list as usize];
        ends.len -= 1;
        match previous {
            NONE => ends.head = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NONE => ends.tail = previous,
            next => self.links[next as usize].previous = previous,
        }
        self.links[node as usize].list = NONE;
        Some(list)
    }

    pub(crate) fn front(&self, list: u32) -> Option<u32> {
        let head = self.ends[list as usize].head;
        (head != NONE).then_some(head)
    }

    pub(crate) fn pop_front(&mut self, list: u32) -> Option<u32> {
        let node = self.front(list)?;
        self.remove(node);
        Some(node)
    }

    pub(crate) fn len(&self, list: u32) -> usize {
        self.ends[list as usize].len as usize
    }

    pub(crate) fn is_empty(&self, list: u32) -> bool {
        self.len(list) == 0
    }

    /// The list a node stands in.
    pub(crate) fn list_of(&self, node: u32) -> Option<u32> {
        let list = self.links[node as usize].list;
        (list != NONE).then_some(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(lists: &mut Lists, list: u32) -> Vec<u32> {
        std::iter::from_fn(|| lists.pop_front(list)).collect()
    }

    #[test]
    fn nodes_leave_from_head_middle_and_tail() {
        let mut lists = Lists::new(5, 2);
        for node in 1..5 {
            lists.push_back(0, node);
        }
        lists.push_front(0, 0);
        for node in [0, 2, 4] {
            assert_eq!(lists.remove(node), Some(0));
            assert_eq!((lists.remove(node), lists.list_of(node)), (None, None));
        }
        lists.push_back(1, 2);
        assert_eq!((lists.len(0), lists.list_of(2), lists.list_of(3)), (2, Some(1), Some(0)));
        assert_eq!((drain(&mut lists, 0), drain(&mut lists, 1)), (vec![1, 3], vec![2]));
        assert!(lists.is_empty(0) && lists.is_empty(1));
    }
}
