//! BTF blobs: the types that make programs and maps readable.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_sys as bpf;

use crate::error::check;
use crate::kind::Kind;
use crate::{LoadError, Operation, SysError};

/// BTF that the kernel has accepted. Programs and maps that name it keep it alive.
#[derive(Debug)]
pub struct Btf {
    fd: OwnedFd,
}

/// Room for the kernel's complaint about BTF.
const LOG_BYTES: usize = 64 << 10;

impl Btf {
    /// Loads a raw BTF blob (header, types, strings). Kernel 4.18. The error carries the kernel's log.
    pub fn load(bytes: &[u8]) -> Result<Self, LoadError> {
        let mut log = vec![0u8; LOG_BYTES];
        // With level 0 and a buffer, libbpf asks for the log only if the first attempt fails.
        let mut opts = bpf::bpf_btf_load_opts {
            sz: size_of::<bpf::bpf_btf_load_opts>() as _,
            log_buf: log.as_mut_ptr().cast(),
            log_size: LOG_BYTES as u32,
            ..Default::default()
        };
        // SAFETY: `bytes` and `log` outlive the call and are as long as stated; `opts` is fully
        // initialised, with its size.
        let returned = unsafe { bpf::bpf_btf_load(bytes.as_ptr().cast(), bytes.len() as _, &mut opts) };
        match check(returned) {
            // SAFETY: the call returned a new descriptor that nobody else owns.
            Ok(fd) => Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } }),
            Err(errno) => Err(LoadError {
                error: SysError::new(Operation::LoadBtf, format!("BTF of {} bytes", bytes.len()), errno),
                log: crate::program::log_text(&log),
            }),
        }
    }

    /// Takes over a descriptor of loaded BTF.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SysError> {
        Kind::Btf.require(fd.as_fd(), &format!("BTF on descriptor {}", fd.as_raw_fd()))?;
        Ok(Self { fd })
    }
}

impl AsFd for Btf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
