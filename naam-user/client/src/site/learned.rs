//! Handlers that can run here, and until when: home may replace or unload a function at any time.

use std::sync::Arc;

use naam_abi::limits::SHARDS_MAX;
use naam_engine::Program;

use super::{Placement, SiteClient};
use crate::client::now;
use crate::core::{self, Function, Serving};
use crate::error::SubmitError;
use crate::session::FunctionInfo;

/// A handler that can run here.
#[derive(Debug)]
pub(super) struct Learned {
    pub program: Arc<Program>,
    /// The version of the function that it is.
    pub version: u16,
    /// By shard: the placement's epoch at which home served this version. Replacing or unloading a handler moves all.
    pub confirmed: [Option<u32>; SHARDS_MAX],
    /// When it was learned, on the core's clock.
    pub since: u64,
}

impl Learned {
    /// Whether home has said that it serves it, after the last change that is known.
    pub(super) fn is_confirmed(&self, shard: u16, placement: &core::Placement) -> bool {
        let confirmed = self.confirmed.get(usize::from(shard)).copied().flatten();
        confirmed.is_some_and(|epoch| placement.epoch <= epoch)
    }

    /// Whether it may run: nothing has changed as far as replies have told, and they have told not too long ago.
    pub(super) fn holds(&self, shard: u16, placement: &core::Placement) -> bool {
        let lease = u64::from(placement.lease_ms) * 1_000_000;
        let heard = placement.held_until.saturating_sub(lease).max(self.since);
        let unchanged = placement.epoch == 0 || self.is_confirmed(shard, placement);
        unchanged && now() < heard.saturating_add(SILENCE_NS)
    }
}

/// Longest that a handler runs here without a word from its shard: of one that READs nothing, no reply would tell that it
/// was replaced.
pub(super) const SILENCE_NS: u64 = 1_000_000_000;

impl SiteClient {
    /// The handler that can run here for `function`, if the host serves no other version as far as replies have told.
    pub(super) fn program(&self, function: Function, shard: u16) -> Option<&Arc<Program>> {
        let learned = self.programs.get(usize::from(function.number))?.as_ref()?;
        let info = self.client.core().info(function)?;
        // A function that writes is worth beginning here only if it can be carried home.
        let worth = !info.writes || self.carries;
        let placement = self.client.core().placement(shard)?;
        let runs = (info.version == learned.version || info.version == 0)
            && (self.read.is_some() || self.memory.is_some())
            && worth;
        (runs && learned.holds(shard, &placement)).then_some(&learned.program)
    }

    /// A call that goes home asks there which version serves, if it is not known of what was learned.
    pub(super) fn ask(&mut self, function: Function, shard: u16) {
        let learned = self.programs.get(usize::from(function.number)).and_then(Option::as_ref);
        let placement = self.client.core().placement(shard).unwrap_or_default();
        let here = self.placements.get(usize::from(shard)).is_some_and(|placed| *placed != Placement::Host);
        if here && learned.is_some_and(|learned| !learned.is_confirmed(shard, &placement)) {
            self.client.core_mut().ask_version(function);
        }
    }

    /// Takes in what the control plane says of a function by now: what [`learn`](Self::learn) is to compare with.
    ///
    /// # Errors
    /// As [`Core::learn`](crate::Core::learn).
    pub fn list(&mut self, function: &str, info: FunctionInfo) -> Result<Function, SubmitError> {
        self.client.core_mut().learn(function, info)
    }
}

/// Takes in which version of a function home serves: the handler that runs here is confirmed, or forgotten.
pub(super) fn note_serving(learned: &mut Option<Box<Learned>>, shard: u16, serving: Option<Serving>) {
    let (Some(Serving { version, epoch }), Some(known)) = (serving, learned.as_mut()) else { return };
    if version != known.version {
        *learned = None;
    } else if let Some(confirmed) = known.confirmed.get_mut(usize::from(shard)) {
        *confirmed = Some(epoch).max(*confirmed);
    }
}
