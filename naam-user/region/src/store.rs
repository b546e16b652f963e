//! Regions by name: created, pinned, opened again, listed, removed.
//!
//! Nothing is written down beside the pins: the kernel itself knows all there is to know. The app
//! and the name are the pin's path, `PINS/regions/APP/NAME`; the size is the map's; the time of
//! creation is the pin's. While a restore overwrites a region, the empty directory
//! `PINS/restoring/APP:NAME` says so: one that stays tells that the region is a mixture. Owners lock the
//! empty directory `PINS/owners/APP:NAME`.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use naam_abi::limits::is_name;
use naam_sys::map::{MMAPABLE, MapBtf};
use naam_sys::{Errno, Map, MapSpec, MapType, pin};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

use crate::{Geometry, Memory, RegionError, btf};

/// The regions of one NAAM instance.
#[derive(Clone, Debug)]
pub struct Regions {
    dir: PathBuf,
    marks: PathBuf,
    owners: PathBuf,
}

/// A region that this process has open.
#[derive(Debug)]
pub struct Region {
    app: String,
    name: String,
    pin: PathBuf,
    mark: PathBuf,
    owner: PathBuf,
    created: SystemTime,
    geometry: Geometry,
    map: Map,
}

impl Regions {
    /// The regions under an instance's pin directory, such as `/sys/fs/bpf/naam/host`.
    pub fn new(pins: impl AsRef<Path>) -> Self {
        let pins = pins.as_ref();
        Self { dir: pins.join("regions"), marks: pins.join("restoring"), owners: pins.join("owners") }
    }

    /// Creates a region of `bytes` zero bytes and pins it. All of its memory is taken at once and is
    /// never swapped: expect 15 ms for 64 MiB, seconds for 1 GiB.
    ///
    /// Kernel 5.5 for mappable arrays. Older kernels limit a map value to 4 MiB and answer E2BIG.
    pub fn create(&self, app: &str, name: &str, bytes: u64) -> Result<Region, RegionError> {
        let geometry = Geometry::new(bytes)?;
        let pin = self.path(app, name)?;
        // The pin would be refused too, but only after the memory was taken.
        if pin.symlink_metadata().is_ok() {
            return Err(RegionError::Exists { path: pin });
        }
        require_memory(name, bytes)?;
        let dir = pin.parent().expect("a pin has a directory");
        fs::create_dir_all(dir).map_err(RegionError::file("create", dir))?;
        let types = btf::load(geometry)?;
        let map = Map::create(&MapSpec {
            name,
            map_type: MapType::Array,
            key_size: 4,
            value_size: geometry.value_len() as u32,
            max_entries: geometry.values() as u32,
            flags: MMAPABLE,
            btf: Some(MapBtf { btf: &types, key_type: btf::KEY_TYPE, value_type: btf::VALUE_TYPE }),
        })?;
        let mark = self.mark(app, name);
        unmark(&mark)?;
        map.pin(&pin)?;
        let (created, owner) = (created(&pin)?, self.owner(app, name));
        Ok(Region { app: app.to_owned(), name: name.to_owned(), pin, mark, owner, created, geometry, map })
    }

    /// Opens a region by its pin, as after a restart of the daemon.
    pub fn open(&self, app: &str, name: &str) -> Result<Region, RegionError> {
        let pin = self.path(app, name)?;
        let map = Map::open_pinned(&pin)?;
        let not = |reason: String| RegionError::NotARegion { path: pin.clone(), reason };
        let info = map.info();
        if info.map_type() != Some(MapType::Array) || info.flags & MMAPABLE == 0 {
            return Err(not(format!("a map of type {} with flags {:#x}", info.raw_type, info.flags)));
        }
        let geometry = Geometry::of_map(info.value_size, info.max_entries)
            .ok_or_else(|| not(format!("an array of {} x {} bytes", info.max_entries, info.value_size)))?;
        let (created, mark, owner) = (created(&pin)?, self.mark(app, name), self.owner(app, name));
        Ok(Region { app: app.to_owned(), name: name.to_owned(), pin, mark, owner, created, geometry, map })
    }

    /// All regions, by app and name.
    pub fn list(&self) -> Result<Vec<Region>, RegionError> {
        let mut regions = Vec::new();
        for app in entries(&self.dir)? {
            for name in entries(&self.dir.join(&app))? {
                regions.push(self.open(&app, &name)?);
            }
        }
        Ok(regions)
    }

    /// Removes a region's pin. The memory goes when the last program, mapping and process that has
    /// it open is gone.
    pub fn remove(&self, app: &str, name: &str) -> Result<(), RegionError> {
        let path = self.path(app, name)?;
        pin::unpin(&path)?;
        // The app's directory goes with its last region; otherwise it is not empty and stays.
        let _ = fs::remove_dir(path.parent().expect("a pin has a directory"));
        unmark(&self.owner(app, name))?;
        unmark(&self.mark(app, name))
    }

    fn owner(&self, app: &str, name: &str) -> PathBuf {
        self.owners.join(format!("{app}:{name}"))
    }

    fn mark(&self, app: &str, name: &str) -> PathBuf {
        self.marks.join(format!("{app}:{name}"))
    }

    fn path(&self, app: &str, name: &str) -> Result<PathBuf, RegionError> {
        for (what, name) in [("app", app), ("region", name)] {
            if !is_name(name) {
                return Err(RegionError::Name { what, name: name.to_owned() });
            }
        }
        Ok(self.dir.join(app).join(name))
    }
}

impl Region {
    /// The app that owns it.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// Its name, unique within the app.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        self.geometry.bytes()
    }

    /// When it was pinned.
    pub fn created(&self) -> SystemTime {
        self.created
    }

    /// Its place in bpffs.
    pub fn pin(&self) -> &Path {
        &self.pin
    }

    /// Whether a restore of it was begun and not brought to its end: it holds parts of two states.
    pub fn is_torn(&self) -> bool {
        self.mark.symlink_metadata().is_ok()
    }

    /// Takes the region as it is, whatever an interrupted restore has left in it.
    pub fn accept(&self) -> Result<(), RegionError> {
        unmark(&self.mark)
    }

    /// Says that the region is a mixture from now on, to whoever comes after a crash.
    pub(crate) fn mark_torn(&self) -> Result<(), RegionError> {
        fs::create_dir_all(&self.mark).map_err(RegionError::file("create", &self.mark))
    }

    /// Makes this process the region's owner, the only one among those that ask. Handlers, the daemon and whoever maps
    /// the region without asking are not kept from anything.
    ///
    /// # Errors
    /// [`RegionError::Owned`] if another is its owner, [`RegionError::File`].
    pub fn own(&self) -> Result<Ownership, RegionError> {
        fs::create_dir_all(&self.owner).map_err(RegionError::file("create", &self.owner))?;
        let error = |errno: rustix::io::Errno| RegionError::file("lock", &self.owner)(errno.into());
        let lock =
            open(&self.owner, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(error)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Ownership { _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(RegionError::Owned { app: self.app.clone(), region: self.name.clone() })
            }
            Err(errno) => Err(error(errno)),
        }
    }

    /// The map, for binding into handler programs.
    pub fn bpf_map(&self) -> &Map {
        &self.map
    }

    /// Maps the region into this process. Needs no capability beyond an open descriptor.
    pub fn map(&self) -> Result<Memory, RegionError> {
        Ok(Memory::new(self.map.mmap()?, self.geometry))
    }
}

/// The right to change a region's contents by its mapping, where a structure in it takes one owner. It ends with this
/// value, and with the process.
#[derive(Debug)]
pub struct Ownership {
    _lock: OwnedFd,
}

/// Removes a mark, if it is there.
fn unmark(mark: &Path) -> Result<(), RegionError> {
    match fs::remove_dir(mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RegionError::file("remove", mark)(error)),
        _ => Ok(()),
    }
}

fn created(pin: &Path) -> Result<SystemTime, RegionError> {
    fs::metadata(pin).and_then(|meta| meta.modified()).map_err(RegionError::file("read the time of", pin))
}

/// Names in a directory, sorted; none if there is no such directory.
fn entries(dir: &Path) -> Result<Vec<String>, RegionError> {
    let read = match fs::read_dir(dir) {
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.0) => return Ok(Vec::new()),
        other => other.map_err(RegionError::file("list", dir))?,
    };
    let names: io::Result<Vec<_>> = read.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
    let mut names = names.map_err(RegionError::file("list", dir))?;
    names.sort();
    Ok(names)
}

/// Refuses before the kernel tries: an allocation that cannot be met may wake the OOM killer first.
fn require_memory(region: &str, bytes: u64) -> Result<(), RegionError> {
    const MEMINFO: &str = "/proc/meminfo";
    let text = fs::read_to_string(MEMINFO).map_err(RegionError::file("read", MEMINFO))?;
    match available_memory(&text) {
        Some(available) if available < bytes => {
            Err(RegionError::Memory { region: region.to_owned(), bytes, available })
        }
        _ => Ok(()),
    }
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_understood() {
        let text = "MemTotal:       24684084 kB\nMemFree:          900000 kB\nMemAvailable:   23100004 kB\n";
        assert_eq!(available_memory(text), Some(23_100_004 << 10));
        assert_eq!(available_memory("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        let regions = Regions::new("/nowhere");
        for (app, name) in [("..", "a"), ("a", ".."), ("a/b", "c"), ("a", "b/c"), ("", "a"), ("a", "")] {
            assert!(matches!(regions.open(app, name), Err(RegionError::Name { .. })), "{app:?} {name:?}");
            assert!(matches!(regions.create(app, name, 2 << 20), Err(RegionError::Name { .. })), "{app:?} {name:?}");
        }
    }

    #[test]
    fn more_than_the_machine_has_is_refused() {
        assert!(matches!(require_memory("r", u64::MAX), Err(RegionError::Memory { bytes: u64::MAX, .. })));
        assert!(require_memory("r", 1).is_ok());
    }
}
