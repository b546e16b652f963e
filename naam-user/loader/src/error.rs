//! What can go wrong between an admitted handler and a running one.

use std::path::PathBuf;

use naam_sys::SysError;

use crate::hook::Hook;
use crate::template::{BadShell, MapShape};

/// An error of the loader. Each names the operation, the object, the cause and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError {
    /// The build's own objects are broken.
    #[error(transparent)]
    Shell(#[from] BadShell),
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The entry object was refused by aya or the kernel.
    #[error(
        "load the {what}: {cause}; check the capabilities (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON) and the kernel \
         (6.1 or newer, with BTF)"
    )]
    Entry {
        /// What was loaded.
        what: String,
        /// Why not.
        cause: String,
    },
    /// The kernel's verifier refused a spliced handler: the third gate of admission.
    #[error("load handler {name} for {hook}: refused by rule kernel-verifier: {cause}")]
    Verifier {
        /// The handler.
        name: String,
        /// The hook.
        hook: Hook,
        /// The verifier's last words.
        cause: String,
        /// All that it said.
        log: String,
    },
    /// On a PREEMPT_RT kernel two frames may be in one CPU's datapath at once, and would write over each other.
    #[error(
        "open the datapath: this is a PREEMPT_RT kernel (/sys/kernel/realtime, `uname -v`), where softirqs of one CPU do not \
         exclude each other, which the datapath's memory by CPU relies on; boot a kernel without PREEMPT_RT"
    )]
    Realtime,
    /// A pinned map is not of this build's shape.
    #[error(
        "adopt {path}: it has {found}, this build wants {wanted}; it was pinned by another version: stop that version \
         and remove {path}, or choose another instance name"
    )]
    Shape {
        /// The pin.
        path: PathBuf,
        /// Its entries.
        found: MapShape,
        /// Entries that this build expects.
        wanted: MapShape,
    },
    /// The program array is full.
    #[error("load handler {name}: all {limit} program places are taken; unload functions that are not used")]
    NoPlace {
        /// The handler.
        name: String,
        /// Places.
        limit: usize,
    },
    /// An interface could not be attached to.
    #[error("attach to {interface} at {hook}: {cause}")]
    Attach {
        /// The interface.
        interface: String,
        /// The hook.
        hook: Hook,
        /// Why not, and the way out.
        cause: String,
    },
    /// A filter stays on an interface.
    #[error("detach from {interface}: {cause}; `tc filter del dev {interface} ingress` removes every filter there")]
    Detach {
        /// The interface.
        interface: String,
        /// Why not.
        cause: String,
    },
    /// The kernel does not tell which interfaces there are.
    #[error("list the interfaces: {source}")]
    Interfaces {
        /// The cause.
        source: std::io::Error,
    },
    /// Version 0 is how messages ask for whichever version serves.
    #[error("load handler {name}: version 0 would never serve; versions count from 1")]
    VersionZero {
        /// The handler.
        name: String,
    },
    /// Messages that name a version get that version's handler, and no other.
    #[error("load handler {name}: version {version} of the function serves or drains; choose another version")]
    VersionInUse {
        /// The handler.
        name: String,
        /// The version.
        version: u16,
    },
    /// A number is out of range.
    #[error("{what} {number} is out of range: at most {most}")]
    Range {
        /// What the number counts.
        what: &'static str,
        /// The number.
        number: u64,
        /// The limit.
        most: u64,
    },
    /// A file operation in bpffs failed.
    #[error("{operation} {path}: {source}; is bpffs mounted and writable for this user?")]
    Pin {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The table entry is not there.
    #[error("{operation}: {object} does not exist")]
    Missing {
        /// What was tried.
        operation: &'static str,
        /// What is missing.
        object: String,
    },
}

impl LoaderError {
    /// Whether the kernel's verifier gave up, rather than found a fault. What is too much for one kernel need not be for
    /// another, nor with another kind of loop.
    pub(crate) fn is_complexity(&self) -> bool {
        // The verifier's words since 4.x: `The sequence of 8193 jumps is too complex.`, `BPF program is too large.`
        matches!(self, Self::Verifier { cause, log, .. }
            if [cause, log].iter().any(|text| text.contains("too complex") || text.contains("too large")))
    }
}
