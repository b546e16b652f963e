//! Threads on CPUs of their own.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPUs that this process may use.
pub fn available() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("the affinity of this thread");
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Two CPUs, or one twice on a machine that has but one.
pub fn two() -> [usize; 2] {
    let cpus = available();
    [cpus[0], *cpus.get(1).unwrap_or(&cpus[0])]
}

/// Pins the calling thread to one CPU.
///
/// # Panics
/// If the kernel refuses.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("an available CPU");
}

/// Lets threads start a round at the same moment: they spin, so that none has to wake up first.
#[derive(Debug, Default)]
pub struct StartLine {
    arrived: AtomicUsize,
}

impl StartLine {
    /// Waits until all `threads` have come to round `round`, counted from 0.
    pub fn wait(&self, threads: usize, round: usize) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while self.arrived.load(Ordering::Acquire) < threads * (round + 1) {
            std::hint::spin_loop();
        }
    }
}
