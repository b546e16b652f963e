//! Binding the listeners.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::ServerConfig;
use super::peer::Admins;
use crate::ControlError;

/// Owner and group may connect.
const MODE: u32 = 0o660;

/// A socket file, removed when dropped unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            // Nothing can be done about a file that stays: the next daemon replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds the unix socket under a temporary name, sets mode and group, then gives it its name: at
/// no time can anybody connect who may not.
pub(super) fn unix(config: &ServerConfig) -> Result<(UnixListener, SocketFile, Admins), ControlError> {
    let path = &config.socket;
    let refuse = |cause: &dyn ToString| ControlError::new("listen on", path.display().to_string(), cause.to_string());
    if UnixStream::connect(path).is_ok() {
        return Err(refuse(&"another daemon listens there").way_out("stop it, or give this instance another socket"));
    }
    let temporary = temporary_name(path);
    // Left over from a daemon that had this process number and died between bind and rename.
    let _ = fs::remove_file(&temporary);
    let listener = StdUnixListener::bind(&temporary).map_err(|error| {
        let refused = refuse(&error);
        match error.kind() {
            io::ErrorKind::NotFound => refused.way_out("create its directory first"),
            io::ErrorKind::InvalidInput => {
                refused.way_out("a socket's path has at most 107 bytes: choose a shorter one")
            }
            _ => refused,
        }
    })?;
    let prepared = prepare(&temporary, config, &listener);
    let prepared = prepared.and_then(|inode| fs::rename(&temporary, path).map(|()| inode));
    let inode = prepared.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        refuse(&error)
    })?;
    let socket = SocketFile { path: path.clone(), inode };
    let meta = fs::metadata(path).map_err(|error| refuse(&error))?;
    let listener = UnixListener::from_std(listener).map_err(|error| refuse(&error))?;
    Ok((listener, socket, Admins::of_socket(&meta)))
}

fn prepare(path: &Path, config: &ServerConfig, listener: &StdUnixListener) -> io::Result<u64> {
    if let Some(group) = config.group {
        chown(path, None, Some(group))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    listener.set_nonblocking(true)?;
    Ok(fs::metadata(path)?.ino())
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
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
