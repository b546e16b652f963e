//! The XDP program that hands replies to AF_XDP sockets, and its maps.

use std::fmt;
use std::os::fd::AsRawFd;
use std::path::Path;

use aya::maps::{Array, Map, MapData, XskMap};
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpLinkId;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};

use crate::TransportError;
use crate::error::Device;
use crate::netlink::{Interface, Netlink};

/// Name of the program in the object.
const PROGRAM: &str = "naam_xsk";
const SOCKETS: &str = "XSKS";
const PORTS: &str = "CLIENT_PORTS";
/// Pins of the program and of its link; the maps are pinned under their own names.
const PROGRAM_PIN: &str = "program";
const LINK_PIN: &str = "link";
/// What [`XskProgram::pin`] makes: the link, the program, the maps.
pub const PINNED: [&str; 4] = [LINK_PIN, PROGRAM_PIN, SOCKETS, PORTS];

/// Where the program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    #[default]
    Native,
    /// Behind it, on any interface; slower than UDP sockets more often than not.
    Generic,
}

/// The program on an interface. Attached by [`attach`](Self::attach), it leaves with this value,
/// unless it was [pinned](Self::pin).
pub struct XskProgram {
    device: Device,
    sockets: XskMap<MapData>,
    ports: Array<MapData, u32>,
    /// Program and link; `None` if somebody else holds them.
    attached: Option<(Ebpf, XdpLinkId)>,
}

impl XskProgram {
    /// Loads the program of `object` (the ELF file `xsk.o`) and attaches it to `interface` by a
    /// BPF link. `port_base` is the first port of the host's block.
    ///
    /// Needs CAP_BPF and CAP_NET_ADMIN, and Linux 5.9.
    ///
    /// # Errors
    /// [`TransportError::Occupied`] if the interface carries a program already, with its id.
    pub fn attach(object: &[u8], interface: &str, port_base: u16, mode: Mode) -> Result<Self, TransportError> {
        let lookup = |source| TransportError::Interface { interface: interface.to_owned(), source };
        let mut netlink = Netlink::connect().map_err(lookup)?;
        let found = netlink.interface_by_name(interface).map_err(lookup)?;
        Self::attach_to(object, &found, port_base, mode)
    }

    pub(crate) fn attach_to(
        object: &[u8],
        interface: &Interface,
        port_base: u16,
        mode: Mode,
    ) -> Result<Self, TransportError> {
        let device = Device::from(interface);
        if let Some(program) = interface.program {
            return Err(TransportError::Occupied { device, program });
        }
        let failed = |operation| {
            let device = device.clone();
            move |source: Cause| TransportError::Program { operation, device, source }
        };
        // aya reads the object's structures in place, so it must be aligned; blocks of the
        // allocator are, a slice of somebody's executable may not be.
        let object = object.to_vec();
        let mut ebpf = EbpfLoader::new()
            .override_global("PORT_BASE", &port_base, true)
            .load(&object)
            .map_err(|error| failed("load the object")(error.into()))?;
        let sockets =
            take_map(&mut ebpf, SOCKETS).and_then(|map| Ok(XskMap::try_from(map)?)).map_err(failed("open map XSKS"))?;
        let ports = take_map(&mut ebpf, PORTS)
            .and_then(|map| Ok(Array::try_from(map)?))
            .map_err(failed("open map CLIENT_PORTS"))?;
        let program = ebpf.program_mut(PROGRAM).ok_or_else(|| missing(PROGRAM)).map_err(failed("find naam_xsk"))?;
        let program: &mut Xdp =
            program.try_into().map_err(|error: ProgramError| failed("find naam_xsk")(error.into()))?;
        program.load().map_err(|error| failed("load naam_xsk (needs CAP_BPF and CAP_NET_ADMIN)")(error.into()))?;
        let mode = match mode {
            Mode::Native => XdpMode::Driver,
            Mode::Generic => XdpMode::Skb,
        };
        let link = program.attach_to_if_index(interface.index, mode);
        let link = link.map_err(|error| failed("attach naam_xsk")(error.into()))?;
        tracing::debug!(interface = interface.name, ifindex = interface.index, "naam_xsk attached");
        Ok(Self { device, sockets, ports, attached: Some((ebpf, link)) })
    }

    /// Uses a program that a privileged helper attached and pinned in `dir`. Needs the right to
    /// open the pins, and CAP_BPF only where the kernel restricts all of bpf(2) to it.
    pub fn open(dir: &Path, interface: &str) -> Result<Self, TransportError> {
        let lookup = |source| TransportError::Interface { interface: interface.to_owned(), source };
        let mut netlink = Netlink::connect().map_err(lookup)?;
        let device = Device::from(&netlink.interface_by_name(interface).map_err(lookup)?);
        let failed = |operation, source| TransportError::Program { operation, device: device.clone(), source };
        let map = |name| MapData::from_pin(dir.join(name));
        let sockets = map(SOCKETS).map_err(Cause::from).and_then(|data| Ok(XskMap::try_from(Map::XskMap(data))?));
        let ports = map(PORTS).map_err(Cause::from).and_then(|data| Ok(Array::try_from(Map::Array(data))?));
        let sockets = sockets.map_err(|source| failed("open pinned map XSKS", source))?;
        let ports = ports.map_err(|source| failed("open pinned map CLIENT_PORTS", source))?;
        Ok(Self { device, sockets, ports, attached: None })
    }

    /// Pins `program`, `link` and maps in `dir` of a bpffs, so that the program stays when this process ends. Remove
    /// the files to detach it.
    pub fn pin(self, dir: &Path) -> Result<(), TransportError> {
        let Self { device, sockets, ports, attached } = self;
        let failed = |operation, source| TransportError::Program { operation, device: device.clone(), source };
        let Some((mut ebpf, link)) = attached else { return Ok(()) };
        std::fs::create_dir_all(dir).map_err(|error| failed("create the folder for pins", error.into()))?;
        sockets.pin(dir.join(SOCKETS)).map_err(|error| failed("pin map XSKS", error.into()))?;
        ports.pin(dir.join(PORTS)).map_err(|error| failed("pin map CLIENT_PORTS", error.into()))?;
        let pinned = pin_program(&mut ebpf, link, dir);
        pinned.map_err(|source| failed("pin naam_xsk and its link (needs Linux 5.9)", source))
    }

    /// The interface it is on.
    pub fn interface(&self) -> &str {
        &self.device.interface
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Gives the replies that arrive on `queue` for `port` to a socket.
    pub(super) fn register(&mut self, queue: u32, socket: &impl AsRawFd, port: u16) -> Result<(), TransportError> {
        let failed = |operation, source| TransportError::Program { operation, device: self.device.clone(), source };
        let entered = self.sockets.set(queue, socket.as_raw_fd(), 0);
        entered.map_err(|error| failed("enter the socket into XSKS", error.into()))?;
        let entered = self.ports.set(queue, u32::from(port), 0);
        entered.map_err(|error| failed("enter the port into CLIENT_PORTS", error.into()))
    }

    /// Lets replies on `queue` pass to the network stack again.
    pub(super) fn unregister(&mut self, queue: u32) {
        // The kernel takes a closed socket out of XSKS by itself; a stale port does no harm
        // without a socket. So failures may be ignored.
        let _ = self.ports.set(queue, 0, 0);
    }
}

impl fmt::Debug for XskProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XskProgram").field("device", &self.device).field("owned", &self.attached.is_some()).finish()
    }
}

/// aya's errors are many; callers get them as causes.
type Cause = Box<dyn std::error::Error + Send + Sync>;

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map, Cause> {
    ebpf.take_map(name).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Cause {
    format!("the object has no {name}; is it xsk.o of this version?").into()
}

fn pin_program(ebpf: &mut Ebpf, link: XdpLinkId, dir: &Path) -> Result<(), Cause> {
    let program: &mut Xdp = ebpf.program_mut(PROGRAM).ok_or_else(|| missing(PROGRAM))?.try_into()?;
    program.pin(dir.join(PROGRAM_PIN))?;
    let link: FdLink = program.take_link(link)?.try_into()?;
    link.pin(dir.join(LINK_PIN))?;
    Ok(())
}
