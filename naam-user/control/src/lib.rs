//! NAAM's control plane: everything about it that needs no kernel objects.
//!
//! The daemon listens on a unix socket, and for sessions optionally on TCP. Both sides speak lines
//! of JSON, so that the protocol can be read, logged and spoken by hand:
//!
//! ```text
//! → {"naam":1}
//! ← {"welcome":{"version":1,"instance":"host"}}
//! → {"id":1,"request":{"session":{"open":{"app":"kv"}}}}
//! ← {"done":{"id":1,"reply":{"session":{"opened":{"session":1025,"ticket":"…","lease_ms":30000,"app_id":0,…}}}}}
//! → {"id":9,"request":{"session":{"renew":{"session":1025,"ticket":"…"}}}}
//! → {"id":2,"request":{"admin":{"region_save":{"app":"kv","region":"store","path":"/tmp/x"}}}}
//! ← {"progress":{"id":2,"done":1048576,"total":67108864}}
//! ← {"failed":{"id":2,"error":{"operation":"save","object":"kv/store","cause":"…","way_out":"…"}}}
//! ```
//!
//! [`SessionGrant`](protocol::session::SessionGrant) is all that a client needs for datagrams, whose format is in
//! [`naam_abi::wire`]: numbers of app, functions and regions, ports, the tag's key (32 hexadecimal digits: two words of
//! 16, each the number that SipHash takes). Raw rights are asked for when the session is opened:
//! `{"open":{"app":"kv","rights":[{"region":"store","handler":{"read":true,"write":true,"atomic":true},"raw":{"read":true}}]}}`.
//! A session that is not renewed ends with its lease; the connection need not stay.
//!
//! | module | what |
//! |---|---|
//! | [`protocol`] | requests and replies, typed |
//! | [`server`] | the daemon's side: listeners, peers, limits, and the [`Service`] it calls |
//! | [`client`] | the other side: blocking, for the CLI and for client libraries |
//! | [`sessions`] | session numbers, leases, tickets |
//! | [`config`] | the daemon's configuration file |
//! | [`limits`] | every bound of the above |
//! | [`lock`] | what keeps a second daemon away |
//!
//! # Who may do what
//! Administration is for root, the daemon's own user, and the members of the socket's group, as the
//! kernel reports the peer; the socket's mode is 0660. TCP serves sessions only: it is neither
//! authenticated nor encrypted before TLS comes, so administration is refused there, whatever is asked.
#![forbid(unsafe_code)]

pub mod client;
pub mod config;
mod error;
pub mod limits;
mod line;
pub mod lock;
pub mod names;
pub mod protocol;
pub mod server;
pub mod sessions;

pub use client::{ClientError, ControlClient};
pub use error::ControlError;
pub use names::{FunctionName, Name};
pub use server::{Peer, ProgressSink, Server, Service};
