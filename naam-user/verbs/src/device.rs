//! Devices, their ports, and protection domains.

use std::{
    ffi::CStr,
    fmt, io,
    os::{fd::BorrowedFd, unix::fs::MetadataExt as _},
    path::PathBuf,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use naam_verbs_sys::{self as sys, Verbs};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};

use crate::{
    Error, Gid,
    gid::{self, Entry, Version},
};

/// Entries of a port's address table that are looked at: an index has eight bits.
const GIDS_MAX: i32 = 256;
/// How the header calls Ethernet among link layers.
const LINK_LAYER_ETHERNET: u8 = 2;

/// A device that is open.
pub struct Device {
    verbs: Verbs,
    context: NonNull<sys::ibv_context>,
    name: String,
    /// The kernel's number of its entry: another device of its name has another.
    entry: Option<u64>,
    /// It has reported that it is of no use any more.
    failed: AtomicBool,
}

// SAFETY: libibverbs may be called from any thread, and a context by several at a time.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// A port's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number, from 1.
    pub number: u8,
    /// Largest payload of a packet, as the device counts: 1 is 256 bytes, 5 is 4096.
    pub(crate) mtu: u32,
    /// Its address in an InfiniBand subnet; 0 on Ethernet.
    pub(crate) lid: u16,
    /// Whether it is a port of Ethernet, whose GIDs are IP addresses.
    pub ethernet: bool,
    gids: i32,
}

/// A port and one of its addresses: where connections begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The port.
    pub port: Port,
    /// The address's place in the port's table.
    pub gid_index: u8,
    /// The address.
    pub gid: Gid,
}

/// A protection domain: memory regions and queue pairs of one work together.
#[derive(Debug)]
pub struct Domain {
    device: Arc<Device>,
    domain: NonNull<sys::ibv_pd>,
}

// SAFETY: a domain is a handle; libibverbs may be called with it from any thread, by several at a time.
unsafe impl Send for Domain {}
// SAFETY: as above.
unsafe impl Sync for Domain {}

impl Device {
    /// Names of all devices.
    ///
    /// # Errors
    /// Without rdma-core.
    pub fn names() -> Result<Vec<String>, Error> {
        with_devices(&load()?, |devices| Ok(devices.iter().map(|(name, _)| name.clone()).collect()))
    }

    /// Opens the device of this name, or the first one.
    ///
    /// # Errors
    /// Without rdma-core, without devices, or when the kernel refuses.
    pub fn open(name: Option<&str>) -> Result<Arc<Self>, Error> {
        let verbs = load()?;
        let (context, name) = with_devices(&verbs, |devices| {
            let (first, _) = devices.first().ok_or(Error::NoDevice)?;
            let wanted = name.unwrap_or(first);
            let Some((name, device)) = devices.iter().find(|(name, _)| name == wanted) else {
                let known = devices.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(Error::UnknownDevice { name: wanted.to_owned(), known });
            };
            // SAFETY: the device stands in the list, which lives until `with_devices` returns.
            let context = unsafe { verbs.ibv_open_device(*device) };
            let context = NonNull::new(context).ok_or_else(|| Error::last("open", name))?;
            Ok((context, name.clone()))
        })?;
        let entry = entry_of(&name);
        let device = Self { verbs, context, name, entry, failed: AtomicBool::new(false) };
        // Who looks for events does not want to wait for one.
        fcntl_getfl(device.event_file())
            .and_then(|flags| fcntl_setfl(device.event_file(), flags | OFlags::NONBLOCK))
            .map_err(|error| Error::call("look for events", &device.name, error.into()))?;
        Ok(Arc::new(device))
    }

    fn event_file(&self) -> BorrowedFd<'_> {
        // SAFETY: the context is open for as long as the device lives, and its descriptor with it.
        unsafe { BorrowedFd::borrow_raw((*self.context.as_ptr()).async_fd) }
    }

    /// Whether the kernel has a device of this name that can be opened.
    pub fn is_present(name: &str) -> bool {
        entry_of(name).is_some()
    }

    /// Whether it is still there. One that is being taken away while it is open is not; drivers that cannot take it away from
    /// its users wait until they close it.
    pub fn is_there(&self) -> bool {
        !self.failed.load(Ordering::Relaxed) && self.entry == entry_of(&self.name)
    }

    /// Notes that it is of no use any more.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Whether what was to be destroyed is; logs why not.
    pub(crate) fn destroyed(&self, what: &'static str, outcome: i32) -> bool {
        match self.check(what, outcome) {
            Ok(()) => true,
            Err(Error::Call { source, .. }) if went_with_device(&source, !self.is_there()) => {
                tracing::debug!(device = self.name, what, "the kernel has done it with the device");
                true
            }
            Err(error) => {
                tracing::error!(%error, "something of an RDMA device is left behind");
                false
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A port that can be used, from 1.
    ///
    /// # Errors
    /// When there is none of this number, or it is down.
    pub fn port(&self, number: u8) -> Result<Port, Error> {
        let ports = self.ports()?;
        if !(1..=ports).contains(&number) {
            return Err(Error::NoPort { device: self.name.clone(), port: number, ports });
        }
        let mut attributes = sys::ibv_port_attr::default();
        // SAFETY: the context is open; the library writes no more than the older form of the structure, which the newer
        // one begins with.
        let failed = unsafe { self.verbs.ibv_query_port(self.context.as_ptr(), number, (&raw mut attributes).cast()) };
        self.check("query a port", failed)?;
        if attributes.state != sys::ibv_port_state::IBV_PORT_ACTIVE {
            // SAFETY: the library answers every number with a string of its own.
            let state = unsafe { CStr::from_ptr(self.verbs.ibv_port_state_str(attributes.state)) };
            let state = state.to_string_lossy().into_owned();
            return Err(Error::PortDown { device: self.name.clone(), port: number, state });
        }
        Ok(Port {
            number,
            mtu: attributes.active_mtu.0,
            lid: attributes.lid,
            ethernet: attributes.link_layer == LINK_LAYER_ETHERNET,
            gids: attributes.gid_tbl_len.clamp(0, GIDS_MAX),
        })
    }

    /// A port with its address at `gid_index`. Without an index: the address `own` if the port has it; or else the first that
    /// `peer` could reach, being of its kind (IPv4, or IPv6 of the same reach); without a peer the first of an IPv4 address,
    /// or else the first one. Of an address that is there for both versions of RoCE, the one of version 2.
    ///
    /// # Errors
    /// When there is no such port, it is down, or it has no such address.
    pub fn local(&self, port: u8, gid_index: Option<u8>, own: Option<Gid>, peer: Option<Gid>) -> Result<Local, Error> {
        let port = self.port(port)?;
        let gids = self.gids(port);
        match gid::choose(&gids, gid_index, own, peer) {
            Some(Entry { index, gid, .. }) => Ok(Local { port, gid_index: index, gid }),
            None => {
                let known =
                    gids.iter().map(|entry| format!("{}: {}", entry.index, entry.gid)).collect::<Vec<_>>().join(", ");
                Err(Error::NoGid { device: self.name.clone(), port: port.number, index: gid_index, known })
            }
        }
    }

    /// The device, and the port of it, that has this address.
    ///
    /// # Errors
    /// Without rdma-core, without devices, or when none that can be opened has it.
    pub fn with_gid(gid: Gid) -> Result<(Arc<Self>, Local), Error> {
        let mut names = Self::names()?.into_iter().peekable();
        names.peek().ok_or(Error::NoDevice)?;
        let mut last = Error::NoDeviceWith { gid };
        for name in names {
            match Self::open(Some(&name)).and_then(|device| Ok((device.ports()?, device))) {
                Ok((ports, device)) => {
                    // A port that is down is none.
                    for port in (1..=ports).filter_map(|number| device.port(number).ok()) {
                        let mut gids = device.gids(port);
                        gids.retain(|entry| entry.gid == gid);
                        if let Some(Entry { index, gid, .. }) = gid::choose(&gids, None, Some(gid), None) {
                            return Ok((device, Local { port, gid_index: index, gid }));
                        }
                    }
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn ports(&self) -> Result<u8, Error> {
        Ok(self.attributes()?.phys_port_cnt)
    }

    /// What it has, and how much of it.
    pub(crate) fn attributes(&self) -> Result<sys::ibv_device_attr, Error> {
        let mut device = sys::ibv_device_attr::default();
        // SAFETY: the context is open, and the structure may be written.
        let failed = unsafe { self.verbs.ibv_query_device(self.context.as_ptr(), &raw mut device) };
        self.check("query the device", failed).map(|()| device)
    }

    fn gids(&self, port: Port) -> Vec<Entry> {
        let indexes = (0..port.gids).filter_map(|index| u8::try_from(index).ok());
        let entry = |index| {
            let gid = self.gid_at(port.number, index)?;
            Some(Entry { index, gid, version: Version::of(&self.name, port.number, index) })
        };
        indexes.filter_map(entry).collect()
    }

    fn gid_at(&self, port: u8, index: u8) -> Option<Gid> {
        let mut gid = sys::ibv_gid { raw: [0; 16] };
        // SAFETY: the context is open and the structure may be written.
        let failed = unsafe { self.verbs.ibv_query_gid(self.context.as_ptr(), port, i32::from(index), &raw mut gid) };
        // SAFETY: every pattern of bytes is one of `raw`, and all of them were written, here or by the library.
        let raw = unsafe { gid.raw };
        (failed == 0 && raw != [0; 16]).then_some(Gid(raw))
    }

    pub(crate) fn verbs(&self) -> &Verbs {
        &self.verbs
    }

    pub(crate) fn context(&self) -> *mut sys::ibv_context {
        self.context.as_ptr()
    }

    /// Calls answer 0, or an error's number.
    pub(crate) fn check(&self, operation: &'static str, outcome: i32) -> Result<(), Error> {
        match outcome {
            0 => Ok(()),
            -1 => Err(Error::last(operation, &self.name)),
            code => Err(Error::call(operation, &self.name, io::Error::from_raw_os_error(code.abs()))),
        }
    }

    /// Calls that make something answer null on failure, and the error's number in `errno`.
    pub(crate) fn made<T>(&self, operation: &'static str, made: *mut T) -> Result<NonNull<T>, Error> {
        NonNull::new(made).ok_or_else(|| Error::last(operation, &self.name))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and whatever was made from it held a reference to us and is gone.
        let outcome = unsafe { self.verbs.ibv_close_device(self.context.as_ptr()) };
        self.destroyed("close", outcome);
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Domain {
    /// Makes one.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn new(device: &Arc<Device>) -> Result<Arc<Self>, Error> {
        // SAFETY: the context is open.
        let made = unsafe { device.verbs.ibv_alloc_pd(device.context()) };
        let domain = device.made("allocate a protection domain", made)?;
        Ok(Arc::new(Self { device: Arc::clone(device), domain }))
    }

    /// Its device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::ibv_pd {
        self.domain.as_ptr()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: it is ours, and whatever was made in it held a reference to us and is gone.
        let outcome = unsafe { self.device.verbs.ibv_dealloc_pd(self.domain.as_ptr()) };
        self.device.destroyed("deallocate a protection domain", outcome);
    }
}

impl Error {
    pub(crate) fn call(operation: &'static str, device: &str, source: io::Error) -> Self {
        Self::Call { operation, device: device.to_owned(), source }
    }

    fn last(operation: &'static str, device: &str) -> Self {
        Self::call(operation, device, io::Error::last_os_error())
    }
}

fn load() -> Result<Verbs, Error> {
    // SAFETY: libibverbs' initialization has no preconditions, and its symbols have the types of its header.
    let verbs = unsafe { Verbs::new(sys::LIBRARY) };
    verbs.map_err(|error| Error::NoLibrary { library: sys::LIBRARY, cause: error.to_string() })
}

/// Hands the list of devices to `use_them`; it is valid as long as that runs.
fn with_devices<T>(
    verbs: &Verbs,
    use_them: impl FnOnce(&[(String, *mut sys::ibv_device)]) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut count = 0;
    // SAFETY: the number may be written.
    let list = unsafe { verbs.ibv_get_device_list(&raw mut count) };
    if list.is_null() {
        return listing(io::Error::last_os_error()).and_then(|()| use_them(&[]));
    }
    let named = |at: usize| {
        // SAFETY: the list has `count` devices, and each has a name that lives as long as it.
        unsafe {
            let device = *list.add(at);
            (CStr::from_ptr(verbs.ibv_get_device_name(device)).to_string_lossy().into_owned(), device)
        }
    };
    let devices: Vec<_> = (0..usize::try_from(count).unwrap_or(0)).map(named).collect();
    let outcome = use_them(&devices);
    // SAFETY: the list is the library's own, freed once; a device that was opened outlives it.
    unsafe { verbs.ibv_free_device_list(list) };
    outcome
}

/// Why there is no list of devices. Kernels without RDMA answer so, where those without a device answer with an empty list.
fn listing(error: io::Error) -> Result<(), Error> {
    if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) {
        Ok(())
    } else {
        Err(Error::NoList { source: error })
    }
}

/// A device that was taken away took with it all that was made of it: the kernel has released that, and knows nothing of it.
fn went_with_device(error: &io::Error, is_gone: bool) -> bool {
    is_gone && error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// The kernel's number of the entry that a device of this name has among those that can be opened.
fn entry_of(name: &str) -> Option<u64> {
    let entries = std::fs::read_dir("/sys/class/infiniband_verbs").into_iter().flatten().flatten();
    let is_its =
        |path: &PathBuf| std::fs::read_to_string(path.join("ibdev")).is_ok_and(|found| found.trim_end() == name);
    let path = entries.map(|entry| entry.path()).find(is_its)?;
    Some(std::fs::metadata(path).ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_without_rdma_has_no_devices_and_no_fault() {
        let code = |code: Errno| listing(io::Error::from_raw_os_error(code.raw_os_error()));
        assert!(code(Errno::NOSYS).is_ok());
        for fault in [Errno::NOMEM, Errno::MFILE, Errno::PERM] {
            let error = code(fault).unwrap_err().to_string();
            assert!(error.starts_with("cannot list RDMA devices: ") && !error.contains("rdma_rxe"), "{error}");
        }
    }

    #[test]
    fn what_is_not_destroyed_is_gone_only_with_its_device() {
        let went = |code: Errno, is_gone| went_with_device(&io::Error::from_raw_os_error(code.raw_os_error()), is_gone);
        assert!(went(Errno::IO, true));
        assert!(!went(Errno::IO, false) && !went(Errno::BUSY, true) && !went(Errno::BUSY, false));
    }

    #[test]
    fn without_a_device_the_error_says_how_to_get_one() {
        match Device::open(None) {
            Ok(device) => assert!(!device.name().is_empty()),
            Err(error @ (Error::NoDevice | Error::NoLibrary { .. } | Error::Call { .. })) => {
                let text = error.to_string();
                assert!(text.contains("RDMA"), "{text}");
            }
            Err(error) => panic!("{error}"),
        }
        let error = Device::open(Some("no-such-device")).unwrap_err();
        assert!(matches!(error, Error::NoDevice | Error::NoLibrary { .. } | Error::UnknownDevice { .. }), "{error}");
    }
}
