//! When to look for visits whose time is over.

use std::time::Duration;

use crate::client::now;

/// A moment that is not behind any deadline noted since it was last cleared. What had the deadline may have ended meanwhile: then
/// somebody looks in vain.
#[derive(Debug, Default)]
pub(super) struct Earliest(Option<u64>);

impl Earliest {
    /// A deadline, in nanoseconds of [`now`].
    pub fn note(&mut self, deadline: u64) {
        self.0 = Some(self.0.map_or(deadline, |at| at.min(deadline)));
    }

    /// What time it is, if a deadline may be over. Then all are forgotten: those that are not over have to be noted again.
    pub fn take_due(&mut self) -> Option<u64> {
        let now = self.0.map(|_| now())?;
        self.0.take_if(|at| *at <= now).map(|_| now)
    }

    pub fn clear(&mut self) {
        self.0 = None;
    }

    pub fn is_clear(&self) -> bool {
        self.0.is_none()
    }

    /// How long until a deadline may be over; at most `limit`.
    pub fn bound(&self, limit: Duration) -> Duration {
        self.0.map_or(limit, |at| limit.min(Duration::from_nanos(at.saturating_sub(now()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_counts_until_it_is_due() {
        let mut earliest = Earliest::default();
        assert!(earliest.is_clear() && earliest.take_due().is_none());
        let late = now() + Duration::from_secs(3600).as_nanos() as u64;
        earliest.note(late);
        assert!(earliest.take_due().is_none() && !earliest.is_clear());
        for deadline in [30, 20, late] {
            earliest.note(deadline);
        }
        assert!(earliest.take_due().is_some_and(|now| now > 20) && earliest.is_clear());
    }

    #[test]
    fn nobody_sleeps_longer_than_to_a_deadline() {
        let limit = Duration::from_secs(1);
        let mut earliest = Earliest::default();
        assert_eq!(earliest.bound(limit), limit);
        earliest.note(now() + limit.as_nanos() as u64 / 2);
        assert!(earliest.bound(limit) < limit);
        earliest.note(0);
        assert_eq!(earliest.bound(limit), Duration::ZERO);
    }
}
