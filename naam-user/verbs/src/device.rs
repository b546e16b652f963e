//! Devices, their ports, and protection domains.

use std::{
    ffi::CStr,
    fmt, io,
    net::{IpAddr, Ipv6Addr},
    os::fd::BorrowedFd,
    ptr::NonNull,
    str::FromStr,
    sync::Arc,
};

use naam_verbs_sys::{self as sys, Verbs};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::Error;

/// Entries of a port's address table that are looked at: an index has eight bits.
const GIDS_MAX: i32 = 256;
/// How the header calls Ethernet among link layers.
const LINK_LAYER_ETHERNET: u8 = 2;

/// A device that is open.
pub struct Device {
    verbs: Verbs,
    context: NonNull<sys::ibv_context>,
    name: String,
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

/// An address of a port: 16 bytes, for RoCE those of an IPv6 address or of a mapped IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Gid(pub [u8; 16]);

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
        let device = Self { verbs, context, name };
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

    /// Whether the kernel has a device of this name that can be opened. One that is being taken away while it is open is not
    /// there any more; drivers that cannot take it away from its users wait until they close it.
    pub fn is_present(name: &str) -> bool {
        let entries = std::fs::read_dir("/sys/class/infiniband_verbs").into_iter().flatten().flatten();
        let mut names = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("ibdev")).ok());
        names.any(|found| found.trim_end() == name)
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
    /// or else the first one.
    ///
    /// # Errors
    /// When there is no such port, it is down, or it has no such address.
    pub fn local(&self, port: u8, gid_index: Option<u8>, own: Option<Gid>, peer: Option<Gid>) -> Result<Local, Error> {
        let port = self.port(port)?;
        let gids = self.gids(port);
        let found = match (gid_index, own, peer) {
            (Some(wanted), ..) => gids.iter().find(|(index, _)| *index == wanted),
            (None, own, peer) => {
                let own = gids.iter().find(|(_, gid)| own == Some(*gid));
                own.or_else(|| match peer {
                    Some(peer) => gids.iter().find(|(_, gid)| gid.kind() == peer.kind()),
                    None => gids.iter().find(|(_, gid)| gid.kind() == Kind::V4).or(gids.first()),
                })
            }
        };
        match found {
            Some(&(gid_index, gid)) => Ok(Local { port, gid_index, gid }),
            None => {
                let known = gids.iter().map(|(index, gid)| format!("{index}: {gid}")).collect::<Vec<_>>().join(", ");
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
                        if let Some(&(gid_index, gid)) = device.gids(port).iter().find(|(_, found)| *found == gid) {
                            return Ok((device, Local { port, gid_index, gid }));
                        }
                    }
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn ports(&self) -> Result<u8, Error> {
        let mut device = sys::ibv_device_attr::default();
        // SAFETY: the context is open, and the structure may be written.
        let failed = unsafe { self.verbs.ibv_query_device(self.context.as_ptr(), &raw mut device) };
        self.check("query the device", failed)?;
        Ok(device.phys_port_cnt)
    }

    fn gids(&self, port: Port) -> Vec<(u8, Gid)> {
        let indexes = (0..port.gids).filter_map(|index| u8::try_from(index).ok());
        indexes.filter_map(|index| Some((index, self.gid_at(port.number, index)?))).collect()
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
        unsafe { self.verbs.ibv_close_device(self.context.as_ptr()) };
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
        unsafe { self.device.verbs.ibv_dealloc_pd(self.domain.as_ptr()) };
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

/// Addresses of different kinds do not reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    V4,
    V6Local,
    V6,
}

impl Gid {
    /// The IP address that it is on Ethernet.
    pub fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.0).to_canonical()
    }

    fn kind(self) -> Kind {
        match self.ip() {
            IpAddr::V4(_) => Kind::V4,
            IpAddr::V6(address) if address.is_unicast_link_local() => Kind::V6Local,
            IpAddr::V6(_) => Kind::V6,
        }
    }
}

impl From<IpAddr> for Gid {
    fn from(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        })
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Gid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(number) if is_hex => Ok(Self(number.to_be_bytes())),
            _ => Err(Error::BadGid { text: text.to_owned() }),
        }
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
        // Kernels without RDMA answer so, where those without a device answer with an empty list.
        return use_them(&[]);
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn gids_are_hexadecimal() {
        let text = "00000000000000000000ffff0a4d0002";
        let gid: Gid = text.parse().unwrap();
        assert_eq!((gid.kind(), gid.ip()), (Kind::V4, "10.77.0.2".parse().unwrap()));
        assert_eq!((gid.to_string().as_str(), Gid::from(gid.ip())), (text, gid));
        let kind = |address: &str| Gid::from(address.parse::<IpAddr>().unwrap()).kind();
        assert_eq!((kind("fe80::1"), kind("fd77::2"), kind("10.0.0.1")), (Kind::V6Local, Kind::V6, Kind::V4));
        for bad in ["", "+0000000000000000000ffff0a4d0002", "fe80::1", "0"] {
            assert!(bad.parse::<Gid>().is_err(), "{bad}");
        }
    }
}
