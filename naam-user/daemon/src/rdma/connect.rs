//! A session's queue pair, from the request until it is taken in.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use naam_abi::tables::SessionEntry;
use naam_control::protocol::rdma::{RdmaEndpoint, RdmaGrant};
use naam_control::protocol::session::{Rights, SessionKey};
use naam_control::server::Origin;
use naam_control::sessions::SessionError;
use naam_control::{ControlError, Name, Peer, config};
use naam_region::Regions;
use naam_verbs::{Access, Device, Domain, Endpoint, Gid, MemoryRegion, QueuePair, source_address};

use super::doors::{self, Door, Open};
use super::reach::{Connection, Reach, Registered, Set};
use super::refused;
use super::release::Releases;
use crate::host::{App, Host};

/// Requests of our own at a time: none are made, but no queue is empty.
const DEPTH: u32 = 1;
/// Time that is given to what goes before more is pinned: both together may be beyond the limit.
const SETTLE: Duration = Duration::from_secs(2);

/// All that it takes to connect a session's queue pair, away from the host: registering takes long.
#[derive(Debug)]
pub struct Plan {
    session: u32,
    app_name: Name,
    regions: Regions,
    device: Arc<Device>,
    choice: config::Rdma,
    origin: Origin,
    peer: Endpoint,
    peer_gid: Gid,
    set: Arc<Set>,
    bytes: Arc<AtomicU64>,
    releases: Releases<Registered>,
}

impl Host {
    /// What a session's request for a queue pair takes.
    ///
    /// # Errors
    /// When there is no device, no such session, or nothing that it may reach.
    pub fn plan_rdma(&mut self, peer: &Peer, key: SessionKey, endpoint: RdmaEndpoint) -> Result<Plan, ControlError> {
        let refused = |cause: &dyn ToString| refused(key.session, cause);
        let none = || refused(&"this daemon serves no RDMA").way_out("give it a device: naam serve --rdma DEVICE");
        self.rdma.as_ref().ok_or_else(none)?;
        let known = self.sessions.get(key.session, self.now_ms()).filter(|session| session.ticket == key.ticket);
        let known = known.ok_or_else(|| {
            refused(&SessionError::Unknown { number: key.session })
                .way_out("open a new session, and then its queue pair")
        })?;
        let (app, app_name) = (known.app, self.apps[&known.app].name.clone());
        let open = self.open_regions(&self.apps[&app], key.session);
        let rdma = self.rdma.as_mut().ok_or_else(none)?;
        let device = rdma.device.as_ref().map_err(|away| {
            refused(&format!("RDMA device {} is gone: {away}", rdma.choice.device)).way_out("go on without RDMA")
        })?;
        if open.is_empty() {
            return Err(refused(&"the session has no raw right to READ or WRITE a region that is open to RDMA")
                .way_out("ask for raw rights when it is opened; the configuration's `raw` and `verbs` allow them"));
        }
        let peer_gid: Gid = endpoint.gid.parse().map_err(|error| refused(&error))?;
        let RdmaEndpoint { qpn, psn, gid, lid, mtu, reads_max } = endpoint;
        Ok(Plan {
            session: key.session,
            app_name,
            regions: self.regions.clone(),
            device: Arc::clone(device),
            choice: rdma.choice.clone(),
            origin: peer.origin,
            peer: Endpoint { qpn, psn, gid, lid, mtu, reads_max },
            peer_gid,
            bytes: Arc::clone(&rdma.registered),
            releases: rdma.releases.clone(),
            set: rdma.set(app, open),
        })
    }

    /// Takes a connection in, if its session is still what it was made for.
    ///
    /// # Errors
    /// When the session, its rights or the device has changed meanwhile.
    pub fn add_rdma(&mut self, key: SessionKey, connection: Connection) -> Result<(), ControlError> {
        let now = self.now_ms();
        let app = self.sessions.get(key.session, now).and_then(|session| self.apps.get(&session.app));
        let Set { app: of, open, .. } = &*connection.set;
        let holds = app.is_some_and(|app| app.id == *of && self.open_regions(app, key.session) == *open);
        let made_of = connection.reach.domain().device();
        let rdma = self.rdma.as_mut().filter(|rdma| {
            let same = rdma.device.as_ref().is_ok_and(|device| Arc::ptr_eq(device, made_of));
            holds && same
        });
        let Some(rdma) = rdma else {
            return Err(refused(key.session, &"the session or the device has changed meanwhile").way_out("try again"));
        };
        rdma.disconnect(key.session);
        rdma.connections.insert(key.session, connection);
        rdma.connected += 1;
        Ok(())
    }

    /// What a session may reach by itself, as the tables say now.
    fn open_regions(&self, app: &App, session: u32) -> Vec<Open> {
        let entry: SessionEntry = self.tables().session(session).unwrap_or_default();
        doors::largest(&app.doors(), entry.raw_rights)
    }
}

impl App {
    /// Its regions as RDMA may reach them.
    fn doors(&self) -> Vec<Door> {
        let regions = self.regions.iter().zip(self.region_names()).zip(0..);
        let door = |((region, name), index): ((&naam_region::Region, Name), u8)| {
            let verbs = self.verbs.get(&name).copied().unwrap_or(config::VERBS);
            let raw = self.raw.get(&name).copied().unwrap_or(Rights::NONE);
            let anyone = Rights::from_bits(verbs.bits() & raw.bits());
            Door { region: name, index, map_id: region.bpf_map().info().id, verbs, anyone }
        };
        regions.map(door).collect()
    }

    /// Bytes that can be registered for its sessions, all that they may reach at a time.
    pub fn registered_most(&self) -> u64 {
        let sets = doors::sets(&self.doors());
        let bytes = |open: &Open| self.regions.get(usize::from(open.index)).map_or(0, naam_region::Region::bytes);
        sets.iter().flatten().map(bytes).sum()
    }
}

impl Plan {
    /// The app of its session.
    pub fn app(&self) -> u16 {
        self.set.app
    }

    /// Registers what is not registered yet, and connects a queue pair. Blocks.
    ///
    /// # Errors
    /// When the peer's end is somewhere else, memory cannot be registered, or the device refuses.
    pub fn run(self) -> Result<(Connection, RdmaGrant), ControlError> {
        let refused = |error: naam_verbs::Error| refused(self.session, &error);
        let mut own = None;
        if self.device.port(self.choice.port).map_err(refused)?.ethernet {
            let address = self.peer_gid.ip();
            require_own_address(self.origin, address).map_err(|cause| {
                super::refused(self.session, &cause)
                    .way_out("name the GID of the address that the control connection comes from")
            })?;
            // Without a route the peer's kind of address decides.
            own = source_address(address).ok().map(Gid::from);
        }
        let reach = self.set.reach(|| self.register())?;
        let all = self.set.open.iter().fold(Access::default(), |all, open| union(all, access(open.rights)));
        let connect = || {
            let local = self.device.local(self.choice.port, self.choice.gid, own, Some(self.peer_gid))?;
            let pair = QueuePair::new(reach.domain(), &local, DEPTH, all)?;
            let endpoint = pair.endpoint().clone();
            Ok((pair.connect(&self.peer)?, endpoint))
        };
        let (pair, endpoint) = connect().map_err(refused)?;
        let grant = reach.grant(&self.set, &endpoint);
        Ok((Connection { pair, reach, set: self.set }, grant))
    }

    fn register(&self) -> Result<Reach, ControlError> {
        self.releases.settle(SETTLE);
        let domain = Domain::new(&self.device).map_err(|error| refused(self.session, &error))?;
        let mut registered = Registered::new(domain, &self.bytes);
        for open in &self.set.open {
            let failed = |cause: &dyn ToString| {
                let object = format!("region `{}` of app `{}` with RDMA", open.region, self.app_name);
                ControlError::new("register", object, cause.to_string())
            };
            let region = self.regions.open(self.app_name.as_str(), open.region.as_str());
            let region = region.map_err(|error| failed(&error))?;
            if region.bpf_map().info().id != open.map_id {
                return Err(failed(&"it has changed meanwhile").way_out("try again"));
            }
            let pages = Arc::new(region.map().map_err(|error| failed(&error))?);
            let memory = MemoryRegion::register(&registered.domain, pages, access(open.rights));
            registered.add(memory.map_err(|error| failed(&error))?);
        }
        Ok(Reach::new(registered, self.releases.clone()))
    }
}

fn access(rights: Rights) -> Access {
    Access { read: rights.read, write: rights.write, atomic: false }
}

fn union(one: Access, other: Access) -> Access {
    Access { read: one.read || other.read, write: one.write || other.write, atomic: false }
}

/// Whoever comes over the network has answered at its own address; answers to READs go nowhere else.
fn require_own_address(origin: Origin, address: IpAddr) -> Result<(), String> {
    match origin {
        Origin::Tcp(from) if from.ip().to_canonical() != address => {
            Err(format!("its GID is the address {address}, it comes from {}", from.ip().to_canonical()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_over_the_network_connects_its_own_address() {
        let from = |address: &str| Origin::Tcp(address.parse().unwrap());
        let is = |origin: Origin, address: &str| require_own_address(origin, address.parse().unwrap());
        assert!(is(from("10.0.0.1:9"), "10.0.0.1").is_ok() && is(from("[::ffff:10.0.0.1]:9"), "10.0.0.1").is_ok());
        let error = is(from("10.0.0.1:9"), "10.0.0.2").unwrap_err();
        assert!(error.contains("10.0.0.2") && error.contains("comes from 10.0.0.1"), "{error}");
        assert!(is(Origin::Unknown, "10.0.0.2").is_ok());
    }

    #[test]
    fn atomics_are_open_to_nobody() {
        assert_eq!(access(Rights::ALL), Access { read: true, write: true, atomic: false });
        let read = access(Rights { read: true, ..Rights::NONE });
        assert_eq!((read, union(read, access(Rights::NONE))), (read, read));
    }
}
