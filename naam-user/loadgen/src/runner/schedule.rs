//! When operations are meant to begin in open loop.

use std::time::Duration;

use crate::stream_rng::{Purpose, StreamRng};

/// Law of the arrivals of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Equally spaced.
    Constant,
    /// Exponentially distributed gaps: independent users.
    Poisson,
}

/// The intended start times of one thread, in nanoseconds since the run began. It never waits for the target: what
/// is late keeps its time.
#[derive(Debug, Clone)]
pub struct Schedule {
    arrivals: Arrivals,
    gap_ns: f64,
    next_ns: f64,
    rng: StreamRng,
}

impl Schedule {
    /// The part of `thread` (of `threads`) in `ops_per_s` arrivals a second. With constant arrivals the threads take
    /// turns.
    pub fn new(arrivals: Arrivals, ops_per_s: f64, thread: usize, threads: usize, seed: u64) -> Self {
        let gap_ns = 1e9 * threads as f64 / ops_per_s;
        let mut rng = StreamRng::new(seed, thread, Purpose::Arrival);
        let next_ns = match arrivals {
            Arrivals::Constant => gap_ns * thread as f64 / threads as f64,
            Arrivals::Poisson => gap(gap_ns, &mut rng),
        };
        Self { arrivals, gap_ns, next_ns, rng }
    }

    /// The next intended time.
    #[inline]
    pub fn peek_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Moves on to the one after it.
    #[inline]
    pub fn advance(&mut self) {
        self.next_ns += match self.arrivals {
            Arrivals::Constant => self.gap_ns,
            Arrivals::Poisson => gap(self.gap_ns, &mut self.rng),
        };
    }

    /// Arrivals left before `end`, none of which will be begun.
    pub fn skip_until(&mut self, end: Duration) -> u64 {
        let mut skipped = 0;
        while u128::from(self.peek_ns()) < end.as_nanos() {
            self.advance();
            skipped += 1;
        }
        skipped
    }
}

fn gap(mean_ns: f64, rng: &mut StreamRng) -> f64 {
    // 1 - u is in (0, 1].
    -mean_ns * (1.0 - rng.unit()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_of_threads_take_turns() {
        let mut times = Vec::new();
        for thread in 0..4 {
            let mut schedule = Schedule::new(Arrivals::Constant, 1_000_000.0, thread, 4, 1);
            for _ in 0..25 {
                times.push(schedule.peek_ns());
                schedule.advance();
            }
        }
        times.sort_unstable();
        let expected: Vec<u64> = (0..100).map(|i| i * 1_000).collect();
        assert_eq!(times, expected);
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_spread_of_the_law() {
        let mut schedule = Schedule::new(Arrivals::Poisson, 10_000.0, 0, 1, 5);
        let n = 50_000;
        let mut gaps = Vec::with_capacity(n);
        let mut last = 0.0;
        for _ in 0..n {
            gaps.push(schedule.next_ns - last);
            last = schedule.next_ns;
            schedule.advance();
        }
        let mean = gaps.iter().sum::<f64>() / n as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n as f64;
        assert!((mean / 100_000.0 - 1.0).abs() < 0.02, "mean gap {mean} ns, law 100,000");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "an exponential law's deviation is its mean");
        // Memoryless: 1/e of the gaps are longer than the mean.
        let long = gaps.iter().filter(|&&gap| gap > mean).count() as f64 / n as f64;
        assert!((long - (-1.0f64).exp()).abs() < 0.01, "{long} of the gaps are longer than the mean");
    }

    #[test]
    fn skipped_arrivals_are_counted() {
        let mut schedule = Schedule::new(Arrivals::Constant, 1_000.0, 0, 1, 1);
        assert_eq!(schedule.skip_until(Duration::from_millis(10)), 10);
        assert_eq!(schedule.peek_ns(), 10_000_000);
    }
}
