//! Operations that have begun and not ended: a table of slots, and the tokens that name them.

use crate::source::Request;
use crate::target::Failure;

/// Operations that one thread may have in flight.
pub const WINDOW_MAX: usize = 1 << INDEX_BITS;

const INDEX_BITS: u32 = 20;
const PART_BITS: u32 = 8;
const GENERATION_SHIFT: u32 = INDEX_BITS + PART_BITS;

/// What a target gives back: slot, part of the operation, and which of the slot's operations it was, so that the
/// end of one that was given up is not taken for the end of its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token(pub(super) u64);

impl Token {
    fn new(index: u32, generation: u64) -> Self {
        Self(u64::from(index) | generation << GENERATION_SHIFT)
    }

    /// The token of the same operation's part `part`.
    pub(super) fn with_part(self, part: u8) -> Self {
        Self(self.0 & !(u64::from(u8::MAX) << INDEX_BITS) | u64::from(part) << INDEX_BITS)
    }

    fn index(self) -> u32 {
        (self.0 & ((1 << INDEX_BITS) - 1)) as u32
    }

    pub(super) fn part(self) -> u8 {
        (self.0 >> INDEX_BITS) as u8
    }

    fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }
}

/// One operation in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) request: Request,
    pub(super) intended_ns: u64,
    pub(super) begun_ns: u64,
    /// Parts submitted; the next has this number.
    pub(super) parts_submitted: u8,
    /// Parts that may be submitted by now.
    pub(super) parts_ready: u8,
    /// Parts that have not ended, unsubmitted ones included.
    pub(super) parts_left: u8,
    /// First failure of a part.
    pub(super) failure: Option<Failure>,
    generation: u64,
    live: bool,
}

/// The slots of one thread.
#[derive(Debug)]
pub(super) struct Inflight {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Inflight {
    pub(super) fn new(window: usize) -> Self {
        let window = window.clamp(1, WINDOW_MAX);
        let request = Request { kind: crate::workload::OpKind::Read, record: 0, version: 0, records: 1 };
        let slot = Slot {
            request,
            intended_ns: 0,
            begun_ns: 0,
            parts_submitted: 0,
            parts_ready: 0,
            parts_left: 0,
            failure: None,
            generation: 0,
            live: false,
        };
        Self { slots: vec![slot; window], free: (0..window as u32).rev().collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Takes a slot for an operation of `parts` parts, all of which may be submitted.
    #[inline]
    pub(super) fn begin(&mut self, request: Request, parts: u8, intended_ns: u64, now_ns: u64) -> Option<u32> {
        let index = self.free.pop()?;
        let generation = (self.slots[index as usize].generation + 1) & (u64::MAX >> GENERATION_SHIFT);
        self.slots[index as usize] = Slot {
            request,
            intended_ns,
            begun_ns: now_ns,
            parts_submitted: 0,
            parts_ready: parts,
            parts_left: parts,
            failure: None,
            generation,
            live: true,
        };
        Some(index)
    }

    /// The operation in a slot, while it lives.
    #[inline]
    pub(super) fn get(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize).filter(|slot| slot.live)
    }

    /// The token of a slot's operation, and of its first part.
    #[inline]
    pub(super) fn token(&self, index: u32) -> Token {
        Token::new(index, self.slots[index as usize].generation)
    }

    /// The slot of a token, unless its operation is over.
    #[inline]
    pub(super) fn find(&mut self, token: Token) -> Option<(u32, &mut Slot)> {
        let index = token.index();
        let slot = self.get(index).filter(|slot| slot.generation == token.generation())?;
        Some((index, slot))
    }

    /// Ends the operation in a slot.
    #[inline]
    pub(super) fn end(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.live, "slot {index} ends twice");
        slot.live = false;
        self.free.push(index);
    }

    /// A slot whose operation began before `before_ns`, at or after `from`.
    pub(super) fn overdue(&self, from: u32, before_ns: u64) -> Option<u32> {
        let late = |slot: &Slot| slot.live && slot.begun_ns < before_ns;
        let offset = self.slots.get(from as usize..)?.iter().position(late)?;
        Some(from + offset as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::OpKind;
    use proptest::prelude::*;

    const READ: Request = Request { kind: OpKind::Read, record: 5, version: 0, records: 1 };

    proptest! {
        #[test]
        fn tokens_keep_their_fields(index in 0..WINDOW_MAX as u32, part: u8, generation in 0..1u64 << 36) {
            let token = Token::new(index, generation).with_part(!part).with_part(part);
            prop_assert_eq!((token.index(), token.part(), token.generation()), (index, part, generation));
        }
    }

    #[test]
    fn a_successor_does_not_answer_to_the_old_token() {
        let mut inflight = Inflight::new(1);
        let index = inflight.begin(READ, 1, 0, 0).expect("one slot is free");
        let old = inflight.token(index);
        assert!(inflight.is_full() && inflight.begin(READ, 1, 0, 0).is_none());
        assert!(inflight.find(old).is_some());
        inflight.end(index);
        assert!(inflight.find(old).is_none());
        assert_eq!(inflight.begin(READ, 1, 0, 0), Some(index));
        assert!(inflight.find(old).is_none());
        assert!(inflight.find(inflight.token(index)).is_some());
    }

    #[test]
    fn overdue_operations_are_found_one_after_another() {
        let mut inflight = Inflight::new(4);
        for begun in [10, 50, 20] {
            inflight.begin(READ, 1, 0, begun);
        }
        assert_eq!(inflight.len(), 3);
        assert_eq!(inflight.overdue(0, 30), Some(0));
        assert_eq!(inflight.overdue(1, 30), Some(2));
        assert_eq!(inflight.overdue(3, 30), None);
        assert_eq!(inflight.overdue(9, 30), None);
    }
}
