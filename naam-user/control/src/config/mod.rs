//! The daemon's configuration file, in TOML. `examples/naam.toml` shows every key.

mod file;
mod rdma;
mod size;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

pub use rdma::{Rdma, RdmaError, VERBS};
pub use size::RegionSize;

use crate::protocol::admin::{Hook, Site};
use crate::protocol::session::Rights;
use crate::{FunctionName, Name};

/// A configuration that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the instance: its pins are under `/sys/fs/bpf/naam/<instance>`.
    pub instance: Name,
    /// First UDP port of the block of 4096.
    pub port_base: u16,
    /// The control plane.
    pub control: Control,
    /// What the daemon keeps of root's rights.
    pub daemon: Daemon,
    /// The RDMA device that sessions may reach regions by.
    pub rdma: Option<Rdma>,
    /// Interfaces to serve.
    pub interfaces: Vec<Interface>,
    /// Apps to serve.
    pub apps: Vec<App>,
}

/// The control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The unix socket.
    pub socket: PathBuf,
    /// The group whose members may administer, by name.
    pub group: Option<String>,
    /// Where clients may open sessions over TCP: unencrypted, without administration.
    pub tcp: Option<SocketAddr>,
    /// How long a session lives without renewal.
    pub lease: Duration,
}

/// What the daemon keeps of root's rights once it has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// The user to become; none: stay who it is.
    pub user: Option<String>,
    /// The capabilities to keep.
    pub capabilities: Vec<Capability>,
}

/// A capability that the daemon may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Maps and programs.
    Bpf,
    /// XDP and TC.
    NetAdmin,
    /// Programs with loops and pointer arithmetic as the shell has them.
    Perfmon,
    /// AF_XDP sockets.
    NetRaw,
    /// Memory of RDMA devices beyond the limit on locked memory.
    IpcLock,
}

/// An interface to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The hook wanted.
    pub hook: Hook,
}

/// An app to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its name.
    pub name: Name,
    /// Its number in datagrams.
    pub id: u16,
    /// Whether datagrams are tagged.
    pub integrity: bool,
    /// Whether time in its handlers is measured.
    pub timed: bool,
    /// Sessions that it may have at a time.
    pub sessions_max: usize,
    /// Whether the built-in one-sided functions are served for it.
    pub onesided: bool,
    /// Its regions, in binding order.
    pub regions: Vec<Region>,
    /// Its functions.
    pub functions: Vec<Function>,
    /// Where its shards run when the app is new; all that are not named run at the host.
    pub steer: Vec<Steer>,
}

/// A region of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub name: Name,
    /// Its bytes.
    pub bytes: u64,
    /// Raw rights that any session may ask for; administrators may ask for all.
    pub raw: Rights,
    /// What sessions may do by RDMA, so far as they have the same right raw.
    pub verbs: Rights,
}

/// A function of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: FunctionName,
    /// Its number in datagrams.
    pub id: u16,
    /// Where its handler object comes from.
    pub object: ObjectSource,
}

/// Where shards of an app run until somebody moves them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steer {
    /// The shards; all for none named.
    pub shards: Vec<u8>,
    /// Where they run: the host, or the client.
    pub site: Site,
    /// Milliseconds for which clients may rely on it, if not the daemon's default.
    pub lease_ms: Option<u16>,
}

/// Where a handler object comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectSource {
    /// A file; a relative path in the configuration is relative to its directory.
    File(PathBuf),
    /// A handler that the serving program carries, by name: `builtin:mica_get`.
    Builtin(String),
}

impl ObjectSource {
    /// What stands before a built-in handler's name.
    pub const BUILTIN_PREFIX: &'static str = "builtin:";

    /// Reads `text` as it stands in the configuration of directory `dir`.
    pub(crate) fn read(text: &str, dir: &Path) -> Self {
        match text.strip_prefix(Self::BUILTIN_PREFIX) {
            Some(name) => Self::Builtin(name.to_owned()),
            None => Self::File(dir.join(text)),
        }
    }
}

impl fmt::Display for ObjectSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Builtin(name) => write!(f, "{}{name}", Self::BUILTIN_PREFIX),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{}: {key}{reason}", .path.display(), .line.map(|line| format!(":{line}")).unwrap_or_default(), key = key_text(.key))]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, where one is to blame.
    pub line: Option<usize>,
    /// The key, where one is to blame: `app.region.size`.
    pub key: Option<String>,
    /// What is wrong, and what would be right.
    pub reason: String,
}

fn key_text(key: &Option<String>) -> String {
    key.as_ref().map(|key| format!("`{key}`: ")).unwrap_or_default()
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            path: path.to_owned(),
            line: None,
            key: None,
            reason: format!("cannot be read: {error}"),
        })?;
        Self::parse(&text, path)
    }

    /// Checks the text of the file at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        file::parse(text, path)
    }
}
