//! What the control plane tells a client about its session.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use naam_abi::limits::{PORT_BASE, SHARDS_MAX, SLOTS_MAX};
use naam_abi::siphash::{Key, PUBLIC_KEY};

/// A session of one app, as the control plane granted it.
///
/// A session belongs to one [`Core`](crate::core::Core): its nonces and slot sequences start
/// with it and only it knows them.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// The host's address.
    pub host: IpAddr,
    /// First UDP port of the host's block.
    pub port_base: u16,
    /// The app.
    pub app: u16,
    /// The session's whole number.
    pub session: u32,
    /// Shards of the app, at most [`SHARDS_MAX`].
    pub shards: u16,
    /// Request slots for writing calls, at most [`SLOTS_MAX`].
    pub slots: u16,
    /// How datagrams are tagged.
    pub integrity: Integrity,
    /// The app's functions by name.
    pub functions: BTreeMap<String, FunctionInfo>,
    /// By shard: epoch of its placement when the functions were listed. A handler learned from that list is the one that
    /// home serves as long as no reply tells of a later epoch. Empty if that is not known.
    pub epochs: Vec<u32>,
    /// The app's regions by name.
    pub regions: BTreeMap<String, RegionInfo>,
}

impl SessionInfo {
    /// A session with all shards and slots, public tags, the default ports, and no function yet.
    pub fn new(host: IpAddr, app: u16, session: u32) -> Self {
        Self {
            host,
            port_base: PORT_BASE,
            app,
            session,
            shards: SHARDS_MAX as u16,
            slots: SLOTS_MAX as u16,
            integrity: Integrity::Tagged { id: 0, key: PUBLIC_KEY },
            functions: BTreeMap::new(),
            epochs: Vec::new(),
            regions: BTreeMap::new(),
        }
    }

    /// The UDP port of a shard.
    pub fn port(&self, shard: u16) -> u16 {
        self.port_base + self.app * SHARDS_MAX as u16 + shard
    }
}

/// One function of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionInfo {
    /// Its number.
    pub number: u16,
    /// The handler version that serves it now; 0 lets the host choose.
    pub version: u16,
    /// Whether it may write: its calls then take a slot and run exactly once.
    pub writes: bool,
    /// Longest reply in bytes.
    pub reply_max: u16,
}

/// A region of an app, and what the session may do to it: bits of [`naam_abi::tables`]' `RIGHT_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// Its index in ops.
    pub index: u32,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of one of its map values, which no op may straddle.
    pub value_len: u64,
    /// Rights through handlers.
    pub handler_rights: u8,
    /// Rights by one-sided functions, and of messages that the client carries.
    pub raw_rights: u8,
}

/// How datagrams are protected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// The app chose `integrity = off`: tags are neither made nor looked at.
    Off,
    /// Every datagram carries a tag; replies without a right one are dropped.
    Tagged {
        /// Number of the key, as the host knows it.
        id: u8,
        /// The session's key, or [`PUBLIC_KEY`] where the tag is a mere checksum.
        key: Key,
    },
}

impl fmt::Debug for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("Off"),
            // Keys stay out of logs.
            Self::Tagged { id, .. } => f.debug_struct("Tagged").field("id", id).finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_out_of_debug_output() {
        let mut info = SessionInfo::new(IpAddr::from([127, 0, 0, 1]), 2, 1);
        info.integrity = Integrity::Tagged { id: 3, key: Key { k0: 0x1234_5678, k1: 0x1234_5678 } };
        let text = format!("{info:?}");
        assert!(text.contains("id: 3") && !text.contains("305419896"), "{text}");
        assert_eq!(info.port(5), PORT_BASE + 2 * 64 + 5);
    }
}
