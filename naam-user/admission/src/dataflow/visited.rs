//! States that were seen before, and the search for one that covers a new one.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::scalar::Scalar;
use super::stack::Slot;
use super::state::State;
use super::tnum::Tnum;
use super::value::Value;

/// What is left of a state after forgetting.
#[derive(Debug)]
pub(super) struct Saved {
    frames: Vec<SavedFrame>,
}

#[derive(Debug)]
struct SavedFrame {
    regs: Vec<(usize, Value)>,
    slots: Vec<(usize, Slot)>,
}

impl Saved {
    pub fn of(state: &State) -> Self {
        let frames = state.frames.iter().map(|frame| SavedFrame {
            regs: frame.regs().iter().copied().enumerate().filter(|(_, value)| *value != Value::Unusable).collect(),
            slots: frame.stack.slots().map(|(n, slot)| (n, *slot)).filter(|(_, s)| *s != Slot::UNWRITTEN).collect(),
        });
        Self { frames: frames.collect() }
    }

    /// Values that are kept.
    pub fn len(&self) -> usize {
        self.frames.iter().map(|frame| 1 + frame.regs.len() + frame.slots.len()).sum()
    }

    /// Whether every concrete state that `other` stands for is one of this. Both stand at the same
    /// instruction, called from the same places.
    pub fn covers(&self, other: &Self) -> bool {
        self.covers_but(other, None)
    }

    /// The same, not looking at one register of the running function.
    fn covers_but(&self, other: &Self, but: Option<usize>) -> bool {
        let mut links: Vec<(u32, u32)> = Vec::new();
        // Numbers that are equal here must be equal there.
        let mut same_id = |here: u32, there: u32| {
            if here == 0 {
                return true;
            }
            match links.iter().find(|(known, _)| *known == here) {
                Some((_, linked)) => *linked == there,
                None => {
                    links.push((here, there));
                    there != 0
                }
            }
        };
        let running = self.frames.len() - 1;
        self.frames.iter().zip(&other.frames).enumerate().all(|(depth, (a, b))| {
            let but = but.filter(|_| depth == running);
            a.regs.iter().filter(|(reg, _)| Some(*reg) != but).all(|(reg, value)| {
                b.regs.iter().find(|(n, _)| n == reg).is_some_and(|(_, other)| value.covers(other, &mut same_id))
            }) && a.slots.iter().all(|(index, slot)| {
                let other = b.slots.iter().find(|(n, _)| n == index).map_or(&Slot::UNWRITTEN, |(_, slot)| slot);
                slot.covers(other, &mut same_id)
            })
        })
    }

    /// The scalar in a register of the running function.
    fn scalar(&self, reg: usize) -> Option<&Scalar> {
        let top = &self.frames[self.frames.len() - 1];
        top.regs.iter().find_map(|(n, value)| match value {
            Value::Scalar(scalar) if *n == reg => Some(scalar),
            _ => None,
        })
    }

    /// If this covers `other` but for the number in one register of the running function: that
    /// register, and more numbers than it holds in either. What was joined before grows to powers
    /// of two, or a register with many constants would be joined as many times.
    pub fn join(&self, other: &Self) -> Option<(usize, Scalar)> {
        let top = &self.frames[self.frames.len() - 1];
        let (reg, here, there) = top.regs.iter().find_map(|(reg, _)| {
            let (here, there) = (self.scalar(*reg)?, other.scalar(*reg)?);
            (!here.covers(there)).then_some((*reg, here, there))
        })?;
        if !self.covers_but(other, Some(reg)) {
            return None;
        }
        let mut joined = here.join(there);
        if here.constant().is_none() {
            let grown = Tnum::range(joined.whole.umin, joined.whole.umax);
            joined = joined.join(&Scalar::UNKNOWN.with_bits(grown));
        }
        (!there.covers(&joined)).then_some((reg, joined))
    }

    /// The running function's constants: which registers, and what.
    fn constants(&self) -> impl Iterator<Item = (usize, u64)> {
        let top = &self.frames[self.frames.len() - 1];
        top.regs.iter().filter_map(|(reg, value)| Some((*reg, value.constant()?)))
    }

    /// The registers that hold constants.
    fn constant_regs(&self) -> u16 {
        self.constants().fold(0, |mask, (reg, _)| mask | 1 << reg)
    }

    /// A hash of the constants in these registers.
    fn digest(&self, regs: u16) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.constants().filter(|(reg, _)| regs >> reg & 1 != 0).for_each(|pair| pair.hash(&mut hasher));
        hasher.finish()
    }
}

/// States of one group that are looked at as neighbours.
const NEIGHBOURS_MAX: usize = 8;

/// The states seen at one place. A constant is covered by the same constant only, so states are
/// grouped by their constants: a loop with a counter does not search its earlier rounds.
#[derive(Default)]
pub(super) struct Seen {
    groups: Vec<(u16, HashMap<u64, Vec<usize>>)>,
    /// The latest node by a register that holds a constant and all its other constants.
    near: HashMap<(usize, u64), usize>,
    /// Number of nodes.
    pub count: usize,
}

impl Seen {
    /// Nodes whose states may cover this one, the latest `max` of each group first.
    pub fn candidates<'a>(&'a self, saved: &Saved, max: usize) -> impl Iterator<Item = usize> + use<'a> {
        let constant = saved.constant_regs();
        let lists: Vec<&Vec<usize>> = self
            .groups
            .iter()
            .filter(|(regs, _)| regs & !constant == 0)
            .filter_map(|(regs, nodes)| nodes.get(&saved.digest(*regs)))
            .collect();
        lists.into_iter().flat_map(move |nodes| nodes.iter().rev().take(max).copied())
    }

    /// Nodes that may differ from this state in one register only.
    pub fn neighbours(&self, saved: &Saved) -> Vec<usize> {
        let constant = saved.constant_regs();
        let mut found: Vec<usize> = self.candidates(saved, NEIGHBOURS_MAX).collect();
        for (reg, _) in saved.constants() {
            let others = constant & !(1 << reg);
            let digest = saved.digest(others);
            let joined = self.groups.iter().find(|(regs, _)| *regs == others).and_then(|(_, nodes)| nodes.get(&digest));
            found.extend(joined.and_then(|nodes| nodes.last()));
            found.extend(self.near.get(&(reg, digest)));
        }
        found
    }

    /// The number of groups.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Adds a node; `near` if [`Seen::neighbours`] will be asked for it.
    pub fn insert(&mut self, saved: &Saved, node: usize, near: bool) {
        let regs = saved.constant_regs();
        let digest = saved.digest(regs);
        self.count += 1;
        for (reg, _) in saved.constants().filter(|_| near) {
            self.near.insert((reg, saved.digest(regs & !(1 << reg))), node);
        }
        let group = match self.groups.iter().position(|(known, _)| *known == regs) {
            Some(group) => group,
            None => {
                self.groups.push((regs, HashMap::new()));
                self.groups.len() - 1
            }
        };
        self.groups[group].1.entry(digest).or_default().push(node);
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::{Base, Pointer};
    use super::*;

    /// A state whose registers from r0 on hold these values.
    fn saved(values: &[Value]) -> Saved {
        let mut state = State::start();
        for reg in 0..10 {
            state.set_reg(reg, values.get(usize::from(reg)).copied().unwrap_or(Value::Unusable));
        }
        Saved::of(&state)
    }

    fn number(n: u64) -> Value {
        Value::Scalar(Scalar::known(n))
    }

    fn unknown(id: u32) -> Value {
        Value::Scalar(Scalar { id, ..Scalar::UNKNOWN })
    }

    #[test]
    fn larger_states_cover_smaller_ones() {
        let pointer = Value::Pointer(Pointer::start(Base::View));
        let other = Value::Pointer(Pointer::start(Base::Message));
        assert!(saved(&[unknown(0), pointer]).covers(&saved(&[number(5), pointer])));
        assert!(!saved(&[number(5), pointer]).covers(&saved(&[unknown(0), pointer])));
        assert!(!saved(&[number(5)]).covers(&saved(&[number(6)])));
        assert!(!saved(&[unknown(0)]).covers(&saved(&[pointer])));
        assert!(!saved(&[pointer]).covers(&saved(&[other])));
        // What is not kept is not needed.
        assert!(saved(&[number(5)]).covers(&saved(&[number(5), pointer])));
        assert!(!saved(&[number(5), pointer]).covers(&saved(&[number(5)])));
    }

    #[test]
    fn links_must_hold_on_both_sides() {
        let linked = saved(&[unknown(1), unknown(1)]);
        assert!(linked.covers(&saved(&[unknown(7), unknown(7)])));
        assert!(!linked.covers(&saved(&[unknown(7), unknown(8)])));
        assert!(!linked.covers(&saved(&[unknown(0), unknown(0)])));
        assert!(saved(&[unknown(0), unknown(0)]).covers(&linked));
        assert!(saved(&[unknown(1), unknown(2)]).covers(&linked));
    }

    #[test]
    fn constants_find_their_group() {
        let mut seen = Seen::default();
        seen.insert(&saved(&[number(1), number(2)]), 0, true);
        seen.insert(&saved(&[number(1), unknown(0)]), 1, true);
        seen.insert(&saved(&[number(3), number(2)]), 2, true);
        let search = |values: &[Value]| {
            let mut found: Vec<_> = seen.candidates(&saved(values), 8).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(search(&[number(1), number(2)]), [0, 1]);
        assert_eq!(search(&[number(1), unknown(0)]), [1]);
        assert_eq!(search(&[number(4), number(2)]), [0; 0]);
        assert!(seen.neighbours(&saved(&[number(4), number(2)])).contains(&2));
    }

    #[test]
    fn a_join_holds_both_and_differs_in_one_register() {
        let (four, nine) = (saved(&[number(1), number(4)]), saved(&[number(1), number(9)]));
        let (reg, joined) = four.join(&nine).unwrap();
        assert_eq!((reg, joined.whole.umin, joined.whole.umax), (1, 4, 9));
        assert!(saved(&[number(2), number(4)]).join(&nine).is_none());
        assert!(nine.join(&nine).is_none());
    }
}
