//! What administrators ask.

use std::collections::BTreeMap;
use std::path::PathBuf;

use naam_abi::stats::{AppStats, DROP_NAMES};
use naam_abi::tables;
use naam_abi::wire::STATUS_NAMES;
use serde::{Deserialize, Serialize};

use super::encoding::base64;
use super::inspect::{Finding, Inspection};
use super::rdma::RdmaStatus;
use super::session::Rights;
use crate::{FunctionName, Name};

/// An administrator's request. Answers are [`AdminReply::Done`] unless another is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminRequest {
    /// Make an app.
    AppCreate {
        /// Its name.
        app: Name,
        /// Its number; the lowest free one if none is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u16>,
        /// Whether its datagrams are tagged.
        integrity: bool,
    },
    /// Remove an app with its functions and sessions. Its regions stay until removed.
    AppRemove {
        /// The app.
        app: Name,
    },
    /// Answer: [`AdminReply::Apps`].
    AppList,
    /// Admit a handler object and serve it as a new function. Answer: [`AdminReply::Handler`].
    HandlerLoad {
        /// The app.
        app: Name,
        /// The function's number; the lowest free one if none is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u16>,
        /// The object.
        object: Object,
    },
    /// Serve another version of a function, and drain the old one. Answer: [`AdminReply::Handler`].
    HandlerReplace {
        /// The app.
        app: Name,
        /// The function.
        function: FunctionName,
        /// The object.
        object: Object,
    },
    /// Serve the built-in one-sided functions of an app, bound to the regions that it has now; those that are
    /// served already are replaced. Answer: [`AdminReply::Handlers`].
    HandlerOnesided {
        /// The app.
        app: Name,
    },
    /// Stop serving a function.
    HandlerUnload {
        /// The app.
        app: Name,
        /// The function.
        function: FunctionName,
    },
    /// Answer: [`AdminReply::Handlers`].
    HandlerList {
        /// Of one app, or of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<Name>,
    },
    /// Make a region of zeros. Answer: [`AdminReply::Region`].
    RegionCreate {
        /// The app that owns it.
        app: Name,
        /// Its name.
        region: Name,
        /// Its bytes.
        bytes: u64,
        /// What sessions may do to it by RDMA, so far as they have the same right raw. None: READ.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verbs: Option<Rights>,
    },
    /// Remove a region that no function is bound to.
    RegionRemove {
        /// The app.
        app: Name,
        /// The region.
        region: Name,
    },
    /// Copy a plain file of the daemon's machine into a region. Answer: [`AdminReply::Copied`].
    RegionLoad {
        /// The app.
        app: Name,
        /// The region.
        region: Name,
        /// The file.
        path: PathBuf,
        /// Where its first byte goes; a multiple of 8.
        #[serde(default)]
        offset: u64,
    },
    /// Save a region to a file of the daemon's machine. Answer: [`AdminReply::Copied`].
    RegionSave {
        /// The app.
        app: Name,
        /// The region.
        region: Name,
        /// The file.
        path: PathBuf,
    },
    /// Restore a region from a snapshot; ends the app's sessions. Answer: [`AdminReply::Copied`].
    RegionRestore {
        /// The app.
        app: Name,
        /// The region.
        region: Name,
        /// The file.
        path: PathBuf,
    },
    /// Take a region as an interrupted restore has left it, and serve its app again.
    RegionAccept {
        /// The app.
        app: Name,
        /// The region.
        region: Name,
    },
    /// Answer: [`AdminReply::Bytes`].
    RegionDump {
        /// The app.
        app: Name,
        /// The region.
        region: Name,
        /// First byte.
        offset: u64,
        /// Bytes, at most [`crate::limits::DUMP_BYTES_MAX`].
        len: u64,
    },
    /// Answer: [`AdminReply::Regions`].
    RegionList {
        /// Of one app, or of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<Name>,
    },
    /// Answer: [`AdminReply::Steering`].
    SteerShow {
        /// The app.
        app: Name,
    },
    /// Move shards to a site.
    SteerSet {
        /// The app.
        app: Name,
        /// The shards; empty for all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shards: Vec<u8>,
        /// Where they shall run.
        site: Site,
        /// Milliseconds for which clients may rely on that; none named: 100.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease_ms: Option<u16>,
    },
    /// Attach the entry program to an interface. Answer: [`AdminReply::Attached`].
    Attach {
        /// The interface.
        interface: String,
        /// The hook wanted.
        hook: Hook,
    },
    /// Detach from an interface.
    Detach {
        /// The interface.
        interface: String,
    },
    /// Answer: [`AdminReply::Status`].
    Status,
    /// Answer: [`AdminReply::Stats`].
    Stats,
    /// Answer: [`AdminReply::Inspection`].
    Inspect,
    /// Answer: [`AdminReply::Findings`].
    Doctor,
    /// End the daemon; the pinned datapath goes on serving, unless the status says `detach_on_exit`.
    Shutdown,
}

/// A handler object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// A file on the daemon's machine.
    Path(PathBuf),
    /// The ELF itself, at most [`crate::limits::OBJECT_BYTES_MAX`] bytes.
    Bytes(#[serde(with = "base64")] Vec<u8>),
}

/// Where a shard's messages run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// The kernel of the host that owns the memory.
    Host,
    /// The kernel of a SmartNIC on the path.
    Dpu,
    /// The client's engine.
    Client,
}

impl From<Site> for tables::Site {
    fn from(site: Site) -> Self {
        match site {
            Site::Host => Self::Host,
            Site::Dpu => Self::Dpu,
            Site::Client => Self::Client,
        }
    }
}

impl From<tables::Site> for Site {
    fn from(site: tables::Site) -> Self {
        match site {
            tables::Site::Host => Self::Host,
            tables::Site::Dpu => Self::Dpu,
            tables::Site::Client => Self::Client,
        }
    }
}

/// A hook that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// The fastest that the interface has: native XDP, then TC.
    #[default]
    Auto,
    /// XDP, native or generic.
    Xdp,
    /// TC ingress.
    Tc,
}

/// A hook that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachedHook {
    /// XDP in the driver.
    XdpNative,
    /// XDP after the driver has made an skb.
    XdpGeneric,
    /// TC ingress.
    Tc,
}

impl AttachedHook {
    /// Its name in listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        }
    }
}

/// The daemon's answer to an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminReply {
    /// It is done; there is nothing to tell.
    Done,
    /// The apps.
    Apps(Vec<AppInfo>),
    /// One function.
    Handler(HandlerInfo),
    /// The functions.
    Handlers(Vec<HandlerInfo>),
    /// One region.
    Region(RegionInfo),
    /// The regions.
    Regions(Vec<RegionInfo>),
    /// Bytes of a region.
    Bytes {
        /// Offset of the first byte: the one asked for, rounded down to 16.
        offset: u64,
        /// The bytes.
        #[serde(with = "base64")]
        bytes: Vec<u8>,
    },
    /// A file was written or read.
    Copied {
        /// Bytes of the file that hold data.
        bytes: u64,
    },
    /// Placement of an app's shards.
    Steering(Vec<Placement>),
    /// One interface.
    Attached(Attachment),
    /// The daemon.
    Status(Box<Status>),
    /// Counters.
    Stats(Vec<Counters>),
    /// What the kernel holds.
    Inspection(Box<Inspection>),
    /// What is wrong, and what is not.
    Findings(Vec<Finding>),
}

/// An app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppInfo {
    /// Its name.
    pub name: Name,
    /// Its number.
    pub id: u16,
    /// Whether its datagrams are tagged.
    pub integrity: bool,
    /// Its functions.
    pub functions: Vec<FunctionName>,
    /// Its regions, in binding order.
    pub regions: Vec<Name>,
    /// Open sessions.
    pub sessions: u32,
}

/// A function and the programs behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerInfo {
    /// The app.
    pub app: Name,
    /// What clients see of it.
    #[serde(flatten)]
    pub function: super::session::Function,
    /// The version that is being drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<u16>,
    /// Kernel numbers of the current version's programs.
    pub program_ids: Vec<u32>,
    /// Instructions that the verifier walked through, over these programs.
    pub verified_insns: u32,
    /// Bytes of machine code of these programs.
    pub jited_bytes: u32,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionInfo {
    /// The app that owns it.
    pub app: Name,
    /// Its name.
    pub name: Name,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of a map value.
    pub value_len: u64,
    /// Kernel number of the map.
    pub map_id: u32,
    /// Its place in bpffs.
    pub pin: PathBuf,
    /// When it was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
}

/// Placement of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The shard.
    pub shard: u8,
    /// Where it runs.
    pub site: Site,
    /// Grows with every move.
    pub epoch: u32,
    /// Milliseconds for which clients may rely on it.
    pub lease_ms: u16,
}

/// An interface that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name.
    pub interface: String,
    /// Its number.
    pub ifindex: u32,
    /// The hook in use.
    pub hook: AttachedHook,
    /// Why this hook and no other.
    pub reason: String,
    /// Kernel number of the entry program.
    pub program_id: u32,
}

/// An interface that is to be served and is not. The daemon attaches to it again as soon as it can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unserved {
    /// Its name.
    pub interface: String,
    /// The hook wanted.
    pub hook: Hook,
    /// Why it is not served.
    pub cause: String,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The instance.
    pub instance: Name,
    /// Version of the program.
    pub version: String,
    /// Process number.
    pub pid: u32,
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// Whether the datapath was adopted from an earlier daemon.
    pub adopted: bool,
    /// Whether the datapath ends with this daemon.
    #[serde(default)]
    pub detach_on_exit: bool,
    /// First UDP port.
    pub port_base: u16,
    /// Interfaces served.
    pub attachments: Vec<Attachment>,
    /// Interfaces that are to be served and are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unserved: Vec<Unserved>,
    /// Apps.
    pub apps: Vec<AppInfo>,
    /// Capabilities that the daemon still holds.
    pub capabilities: Vec<String>,
    /// Its RDMA device, if it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdma: Option<RdmaStatus>,
}

/// Counters of an app, summed over CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The app; none for datagrams whose app could not be told.
    pub app: Option<Name>,
    /// Datagrams that were parsed as ours.
    pub datagrams: u64,
    /// Datagrams answered.
    pub replies: u64,
    /// UDP payload bytes of answered datagrams.
    pub bytes: u64,
    /// Messages run.
    pub messages: u64,
    /// Handler steps run.
    pub steps: u64,
    /// Messages answered from their slot.
    pub duplicates: u64,
    /// Messages sent back for the client to go on with.
    #[serde(default)]
    pub pushbacks: u64,
    /// Nanoseconds in handler programs, while measured.
    pub busy_ns: u64,
    /// Drops by reason.
    pub drops: BTreeMap<String, u64>,
    /// Messages by status.
    pub statuses: BTreeMap<String, u64>,
}

impl Counters {
    /// Names the shell's counters.
    pub fn new(app: Option<Name>, stats: &AppStats) -> Self {
        let named = |names: &[&str], counts: &[u64]| {
            names.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        Self {
            app,
            datagrams: stats.datagrams,
            replies: stats.replies,
            bytes: stats.bytes,
            messages: stats.messages,
            steps: stats.steps,
            duplicates: stats.duplicates,
            pushbacks: stats.pushbacks,
            busy_ns: stats.busy_ns,
            drops: named(&DROP_NAMES, &stats.drops),
            statuses: named(&STATUS_NAMES, &stats.statuses),
        }
    }
}

#[cfg(test)]
mod tests {
    use naam_abi::stats::Drop;

    use super::*;

    #[test]
    fn counters_carry_their_names() {
        let mut stats = AppStats::ZERO;
        stats.drops[Drop::Tag as usize] = 7;
        let counters = Counters::new(None, &stats);
        assert_eq!((counters.drops["tag"], counters.drops["short"]), (7, 0));
        assert_eq!(counters.statuses.len(), STATUS_NAMES.len());
    }

    #[test]
    fn objects_travel_as_base64() {
        let object = Object::Bytes(vec![0x7f, b'E', b'L', b'F', 0, 255]);
        let json = serde_json::to_string(&object).unwrap();
        assert_eq!(json, r#"{"bytes":"f0VMRgD/"}"#);
        assert_eq!(serde_json::from_str::<Object>(&json).unwrap(), object);
        assert!(serde_json::from_str::<Object>(r#"{"bytes":"*"}"#).is_err());
    }
}
