//! The loader: brings NAAM's datapath into the kernel.
//!
//! | module | what |
//! |---|---|
//! | [`datapath`] | an instance: pinned maps, entry programs (through aya), adoption after a restart |
//! | [`attach`] | the entry on an interface: native XDP, generic XDP, TC; pinned links |
//! | [`interface`] | interfaces of the network namespace: index, Ethernet address |
//! | [`link`] | pinned links and filters: names, whether they still hold an interface |
//! | [`template`] | the shell object, taken apart once |
//! | [`splice`] | a handler in the stub's place: instructions, functions, lines, BTF |
//! | [`bind`] | maps and constants into a spliced program, and to the kernel |
//! | [`function`] | handlers: load, replace under load, drain, unload |
//! | [`remains`] | what an earlier process has left: whole or broken |
//! | [`sweep`] | what a killed process left half done |
//! | [`tables`] | apps, functions, placements, sessions, counters |
//!
//! Needs kernel 6.1 with BTF, CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and a bpffs.

pub mod attach;
pub mod bind;
pub mod datapath;
pub mod error;
pub mod function;
pub mod hook;
pub mod interface;
pub mod link;
pub mod remains;
pub mod splice;
pub mod sweep;
pub mod tables;
pub mod template;

pub use attach::{Attached, Attachment};
pub use datapath::{Datapath, Objects, Options};
pub use error::LoaderError;
pub use function::{Handler, LoadedHandler, Verification, Verified};
pub use hook::Hook;
pub use remains::Remains;
pub use sweep::Swept;
pub use tables::Tables;
