//! What a run counts.

use hdrhistogram::Histogram;

use crate::target::Failure;
use crate::workload::OpKind;

/// Longest latency told apart, nanoseconds; longer ones count as this.
pub const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Significant decimal digits of latencies.
pub const LATENCY_DIGITS: u8 = 3;

/// An empty latency histogram: 1 ns to 60 s, three digits.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS).expect("bounds and digits are constants in range")
}

/// Operations of one kind that began after warm-up.
#[derive(Debug, Clone)]
pub struct KindStats {
    /// Nanoseconds from intended start to end, of those that went well.
    pub latency_ns: Histogram<u64>,
    /// Nanoseconds from true start to end, of the same; in closed loop the same and therefore left empty.
    pub service_ns: Histogram<u64>,
    /// Those that failed, by [`Failure`]'s number.
    pub failures: [u64; Failure::ALL.len()],
}

impl KindStats {
    /// Operations that went well.
    pub fn ok(&self) -> u64 {
        self.latency_ns.len()
    }

    /// Operations that failed.
    pub fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }
}

/// Counts of a thread or of all.
#[derive(Debug, Clone)]
pub struct Stats {
    /// By kind, in the order of [`OpKind::ALL`].
    pub kinds: [KindStats; OpKind::ALL.len()],
    /// Operations whose end was not seen within the time allowed.
    pub lost: u64,
    /// Ends of operations that had been counted as lost, or were never begun.
    pub late: u64,
    /// Arrivals of an open loop that could not be begun, not even late.
    pub unsent: u64,
    /// Operations begun, warm-up included.
    pub begun: u64,
    /// Operations that ended between warm-up and the run's end, which is what throughput counts.
    pub in_window: u64,
    /// When the last counted operation ended, nanoseconds since the run began.
    pub last_end_ns: u64,
    /// Whether a source had no more operations.
    pub exhausted: bool,
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

impl Stats {
    /// Nothing counted.
    pub fn new() -> Self {
        let empty = || KindStats {
            latency_ns: latency_histogram(),
            service_ns: latency_histogram(),
            failures: [0; Failure::ALL.len()],
        };
        Self {
            kinds: std::array::from_fn(|_| empty()),
            lost: 0,
            late: 0,
            unsent: 0,
            begun: 0,
            in_window: 0,
            last_end_ns: 0,
            exhausted: false,
        }
    }

    /// One kind's counts.
    pub fn kind(&self, kind: OpKind) -> &KindStats {
        &self.kinds[kind as usize]
    }

    /// Adds another thread's counts.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.kinds.iter_mut().zip(&other.kinds) {
            mine.latency_ns += &theirs.latency_ns;
            mine.service_ns += &theirs.service_ns;
            for (mine, theirs) in mine.failures.iter_mut().zip(theirs.failures) {
                *mine += theirs;
            }
        }
        self.lost += other.lost;
        self.late += other.late;
        self.unsent += other.unsent;
        self.begun += other.begun;
        self.in_window += other.in_window;
        self.last_end_ns = self.last_end_ns.max(other.last_end_ns);
        self.exhausted |= other.exhausted;
    }

    /// Operations that went well.
    pub fn ok(&self) -> u64 {
        self.kinds.iter().map(KindStats::ok).sum()
    }

    /// Operations that failed, losses not included.
    pub fn failed(&self) -> u64 {
        self.kinds.iter().map(KindStats::failed).sum()
    }

    /// Operations that failed so.
    pub fn failures(&self, failure: Failure) -> u64 {
        self.kinds.iter().map(|kind| kind.failures[failure as usize]).sum()
    }

    /// Latencies of all kinds together.
    pub fn latency_ns(&self) -> Histogram<u64> {
        let mut all = latency_histogram();
        for kind in &self.kinds {
            all += &kind.latency_ns;
        }
        all
    }
}
