//! The records that exist: those loaded, and those inserted while the workload runs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Inserts that may be begun and not yet acknowledged; as many as YCSB allows.
pub const INSERT_WINDOW: u64 = 1 << 20;

/// Numbers of the records of a run, shared by its threads.
///
/// Reads go only to records below [`KeySpace::records`]: an inserted record counts once it and all before it were
/// acknowledged, as YCSB's acknowledged counter does it.
#[derive(Debug)]
pub struct KeySpace {
    /// Next record to insert.
    next: AtomicU64,
    /// Records 0..limit exist.
    limit: AtomicU64,
    /// One bit for each insert of the window: acknowledged.
    acknowledged: Box<[AtomicU64]>,
    /// Held while `limit` is moved.
    advance: Mutex<()>,
}

impl KeySpace {
    /// A key space of `loaded` records.
    pub fn new(loaded: u64) -> Self {
        Self {
            next: AtomicU64::new(loaded),
            limit: AtomicU64::new(loaded),
            acknowledged: (0..INSERT_WINDOW / 64).map(|_| AtomicU64::new(0)).collect(),
            advance: Mutex::new(()),
        }
    }

    /// Number of records that may be read.
    #[inline]
    pub fn records(&self) -> u64 {
        self.limit.load(Ordering::Acquire)
    }

    /// Claims the next record for insertion; `None` while [`INSERT_WINDOW`] inserts wait for their acknowledgement.
    pub fn claim(&self) -> Option<u64> {
        // A number read before another thread moved on may be below the limit; its exchange fails, and it is read again.
        self.next
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |next| {
                (next.saturating_sub(self.limit.load(Ordering::Acquire)) < INSERT_WINDOW).then_some(next + 1)
            })
            .ok()
    }

    /// Says that a claimed record's insertion ended. A failed one counts too: otherwise no later record would ever
    /// be read.
    pub fn acknowledge(&self, record: u64) {
        let (word, bit) = self.place(record);
        word.fetch_or(bit, Ordering::AcqRel);
        // The lock is taken after the bit is set: whichever thread moves the limit last sees every bit.
        let Ok(_moving) = self.advance.lock() else { return };
        let mut limit = self.limit.load(Ordering::Acquire);
        loop {
            let (word, bit) = self.place(limit);
            if word.fetch_and(!bit, Ordering::AcqRel) & bit == 0 {
                return;
            }
            limit += 1;
            self.limit.store(limit, Ordering::Release);
        }
    }

    fn place(&self, record: u64) -> (&AtomicU64, u64) {
        let index = record % INSERT_WINDOW;
        (&self.acknowledged[(index / 64) as usize], 1 << (index % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_waits_for_the_oldest_insert() {
        let space = KeySpace::new(10);
        let claimed: Vec<u64> = (0..3).filter_map(|_| space.claim()).collect();
        assert_eq!(claimed, [10, 11, 12]);
        space.acknowledge(12);
        space.acknowledge(11);
        assert_eq!(space.records(), 10);
        space.acknowledge(10);
        assert_eq!(space.records(), 13);
    }

    #[test]
    fn a_full_window_refuses_and_recovers() {
        let space = KeySpace::new(5);
        for _ in 0..INSERT_WINDOW {
            assert!(space.claim().is_some());
        }
        assert_eq!(space.claim(), None);
        space.acknowledge(5);
        assert_eq!(space.claim(), Some(5 + INSERT_WINDOW));
    }

    #[test]
    fn threads_that_acknowledge_leave_no_gap() {
        let space = KeySpace::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let record = space.claim().expect("at most four inserts wait at a time");
                        space.acknowledge(record);
                    }
                });
            }
        });
        assert_eq!(space.records(), 40_000);
    }
}
