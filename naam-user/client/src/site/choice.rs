//! Which way handlers' READs go, by how long READs took by each: the policy alone. `trial` measures.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// One-sided functions are taken if READs by the other memory took more than so many times as long. RDMA takes none of the
/// time of home's processors; so ties, and what may be noise, go to it.
pub const FACTOR: f64 = 1.5;
/// Fewer READs by a way say nothing of it.
pub const READS_MIN: usize = 3;

/// How READs by one way went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// How long each took.
    pub took: Vec<Duration>,
    /// Why there were no more.
    pub failed: Option<String>,
}

/// What a trial came to: how READs go from then on, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// The memory that was tried beside one-sided functions, such as `verbs`.
    pub tried: &'static str,
    /// `tried`, or `onesided`.
    pub chosen: &'static str,
    /// Median time of a READ of 64 bytes by the memory tried, in microseconds; none if it was not to be had, or failed.
    pub tried_us: Option<f64>,
    /// The same by one-sided functions.
    pub onesided_us: Option<f64>,
    /// READs measured by each way: the memory tried, one-sided functions.
    pub reads: [usize; 2],
    /// In words.
    pub why: String,
}

/// The name of what READs go by without another memory.
pub const ONESIDED: &str = "onesided";

impl Choice {
    /// Chooses between a memory of the name `tried` and one-sided functions. A way that failed is not chosen while the other one
    /// works.
    pub fn of(tried: &'static str, memory: &Measured, onesided: &Measured) -> Self {
        let (tried_us, onesided_us) = (memory.median_us(), onesided.median_us());
        let (chosen, why) = match (memory.fault(), onesided.fault()) {
            (Some(fault), _) => (ONESIDED, format!("{tried}: {fault}")),
            (None, Some(fault)) => (tried, format!("one-sided functions: {fault}")),
            (None, None) => match tried_us.zip(onesided_us) {
                Some((tried_us, onesided_us)) if tried_us > onesided_us * FACTOR => {
                    (ONESIDED, format!("{tried} takes more than {FACTOR} times as long"))
                }
                _ => (
                    tried,
                    format!("it does not take more than {FACTOR} times as long, and no time of home's processors"),
                ),
            },
        };
        Self { tried, chosen, tried_us, onesided_us, reads: [memory.took.len(), onesided.took.len()], why }
    }

    /// The memory `tried` is not to be had.
    pub fn without(tried: &'static str, cause: impl fmt::Display) -> Self {
        let why = format!("{tried}: {cause}");
        Self { tried, chosen: ONESIDED, tried_us: None, onesided_us: None, reads: [0; 2], why }
    }

    /// Whether READs go by the memory that was tried.
    pub fn is_taken(&self) -> bool {
        self.chosen == self.tried
    }
}

impl Measured {
    /// Of an even number the lower of the middle two; none of a way that failed.
    fn median_us(&self) -> Option<f64> {
        let mut took = self.took.clone();
        took.sort_unstable();
        let middle = took.get(took.len().saturating_sub(1) / 2).filter(|_| self.fault().is_none());
        middle.map(|took| took.as_nanos() as f64 / 1e3)
    }

    /// Why this way cannot be chosen.
    fn fault(&self) -> Option<String> {
        let few = || format!("only {} READs arrived in time", self.took.len());
        self.failed.clone().or_else(|| (self.took.len() < READS_MIN).then(few))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "READs by {}", self.chosen)?;
        if let Some((tried, onesided)) = self.tried_us.zip(self.onesided_us) {
            write!(f, " ({} {tried:.1} us, {ONESIDED} {onesided:.1} us)", self.tried)?;
        }
        write!(f, ": {}", self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(micros: &[u64]) -> Measured {
        Measured { took: micros.iter().map(|us| Duration::from_micros(*us)).collect(), failed: None }
    }

    fn failed(micros: &[u64], cause: &str) -> Measured {
        Measured { failed: Some(cause.into()), ..took(micros) }
    }

    fn chosen(memory: &Measured, onesided: &Measured) -> &'static str {
        Choice::of("verbs", memory, onesided).chosen
    }

    #[test]
    fn only_a_clear_factor_is_taken_for_slower() {
        for (verbs, onesided, expected) in [
            (10, 10, "verbs"),
            (2, 100, "verbs"),
            (14, 10, "verbs"),
            (15, 10, "verbs"),
            (16, 10, "onesided"),
            (1000, 100, "onesided"),
            (0, 0, "verbs"),
        ] {
            assert_eq!(chosen(&took(&[verbs; 9]), &took(&[onesided; 9])), expected, "{verbs} us, {onesided} us");
        }
    }

    #[test]
    fn single_slow_reads_count_for_nothing() {
        let noisy = took(&[10, 10, 10, 10, 10, 9_000, 9_000, 9_000, 9_000]);
        assert_eq!(chosen(&noisy, &took(&[10; 9])), "verbs");
        assert_eq!(chosen(&took(&[30; 9]), &noisy), "onesided");
        assert_eq!(Choice::of("verbs", &noisy, &noisy).tried_us, Some(10.0));
        // Of an even number as of the odd one below.
        assert_eq!(took(&[1, 2, 3, 4]).median_us(), Some(2.0));
    }

    #[test]
    fn what_fails_is_not_chosen_while_the_other_works() {
        let (fast, slow) = (took(&[1; 9]), took(&[100; 9]));
        let broke = failed(&[1; 9], "it broke");
        let choice = Choice::of("verbs", &broke, &slow);
        assert_eq!((choice.chosen, choice.tried_us, choice.onesided_us), ("onesided", None, Some(100.0)));
        assert_eq!(choice.why, "verbs: it broke");
        assert_eq!(chosen(&slow, &broke), "verbs");
        // Calls go home then.
        assert_eq!(chosen(&broke, &broke), "onesided");
        assert_eq!(chosen(&took(&[]), &took(&[])), "onesided");
        assert_eq!(chosen(&took(&[1; READS_MIN - 1]), &slow), "onesided", "too few");
        assert_eq!(chosen(&slow, &took(&[1; READS_MIN - 1])), "verbs", "too few");
        assert_eq!(chosen(&slow, &took(&[1; READS_MIN])), "onesided");
        assert!(Choice::of("verbs", &fast, &slow).is_taken());
    }

    #[test]
    fn choices_say_what_was_measured_and_why() {
        let text = Choice::of("verbs", &took(&[800; 9]), &took(&[100; 9])).to_string();
        assert_eq!(
            text,
            "READs by onesided (verbs 800.0 us, onesided 100.0 us): verbs takes more than 1.5 times as long"
        );
        let without = Choice::without("verbs", "no RDMA device");
        assert_eq!(
            (without.to_string().as_str(), without.is_taken()),
            ("READs by onesided: verbs: no RDMA device", false)
        );
    }
}
