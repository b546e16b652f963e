//! bpffs: names that outlive the process which made an object.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use libbpf_sys as bpf;
use rustix::mount::MountFlags;

use crate::error::check;
use crate::{Errno, Operation, SysError};

/// Where distributions mount bpffs.
pub const BPFFS: &str = "/sys/fs/bpf";
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Whether `path` lies in a mounted bpffs.
pub fn is_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC)
}

/// Mounts a bpffs at `path` unless one is there. Needs CAP_SYS_ADMIN when it has to mount.
pub fn ensure_bpffs(path: &Path) -> Result<(), SysError> {
    if is_bpffs(path) {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
    rustix::mount::mount("bpf", path, "bpf", flags, c"mode=0700")
        .map_err(|errno| SysError::new(Operation::MountBpffs, path.display().to_string(), errno.into()))
}

/// Removes a pin. The object lives on while anything else refers to it.
pub fn unpin(path: &Path) -> Result<(), SysError> {
    rustix::fs::unlink(path).map_err(|errno| pin_error(Operation::Unpin, path, errno.into()))
}

pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> Result<(), SysError> {
    let name = c_path(Operation::Pin, path)?;
    // SAFETY: the descriptor is open for the whole call; `name` is a NUL-terminated string.
    let returned = unsafe { bpf::bpf_obj_pin(fd.as_raw_fd(), name.as_ptr()) };
    check(returned).map(drop).map_err(|errno| pin_error(Operation::Pin, path, errno))
}

/// Pins under a temporary name, then renames: whoever opens `path` finds the old object or the new one.
pub(crate) fn pin_replacing(fd: BorrowedFd<'_>, path: &Path) -> Result<(), SysError> {
    let temporary = pin_beside(fd, path)?;
    rustix::fs::rename(&temporary, path).map_err(|errno| {
        // The rename's failure is what matters; the temporary name goes away if it can.
        let _ = rustix::fs::unlink(&temporary);
        pin_error(Operation::Pin, path, errno.into())
    })
}

/// Pins under a name that nobody else has. One that is taken was left by a process of the same number
/// that was killed before its rename, perhaps in another namespace of processes: it stays, for those
/// who know the directory.
fn pin_beside(fd: BorrowedFd<'_>, path: &Path) -> Result<PathBuf, SysError> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // bpffs refuses names with a dot.
        let temporary = path.with_file_name(format!("{name}-new-{}-{number}", std::process::id()));
        match pin(fd, &temporary) {
            Err(error) if error.errno == Errno::EXIST => {}
            pinned => return pinned.map(|()| temporary),
        }
    }
}

pub(crate) fn open(path: &Path) -> Result<OwnedFd, SysError> {
    let name = c_path(Operation::OpenPinned, path)?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    let returned = unsafe { bpf::bpf_obj_get(name.as_ptr()) };
    let fd = check(returned).map_err(|errno| pin_error(Operation::OpenPinned, path, errno))?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(operation: Operation, path: &Path) -> Result<CString, SysError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| pin_error(operation, path, Errno::INVAL).with_hint("the path contains a zero byte"))
}

fn pin_error(operation: Operation, path: &Path, errno: Errno) -> SysError {
    SysError::new(operation, path.display().to_string(), errno)
}
