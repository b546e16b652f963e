//! Steering: where shards run.

use std::time::{SystemTime, UNIX_EPOCH};

use naam_abi::limits::SHARDS_MAX;
use naam_abi::tables::{self, SteerEntry};
use naam_control::config::Steer;
use naam_control::protocol::admin::{Placement, Site};
use naam_control::{ControlError, Name};
use naam_loader::Tables;

use crate::host::Host;

/// Milliseconds for which clients may rely on a placement.
const PLACEMENT_LEASE_MS: u16 = 100;

/// Brings every shard of a new app home. Epochs go on from an earlier app of this number.
pub fn home(tables: &Tables, app: u16) {
    for shard in 0..SHARDS_MAX as u16 {
        place(tables, app, shard, Site::Host, PLACEMENT_LEASE_MS);
    }
}

/// Places the shards of an app that is new as its configuration says, those that are not named at home.
pub fn settle(tables: &Tables, app: u16, steer: &[Steer]) {
    home(tables, app);
    for steer in steer {
        for shard in named(&steer.shards) {
            place(tables, app, shard.into(), steer.site, steer.lease_ms.unwrap_or(PLACEMENT_LEASE_MS));
        }
    }
}

/// The shards meant: all for none named.
fn named(shards: &[u8]) -> Vec<u8> {
    if shards.is_empty() { (0..SHARDS_MAX as u8).collect() } else { shards.to_vec() }
}

fn place(tables: &Tables, app: u16, shard: u16, site: Site, lease_ms: u16) {
    let epoch = next(tables.placement(app, shard).epoch);
    let site = tables::Site::from(site) as u8;
    tables.set_placement(app, shard, SteerEntry { epoch, site, lease_ms });
}

/// The epoch after `epoch`. The first of all is the time in seconds: clients that know a table which is lost since, or
/// which an earlier instance had, believe no epoch that is before what they have seen.
fn next(epoch: u32) -> u32 {
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
    if epoch == 0 { seconds().max(1) } else { epoch.wrapping_add(1) }
}

/// Moves no shard, but the epochs of all: clients that run the app's handlers themselves then ask whether they have the
/// right ones. To be called after the tables have changed, so that who has heard of the epoch gets the new answer; and for
/// every app that a daemon takes over, because the one before may have been killed between a change and the word of it.
pub fn announce(tables: &Tables, app: u16) {
    for shard in 0..SHARDS_MAX as u16 {
        let now = tables.placement(app, shard);
        tables.set_placement(app, shard, SteerEntry { epoch: next(now.epoch), ..now });
    }
}

impl Host {
    /// Placements of an app's shards.
    pub fn placements(&self, app: &Name) -> Result<Vec<Placement>, ControlError> {
        let app = self.app("show the steering of", app)?;
        let placement = |shard: u8| {
            let entry = self.tables().placement(app.id, shard.into());
            let site = match entry.site {
                site if site == tables::Site::Dpu as u8 => Site::Dpu,
                site if site == tables::Site::Client as u8 => Site::Client,
                _ => Site::Host,
            };
            Placement { shard, site, epoch: entry.epoch, lease_ms: entry.lease_ms }
        };
        Ok((0..SHARDS_MAX as u8).map(placement).collect())
    }

    /// Moves shards, all for none named. To a SmartNIC is refused.
    pub fn steer(&self, app: &Name, shards: &[u8], site: Site, lease_ms: Option<u16>) -> Result<(), ControlError> {
        let app = self.app("steer", app)?;
        if let Some(shard) = shards.iter().find(|shard| usize::from(**shard) >= SHARDS_MAX) {
            let cause = format!("it has no shard {shard}: 0 to {}", SHARDS_MAX - 1);
            return Err(ControlError::new("steer", format!("app `{}`", app.name), cause));
        }
        // Nothing would answer there: every call would get Elsewhere.
        if site == Site::Dpu {
            let cause = "no SmartNIC serves shards in this version";
            let error = ControlError::new("steer", format!("app `{}`", app.name), cause);
            return Err(error.way_out("name host or client"));
        }
        let shards = named(shards);
        for &shard in &shards {
            let now = self.tables().placement(app.id, shard.into());
            let lease = lease_ms.unwrap_or(PLACEMENT_LEASE_MS);
            if now.site != tables::Site::from(site) as u8 || now.lease_ms != lease {
                place(self.tables(), app.id, shard.into(), site, lease);
            }
        }
        tracing::info!(app = %app.name, shards = shards.len(), ?site, "steered");
        Ok(())
    }
}
