//! A target in memory with faults on order: for tests of the runner and of what is built on it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::target::{Busy, Failure, Op, Outcome, Target, TargetError};

/// The records of one or several mocks.
pub type Store = Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>;

/// What a mock does wrong. Counts are of operations submitted to it, from 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// From this time after the mock's first poll, for this long, nothing is received.
    pub stall: Option<(Duration, Duration)>,
    /// Every n-th operation is swallowed, and not performed.
    pub swallow_every: Option<u64>,
    /// Every n-th operation fails with [`Failure::Refused`].
    pub refuse_every: Option<u64>,
    /// Every n-th operation, if it is a read, gets a value with one bit flipped.
    pub corrupt_every: Option<u64>,
    /// Every n-th operation ends twice.
    pub repeat_every: Option<u64>,
    /// The target breaks down after this many operations.
    pub break_after: Option<u64>,
}

struct Pending {
    token: u64,
    number: u64,
    due: Instant,
    result: Answer,
}

enum Answer {
    Value(Vec<u8>),
    Done,
    Missing,
    Refused,
}

/// A hash map that answers after a while.
pub struct Mock {
    store: Store,
    latency: Duration,
    /// Operations it holds at most; beyond, it is busy.
    capacity: usize,
    faults: Faults,
    pending: VecDeque<Pending>,
    submitted: u64,
    first_poll: Option<Instant>,
}

impl Mock {
    /// A mock that answers `latency` after submission and takes up to 2^20 operations.
    pub fn new(store: Store, latency: Duration) -> Self {
        let pending = VecDeque::new();
        Self { store, latency, capacity: 1 << 20, faults: Faults::default(), pending, submitted: 0, first_poll: None }
    }

    /// Takes up to `capacity` operations at a time.
    pub fn with_capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Does these things wrong.
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    fn perform(&self, op: &Op<'_>) -> Answer {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        match *op {
            Op::Read { key } => store.get(key).map_or(Answer::Missing, |value| Answer::Value(value.clone())),
            Op::Update { key, value } | Op::Insert { key, value } => {
                store.insert(key.to_vec(), value.to_vec());
                Answer::Done
            }
            Op::Scan { .. } => Answer::Refused,
        }
    }
}

fn falls_on(every: Option<u64>, number: u64) -> bool {
    every.is_some_and(|n| number.is_multiple_of(n))
}

impl Target for Mock {
    fn submit(&mut self, op: &Op<'_>, token: u64) -> Result<(), Busy> {
        if self.pending.len() >= self.capacity {
            return Err(Busy);
        }
        self.submitted += 1;
        let number = self.submitted;
        if falls_on(self.faults.swallow_every, number) {
            return Ok(());
        }
        let mut result = if falls_on(self.faults.refuse_every, number) { Answer::Refused } else { self.perform(op) };
        if falls_on(self.faults.corrupt_every, number)
            && let Answer::Value(value) = &mut result
            && let Some(last) = value.last_mut()
        {
            *last ^= 1;
        }
        self.pending.push_back(Pending { token, number, due: Instant::now() + self.latency, result });
        Ok(())
    }

    fn poll(&mut self, now: Instant, done: &mut dyn FnMut(u64, Outcome<'_>)) -> Result<(), TargetError> {
        if self.faults.break_after.is_some_and(|after| self.submitted > after) {
            return Err("the mock broke down as ordered".into());
        }
        let since = now.duration_since(*self.first_poll.get_or_insert(now));
        if self.faults.stall.is_some_and(|(at, length)| (at..at + length).contains(&since)) {
            return Ok(());
        }
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.due <= now) {
            let outcome = match &pending.result {
                Answer::Value(value) => Outcome::Value(value),
                Answer::Done => Outcome::Done,
                Answer::Missing => Outcome::Missing,
                Answer::Refused => Outcome::Failed(Failure::Refused),
            };
            done(pending.token, outcome);
            if falls_on(self.faults.repeat_every, pending.number) {
                done(pending.token, outcome);
            }
        }
        Ok(())
    }
}
