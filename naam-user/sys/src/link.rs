//! Links: what keeps a program attached.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use libbpf_sys as bpf;

use crate::error::check;
use crate::kind::Kind;
use crate::{Errno, Operation, SysError};

/// Detaches a pinned link, while the pin stays. Kernel 5.9, for TCX 6.6.
pub fn detach_pinned(path: &Path) -> Result<(), SysError> {
    let fd = crate::pin::open(path)?;
    let object = path.display().to_string();
    Kind::Link.require(fd.as_fd(), &object)?;
    // SAFETY: the descriptor is a link's, and open for the whole call.
    let returned = unsafe { bpf::bpf_link_detach(fd.as_raw_fd()) };
    check(returned).map(drop).map_err(|errno| SysError::new(Operation::Detach, object, errno))
}

/// Index of the interface that a pinned XDP or TCX link holds, in the network namespace where it was
/// attached; `None` once that interface is gone. Kernel 5.9, for TCX 6.6.
pub fn interface_of_pinned(path: &Path) -> Result<Option<u32>, SysError> {
    let object = path.display().to_string();
    let fd = crate::pin::open(path)?;
    Kind::Link.require(fd.as_fd(), &object)?;
    let mut raw = bpf::bpf_link_info::default();
    let mut len = size_of::<bpf::bpf_link_info>() as u32;
    // SAFETY: `raw` is initialised with null pointers, `len` is its size; the descriptor is a link's.
    let returned = unsafe { bpf::bpf_link_get_info_by_fd(fd.as_raw_fd(), &mut raw, &mut len) };
    check(returned).map_err(|errno| SysError::new(Operation::Info, object.clone(), errno))?;
    let index = match raw.type_ {
        // SAFETY: the type says which member of the union the kernel has filled in.
        bpf::BPF_LINK_TYPE_XDP => unsafe { raw.__bindgen_anon_1.xdp.ifindex },
        // SAFETY: as above.
        bpf::BPF_LINK_TYPE_TCX => unsafe { raw.__bindgen_anon_1.tcx.ifindex },
        other => {
            let hint = format!("it is a link of type {other}, which holds no interface");
            return Err(SysError::new(Operation::Info, object, Errno::INVAL).with_hint(hint));
        }
    };
    Ok((index != 0).then_some(index))
}
