//! Who is at the other end.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;

use tokio::net::UnixStream;

use crate::ControlError;
use crate::protocol::{AdminRequest, Request, admin::Object};

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it may administer.
    pub admin: bool,
}

/// Where a peer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A process of this machine, as the kernel reports it.
    Unix {
        /// User.
        uid: u32,
        /// Primary group.
        gid: u32,
        /// Process, if it is in a process namespace that ours sees.
        pid: Option<i32>,
    },
    /// The network: nobody in particular.
    Tcp(SocketAddr),
    /// A unix socket whose kernel record could not be read.
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Unix { uid, pid: Some(pid), .. } => write!(f, "process {pid} of user {uid}"),
            Origin::Unix { uid, pid: None, .. } => write!(f, "a process of user {uid}"),
            Origin::Tcp(address) => write!(f, "{address}"),
            Origin::Unknown => f.write_str("an unknown process"),
        }
    }
}

impl Peer {
    pub(super) fn tcp(address: SocketAddr) -> Self {
        Self { origin: Origin::Tcp(address), admin: false }
    }

    /// Refuses administration to those who may not.
    pub(super) fn require_right(&self, request: &Request) -> Result<(), ControlError> {
        if self.admin || matches!(request, Request::Session(_)) {
            return self.require_file_right(request);
        }
        let refused = ControlError::new("administer", "this instance", format!("{self} may not"));
        Err(match self.origin {
            Origin::Tcp(_) => refused.way_out("TCP serves sessions only, until it has TLS: use the unix socket"),
            _ => refused.way_out("be root, or a member of the socket's group"),
        })
    }
}

impl Peer {
    /// Refuses requests that name files on the daemon's machine to all but root: the daemon opens
    /// them with rights that a member of the socket's group does not have.
    fn require_file_right(&self, request: &Request) -> Result<(), ControlError> {
        let Request::Admin(request) = request else { return Ok(()) };
        let path = match request {
            AdminRequest::RegionLoad { path, .. }
            | AdminRequest::RegionSave { path, .. }
            | AdminRequest::RegionRestore { path, .. }
            | AdminRequest::HandlerLoad { object: Object::Path(path), .. }
            | AdminRequest::HandlerReplace { object: Object::Path(path), .. } => path,
            _ => return Ok(()),
        };
        if matches!(self.origin, Origin::Unix { uid: 0, .. }) {
            return Ok(());
        }
        let refused = ControlError::new("open", path.display().to_string(), format!("{self} is not root"));
        Err(refused.way_out("ask as root; handler objects may also be sent as bytes"))
    }
}

/// Who may administer: root, the socket's owner, its group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admins {
    uid: u32,
    gid: u32,
}

impl Admins {
    pub(super) fn of_socket(meta: &fs::Metadata) -> Self {
        Self { uid: meta.uid(), gid: meta.gid() }
    }

    pub(super) fn unix_peer(self, stream: &UnixStream) -> Peer {
        let Ok(credentials) = stream.peer_cred() else {
            return Peer { origin: Origin::Unknown, admin: false };
        };
        let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
        // The kernel's record of the connection has no supplementary groups. The process may tell:
        // whoever got here had the right to connect, which the socket's mode gives to owner and
        // group alone, so a process number that was reused in between gains nobody anything.
        let admin = self.include(uid, gid, || pid.map(supplementary_groups).unwrap_or_default());
        Peer { origin: Origin::Unix { uid, gid, pid }, admin }
    }

    fn include(self, uid: u32, gid: u32, groups: impl FnOnce() -> Vec<u32>) -> bool {
        uid == 0 || uid == self.uid || gid == self.gid || groups().contains(&self.gid)
    }
}

fn supplementary_groups(pid: i32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    groups_in(&status)
}

fn groups_in(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{AdminRequest, SessionRequest, session::SessionKey};

    #[test]
    fn groups_are_read() {
        assert_eq!(groups_in("Name:\tx\nUid:\t0\nGroups:\t4 24 1000 \nNStgid:\t1\n"), [4, 24, 1000]);
        assert!(groups_in("Name:\tx\nGroups:\t\n").is_empty());
        assert!(groups_in("").is_empty());
    }

    #[test]
    fn root_owner_and_group_administer() {
        let admins = Admins { uid: 500, gid: 600 };
        let cases = [
            (0, 0, vec![], true),
            (500, 1, vec![], true),
            (1, 600, vec![], true),
            (1, 1, vec![4, 600], true),
            (1, 1, vec![4, 500], false),
            (600, 500, vec![], false),
        ];
        for (uid, gid, groups, admin) in cases {
            assert_eq!(admins.include(uid, gid, || groups.clone()), admin, "{uid} {gid} {groups:?}");
        }
    }

    #[test]
    fn network_never_administers() {
        let peer = Peer::tcp("192.0.2.1:5".parse().unwrap());
        let error = peer.require_right(&Request::Admin(AdminRequest::Status)).unwrap_err();
        assert!(error.way_out.unwrap().contains("unix socket"));
        let close = SessionRequest::Close(SessionKey { session: 1, ticket: 2 });
        assert!(peer.require_right(&Request::Session(close)).is_ok());
    }
}
