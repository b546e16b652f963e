//! Calls NAAM functions.
//!
//! | module | what |
//! |---|---|
//! | [`session`] | what the control plane grants a client |
//! | [`core`] | packing, matching, retries, exactly-once writes, without any IO |
//! | [`client`] | a client driven by the calling thread: submit and poll, or blocking |
//! | [`asynchronous`] | calls as futures, with a thread of their own |
//! | `connect` (feature `control`) | sessions from a daemon, renewed until dropped |
//! | [`onesided`] | single memory ops and chains of them |
//! | `site` (feature `site`) | handlers run in this process, on memory read one-sidedly; by RDMA with feature `verbs` |
//! | [`error`], [`stats`] | how calls end, what is counted |

pub mod asynchronous;
pub mod client;
#[cfg(feature = "control")]
pub mod connect;
pub mod core;
pub mod error;
mod list;
pub mod onesided;
mod rtt;
pub mod session;
#[cfg(feature = "site")]
pub mod site;
mod slots;
pub mod stats;
mod wheel;

pub use asynchronous::AsyncClient;
pub use client::{Client, ClientError, OwnedReply};
pub use core::{Call, Completion, Core, Function, Options, Placement, Reply, Serving, Shard, Ticket};
pub use error::{CallError, SubmitError};
pub use session::{FunctionInfo, Integrity, RegionInfo, SessionInfo};
pub use stats::ClientStats;
