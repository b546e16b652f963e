//! What failed, on which object, with which errno, and what to do about it.

use std::fmt;
use std::io;

use thiserror::Error;

/// A system call that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot {operation} {object}: {errno}{}", way_out(.hint.as_deref()))]
pub struct SysError {
    /// What was tried.
    pub operation: Operation,
    /// On what: kind and name, number or path.
    pub object: String,
    /// The kernel's answer.
    pub errno: Errno,
    /// The way out, where the errno has a usual cause.
    pub hint: Option<String>,
}

fn way_out(hint: Option<&str>) -> String {
    hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
}

/// What was asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Make a map.
    CreateMap,
    /// Read an element.
    Lookup,
    /// Write an element.
    Update,
    /// Remove an element.
    Delete,
    /// Find the key after a key.
    NextKey,
    /// Make a map read-only for system calls.
    Freeze,
    /// Bring a map's pages into this process.
    Mmap,
    /// Load BTF.
    LoadBtf,
    /// Have a program verified and compiled.
    LoadProgram,
    /// Run a program on given bytes.
    TestRun,
    /// Ask what the kernel knows of an object.
    Info,
    /// Give an object a name in bpffs.
    Pin,
    /// Remove a name from bpffs.
    Unpin,
    /// Open an object by its name in bpffs.
    OpenPinned,
    /// Detach a link.
    Detach,
    /// Mount a bpffs.
    MountBpffs,
    /// Switch run-time statistics on.
    EnableStats,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateMap => "create",
            Self::Lookup => "look up an element of",
            Self::Update => "update an element of",
            Self::Delete => "delete an element of",
            Self::NextKey => "walk the keys of",
            Self::Freeze => "freeze",
            Self::Detach => "detach",
            Self::Mmap => "mmap",
            Self::LoadBtf | Self::LoadProgram => "load",
            Self::TestRun => "test-run",
            Self::Info => "ask the kernel about",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::OpenPinned => "open the pin",
            Self::MountBpffs => "mount a bpffs at",
            Self::EnableStats => "enable",
        })
    }
}

/// An error number of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// Not permitted.
    pub const PERM: Self = Self(1);
    /// No such element or file.
    pub const NOENT: Self = Self(2);
    /// Too big: an instruction count, a value, or a log.
    pub const TOO_BIG: Self = Self(7);
    /// Out of memory, or of the memlock limit on kernels before 5.11.
    pub const NOMEM: Self = Self(12);
    /// Access denied; the verifier's usual answer.
    pub const ACCES: Self = Self(13);
    /// Busy.
    pub const BUSY: Self = Self(16);
    /// Exists already.
    pub const EXIST: Self = Self(17);
    /// No such device.
    pub const NODEV: Self = Self(19);
    /// Wrong argument.
    pub const INVAL: Self = Self(22);
    /// No room left.
    pub const NOSPC: Self = Self(28);

    /// The errno inside an error of the standard library.
    pub(crate) fn of(error: &io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(0))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl SysError {
    /// Builds the error, with the hint that fits operation and errno in general.
    pub(crate) fn new(operation: Operation, object: impl Into<String>, errno: Errno) -> Self {
        let hint = general_hint(operation, errno).map(str::to_owned);
        Self { operation, object: object.into(), errno, hint }
    }

    /// The same, with a hint that the caller knows better.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

fn general_hint(operation: Operation, errno: Errno) -> Option<&'static str> {
    Some(match (operation, errno) {
        (Operation::CreateMap, Errno::NOMEM) => {
            "free memory, or ask for less: BPF maps take all their memory at once and it cannot be swapped"
        }
        (Operation::CreateMap, Errno::TOO_BIG) => {
            "this kernel has a smaller limit: 32 KiB for per-CPU values, and on older kernels 4 MiB for any"
        }
        (Operation::LoadProgram, Errno::NOSPC) => "the verifier's log does not fit its largest buffer; its end is kept",
        (Operation::MountBpffs, Errno::PERM) => "run as root: mounting needs CAP_SYS_ADMIN",
        (Operation::OpenPinned, Errno::NOENT) => {
            "nothing is pinned there; `ls` the directory, or create the object first"
        }
        (Operation::Pin, Errno::EXIST) => "something is pinned there already; remove it or choose another name",
        (Operation::Pin, Errno::NOENT) => "create the directory first, inside a mounted bpffs",
        (Operation::Pin, Errno::PERM) => {
            "the path must lie in a bpffs (mount -t bpf bpf /sys/fs/bpf) that you may write to"
        }
        (_, Errno::PERM) => "run as root or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
        _ => return None,
    })
}

/// Turns libbpf's "descriptor or negative" into a result.
pub(crate) fn check(returned: i32) -> Result<i32, Errno> {
    // libbpf 1.x returns -errno from its low-level wrappers.
    if returned < 0 { Err(Errno(-returned)) } else { Ok(returned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_operation_object_cause_and_way_out() {
        let error = SysError::new(Operation::CreateMap, "map `m`", Errno::PERM);
        let text = error.to_string();
        for part in ["create", "map `m`", "not permitted", "CAP_BPF"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }

    #[test]
    fn negative_return_is_the_errno() {
        assert_eq!(check(-22), Err(Errno::INVAL));
        assert_eq!(check(7), Ok(7));
    }
}
