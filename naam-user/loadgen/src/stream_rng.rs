//! Random streams: one seed for a run, one non-overlapping stream for each thread and purpose.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// What a stream is drawn for. Purposes do not share a stream, so that, for example, a redrawn key does not change
/// which operations follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Kind of the next operation.
    Kind,
    /// Record the operation goes to.
    Record,
    /// Length of a scan.
    Scan,
    /// Time between two arrivals.
    Arrival,
}

/// A reproducible random stream (xoshiro256++): the same seed, thread and purpose give the same numbers on every
/// machine.
#[derive(Debug, Clone)]
pub struct StreamRng {
    inner: Xoshiro256PlusPlus,
}

impl StreamRng {
    /// The stream of `thread` for `purpose`. Threads are 2^192 draws apart, purposes 2^128.
    pub fn new(seed: u64, thread: usize, purpose: Purpose) -> Self {
        let mut inner = Xoshiro256PlusPlus::seed_from_u64(seed);
        for _ in 0..thread {
            inner.long_jump();
        }
        for _ in 0..purpose as usize {
            inner.jump();
        }
        Self { inner }
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.inner.next_u64()
    }

    /// Uniform in [0, 1), with 53 bits.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in 0..n (n > 0), by multiplication instead of division; the bias is below n / 2^64.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seed: u64, thread: usize, purpose: Purpose) -> [u64; 4] {
        let mut rng = StreamRng::new(seed, thread, purpose);
        std::array::from_fn(|_| rng.bits())
    }

    #[test]
    fn same_seed_same_stream_and_others_differ() {
        assert_eq!(head(7, 1, Purpose::Record), head(7, 1, Purpose::Record));
        assert_ne!(head(7, 1, Purpose::Record), head(8, 1, Purpose::Record));
        assert_ne!(head(7, 1, Purpose::Record), head(7, 2, Purpose::Record));
        assert_ne!(head(7, 1, Purpose::Record), head(7, 1, Purpose::Kind));
    }

    #[test]
    fn unit_and_below_are_uniform() {
        let mut rng = StreamRng::new(1, 0, Purpose::Record);
        let n = 100_000;
        let mean = (0..n).map(|_| rng.unit()).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 0.005, "mean of uniform draws: {mean}");
        let mut counts = [0u32; 10];
        for _ in 0..n {
            counts[rng.below(10) as usize] += 1;
        }
        let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - 10_000.0).powi(2) / 10_000.0).sum();
        assert!(chi2 < 27.9, "chi-square with 9 degrees of freedom, p = 0.001: {chi2}");
    }
}
