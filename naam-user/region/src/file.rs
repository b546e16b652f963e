//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};
use rustix::io::Errno;

use crate::RegionError;

/// Refuses what is no regular file: a device, a pipe, a directory.
pub(crate) fn regular(metadata: &fs::Metadata, path: &Path) -> Result<(), RegionError> {
    if metadata.is_file() { Ok(()) } else { Err(RegionError::NotAFile { path: path.to_owned() }) }
}

/// A file on its way: it has no name, or where the file system cannot do that a temporary one.
pub(crate) struct Temporary {
    file: fs::File,
    name: Option<Name>,
}

impl Temporary {
    /// Creates a file that [`publish`](Self::publish) can name `path`, and a handle to write it by. Refuses to replace
    /// what is no regular file, a symbolic link included.
    pub fn beside(path: &Path) -> Result<(Self, fs::File), RegionError> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => regular(&metadata, path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(RegionError::file("look at", path)(error)),
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let (file, name) = match openat(CWD, directory(path), flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => (fs::File::from(file), None),
            // ISDIR: of a kernel or file system that knows the flag not at all.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let (name, file) = Name::beside(path, |name| fs::File::create_new(name))?;
                (file, Some(name))
            }
            Err(error) => return Err(RegionError::file("create a file in", directory(path))(error.into())),
        };
        let handle = file.try_clone().map_err(RegionError::file("create", path))?;
        Ok((Self { file, name }, handle))
    }

    /// Gives the file its name. What is written must be on the medium; afterwards the name is, too.
    pub fn publish(self, path: &Path) -> Result<(), RegionError> {
        let name = match self.name {
            Some(name) => name,
            None => {
                let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                let link = |name: &Path| linkat(CWD, &unnamed, CWD, name, AtFlags::SYMLINK_FOLLOW);
                Name::beside(path, |name| link(name).map_err(io::Error::from))?.0
            }
        };
        fs::rename(&name.0, path).map_err(RegionError::file("rename to", path))?;
        let directory = directory(path);
        fs::File::open(directory).and_then(|dir| dir.sync_all()).map_err(RegionError::file("sync", directory))
    }
}

/// A temporary name, which goes with this value unless the file has got another.
struct Name(PathBuf);

impl Name {
    /// Has `make` make a file beside `path` under a name that nobody else has: never one that exists, which could be
    /// another save's, or a link that leads elsewhere.
    fn beside<T>(path: &Path, make: impl Fn(&Path) -> io::Result<T>) -> Result<(Self, T), RegionError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let mut name = OsString::from(".");
            name.push(path.file_name().unwrap_or_default());
            name.push(format!(".{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
            let name = path.with_file_name(name);
            match make(&name) {
                Ok(made) => return Ok((Self(name), made)),
                // Left over from a process of the same number that crashed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(RegionError::file("create", name)(error)),
            }
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // After a rename there is nothing under this name.
        let _ = fs::remove_file(&self.0);
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    fn names(directory: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_appear_whole_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("store.naam");
        for content in ["first", "second"] {
            let (temporary, mut file) = Temporary::beside(&path).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            let before = fs::read_to_string(&path).unwrap_or_default();
            assert_ne!(before, content);
            temporary.publish(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        drop(Temporary::beside(&path).unwrap());
        assert_eq!(names(place.path()), ["store.naam"], "nothing else stays");
    }

    /// As on a file system that has no unnamed files.
    #[test]
    fn named_ones_go_too() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("store.naam");
        let make = || Name::beside(&path, |name| fs::File::create_new(name)).unwrap();
        let (name, file) = make();
        Temporary { file, name: Some(name) }.publish(&path).unwrap();
        let (name, file) = make();
        assert_eq!(names(place.path()).len(), 2);
        drop(Temporary { file, name: Some(name) });
        assert_eq!(names(place.path()), ["store.naam"]);
    }

    #[test]
    fn nothing_but_files_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        symlink("elsewhere", &link).unwrap();
        for path in [Path::new("/dev/null"), &link, place.path()] {
            let refused = Temporary::beside(path).map(drop).unwrap_err();
            assert!(matches!(refused, RegionError::NotAFile { .. }), "{refused}");
        }
        assert_eq!(names(place.path()), ["link"]);
    }
}
