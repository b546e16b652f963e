//! In steady state an operation allocates nothing: a run of many operations allocates no more often than one of few.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use naam_loadgen::keyspace::KeySpace;
use naam_loadgen::records::{Records, ValueSize};
use naam_loadgen::runner::{Arrivals, Load, RunConfig, Stop, run};
use naam_loadgen::source::WorkloadSource;
use naam_loadgen::target::{Busy, Op, Outcome, Target, TargetError};
use naam_loadgen::workload::Workload;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above; the pointer came from `System`.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Ends what was submitted at the next poll.
struct Instantly(Vec<u64>);

impl Target for Instantly {
    fn submit(&mut self, _op: &Op<'_>, token: u64) -> Result<(), Busy> {
        if self.0.len() == self.0.capacity() {
            return Err(Busy);
        }
        self.0.push(token);
        Ok(())
    }

    fn poll(&mut self, _now: Instant, done: &mut dyn FnMut(u64, Outcome<'_>)) -> Result<(), TargetError> {
        self.0.drain(..).for_each(|token| done(token, Outcome::Done));
        Ok(())
    }
}

/// Allocations of a whole run.
fn allocations(workload: &Workload, load: Load, ops: u64) -> u64 {
    let config = RunConfig { load, stop: Stop::Ops(ops), interval: Duration::from_secs(600), ..RunConfig::default() };
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let build = |_| {
        let space = Arc::new(KeySpace::new(10_000));
        let records = Records::Generated(ValueSize::Constant(100));
        Ok((WorkloadSource::new(workload, records, space, 1, 0)?, Instantly(Vec::with_capacity(50))))
    };
    let result = run(&config, build, &mut |_| true).expect("the target does not break down");
    assert_eq!(result.stats.ok(), ops);
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn operations_do_not_allocate() {
    let closed = Load::Closed { window: 32 };
    let open = Load::Open { ops_per_s: 1e6, arrivals: Arrivals::Poisson, window: 32 };
    for letter in ["A", "D", "E", "F"] {
        let workload: Workload = letter.parse().expect("a letter from A to F");
        for load in [closed, open] {
            let (few, many) = (allocations(&workload, load, 1_000), allocations(&workload, load, 20_000));
            assert!(many <= few + 10, "workload {letter}, {load:?}: {few} allocations, then {many}");
        }
    }
}
