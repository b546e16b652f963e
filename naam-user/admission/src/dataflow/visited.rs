//! States that were seen before, and the search for one that covers a new one.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::stack::Slot;
use super::state::State;
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

    /// Whether every concrete state that `other` stands for is one of this. Both stand at the same
    /// instruction, called from the same places.
    pub fn covers(&self, other: &Self) -> bool {
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
        self.frames.iter().zip(&other.frames).all(|(a, b)| {
            a.regs.iter().all(|(reg, value)| {
                b.regs.iter().find(|(n, _)| n == reg).is_some_and(|(_, other)| value.covers(other, &mut same_id))
            }) && a.slots.iter().all(|(index, slot)| {
                let other = b.slots.iter().find(|(n, _)| n == index).map_or(&Slot::UNWRITTEN, |(_, slot)| slot);
                slot.covers(other, &mut same_id)
            })
        })
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

/// The states seen at one place. A constant is covered by the same constant only, so states are
/// grouped by their constants: a loop with a counter does not search its earlier rounds.
#[derive(Default)]
pub(super) struct Seen {
    groups: Vec<(u16, HashMap<u64, Vec<usize>>)>,
}

impl Seen {
    /// Nodes whose states may cover this one, the latest of each group first.
    pub fn candidates<'a>(&'a self, saved: &Saved) -> impl Iterator<Item = usize> + use<'a> {
        let constant = saved.constant_regs();
        let lists: Vec<&Vec<usize>> = self
            .groups
            .iter()
            .filter(|(regs, _)| regs & !constant == 0)
            .filter_map(|(regs, nodes)| nodes.get(&saved.digest(*regs)))
            .collect();
        lists.into_iter().flat_map(|nodes| nodes.iter().rev().copied())
    }

    pub fn insert(&mut self, saved: &Saved, node: usize) {
        let regs = saved.constant_regs();
        let digest = saved.digest(regs);
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
