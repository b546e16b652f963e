//! Counting: what came, what went, what was dropped and why.

use naam_abi::{
    limits::APPS_MAX,
    stats::{AppStats, Drop},
};

use crate::maps::APP_STATS;

/// The counters of an app on this CPU; of "no app" for every number out of range.
#[inline(always)]
pub fn of(app: u32) -> Option<&'static mut AppStats> {
    let app = if app < APPS_MAX as u32 { app } else { APPS_MAX as u32 };
    // SAFETY: a per-CPU value; programs on one CPU do not overlap.
    APP_STATS.get_ptr_mut(app).map(|stats| unsafe { &mut *stats })
}

/// Counts a drop.
#[inline(always)]
pub fn drop(app: u32, reason: Drop) {
    if let Some(stats) = of(app) {
        stats.drops[reason as usize & 15] += 1;
    }
}

/// Counts a message's status.
#[inline(always)]
pub fn status(stats: &mut AppStats, status: u16) {
    stats.statuses[status as usize & 31] += 1;
}
