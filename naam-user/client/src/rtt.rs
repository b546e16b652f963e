//! When to ask again: round-trip times, backoff, jitter.

use crate::core::Options;

/// Estimates the round trip as TCP does (RFC 6298): the retry timeout is the smoothed time plus
/// four mean deviations. Every reply echoes the stamp of the very attempt it answers, so retries
/// give samples like first attempts (Karn's problem does not arise).
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    smoothed_ns: u64,
    deviation_ns: u64,
    sampled: bool,
    first_ns: u64,
    min_ns: u64,
    max_ns: u64,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(options: &Options) -> Self {
        let ns = |duration: std::time::Duration| duration.as_nanos() as u64;
        Self {
            smoothed_ns: 0,
            deviation_ns: 0,
            sampled: false,
            first_ns: ns(options.retry_first),
            min_ns: ns(options.retry_min),
            max_ns: ns(options.retry_max),
            // Zero is xorshift's fixed point.
            random: options.seed | 1,
        }
    }

    pub(crate) fn sample(&mut self, rtt_ns: u64) {
        if self.sampled {
            let deviation = self.smoothed_ns.abs_diff(rtt_ns);
            self.deviation_ns = self.deviation_ns - self.deviation_ns / 4 + deviation / 4;
            self.smoothed_ns = self.smoothed_ns - self.smoothed_ns / 8 + rtt_ns / 8;
        } else {
            (self.smoothed_ns, self.deviation_ns, self.sampled) = (rtt_ns, rtt_ns / 2, true);
        }
    }

    /// Smoothed round-trip time; 0 before the first reply.
    pub(crate) fn smoothed_ns(&self) -> u64 {
        self.smoothed_ns
    }

    /// Nanoseconds to wait for an answer to attempt number `attempt`, counted from 1.
    pub(crate) fn delay(&mut self, attempt: u16) -> u64 {
        let first = if self.sampled { self.smoothed_ns + 4 * self.deviation_ns } else { self.first_ns };
        let doublings = u32::from(attempt.saturating_sub(1)).min(20);
        let delay = (first.clamp(self.min_ns, self.max_ns) << doublings).min(self.max_ns);
        // A quarter more or less, so that clients that lost together do not return together.
        delay - delay / 4 + self.below(delay / 2 + 1)
    }

    /// A random number below `bound`: xorshift64, scaled by its high bits, as a division costs more than all the rest.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((u128::from(self.random) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_follow_samples_grow_and_are_bounded() {
        let options = Options::default();
        let mut backoff = Backoff::new(&options);
        let (min, max) = (options.retry_min.as_nanos() as u64, options.retry_max.as_nanos() as u64);
        let first = options.retry_first.as_nanos() as u64;
        let near = |value: u64, wanted: u64| value >= wanted - wanted / 4 && value <= wanted + wanted / 4 + 1;
        assert!(near(backoff.delay(1), first));
        for _ in 0..100 {
            backoff.sample(10_000);
        }
        assert!(near(backoff.smoothed_ns(), 10_000));
        assert!(near(backoff.delay(1), min) && near(backoff.delay(3), 4 * min));
        assert!(near(backoff.delay(u16::MAX), max));
        for _ in 0..100 {
            backoff.sample(10 * max);
        }
        assert!(near(backoff.delay(1), max));
    }
}
