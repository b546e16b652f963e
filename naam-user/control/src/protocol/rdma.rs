//! What is said about RDMA: how a session's queue pair is connected, what the daemon's device is doing.

use serde::{Deserialize, Serialize};

use super::encoding::hex64;
use super::session::Rights;

/// One end of a reliable connection, as its peer has to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaEndpoint {
    /// The queue pair's number, 24 bits.
    pub qpn: u32,
    /// The number of its first packet, 24 bits.
    pub psn: u32,
    /// The port's address, 32 hexadecimal digits; on Ethernet an IP address, IPv4 ones mapped.
    pub gid: String,
    /// The port's address in an InfiniBand subnet; 0 on Ethernet.
    #[serde(default)]
    pub lid: u16,
    /// Largest payload of a packet that its port takes, in bytes.
    pub mtu: u32,
    /// READs that its device serves at a time; an end that does not say serves 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads_max: Option<u8>,
}

/// A session's queue pair at home, and what it reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaGrant {
    /// Home's end.
    pub endpoint: RdmaEndpoint,
    /// Regions that the session may reach by itself. Others are not reached by this queue pair, whatever key is named.
    pub regions: Vec<RdmaRegion>,
}

/// A region as an RDMA memory region of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaRegion {
    /// Its index in ops.
    pub index: u8,
    /// Its first byte, in home's numbers.
    #[serde(with = "hex64")]
    pub address: u64,
    /// Its bytes.
    pub bytes: u64,
    /// What requests have to name.
    pub rkey: u32,
    /// Which requests are served: READ, WRITE. Atomics are not: devices do them on their own, not as processors and
    /// handlers do.
    pub rights: Rights,
}

/// What a daemon's RDMA device is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaStatus {
    /// Its name.
    pub device: String,
    /// The port served, from 1.
    pub port: u8,
    /// Index of the port's address, if one was configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u8>,
    /// Why sessions get no queue pair just now; regions are then served without RDMA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<String>,
    /// Sessions with a queue pair.
    pub connections: u32,
    /// Bytes of regions that are registered; each set of rights has a registration of its own.
    pub registered_bytes: u64,
    /// Queue pairs connected since the daemon started.
    pub connected: u64,
    /// Requests for one that were refused.
    pub refused: u64,
    /// Queue pairs that broke, or whose peer asked for what it may not have.
    pub broken: u64,
    /// How often the device or its port was lost.
    pub lost: u64,
}
