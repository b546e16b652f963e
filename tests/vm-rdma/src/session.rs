//! A session with a queue pair.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use naam_client::connect::{Control, Lease};
use naam_control::protocol::{
    rdma::{RdmaEndpoint, RdmaGrant},
    session::{RegionRights, Rights},
};
use naam_verbs::{Access, Buffer, Connected, Device, Domain, Endpoint, Gid, MemoryRegion, QueuePair, RemoteMemory};

const PORT: u8 = 1;
const DEPTH: u32 = 16;

/// Both ends are connected. Fields go in this order.
pub struct Peer {
    pub pair: Connected,
    pub memory: RemoteMemory,
    pub domain: Arc<Domain>,
    _lease: Lease,
}

impl Peer {
    /// Opens a session with these rights, and connects its queue pair.
    pub fn connect(
        control: &str,
        app: &str,
        device: Option<&str>,
        from: Option<IpAddr>,
        wanted: RegionRights,
    ) -> Result<Self> {
        let device = Device::open(device)?;
        let own = from.map_or_else(|| own_address(control), Ok)?;
        let local = device.local(PORT, None, Some(Gid::from(own)), None)?;
        let domain = Domain::new(&device)?;
        let pair = QueuePair::new(&domain, &local, DEPTH, Access::default())?;
        let control = Control::Tcp(control.to_owned());
        let lease = Lease::open(&control, app.parse()?, vec![wanted])?;
        let Endpoint { qpn, psn, gid, lid, mtu, reads_max } = pair.endpoint().clone();
        let ours = RdmaEndpoint { qpn, psn, gid, lid, mtu, reads_max };
        let RdmaGrant { endpoint, regions } = control.connect()?.connect_rdma(lease.grant().key, ours)?;
        let RdmaEndpoint { qpn, psn, gid, lid, mtu, reads_max } = endpoint;
        let pair = pair.connect(&Endpoint { qpn, psn, gid, lid, mtu, reads_max })?;
        let region = regions.first().context("nothing is open to the session")?;
        let memory = RemoteMemory { address: region.address, bytes: region.bytes, rkey: region.rkey };
        Ok(Self { pair, memory, domain, _lease: lease })
    }

    /// Memory for what is read or written.
    pub fn buffer(&self, bytes: usize) -> Result<Local> {
        let buffer = Arc::new(Buffer::new(bytes)?);
        let registered = MemoryRegion::register(&self.domain, Arc::clone(&buffer) as _, Access::default())?;
        Ok(Local { registered, buffer })
    }
}

/// Memory of this process that the device reaches.
pub struct Local {
    pub registered: Arc<MemoryRegion>,
    pub buffer: Arc<Buffer>,
}

/// The address that a peer at `target` sees.
pub fn own_address(target: &str) -> Result<IpAddr> {
    let target: SocketAddr = target.to_socket_addrs()?.next().context("no address")?;
    Ok(naam_verbs::source_address(target.ip())?)
}

/// `REGION` or `REGION=RIGHT,RIGHT`: raw rights.
pub fn rights(text: &str) -> Result<RegionRights, String> {
    let (region, list) = text.split_once('=').unwrap_or((text, ""));
    let mut raw = Rights::NONE;
    for right in list.split(',').filter(|right| !right.is_empty()) {
        match right {
            "read" => raw.read = true,
            "write" => raw.write = true,
            "atomic" => raw.atomic = true,
            other => return Err(format!("{other} is no right")),
        }
    }
    let region = region.parse().map_err(|error| format!("{error}"))?;
    Ok(RegionRights { region, handler: Rights::ALL, raw })
}
