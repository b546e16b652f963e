//! Which frames are free, and which must wait before they are used again.
//!
//! Kept in the owner's memory only: what the tree does not reach is free, so that a walk finds it all
//! again after a crash.

use std::collections::{BTreeSet, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

use naam_handlers::cell::layout::{EXTENT_BYTES, NODE_BYTES, QUARTER_BYTES};

/// Quarters of a frame.
pub const QUARTERS: u32 = 4;
const FULL: u8 = (1 << QUARTERS) - 1;

/// Part of a frame: its first quarter, counted through the region, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    pub first: u32,
    pub quarters: u32,
}

impl Block {
    /// A whole frame.
    pub fn frame(index: u32) -> Self {
        Self { first: index * QUARTERS, quarters: QUARTERS }
    }

    /// The frame's number.
    pub fn index(self) -> u32 {
        self.first / QUARTERS
    }

    /// Byte offset.
    pub fn offset(self) -> u64 {
        u64::from(self.first) * QUARTER_BYTES
    }

    fn mask(self) -> u8 {
        ((1u8 << self.quarters) - 1) << (self.first % QUARTERS)
    }
}

/// How long freed blocks wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// Blocks that wait at most: more, and the oldest is free, once its time is over; a publication that
    /// would make it more waits for that.
    pub blocks: usize,
    /// How long a block waits at least.
    pub time: Duration,
}

impl Default for Quarantine {
    /// 16,384 blocks, 5 ms: the kernel gives a message 1 ms, a client's engine is given some round trips.
    fn default() -> Self {
        Self { blocks: 16_384, time: Duration::from_millis(5) }
    }
}

/// 64 MiB of frames, or all there are in a smaller region. Frame 0 is the header.
#[derive(Debug)]
struct Extent {
    /// Frames that were never taken begin here.
    fresh: u32,
    end: u32,
    free: Vec<u32>,
}

impl Extent {
    fn take(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        (self.fresh < self.end).then(|| {
            self.fresh += 1;
            self.fresh - 1
        })
    }
}

/// All frames of a region.
#[derive(Debug)]
pub struct Space {
    extents: Vec<Extent>,
    frames_of_extent: u32,
    /// Quarters in use, a bit each, by frame.
    used: Vec<u8>,
    /// Frames in part used by values that have 1, 2, 3 free quarters side by side.
    partial: [BTreeSet<u32>; 3],
    waiting: VecDeque<(Block, Instant)>,
    quarantine: Quarantine,
    frames_used: u32,
}

/// The longest run of free quarters: its first and its length.
fn longest_run(used: u8) -> (u32, u32) {
    let run = |first: u32| (first..QUARTERS).take_while(|at| used >> at & 1 == 0).count() as u32;
    (0..QUARTERS).map(|first| (first, run(first))).max_by_key(|&(first, run)| (run, QUARTERS - first)).unwrap_or((0, 0))
}

impl Space {
    /// The frames of a region of `bytes` bytes, of which the headers alone are in use.
    pub fn new(bytes: u64, quarantine: Quarantine) -> Self {
        let frames = (bytes / NODE_BYTES) as u32;
        let frames_of_extent = (EXTENT_BYTES / NODE_BYTES) as u32;
        let first_frames = (0..frames).step_by(frames_of_extent as usize);
        let extent =
            |first: u32| Extent { fresh: first + 1, end: (first + frames_of_extent).min(frames), free: Vec::new() };
        let extents: Vec<_> = first_frames.clone().map(extent).collect();
        let mut used = vec![0; frames as usize];
        first_frames.for_each(|first| used[first as usize] = FULL);
        let frames_used = extents.len() as u32;
        Self {
            extents,
            frames_of_extent,
            used,
            partial: Default::default(),
            waiting: VecDeque::new(),
            quarantine,
            frames_used,
        }
    }

    /// The first frames of all extents.
    pub fn headers(&self) -> impl Iterator<Item = u32> + use<> {
        (0..self.used.len() as u32).step_by(self.frames_of_extent as usize)
    }

    /// Frames in use or waiting, headers included.
    pub fn frames_used(&self) -> u32 {
        self.frames_used
    }

    /// All frames.
    pub fn frames(&self) -> u32 {
        self.used.len() as u32
    }

    /// Blocks that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Marks a block that a walk found; false if it is in use or outside.
    pub fn mark(&mut self, block: Block) -> bool {
        let inside = block.quarters <= QUARTERS && block.first % QUARTERS + block.quarters <= QUARTERS;
        let Some(used) = self.used.get_mut(block.index() as usize).filter(|_| inside && block.quarters != 0) else {
            return false;
        };
        if *used & block.mask() != 0 {
            return false;
        }
        self.frames_used += u32::from(*used == 0);
        *used |= block.mask();
        true
    }

    /// After a walk: what it did not mark is free.
    pub fn free_unmarked(&mut self) {
        for extent in &mut self.extents {
            let last_used = (extent.fresh..extent.end).rev().find(|&index| self.used[index as usize] != 0);
            let fresh = last_used.map_or(extent.fresh, |index| index + 1);
            extent.free = (extent.fresh..fresh).rev().filter(|&index| self.used[index as usize] == 0).collect();
            for index in extent.fresh..fresh {
                let (used, (_, run)) = (self.used[index as usize], longest_run(self.used[index as usize]));
                if used != 0 && run != 0 {
                    (0..run).for_each(|set| _ = self.partial[set as usize].insert(index));
                }
            }
            extent.fresh = fresh;
        }
    }

    /// A free frame, in the extent of frame `near` if there is one.
    pub fn take_frame(&mut self, near: u32) -> Option<u32> {
        loop {
            let home = (near / self.frames_of_extent) as usize;
            let index = self.extents[home].take().or_else(|| self.extents.iter_mut().find_map(Extent::take));
            if let Some(index) = index {
                self.used[index as usize] = FULL;
                self.frames_used += 1;
                return Some(index);
            }
            self.wait_for_one()?;
        }
    }

    /// A block of 1 to 4 free quarters for a value, in the extent of frame `near` if there is one.
    pub fn take_quarters(&mut self, quarters: u32, near: u32) -> Option<Block> {
        if quarters < QUARTERS {
            let set = &self.partial[quarters as usize - 1];
            let home = near / self.frames_of_extent * self.frames_of_extent;
            let found = set.range(home..home + self.frames_of_extent).next().or_else(|| set.first()).copied();
            if let Some(index) = found {
                let (first, _) = longest_run(self.used[index as usize]);
                let block = Block { first: index * QUARTERS + first, quarters };
                self.set_used(index, self.used[index as usize] | block.mask());
                return Some(block);
            }
        }
        let index = self.take_frame(near)?;
        let block = Block { first: index * QUARTERS, quarters };
        if quarters < QUARTERS {
            self.set_used(index, block.mask());
        }
        Some(block)
    }

    /// Makes a block free at once: nobody was ever told of it.
    pub fn release(&mut self, block: Block) {
        let index = block.index();
        let used = self.used[index as usize] & !block.mask();
        self.set_used(index, used);
        if used == 0 {
            self.frames_used -= 1;
            self.extents[(index / self.frames_of_extent) as usize].free.push(index);
        }
    }

    fn set_used(&mut self, index: u32, used: u8) {
        self.used[index as usize] = used;
        let run = if used == 0 { 0 } else { longest_run(used).1 as usize };
        for (set, frames) in self.partial.iter_mut().enumerate() {
            if set < run {
                frames.insert(index)
            } else {
                frames.remove(&index)
            };
        }
    }

    /// Lets a block that readers may still look at wait.
    pub fn retire(&mut self, block: Block, now: Instant) {
        self.waiting.push_back((block, now));
        while self.waiting.len() > self.quarantine.blocks {
            self.wait_for_one();
        }
    }

    /// Frees the oldest block that waits, when its time is over; `None` if none waits.
    fn wait_for_one(&mut self) -> Option<()> {
        let (block, since) = self.waiting.pop_front()?;
        let left = self.quarantine.time.saturating_sub(since.elapsed());
        if !left.is_zero() {
            thread::sleep(left);
        }
        self.release(block);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const NO_WAIT: Quarantine = Quarantine { blocks: 0, time: Duration::ZERO };

    #[test]
    fn every_frame_is_given_once_and_taken_again() {
        let mut space = Space::new(128 << 20, NO_WAIT);
        let near = (EXTENT_BYTES / NODE_BYTES) as u32 + 5;
        let taken: Vec<_> = std::iter::from_fn(|| space.take_frame(near)).collect();
        assert_eq!(taken.iter().collect::<HashSet<_>>().len(), (128 << 10) - 2);
        assert!(taken[0] > 64 << 10, "the extent of the neighbour comes first");
        assert_eq!(space.frames_used(), space.frames());
        taken.iter().for_each(|&index| space.release(Block::frame(index)));
        assert_eq!(space.frames_used(), 2);
    }

    #[test]
    fn quarters_share_frames_and_give_them_back() {
        let mut space = Space::new(2 << 20, NO_WAIT);
        let mut blocks = Vec::new();
        for quarters in [1, 2, 3, 1, 1, 2, 4, 1] {
            blocks.push(space.take_quarters(quarters, 0).unwrap());
        }
        let taken: u32 = blocks.iter().map(|block| block.quarters).sum();
        let distinct: HashSet<_> = blocks.iter().flat_map(|block| block.first..block.first + block.quarters).collect();
        assert_eq!(distinct.len() as u32, taken);
        assert_eq!(space.frames_used(), 1 + 4, "{blocks:?}");
        blocks.into_iter().for_each(|block| space.release(block));
        assert_eq!(space.frames_used(), 1);
        assert!(space.partial.iter().all(BTreeSet::is_empty));
    }

    #[test]
    fn blocks_wait_their_time_and_no_more_of_them_than_allowed() {
        let time = Duration::from_millis(20);
        let mut space = Space::new(2 << 20, Quarantine { blocks: 2, time });
        let begin = Instant::now();
        for index in 1..=3 {
            let index = {
                assert_eq!(space.take_frame(0), Some(index));
                index
            };
            space.retire(Block::frame(index), begin);
            assert_eq!(space.waiting(), 2.min(index as usize));
        }
        assert!(begin.elapsed() >= time);
        assert_eq!(space.take_frame(0), Some(1));
    }

    #[test]
    fn a_walk_finds_what_is_free() {
        let mut space = Space::new(2 << 20, NO_WAIT);
        assert!(space.mark(Block::frame(7)) && !space.mark(Block::frame(7)) && !space.mark(Block::frame(0)));
        assert!(
            space.mark(Block { first: 9 * 4 + 1, quarters: 2 }) && !space.mark(Block { first: 9 * 4 + 3, quarters: 2 })
        );
        assert!(!space.mark(Block { first: 9 * 4, quarters: 0 }) && !space.mark(Block::frame(1 << 20)));
        space.free_unmarked();
        assert_eq!(space.frames_used(), 3);
        assert_eq!(space.take_quarters(1, 0), Some(Block { first: 9 * 4, quarters: 1 }));
        let taken: Vec<_> = (0..8).map(|_| space.take_frame(0).unwrap()).collect();
        assert_eq!(taken, [1, 2, 3, 4, 5, 6, 8, 10]);
    }
}
