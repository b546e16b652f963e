//! A timer wheel: one timer per node, O(1) to set and cancel, no allocation.
//!
//! Timers run out at most one tick late. Those beyond the wheel's span wait in its last bucket
//! and are sorted in again when their turn seems to have come.

use crate::list::Lists;

/// A tick is 2^17 ns, 131 µs.
const TICK_SHIFT: u32 = 17;
/// The wheel's span is 512 ticks, 67 ms.
const BUCKETS: u64 = 512;
const WORDS: usize = BUCKETS as usize / 64;

#[derive(Clone, Debug)]
pub(crate) struct Wheel {
    lists: Lists,
    /// Nanoseconds at which each node's timer runs out.
    due: Box<[u64]>,
    /// One bit for each bucket that is not empty.
    occupied: [u64; WORDS],
    /// The first tick that has not been emptied.
    cursor: u64,
}

impl Wheel {
    pub(crate) fn new(nodes: usize, now: u64) -> Self {
        Self {
            lists: Lists::new(nodes, BUCKETS as usize),
            due: vec![0; nodes].into(),
            occupied: [0; WORDS],
            cursor: now >> TICK_SHIFT,
        }
    }

    /// Sets the node's timer, in place of one that may be set.
    pub(crate) fn set(&mut self, node: u32, due: u64) {
        self.cancel(node);
        self.due[node as usize] = due;
        let tick = (due >> TICK_SHIFT).clamp(self.cursor, self.cursor + BUCKETS - 1);
        let bucket = (tick % BUCKETS) as usize;
        self.lists.push_back(bucket as u32, node);
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
    }

    pub(crate) fn cancel(&mut self, node: u32) {
        if let Some(bucket) = self.lists.remove(node)
            && self.lists.is_empty(bucket)
        {
            self.occupied[bucket as usize / 64] &= !(1 << (bucket % 64));
        }
    }

    /// A node whose timer has run out; call until there is none.
    pub(crate) fn pop(&mut self, now: u64) -> Option<u32> {
        let now_tick = now >> TICK_SHIFT;
        while self.cursor < now_tick {
            let ahead = self.distance().unwrap_or(u64::MAX);
            if ahead >= now_tick - self.cursor {
                self.cursor = now_tick;
                break;
            }
            self.cursor += ahead;
            let bucket = (self.cursor % BUCKETS) as u32;
            while let Some(node) = self.lists.front(bucket) {
                self.cancel(node);
                if self.due[node as usize] <= now {
                    return Some(node);
                }
                // It came from beyond the span, and its own tick lies ahead of this one.
                self.set(node, self.due[node as usize]);
            }
        }
        None
    }

    /// Nanoseconds at which the next timer may run out.
    pub(crate) fn next(&self) -> Option<u64> {
        self.distance().map(|ahead| (self.cursor + ahead + 1) << TICK_SHIFT)
    }

    /// Ticks from the cursor to the first bucket that is not empty.
    fn distance(&self) -> Option<u64> {
        let start = (self.cursor % BUCKETS) as usize;
        (0..=WORDS).find_map(|step| {
            let word = (start / 64 + step) % WORDS;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == WORDS {
                bits &= !(u64::MAX << (start % 64));
            }
            (bits != 0).then(|| {
                let bucket = word as u64 * 64 + u64::from(bits.trailing_zeros());
                (bucket + BUCKETS - start as u64) % BUCKETS
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 1 << TICK_SHIFT;
    const START: u64 = 1_000_000_007;

    fn expired(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut nodes: Vec<_> = std::iter::from_fn(|| wheel.pop(now)).collect();
        nodes.sort_unstable();
        nodes
    }

    #[test]
    fn timers_run_out_after_their_time_and_within_a_tick() {
        let mut wheel = Wheel::new(64, START);
        let due = |node: u32| START + u64::from(node * node) * 3_700_000;
        for node in 0..64 {
            wheel.set(node, due(node));
        }
        let mut left: Vec<u32> = (0..64).collect();
        let mut now = START;
        while !left.is_empty() {
            for node in expired(&mut wheel, now) {
                assert!(due(node) <= now, "node {node} early");
                left.retain(|&other| other != node);
            }
            assert!(left.iter().all(|&node| due(node) + TICK > now), "late: {left:?} at {now}");
            assert!(wheel.next().is_none_or(|next| next > now), "{:?} {now}", wheel.next());
            now += 77_777;
        }
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_long_sleep_loses_nothing() {
        let mut wheel = Wheel::new(3, START);
        wheel.set(0, START + 50 * BUCKETS * TICK);
        wheel.set(1, START + 100 * BUCKETS * TICK);
        wheel.set(2, START);
        assert_eq!(expired(&mut wheel, START + 60 * BUCKETS * TICK), [0, 2]);
        assert!(expired(&mut wheel, START + 99 * BUCKETS * TICK).is_empty());
        assert_eq!(expired(&mut wheel, START + 101 * BUCKETS * TICK), [1]);
    }

    #[test]
    fn a_timer_can_be_moved_and_cancelled() {
        let mut wheel = Wheel::new(2, START);
        wheel.set(0, START + TICK);
        wheel.set(0, START + 20 * TICK);
        wheel.set(1, START + TICK);
        wheel.cancel(1);
        wheel.cancel(1);
        assert!(expired(&mut wheel, START + 10 * TICK).is_empty());
        assert_eq!(expired(&mut wheel, START + 22 * TICK), [0]);
    }
}
