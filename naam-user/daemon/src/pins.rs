//! The instance's directory in bpffs: locked, and within reach of a daemon that is not root any more.
//!
//! systemd mounts bpffs for root alone (mode 0700), so another user cannot walk to its pins, although they are its own.
//! What is open it can reach: `/proc/self/fd/N` leads to the directory without a search of those above
//! it, for all system calls that take a path. So nothing on the host has to be opened to others for the daemon's sake.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use naam_control::ControlError;
use naam_control::protocol::AdminReply;
use naam_loader::datapath::{remove_datapath, remove_pins};
use naam_region::Regions;

use crate::capabilities::Account;
use crate::error::ServeError;

/// The directory. Keeps other daemons away while it lives.
#[derive(Debug)]
pub struct Pins {
    /// Where it is for everybody.
    shown: PathBuf,
    /// Where it is for this process.
    path: PathBuf,
    directory: File,
    hidden: bool,
}

/// How a daemon gets into a network namespace without leaving everybody's mounts.
pub const SHARED_MOUNTS: &str = "`ip netns exec` hides the mounts below /sys; `nsenter --net=/run/netns/NAME naam serve` enters the network namespace alone";

impl Pins {
    /// Opens or makes the directory, and locks it. `user` is whom the daemon becomes.
    pub fn open(shown: &Path, user: Option<&Account>) -> Result<Self, ServeError> {
        // Its name can be seen by all; what is in it says itself who may use it.
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(shown);
        made.map_err(ServeError::file("create", shown))?;
        let directory = File::open(shown).map_err(ServeError::file("open", shown))?;
        naam_control::lock::take(&directory, &shown.display()).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => ServeError::Served { pins: shown.to_owned() },
            _ => ServeError::file("lock", shown)(error),
        })?;
        let path = match user {
            Some(user) if !user.reaches(shown) => PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())),
            _ => shown.to_owned(),
        };
        let hidden = is_hidden();
        if hidden {
            tracing::warn!(
                pins = %shown.display(), way_out = SHARED_MOUNTS,
                "the bpffs here is one of this process's own mount namespace: nobody else sees the pins, and the datapath ends with the daemon"
            );
        }
        Ok(Self { shown: shown.to_owned(), path, directory, hidden })
    }

    /// Whether only this daemon's mount namespace has the bpffs.
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// The way there, for this process.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The way there, for everybody.
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// Whose it is: an earlier daemon's user, as only root can have said.
    pub fn owner(&self) -> io::Result<u32> {
        Ok(self.directory.metadata()?.uid())
    }

    /// Removes everything, regions included.
    pub fn remove(&self) -> Result<(), ServeError> {
        if self.path == self.shown {
            return Ok(remove_pins(&self.path)?);
        }
        remove_datapath(&self.path)?;
        for directory in ["regions", "restoring"] {
            let path = self.path.join(directory);
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ServeError::file("remove", self.shown.join(directory))(error));
                }
                _ => {}
            }
        }
        // The empty directory is in one of root's, and stays.
        Ok(())
    }

    fn show(&self, path: &mut PathBuf) {
        if let Ok(inside) = path.strip_prefix(&self.path) {
            *path = self.shown.join(inside);
        }
    }

    fn reword(&self, text: &mut String) {
        *text = text.replace(&self.path.display().to_string(), &self.shown.display().to_string());
    }

    /// Says of pins where they are for everybody.
    pub fn present(&self, answer: Result<AdminReply, ControlError>) -> Result<AdminReply, ControlError> {
        if self.path == self.shown {
            return answer;
        }
        let mut reply = answer.map_err(|mut error| {
            self.reword(&mut error.object);
            self.reword(&mut error.cause);
            error
        })?;
        match &mut reply {
            AdminReply::Region(region) => self.show(&mut region.pin),
            AdminReply::Regions(regions) => regions.iter_mut().for_each(|region| self.show(&mut region.pin)),
            AdminReply::Inspection(inspection) => {
                let programs = inspection.programs.iter_mut().map(|entry| (&mut entry.pin, &mut entry.bpftool));
                let maps = inspection.maps.iter_mut().map(|entry| (&mut entry.pin, &mut entry.bpftool));
                let links = inspection.links.iter_mut().map(|entry| (&mut entry.pin, &mut entry.bpftool));
                for (pin, bpftool) in programs.chain(maps).chain(links) {
                    pin.iter_mut().for_each(|pin| self.show(pin));
                    self.reword(bpftool);
                }
            }
            _ => {}
        }
        Ok(reply)
    }
}

/// What to remove if a start fails that found nothing: whatever it has made.
#[derive(Debug)]
pub struct Undo {
    /// Regions that were there, by app and name.
    regions: Vec<(String, String)>,
    /// The directory of the state, if it was not there.
    state: Option<PathBuf>,
}

impl Undo {
    /// Looks at what is there.
    pub fn new(pins: &Pins, state: &Path) -> Self {
        let state = (!state.exists()).then(|| state.to_owned());
        Self { regions: regions(pins), state }
    }

    /// Removes what has come since, as far as it can be removed.
    pub fn run(self, pins: &Pins) {
        let mut failed = Vec::new();
        failed.extend(remove_datapath(&pins.path).err().map(|error| error.to_string()));
        for (app, name) in regions(pins).into_iter().filter(|region| !self.regions.contains(region)) {
            failed.extend(Regions::new(&pins.path).remove(&app, &name).err().map(|error| error.to_string()));
        }
        if let Some(state) = self.state.filter(|state| state.exists()) {
            failed.extend(fs::remove_dir_all(state).err().map(|error| error.to_string()));
        }
        // Those that are not empty hold what was there before.
        for directory in [pins.path.join("regions"), pins.path.join("restoring"), pins.shown.clone()] {
            let _ = fs::remove_dir(directory);
        }
        if !failed.is_empty() {
            tracing::warn!(pins = %pins.shown.display(), cause = failed.join("; "), "a part of the failed start stays");
        }
    }
}

/// Whether process 1 has not mounted the bpffs that is here. Where that cannot be looked at, it is taken to have.
fn is_hidden() -> bool {
    let (Ok(mounts), Ok(meta)) = (fs::read_to_string("/proc/1/mountinfo"), fs::metadata(naam_sys::pin::BPFFS)) else {
        return false;
    };
    let device = format!("{}:{}", rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    // Numbers of the mount and of the one that it is on come first.
    !mounts.lines().any(|mount| mount.split(' ').nth(2) == Some(&device))
}

fn regions(pins: &Pins) -> Vec<(String, String)> {
    let regions = Regions::new(&pins.path).list().unwrap_or_default();
    regions.into_iter().map(|region| (region.app().to_owned(), region.name().to_owned())).collect()
}
