//! Binding the listeners.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::ServerConfig;
use super::peer::Admins;
use crate::ControlError;

/// Owner and group may connect.
const MODE: u32 = 0o660;

/// A socket file, removed when dropped, and the lock that makes it ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    _lock: fs::File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The lock is still held. A file that stays is replaced by the next daemon.
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds the unix socket under a temporary name, sets mode and group, then gives it its name: at
/// no time can anybody connect who may not. A lock file beside it, which stays, keeps a second
/// daemon away.
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
    // Left over from a daemon that died between bind and rename.
    let _ = fs::remove_file(&temporary);
    let listener = StdUnixListener::bind(&temporary).map_err(refuse)?;
    let prepared = prepare(&temporary, config, &listener).and_then(|()| fs::rename(&temporary, path));
    prepared.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        refuse(error)
    })?;
    let socket = SocketFile { path: path.clone(), _lock: lock };
    let meta = fs::metadata(path).map_err(refuse)?;
    let listener = UnixListener::from_std(listener).map_err(refuse)?;
    Ok((listener, socket, Admins::of_socket(&meta)))
}

fn lock(path: &Path) -> io::Result<fs::File> {
    // For nobody else: whoever can open it can lock it, and so keep the daemon from starting.
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(with_suffix(path, "lock"))?;
    file.try_lock().map_err(io::Error::from)?;
    Ok(file)
}

fn prepare(path: &Path, config: &ServerConfig, listener: &StdUnixListener) -> io::Result<()> {
    if let Some(group) = config.group {
        chown(path, None, Some(group))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    listener.set_nonblocking(true)
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
