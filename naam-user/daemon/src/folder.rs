//! A directory held by its descriptor, in which a privileged process reads and writes although it
//! belongs to another user: no name in it is followed elsewhere.
//!
//! A daemon that starts as root takes over files of a daemon that had become another user. Whoever is
//! that user may have left links there, or exchange directories at any moment.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};

/// Bits of a mode that let others than the owner write.
const OTHERS_WRITE: u32 = 0o022;

/// The directory.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    fd: OwnedFd,
}

fn refused(cause: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, cause)
}

impl Folder {
    /// Opens a directory, or makes it for this user only.
    ///
    /// # Errors
    /// Also if it belongs to none of `owners`, or if others than its owner can write to it.
    pub fn open(path: &Path, owners: &[u32]) -> io::Result<Self> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let fd = rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(not_followed)?;
        Self { path: path.to_owned(), fd }.owned_by(owners)
    }

    /// Opens or makes a directory in this one, by the same rules.
    pub fn child(&self, name: &str, owners: &[u32]) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let fd = rustix::fs::openat(&self.fd, name, DIRECTORY, Mode::empty()).map_err(not_followed)?;
        Self { path: self.path.join(name), fd }.owned_by(owners)
    }

    fn owned_by(self, owners: &[u32]) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&self.fd)?;
        if !owners.contains(&stat.st_uid) {
            return Err(refused(format!(
                "it belongs to user {}, who is neither this daemon's nor `daemon.user`, nor whose the pins are; give it to the right user (it holds the daemon's state)",
                stat.st_uid
            )));
        }
        if stat.st_mode & OTHERS_WRITE != 0 {
            return Err(refused("others than its owner can write to it; `chmod go-w` it".into()));
        }
        Ok(self)
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a file, which may be no link.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(not_followed)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(refused("it is no file".into()));
        }
        let mut bytes = Vec::new();
        File::from(fd).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Replaces a file by rename: whoever is killed leaves the old one or the new one. What stands
    /// under the temporary name is removed, never written to.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(&self.fd, &temporary, flags, Mode::RUSR | Mode::WUSR);
        let fd = match create() {
            Err(rustix::io::Errno::EXIST) => {
                rustix::fs::unlinkat(&self.fd, &temporary, AtFlags::empty())?;
                create()?
            }
            created => created?,
        };
        File::from(fd).write_all(bytes)?;
        Ok(rustix::fs::renameat(&self.fd, &temporary, &self.fd, name)?)
    }

    /// Removes a file or a link.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Names of what is in it.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        names(&self.fd)
    }
}

/// How directories are opened.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Says in words what the kernel says of links.
fn not_followed(errno: rustix::io::Errno) -> io::Error {
    match errno {
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => {
            refused(format!("a link or a file stands there, which is not followed ({errno}); remove it"))
        }
        errno => errno.into(),
    }
}

fn names(fd: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Gives a directory with all that is in it to a user. Links stay whose they are and are not followed,
/// and so do files with a second name: that one may be anywhere. A directory is read before it is given
/// away: without CAP_DAC_OVERRIDE it could not be afterwards.
pub fn give(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let fd = rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(not_followed)?;
    give_directory(&fd, Uid::from_raw(uid), Gid::from_raw(gid))
}

fn give_directory(directory: &OwnedFd, uid: Uid, gid: Gid) -> io::Result<()> {
    for name in names(directory)? {
        // Pins in bpffs cannot be opened but for their place.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(directory, &name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                give_directory(&rustix::fs::openat(directory, &name, DIRECTORY, Mode::empty())?, uid, gid)?;
            }
            FileType::RegularFile if stat.st_nlink == 1 => {
                rustix::fs::chownat(fd.as_fd(), "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
            }
            _ => {}
        }
    }
    Ok(rustix::fs::fchown(directory, Some(uid), Some(gid))?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn files_are_replaced_whatever_stands_in_the_way() {
        let place = tempfile::tempdir().unwrap();
        let (path, victim) = (place.path().join("state"), place.path().join("victim"));
        fs::write(&victim, "untouched").unwrap();
        let folder = Folder::open(&path, &[me()]).unwrap();
        symlink(&victim, path.join("file.new")).unwrap();
        symlink(&victim, path.join("file")).unwrap();
        assert!(folder.read("file").unwrap_err().to_string().contains("not followed"));
        folder.replace("file", b"new").unwrap();
        assert_eq!((folder.read("file").unwrap(), fs::read(&victim).unwrap()), (b"new".into(), b"untouched".into()));
        assert_eq!(folder.names().unwrap(), ["file"]);
        // Another directory under its name is none of its own.
        fs::rename(&path, place.path().join("moved")).unwrap();
        symlink(place.path(), &path).unwrap();
        folder.replace("victim", b"elsewhere").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert!(Folder::open(&path, &[me()]).is_err());
    }

    #[test]
    fn directories_of_others_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("state");
        let folder = Folder::open(&path, &[me()]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let error = Folder::open(&path, &[me() + 1]).unwrap_err();
        assert!(error.to_string().contains("`daemon.user`"), "{error}");
        for mode in [0o720, 0o702] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(Folder::open(&path, &[me()]).unwrap_err().to_string().contains("can write"), "{mode:o}");
        }
        symlink("/", path.join("objects")).unwrap();
        assert!(folder.child("objects", &[me(), 0]).unwrap_err().to_string().contains("not followed"));
    }

    #[test]
    fn what_leads_elsewhere_is_not_given() {
        if me() != 0 {
            println!("SKIPPED what_leads_elsewhere_is_not_given: needs root");
            return;
        }
        const OTHER: u32 = 65_534;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("state");
        fs::create_dir_all(path.join("objects")).unwrap();
        let victims = ["linked", "hard", "directory/inside"].map(|name| place.path().join(name));
        fs::create_dir(place.path().join("directory")).unwrap();
        victims.iter().for_each(|victim| fs::write(victim, "").unwrap());
        symlink(&victims[0], path.join("link")).unwrap();
        fs::hard_link(&victims[1], path.join("hard")).unwrap();
        symlink(place.path().join("directory"), path.join("directory")).unwrap();
        fs::write(path.join("objects/file"), "").unwrap();
        give(&path, OTHER, OTHER).unwrap();
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        assert_eq!(["", "objects", "objects/file"].map(|name| owner(&path.join(name))), [OTHER; 3]);
        assert!(victims.iter().all(|victim| owner(victim) == 0));
    }
}
