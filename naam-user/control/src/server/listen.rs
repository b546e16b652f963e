//! Binding the listeners.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, UnixListener};

use super::ServerConfig;
use super::peer::Admins;
use crate::ControlError;
use crate::lock;

/// Owner and group may connect.
const MODE: u32 = 0o660;

/// A socket file, removed when dropped, and the lock that makes it ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    _lock: fs::File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The lock is still held. A file that stays is replaced by the next daemon.
        if fs::symlink_metadata(&self.path).is_ok_and(|there| identity(&there) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Tells a file from every other that exists at the same time.
fn identity(meta: &fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// Binds the unix socket under a temporary name, sets mode and group, then gives it its name: at
/// no time can anybody connect who may not. A lock file beside it, which stays, keeps a second
/// daemon away. What stands in the way is removed only if it is a socket that nobody answers on.
pub(super) fn unix(config: &ServerConfig) -> Result<(UnixListener, SocketFile, Admins), ControlError> {
    let path = &config.socket;
    let refuse = |error: io::Error| {
        let refused = ControlError::new("listen on", path.display().to_string(), &error);
        match error.kind() {
            io::ErrorKind::NotFound => refused.way_out("create its directory first"),
            io::ErrorKind::InvalidInput => {
                refused.way_out("a socket's path has at most 107 bytes: choose a shorter one")
            }
            io::ErrorKind::WouldBlock => ControlError { cause: "another daemon listens there".to_owned(), ..refused }
                .way_out("stop it, or give this instance another socket"),
            _ => refused,
        }
    };
    let lock = lock(path).map_err(refuse)?;
    let temporary = with_suffix(path, "new");
    clear(path)?;
    // Left over from a daemon that died between bind and rename.
    clear(&temporary)?;
    let listener = StdUnixListener::bind(&temporary).map_err(refuse)?;
    let prepared = prepare(&temporary, config, &listener).and_then(|meta| {
        // Not over what has come there since it was looked at.
        rustix::fs::renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE)?;
        Ok(meta)
    });
    let meta = prepared.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        refuse(error)
    })?;
    let socket = SocketFile { path: path.clone(), identity: identity(&meta), _lock: lock };
    let listener = UnixListener::from_std(listener).map_err(refuse)?;
    Ok((listener, socket, Admins::of_socket(&meta)))
}

/// Makes room for the socket: removes one that nobody answers on, and nothing else.
fn clear(path: &Path) -> Result<(), ControlError> {
    let refuse = |cause: &str| {
        let refused = ControlError::new("listen on", path.display().to_string(), cause);
        refused.way_out("remove it if nobody needs it, or give this instance another socket (`control.socket`)")
    };
    let failed = |error: io::Error| refuse(&error.to_string());
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(refuse("something stands there that is no socket, and is left alone"));
        }
        Ok(_) => {}
    }
    match answer(path) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(failed),
        Err(errno @ (Errno::ACCESS | Errno::PERM)) => {
            Err(refuse(&format!("whether anybody answers there cannot be told: {errno}")))
        }
        // A full queue and another type of socket are signs of life, too.
        _ => Err(refuse("another program listens there")),
    }
}

/// Whether anybody answers on a socket; does not wait.
fn answer(path: &Path) -> rustix::io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
}

fn lock(path: &Path) -> io::Result<fs::File> {
    // For nobody else: whoever can open it can lock it, and so keep the daemon from starting.
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.custom_flags(OFlags::NOFOLLOW.bits() as i32).open(with_suffix(path, "lock"))?;
    lock::take(&file, &path.display())?;
    Ok(file)
}

fn prepare(path: &Path, config: &ServerConfig, listener: &StdUnixListener) -> io::Result<fs::Metadata> {
    if let Some(group) = config.group {
        chown(path, None, Some(group))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    listener.set_nonblocking(true)?;
    fs::symlink_metadata(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    path.with_file_name(name)
}

pub(super) fn tcp(address: SocketAddr) -> Result<TcpListener, ControlError> {
    let listener = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    listener.map_err(|error| {
        ControlError::new("listen on", format!("TCP {address}"), error)
            .way_out("choose another address or port for `control.tcp`")
    })
}
