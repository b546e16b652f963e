//! Request slots: what makes a writing call run exactly once.

use naam_abi::limits::SLOTS_MAX;

/// The session's slots and the sequence each has reached.
///
/// A slot serves one call at a time, under a sequence of its own that all attempts share. The host
/// refuses whatever is older than the newest sequence it has seen in a slot, so a slot may be
/// used again even if the fate of its last call is unknown.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    free: Vec<u16>,
    sequences: Box<[u32]>,
}

/// A slot in use. Comes back through [`Slots::give_back`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub number: u16,
    pub sequence: u32,
}

impl Slots {
    pub(crate) fn new(count: u16) -> Self {
        let count = count.min(SLOTS_MAX as u16);
        Self { free: (0..count).rev().collect(), sequences: vec![0; usize::from(count)].into() }
    }

    pub(crate) fn count(&self) -> usize {
        self.sequences.len()
    }

    /// Slots that no call has.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// A free slot and its next sequence, if there is one.
    pub(crate) fn take(&mut self) -> Option<Slot> {
        let number = self.free.pop()?;
        let sequence = &mut self.sequences[usize::from(number)];
        *sequence += 1;
        Some(Slot { number, sequence: *sequence })
    }

    /// A slot whose sequences are used up does not come back: they must never repeat.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        debug_assert!(!self.free.contains(&slot.number));
        if slot.sequence < u32::MAX {
            self.free.push(slot.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_grow_and_never_wrap() {
        let mut slots = Slots::new(2);
        let first = slots.take().unwrap();
        let second = slots.take().unwrap();
        assert_eq!((first.sequence, second.sequence, slots.take()), (1, 1, None));
        let number = first.number;
        slots.give_back(first);
        let again = slots.take().unwrap();
        assert_eq!((again.number, again.sequence), (number, 2));
        slots.sequences[usize::from(number)] = u32::MAX - 1;
        slots.give_back(again);
        let last = slots.take().unwrap();
        assert_eq!(last.sequence, u32::MAX);
        slots.give_back(last);
        assert_eq!(slots.take(), None);
    }
}
