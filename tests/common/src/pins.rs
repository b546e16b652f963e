//! Instances and pins of tests, by names that say whose they are, and what killed processes left of them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::process::Pid;

use crate::{
    command::Error,
    leftovers::{is_alive, remove_leftovers},
};

/// Where tests pin: by themselves, by an instance of the datapath, by `naam xsk attach`.
const PLACES: [&str; 3] = ["/sys/fs/bpf", "/sys/fs/bpf/naam", "/sys/fs/bpf/naam-xsk"];
/// Begins every name, `ztPID_SERIAL`: at most 15 bytes, as names of instances have, with 99,999 names a process.
const PREFIX: &str = "zt";

/// A name for an instance, which no other test has or had. The first call removes what dead processes left under
/// such names.
pub fn instance() -> String {
    static SWEPT: Once = Once::new();
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    SWEPT.call_once(|| {
        if let Err(error) = remove_dead() {
            eprintln!("warning: {error}");
        }
    });
    format!("{PREFIX}{}_{}", process::id(), SERIAL.fetch_add(1, Ordering::Relaxed))
}

/// A folder for pins in bpffs that goes when dropped, with what is in it.
#[derive(Debug)]
pub struct Pins(PathBuf);

impl Pins {
    /// Makes one.
    ///
    /// # Errors
    /// Without a bpffs at `/sys/fs/bpf`, and without root.
    pub fn new() -> io::Result<Self> {
        let path = Path::new(PLACES[0]).join(instance());
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: {} stays: {error}", self.0.display());
        }
    }
}

fn remove_dead() -> Result<(), Error> {
    // Daemons in there go first, and filters at TC, which their pins do not keep.
    remove_leftovers()?;
    for place in PLACES.map(Path::new) {
        let failed = |source| Error::Read { path: place.into(), source };
        let entries = match fs::read_dir(place) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().and_then(owner).is_some_and(is_dead) {
                remove(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// The process that [`instance`] named it for.
fn owner(name: &str) -> Option<Pid> {
    let (pid, serial) = name.strip_prefix(PREFIX)?.split_once('_')?;
    serial.parse::<u32>().ok()?;
    Pid::from_raw(pid.parse().ok().filter(|pid| *pid > 0)?)
}

/// Whether what this process has is a dead one's: numbers come again, and ours has nothing yet.
fn is_dead(owner: Pid) -> bool {
    owner == rustix::process::getpid() || !is_alive(owner)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        // Another process may be cleaning up as well.
        Err(source) if path.exists() => Err(Error::Remove { path: path.into(), source }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tests_name_has_an_owner() {
        assert_eq!(owner("zt4711_0"), Pid::from_raw(4711));
        assert_eq!(owner(&instance()), Some(rustix::process::getpid()));
        for name in ["host", "zt4711", "zt_0", "zt4711_", "zt4711_0_1", "zt0_0", "zt-4711_0", "ztx_0", "test_4711_0"] {
            assert_eq!(owner(name), None, "{name}");
        }
    }

    #[test]
    fn names_are_never_given_twice() {
        let (one, other) = (instance(), instance());
        assert!(one != other && one.len() <= 15, "{one} {other}");
    }
}
