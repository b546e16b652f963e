//! What clients ask: sessions.

use naam_abi::siphash::Key;
use naam_abi::tables::{RIGHT_ATOMIC, RIGHT_READ, RIGHT_WRITE};
use serde::{Deserialize, Serialize};

use super::encoding::{base64, hex64, key};
use super::rdma::{RdmaEndpoint, RdmaGrant};
use crate::{FunctionName, Name};

/// A client's request. A field that is not known is refused: what it was meant to restrict would not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SessionRequest {
    /// Open a session. Answer: [`SessionReply::Opened`].
    Open {
        /// The app to call.
        app: Name,
        /// Rights wanted, by region. Empty: every right through handlers on every region, no raw right.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        rights: Vec<RegionRights>,
    },
    /// Live for another lease. Answer: [`SessionReply::Renewed`].
    Renew(SessionKey),
    /// End a session. Answer: [`SessionReply::Closed`].
    Close(SessionKey),
    /// Hand out a handler object that a function list names. Answer: [`SessionReply::Object`].
    Object {
        /// A session of the app that serves it.
        key: SessionKey,
        /// [`ListedObject::sha256`].
        sha256: String,
    },
    /// Connect a queue pair to regions that the session may reach by itself: to all that the configuration opens, or to one of
    /// them, whichever is the most that its rights cover. One that it had before goes. Over TCP on Ethernet the endpoint's GID
    /// has to be the address that the request comes from. Answered within [`crate::limits::RDMA_CONNECT_TIME`]; what takes
    /// longer is refused as busy and goes on, for when it is asked again. Answer: [`SessionReply::Rdma`].
    Rdma {
        /// The session.
        key: SessionKey,
        /// The client's end.
        endpoint: RdmaEndpoint,
    },
}

/// Names a session, and proves who opened it: session numbers can be guessed, tickets cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKey {
    /// The session's number.
    pub session: u32,
    /// The ticket that came with it.
    #[serde(with = "hex64")]
    pub ticket: u64,
}

/// Rights to a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionRights {
    /// The region.
    pub region: Name,
    /// Through handlers.
    #[serde(default)]
    pub handler: Rights,
    /// Through built-in one-sided functions; by RDMA as far as the region's `verbs` says. Who is no administrator gets what
    /// the configuration's `raw` allows.
    #[serde(default)]
    pub raw: Rights,
}

/// What may be done to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rights {
    /// READ.
    pub read: bool,
    /// WRITE.
    pub write: bool,
    /// CAS and FAA.
    pub atomic: bool,
}

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self { read: false, write: false, atomic: false };
    /// Everything.
    pub const ALL: Self = Self { read: true, write: true, atomic: true };

    /// The byte in a session's table entry.
    pub const fn bits(self) -> u8 {
        (if self.read { RIGHT_READ } else { 0 })
            | (if self.write { RIGHT_WRITE } else { 0 })
            | (if self.atomic { RIGHT_ATOMIC } else { 0 })
    }

    /// Reads the byte in a session's table entry.
    pub const fn from_bits(bits: u8) -> Self {
        Self { read: bits & RIGHT_READ != 0, write: bits & RIGHT_WRITE != 0, atomic: bits & RIGHT_ATOMIC != 0 }
    }

    /// Whether every right of `other` is among these.
    pub const fn include(self, other: Self) -> bool {
        self.bits() & other.bits() == other.bits()
    }
}

/// The daemon's answer to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionReply {
    /// The session is open.
    Opened(Box<SessionGrant>),
    /// The session lives on.
    Renewed {
        /// Milliseconds from now.
        lease_ms: u64,
    },
    /// The session is gone.
    Closed,
    /// The object's bytes. Who asked checks them against the list.
    Object {
        /// The ELF object as it was given to the daemon.
        #[serde(with = "base64")]
        bytes: Vec<u8>,
    },
    /// Home's queue pair is connected to the client's.
    Rdma(Box<RdmaGrant>),
}

/// All a client needs to call an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionGrant {
    /// Number and ticket.
    #[serde(flatten)]
    pub key: SessionKey,
    /// Milliseconds after which the session ends unless renewed.
    pub lease_ms: u64,
    /// The app's name.
    pub app: Name,
    /// The app's number in datagrams.
    pub app_id: u16,
    /// First UDP port of the block: shard `s` of app `a` is at `port_base + a * 64 + s`.
    pub port_base: u16,
    /// Shards of the app.
    pub shards: u16,
    /// Request slots: writing messages that may be in flight.
    pub slots: u16,
    /// How datagrams are tagged.
    pub tag: Tag,
    /// By shard: epoch of its placement when the functions were listed. Empty from a daemon that does not tell.
    #[serde(default)]
    pub epochs: Vec<u32>,
    /// The app's functions.
    pub functions: Vec<Function>,
    /// The app's regions, by index in messages.
    pub regions: Vec<GrantedRegion>,
}

/// How datagrams of a session are tagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tag {
    /// Not at all: the app's configuration says `integrity = "off"`.
    Off,
    /// With a key; under `auth = none` the public one.
    Keyed {
        /// Number of the key in datagrams.
        key_id: u8,
        /// The key.
        #[serde(with = "key")]
        key: Key,
    },
}

/// A function of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: FunctionName,
    /// Its number in datagrams.
    pub id: u16,
    /// The version served now.
    pub version: u16,
    /// It may change memory: its messages need a slot and a sequence.
    pub writes: bool,
    /// Longest reply in bytes.
    pub reply_max: u32,
    /// Bytes of its view: 64 or 1024.
    pub view: u32,
    /// The handler object that serves it now, for clients that run it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ListedObject>,
}

/// What identifies a handler object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedObject {
    /// SHA-256 of its bytes, 64 hexadecimal digits.
    pub sha256: String,
    /// Its bytes, at most [`OBJECT_BYTES_MAX`](crate::limits::OBJECT_BYTES_MAX).
    pub bytes: u64,
}

/// A region as a session sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedRegion {
    /// Name and granted rights.
    #[serde(flatten)]
    pub rights: RegionRights,
    /// Its index in ops.
    pub index: u8,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of a map value, which no op may straddle.
    pub value_len: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tickets_survive_json() {
        let grant = SessionGrant {
            key: SessionKey { session: 1025, ticket: u64::MAX - 1 },
            lease_ms: 30_000,
            app: Name::new("kv").unwrap(),
            app_id: 3,
            port_base: 28672,
            shards: 64,
            slots: 64,
            tag: Tag::Keyed { key_id: 1, key: Key { k0: u64::MAX, k1: 1 } },
            epochs: vec![3, u32::MAX],
            functions: vec![],
            regions: vec![GrantedRegion {
                rights: RegionRights { region: Name::new("store").unwrap(), handler: Rights::ALL, raw: Rights::NONE },
                index: 0,
                bytes: 64 << 20,
                value_len: 64 << 20,
            }],
        };
        let json = serde_json::to_string(&grant).unwrap();
        assert!(json.contains("\"ticket\":\"fffffffffffffffe\""), "{json}");
        assert!(json.contains("ffffffffffffffff0000000000000001"), "{json}");
        assert_eq!(serde_json::from_str::<SessionGrant>(&json).unwrap(), grant);
    }

    #[test]
    fn malformed_tickets_are_refused() {
        for ticket in ["", "1", "000000000000000g", "+000000000000001", "00000000000000000", "é00000000000000"] {
            let json = format!(r#"{{"session":1,"ticket":"{ticket}"}}"#);
            assert!(serde_json::from_str::<SessionKey>(&json).is_err(), "{ticket:?}");
        }
    }

    #[test]
    fn rights_are_bits() {
        for bits in 0..8 {
            assert_eq!(Rights::from_bits(bits).bits(), bits);
        }
        assert!(Rights::ALL.include(Rights { read: true, ..Rights::NONE }));
        assert!(!Rights { read: true, ..Rights::NONE }.include(Rights::ALL));
        let request: SessionRequest = serde_json::from_str(r#"{"open":{"app":"kv"}}"#).unwrap();
        assert_eq!(request, SessionRequest::Open { app: Name::new("kv").unwrap(), rights: vec![] });
    }
}
