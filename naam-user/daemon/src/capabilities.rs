//! Rights given up once everything is set up.
//!
//! Capabilities belong to threads and are inherited when a thread is made: they are given up while
//! the process has one thread, before the runtime makes any.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use naam_control::config;
use nix::unistd::{Gid, Uid, User};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

/// Why rights could not be given up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PrivilegeError {
    /// Other threads would keep theirs.
    #[error(
        "cannot give up capabilities: the process has {threads} threads, and each has its own; serve from a process with one"
    )]
    Threads {
        /// So many.
        threads: usize,
    },
    /// A capability that is to be kept is not there.
    #[error("the daemon needs {capability}; run it as root, or grant it (AmbientCapabilities= in the unit)")]
    Missing {
        /// The first that is missing.
        capability: Capability,
    },
    /// Too few descriptors.
    #[error(
        "this process may have {limit} open files, the daemon needs {FEWEST_FILES} and more: `ulimit -n 8192`, or LimitNOFILE= in the unit"
    )]
    Files {
        /// So many.
        limit: u64,
    },
    /// The kernel refused.
    #[error("cannot {operation}: {cause}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        cause: String,
    },
    /// The configuration names nobody.
    #[error("configuration, key `{key}`: there is no {kind} {name:?}{cause}")]
    Unknown {
        /// The key.
        key: &'static str,
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The system's words, if it could not look.
        cause: String,
    },
    /// The user cannot reach what the daemon needs.
    #[error(
        "user {user} cannot reach {}: give the directories above it mode 0711, choose another `control.socket`, \
         or leave `daemon.user` out", path.display()
    )]
    OutOfReach {
        /// The user.
        user: String,
        /// What it should reach.
        path: PathBuf,
    },
}

fn kernel<E: std::fmt::Display>(operation: &'static str) -> impl FnOnce(E) -> PrivilegeError {
    move |error| PrivilegeError::Kernel { operation, cause: error.to_string() }
}

/// A user to become.
#[derive(Clone, Debug)]
pub struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// Looks a user up.
    pub fn of(name: &str) -> Result<Self, PrivilegeError> {
        let unknown =
            |cause: String| PrivilegeError::Unknown { key: "daemon.user", kind: "user", name: name.into(), cause };
        let user = User::from_name(name).map_err(|error| unknown(format!(" ({error})")))?;
        let user = user.ok_or_else(|| unknown(String::new()))?;
        Ok(Self { name: user.name, uid: user.uid, gid: user.gid })
    }

    /// The user's number.
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// Whether the user may search all directories above `path`.
    pub fn reaches(&self, path: &Path) -> bool {
        let may_search = |directory: &Path| {
            fs::metadata(directory).is_ok_and(|meta| {
                let bit = match (meta.uid(), meta.gid()) {
                    (uid, _) if uid == self.uid.as_raw() => 0o100,
                    (_, gid) if gid == self.gid.as_raw() => 0o010,
                    _ => 0o001,
                };
                meta.mode() & bit != 0
            })
        };
        let above = fs::canonicalize(path.parent().unwrap_or(Path::new("/")));
        above.is_ok_and(|above| above.ancestors().all(may_search))
    }

    /// Refuses what the user could not reach.
    pub fn require_reach(&self, path: &Path) -> Result<(), PrivilegeError> {
        if self.reaches(path) {
            return Ok(());
        }
        Err(PrivilegeError::OutOfReach { user: self.name.clone(), path: path.to_owned() })
    }
}

/// The number of a group.
pub fn group(name: &str) -> Result<u32, PrivilegeError> {
    let unknown =
        |cause: String| PrivilegeError::Unknown { key: "control.group", kind: "group", name: name.into(), cause };
    let group = nix::unistd::Group::from_name(name).map_err(|error| unknown(format!(" ({error})")))?;
    group.map(|group| group.gid.as_raw()).ok_or_else(|| unknown(String::new()))
}

/// The kernel's name for a capability of the configuration.
fn capability(capability: config::Capability) -> Capability {
    match capability {
        config::Capability::Bpf => Capability::CAP_BPF,
        config::Capability::NetAdmin => Capability::CAP_NET_ADMIN,
        config::Capability::Perfmon => Capability::CAP_PERFMON,
        config::Capability::NetRaw => Capability::CAP_NET_RAW,
        config::Capability::IpcLock => Capability::CAP_IPC_LOCK,
    }
}

/// Lifts the limit on locked memory, which kernels before 5.11 charge maps to. Where that is not
/// allowed, the limit is as good as it is.
pub fn lift_memory_lock() {
    let limit = getrlimit(Resource::Memlock);
    let lifted = Rlimit { current: None, maximum: None };
    if limit.current.is_some() && setrlimit(Resource::Memlock, lifted).is_err() {
        let most = Rlimit { current: limit.maximum, ..limit };
        if let Err(error) = setrlimit(Resource::Memlock, most) {
            tracing::debug!(%error, "the limit on locked memory stays");
        }
    }
}

/// Bytes that this process may lock; none: without limit.
pub fn memory_lock() -> Option<u64> {
    let privileged = caps::has_cap(None, CapSet::Effective, Capability::CAP_IPC_LOCK).unwrap_or(false);
    getrlimit(Resource::Memlock).current.filter(|_| !privileged)
}

/// Descriptors without which an instance of an app or two does not start.
const FEWEST_FILES: u64 = 64;
/// Descriptors for everything but connections over TCP: regions, tables, links, programs, the unix socket.
const OWN_FILES: u64 = 256;

/// Raises the limit on open files as far as it may be. Returns how many connections over TCP leave
/// enough for the rest, `most` at most.
pub fn file_budget(most: usize) -> Result<usize, PrivilegeError> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { raised.current } else { limit.current };
    if let Some(limit) = current.filter(|files| *files < FEWEST_FILES) {
        return Err(PrivilegeError::Files { limit });
    }
    let budget = within(current, most);
    if budget < most {
        tracing::warn!(
            open_files = current,
            connections = budget,
            "the limit on open files bounds connections over TCP"
        );
    }
    Ok(budget)
}

fn within(open_files: Option<u64>, most: usize) -> usize {
    open_files.map_or(most, |files| most.min(files.saturating_sub(OWN_FILES).max(1) as usize))
}

/// Gives a directory with all that is in it to a user, or back to root; links are not followed.
pub fn give(account: Option<&Account>, directory: &Path) -> io::Result<()> {
    let (uid, gid) = account.map_or((0, 0), |account| (account.uid(), account.gid.as_raw()));
    crate::folder::give(directory, uid, gid)
}

/// Refuses if not all of `keep` is held, or cannot be all that is held: before anything is changed.
pub fn require(keep: &[config::Capability]) -> Result<CapsHashSet, PrivilegeError> {
    let threads = fs::read_dir("/proc/self/task").map_err(kernel("count the threads"))?.count();
    if threads != 1 {
        return Err(PrivilegeError::Threads { threads });
    }
    let keep: CapsHashSet = keep.iter().map(|kept| capability(*kept)).collect();
    let held = caps::read(None, CapSet::Permitted).map_err(kernel("read the capabilities"))?;
    if let Some(&capability) = keep.iter().find(|kept| !held.contains(kept)) {
        return Err(PrivilegeError::Missing { capability });
    }
    Ok(keep)
}

/// Keeps the capabilities in `keep` and no other, in every set, for ever: they cannot come back, not
/// even by running a program that has them. Becomes `account`, if there is one.
pub fn reduce(keep: &[config::Capability], account: Option<&Account>) -> Result<(), PrivilegeError> {
    let keep = require(keep)?;
    for capability in caps::all() {
        let bound = !keep.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false);
        if bound {
            caps::drop(None, CapSet::Bounding, capability).map_err(kernel("lower the bounding set"))?;
        }
    }
    if let Some(account) = account {
        become_user(account)?;
    }
    // In this order each set stays within the one that bounds it.
    caps::clear(None, CapSet::Ambient).map_err(kernel("clear the ambient capabilities"))?;
    caps::clear(None, CapSet::Inheritable).map_err(kernel("clear the inheritable capabilities"))?;
    caps::set(None, CapSet::Effective, &keep).map_err(kernel("lower the effective capabilities"))?;
    caps::set(None, CapSet::Permitted, &keep).map_err(kernel("lower the permitted capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(kernel("forbid new privileges"))
}

fn become_user(account: &Account) -> Result<(), PrivilegeError> {
    let operation = "become another user";
    caps::securebits::set_keepcaps(true).map_err(kernel(operation))?;
    nix::unistd::setgroups(&[account.gid]).map_err(kernel(operation))?;
    nix::unistd::setresgid(account.gid, account.gid, account.gid).map_err(kernel(operation))?;
    nix::unistd::setresuid(account.uid, account.uid, account.uid).map_err(kernel(operation))
}

/// Names of the capabilities that this thread can use.
pub fn effective() -> Result<Vec<String>, CapsError> {
    let mut names: Vec<_> =
        caps::read(None, CapSet::Effective)?.iter().map(|capability| capability.to_string()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        let cases = [(None, 1280), (Some(8192), 1280), (Some(1024), 768), (Some(256), 1), (Some(0), 1)];
        assert_eq!(cases.map(|(files, _)| within(files, 1280)), cases.map(|(_, most)| most));
    }
}
