//! Which kind of BPF object a descriptor stands for: `bpf()` itself answers the info request of
//! one kind with the bytes of another, so that it must be known beforehand.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::{Errno, Operation, SysError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Map,
    Program,
    Btf,
    Link,
}

impl Kind {
    fn link_name(self) -> &'static str {
        match self {
            Self::Map => "bpf-map",
            Self::Program => "bpf-prog",
            Self::Btf => "btf",
            Self::Link => "bpf-link",
        }
    }

    /// Refuses a descriptor that is not of this kind.
    pub(crate) fn require(self, fd: BorrowedFd<'_>, object: &str) -> Result<(), SysError> {
        let fd = fd.as_fd().as_raw_fd();
        let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).map_err(|error| {
            SysError::new(Operation::Info, object, Errno::of(&error))
                .with_hint("/proc must be mounted: it tells which kind of object a descriptor is")
        })?;
        let expected = format!("anon_inode:{}", self.link_name());
        // Newer kernels write [btf]-like names in brackets.
        let found = target.to_string_lossy().replace(['[', ']'], "");
        if found == expected {
            return Ok(());
        }
        Err(SysError::new(Operation::Info, object, Errno::INVAL).with_hint(format!("it is {found}, not {expected}")))
    }
}
