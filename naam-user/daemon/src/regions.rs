//! Regions: made, filled, saved, removed. What takes long runs on a thread of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use naam_abi::limits::REGIONS_MAX;
use naam_control::limits::DUMP_BYTES_MAX;
use naam_control::protocol::admin::RegionInfo;
use naam_control::protocol::session::Rights;
use naam_control::{ControlError, Name, ProgressSink};
use naam_region::format::{CHUNK_BYTES, Chunk, Header};
use naam_region::{Progress, Region, RegionError, Regions, dump};

use crate::host::Host;

/// Longer than any datagram that was under way keeps a CPU.
pub const SETTLE_TIME: Duration = Duration::from_millis(20);

/// Builds the error of a region's operation.
pub fn failed(operation: &str, app: &Name, region: &Name, cause: impl ToString) -> ControlError {
    ControlError::new(operation, format!("region `{region}` of app `{app}`"), cause)
}

/// Whether sessions can have such rights by RDMA.
pub fn check_verbs(app: &Name, region: &Name, verbs: Option<Rights>) -> Result<(), ControlError> {
    if verbs.is_some_and(|verbs| verbs.atomic) {
        let cause = "devices do atomics on their own, not as processors and handlers do: nobody gets those by RDMA";
        return Err(failed("create", app, region, cause).way_out("READ, WRITE, both or nothing"));
    }
    Ok(())
}

impl Host {
    /// Whether a region may be made for an app; says why not before its memory is taken.
    pub fn may_create_region(&self, app: &Name, region: &Name) -> Result<(), ControlError> {
        let found = self.app("create a region for", app)?;
        if found.region_index(region).is_some() {
            return Err(failed("create", app, region, "there is one of this name").way_out("choose another name"));
        }
        if found.regions.len() == REGIONS_MAX {
            return Err(failed("create", app, region, format!("the app has {REGIONS_MAX} already")));
        }
        Ok(())
    }

    /// Gives a region that was made to its app. Functions loaded from now on are bound to it.
    pub fn add_region(
        &mut self,
        app: &Name,
        region: Region,
        verbs: Option<Rights>,
    ) -> Result<RegionInfo, ControlError> {
        let name = Name::new(region.name()).expect("the region was made under this name");
        self.may_create_region(app, &name)?;
        let info = region_info(&region);
        let found = self.app_mut("create a region for", app)?;
        found.regions.push(region);
        found.verbs.extend(verbs.map(|verbs| (name, verbs)));
        let id = found.id;
        self.publish(&self.apps[&id]);
        self.save()?;
        Ok(info)
    }

    /// Removes a region that no function is bound to.
    pub fn remove_region(&mut self, app: &Name, region: &Name) -> Result<(), ControlError> {
        let Some(found) = self.apps.values().find(|found| found.name == *app) else {
            // One that an app has left.
            let removed = self.regions.remove(app.as_str(), region.as_str());
            return removed.map_err(|error| failed("remove", app, region, error));
        };
        let place = found.region_index(region);
        let place = place.ok_or_else(|| failed("remove", app, region, "there is no such region"))?;
        if let Some(served) = found.functions.values().find(|served| served.regions > place) {
            let cause = format!("function `{}` is bound to it", served.function.name);
            return Err(failed("remove", app, region, cause).way_out("unload that function first"));
        }
        if self.drains.iter().any(|drain| drain.app == found.id) {
            let cause = "a replaced version of a function is still draining";
            return Err(failed("remove", app, region, cause).way_out("try again in a second"));
        }
        if found.restoring {
            return Err(failed("remove", app, region, "a region of the app is being restored"));
        }
        let id = found.id;
        // Nobody reaches it by RDMA any more, nor a later one by the place that it had.
        if let Some(rdma) = &mut self.rdma {
            rdma.close(id, place);
        }
        self.regions.remove(app.as_str(), region.as_str()).map_err(|error| failed("remove", app, region, error))?;
        self.remove_rights(id, place);
        let found = self.app_mut("remove a region of", app)?;
        found.regions.remove(place);
        found.verbs.remove(region);
        self.publish(&self.apps[&id]);
        self.save()
    }

    /// Regions of one app, or of all, those included that a removed app has left.
    pub fn list_regions(&self, app: Option<&Name>) -> Result<Vec<RegionInfo>, ControlError> {
        let regions = self.regions.list().map_err(|error| ControlError::new("list", "the regions", error))?;
        let wanted = regions.iter().filter(|region| app.is_none_or(|app| app.as_str() == region.app()));
        Ok(wanted.map(region_info).collect())
    }

    /// Ends an app's sessions and keeps new ones away, so that a region can change under nobody.
    pub fn begin_restore(&mut self, app: &Name, region: &Name) -> Result<(), ControlError> {
        let found = self.app_mut("restore a region of", app)?;
        if found.restoring {
            return Err(failed("restore", app, region, "another of the app's regions is being restored"));
        }
        found.restoring = true;
        let id = found.id;
        self.end_sessions(id);
        Ok(())
    }

    /// Takes a region as an interrupted restore has left it.
    pub fn accept_region(&self, app: &Name, region: &Name) -> Result<(), ControlError> {
        let found = self.app("accept a region of", app)?;
        let place = found.region_index(region);
        let place = place.ok_or_else(|| failed("accept", app, region, "there is no such region"))?;
        if found.restoring {
            return Err(failed("accept", app, region, "a region of the app is being restored"));
        }
        if !found.regions[place].is_torn() {
            return Err(failed("accept", app, region, "no restore of it was interrupted"));
        }
        tracing::warn!(%app, %region, "taken as an interrupted restore has left it");
        found.regions[place].accept().map_err(|error| failed("accept", app, region, error))
    }

    /// Lets the app's clients come back.
    pub fn end_restore(&mut self, app: &Name) {
        if let Ok(found) = self.app_mut("restore a region of", app) {
            found.restoring = false;
        }
    }
}

/// What administrators are told of a region.
pub fn region_info(region: &Region) -> RegionInfo {
    RegionInfo {
        app: Name::new(region.app()).expect("regions are opened by checked names"),
        name: Name::new(region.name()).expect("regions are opened by checked names"),
        bytes: region.bytes(),
        value_len: region.geometry().value_len(),
        map_id: region.bpf_map().info().id,
        pin: region.pin().to_owned(),
        created_unix_ms: region.created().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as u64),
    }
}

/// Work on a region that takes long.
#[derive(Debug)]
pub enum Work {
    /// Copy a plain file in, from this offset on.
    Load(PathBuf, u64),
    /// Write a snapshot.
    Save(PathBuf),
    /// Read a snapshot.
    Restore(PathBuf),
}

impl Work {
    /// Its name in errors.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Load(..) => "load",
            Self::Save(_) => "save",
            Self::Restore(_) => "restore",
        }
    }

    /// Does it; returns the bytes copied. Blocks.
    pub fn run(&self, regions: &Regions, app: &Name, region: &Name, sink: &ProgressSink) -> Result<u64, RegionError> {
        let region = regions.open(app.as_str(), region.as_str())?;
        let mut progress = |progress: Progress| sink.report(progress.done, progress.total);
        match self {
            Self::Load(path, offset) => region.load_file(path, *offset, &mut progress),
            Self::Save(path) => region.save(path, &mut progress).map(|header| saved_bytes(&header)),
            Self::Restore(path) => region.restore(path, &mut progress).map(|header| saved_bytes(&header)),
        }
    }
}

/// Bytes of a snapshot that hold data: chunks of zeros are not stored.
fn saved_bytes(header: &Header) -> u64 {
    let stored = header.chunks.iter().filter(|chunk| !matches!(chunk, Chunk::Zero)).count();
    stored as u64 * CHUNK_BYTES
}

/// Copies a range of a region, widened to lines of 16 bytes. Blocks.
pub fn read_range(
    regions: &Regions,
    app: &Name,
    region: &Name,
    offset: u64,
    len: u64,
) -> Result<(u64, Vec<u8>), ControlError> {
    if len > DUMP_BYTES_MAX {
        let cause = format!("{len} bytes are too many for one answer: at most {DUMP_BYTES_MAX}");
        return Err(failed("dump", app, region, cause).way_out("ask for less, or use `naam region save`"));
    }
    let read = || -> Result<_, RegionError> {
        let region = regions.open(app.as_str(), region.as_str())?;
        Ok(dump::read_range(&region.map()?, offset, len)?)
    };
    read().map_err(|error| failed("dump", app, region, error))
}

/// Whether a snapshot fits a region, as far as its header tells.
pub fn check_snapshot(regions: &Regions, app: &Name, region: &Name, path: &Path) -> Result<(), RegionError> {
    let region = regions.open(app.as_str(), region.as_str())?;
    let header = naam_region::snapshot::read_header(path)?;
    if header.bytes == region.bytes() {
        return Ok(());
    }
    Err(RegionError::SizeMismatch {
        path: path.to_owned(),
        snapshot_bytes: header.bytes,
        region: region.name().to_owned(),
        region_bytes: region.bytes(),
    })
}
