//! RDMA: a queue pair for each session that asks, in a domain that holds what it may reach, and nothing else.
//!
//! ```text
//!   session ─▶ Connection: queue pair ─┐
//!   session ─▶ Connection: queue pair ─┴─▶ Reach: domain with a memory region for each region that is open to them
//! ```
//! Keys of memory regions can be guessed, and are honoured by every queue pair of their domain. So sessions share a domain only
//! if they have the same raw rights to the same regions of the same app: a forged key gains nothing. A queue pair is destroyed
//! before what it reached is deregistered, and before its session's rights change.
//!
//! Atomics are never open: devices do them on their own, not as processors and handlers do.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::{collections::BTreeMap, time::Duration, time::Instant};

use naam_abi::tables::SessionEntry;
use naam_control::protocol::rdma::{RdmaEndpoint, RdmaGrant, RdmaRegion, RdmaStatus};
use naam_control::protocol::session::{Rights, SessionKey};
use naam_control::server::Origin;
use naam_control::sessions::SessionError;
use naam_control::{ControlError, Name, Peer, config};
use naam_region::Regions;
use naam_verbs::{Access, Connected, Device, Domain, Endpoint, Event, Gid, MemoryRegion, QueuePair};

use crate::host::{App, Host};

/// Requests of our own at a time: none are made, but no queue is empty.
const DEPTH: u32 = 1;
/// Time between two looks at whether the device is there.
const LOOKS: Duration = Duration::from_secs(1);

/// The device and all that is made of it.
#[derive(Debug)]
pub struct Rdma {
    choice: config::Rdma,
    /// Or why there is none just now.
    device: Result<Arc<Device>, String>,
    /// By session. Goes before `reaches` would matter: each connection holds what it reaches.
    connections: BTreeMap<u32, Connection>,
    reaches: Vec<Weak<Reach>>,
    port_is_down: bool,
    looked: Instant,
    connected: u64,
    refused: u64,
    broken: u64,
    lost: u64,
}

/// A session's queue pair. Fields go in this order: the pair first.
#[derive(Debug)]
pub struct Connection {
    pair: Connected,
    reach: Arc<Reach>,
}

/// What sessions of the same rights reach.
#[derive(Debug)]
struct Reach {
    app: u16,
    open: Vec<Open>,
    memory: Vec<Arc<MemoryRegion>>,
    domain: Arc<Domain>,
}

/// A region that is open to a session by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    region: Name,
    index: u8,
    /// Tells it from another region of its name.
    map_id: u32,
    rights: Rights,
}

/// All that it takes to connect a session's queue pair, away from the host: registering takes long.
#[derive(Debug)]
pub struct Plan {
    session: u32,
    app: u16,
    app_name: Name,
    regions: Regions,
    device: Arc<Device>,
    choice: config::Rdma,
    peer: Endpoint,
    peer_gid: Gid,
    open: Vec<Open>,
    reach: Option<Arc<Reach>>,
}

impl Rdma {
    /// Opens the device.
    ///
    /// # Errors
    /// Without rdma-core, without the device, its port or its address.
    pub fn open(choice: &config::Rdma) -> Result<Self, naam_verbs::Error> {
        Ok(Self {
            device: Ok(open(choice)?),
            choice: choice.clone(),
            connections: BTreeMap::new(),
            reaches: Vec::new(),
            port_is_down: false,
            looked: Instant::now(),
            connected: 0,
            refused: 0,
            broken: 0,
            lost: 0,
        })
    }

    /// What it is doing.
    pub fn status(&self) -> RdmaStatus {
        let memory = self.reaches.iter().filter_map(Weak::upgrade);
        RdmaStatus {
            device: self.choice.device.clone(),
            port: self.choice.port,
            gid: self.choice.gid,
            away: match &self.device {
                Ok(_) if self.port_is_down => Some(format!("port {} is down", self.choice.port)),
                Ok(_) => None,
                Err(cause) => Some(cause.clone()),
            },
            connections: self.connections.len() as u32,
            registered_bytes: memory.flat_map(|reach| reach.memory.clone()).map(|memory| memory.bytes()).sum(),
            connected: self.connected,
            refused: self.refused,
            broken: self.broken,
            lost: self.lost,
        }
    }

    /// Destroys a session's queue pair.
    pub fn disconnect(&mut self, session: u32) {
        self.connections.remove(&session);
        self.reaches.retain(|reach| reach.strong_count() > 0);
    }

    /// Destroys every queue pair that reaches a region of `app` at place `from` or behind it, and deregisters those.
    pub fn close(&mut self, app: u16, from: usize) {
        let reaches_it =
            |reach: &Reach| reach.app == app && reach.open.iter().any(|open| usize::from(open.index) >= from);
        self.connections.retain(|_, connection| !reaches_it(&connection.reach));
        self.reaches.retain(|reach| reach.strong_count() > 0);
    }

    /// Counts a request that was refused.
    pub fn refuse(&mut self) {
        self.refused += 1;
    }

    /// Takes in what the device has told, and whether it is there.
    pub fn keep_house(&mut self) {
        if let Ok(device) = &self.device {
            for event in Arc::clone(device).events() {
                self.note(event);
            }
        }
        if self.looked.elapsed() < LOOKS {
            return;
        }
        self.looked = Instant::now();
        let is_present = Device::is_present(&self.choice.device);
        if self.device.is_ok() && !is_present {
            self.lose("it was taken away");
        } else if self.device.is_err() && is_present {
            match open(&self.choice) {
                Ok(device) => {
                    tracing::info!(device = self.choice.device, "the RDMA device is back");
                    self.device = Ok(device);
                    self.port_is_down = false;
                }
                Err(error) => self.device = Err(error.to_string()),
            }
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Gone => self.lose("it reported a fatal error"),
            Event::PortDown(port) if port == self.choice.port => {
                tracing::warn!(device = self.choice.device, port, "the RDMA port went down: clients go by datagrams");
                self.lost += u64::from(!self.port_is_down);
                self.port_is_down = true;
            }
            Event::PortUp(port) if port == self.choice.port => {
                tracing::info!(device = self.choice.device, port, "the RDMA port came up");
                self.port_is_down = false;
            }
            Event::QueuePair { qpn, what } => {
                let found = self.connections.iter().find(|(_, connection)| connection.pair.number() == qpn);
                if let Some((&session, _)) = found {
                    tracing::info!(session, qpn, what, "a session's queue pair broke");
                    self.broken += 1;
                    self.disconnect(session);
                }
            }
            Event::PortDown(_) | Event::PortUp(_) => {}
            Event::Other(what) => tracing::debug!(device = self.choice.device, what, "the RDMA device says"),
        }
    }

    /// Gives everything up that was made of the device.
    fn lose(&mut self, cause: &str) {
        if self.device.is_err() {
            return;
        }
        self.lost += 1;
        let sessions = self.connections.len();
        let device = &self.choice.device;
        tracing::warn!(device, cause, sessions, "the RDMA device is gone: regions are served without it");
        self.connections.clear();
        self.reaches.clear();
        self.device = Err(cause.to_owned());
    }
}

fn open(choice: &config::Rdma) -> Result<Arc<Device>, naam_verbs::Error> {
    let device = Device::open(Some(&choice.device))?;
    device.local(choice.port, choice.gid, None, None)?;
    Ok(device)
}

impl Host {
    /// What a session's request for a queue pair takes.
    ///
    /// # Errors
    /// When there is no device, no such session, nothing that it may reach, or its end is somewhere else.
    pub fn plan_rdma(&self, peer: &Peer, key: SessionKey, endpoint: RdmaEndpoint) -> Result<Plan, ControlError> {
        let refused = |cause: &dyn ToString| refused(key.session, cause);
        let rdma = self.rdma.as_ref().ok_or_else(|| {
            refused(&"this daemon serves no RDMA").way_out("give it a device: naam serve --rdma DEVICE")
        })?;
        let known = self.sessions.get(key.session, self.now_ms()).filter(|session| session.ticket == key.ticket);
        let known = known.ok_or_else(|| refused(&SessionError::Unknown { number: key.session }))?;
        let device = rdma.device.as_ref().map_err(|away| {
            refused(&format!("RDMA device {} is gone: {away}", rdma.choice.device)).way_out("go on without RDMA")
        })?;
        let app = &self.apps[&known.app];
        let open = self.open_regions(app, key.session);
        if open.is_empty() {
            return Err(refused(&"the session has no raw right to READ or WRITE a region")
                .way_out("ask for raw rights when it is opened; the configuration's `raw` allows them"));
        }
        let peer_gid: Gid = endpoint.gid.parse().map_err(|error| refused(&error))?;
        let RdmaEndpoint { qpn, psn, gid, lid, mtu } = endpoint;
        let port = device.port(rdma.choice.port).map_err(|error| refused(&error))?;
        if port.ethernet {
            require_own_address(peer, peer_gid.ip()).map_err(|cause| {
                refused(&cause).way_out("name the GID of the address that the control connection comes from")
            })?;
        }
        let shared = rdma.reaches.iter().filter_map(Weak::upgrade).find(|reach| reach.is(app.id, &open));
        Ok(Plan {
            session: key.session,
            app: app.id,
            app_name: app.name.clone(),
            regions: self.regions.clone(),
            device: Arc::clone(device),
            choice: rdma.choice.clone(),
            peer: Endpoint { qpn, psn, gid, lid, mtu },
            peer_gid,
            open,
            reach: shared,
        })
    }

    /// Takes a connection in, if its session is still what it was made for.
    ///
    /// # Errors
    /// When the session, its rights or the device has changed meanwhile.
    pub fn add_rdma(&mut self, key: SessionKey, connection: Connection) -> Result<(), ControlError> {
        let now = self.now_ms();
        let app = self.sessions.get(key.session, now).and_then(|session| self.apps.get(&session.app));
        let holds = app.is_some_and(|app| connection.reach.is(app.id, &self.open_regions(app, key.session)));
        let made_of = connection.reach.domain.device();
        let rdma = self.rdma.as_mut().filter(|rdma| {
            let same = rdma.device.as_ref().is_ok_and(|device| Arc::ptr_eq(device, made_of));
            holds && same
        });
        let Some(rdma) = rdma else {
            return Err(refused(key.session, &"the session or the device has changed meanwhile").way_out("try again"));
        };
        rdma.disconnect(key.session);
        if !rdma.reaches.iter().any(|reach| reach.as_ptr() == Arc::as_ptr(&connection.reach)) {
            rdma.reaches.push(Arc::downgrade(&connection.reach));
        }
        rdma.connections.insert(key.session, connection);
        rdma.connected += 1;
        Ok(())
    }

    /// What a session may reach by itself, as the tables say now.
    fn open_regions(&self, app: &App, session: u32) -> Vec<Open> {
        let entry: SessionEntry = self.tables().session(session).unwrap_or_default();
        let regions = app.regions.iter().zip(app.region_names()).zip(entry.raw_rights).zip(0..);
        let open = regions.map(|(((region, name), bits), index)| Open {
            region: name,
            index,
            map_id: region.bpf_map().info().id,
            rights: Rights { atomic: false, ..Rights::from_bits(bits) },
        });
        open.filter(|open| open.rights != Rights::NONE).collect()
    }
}

impl Reach {
    fn is(&self, app: u16, open: &[Open]) -> bool {
        self.app == app && self.open == open
    }

    fn grant(&self, endpoint: &Endpoint) -> RdmaGrant {
        let regions = self.open.iter().zip(&self.memory).map(|(open, memory)| {
            let naam_verbs::RemoteMemory { address, bytes, rkey } = memory.remote();
            RdmaRegion { index: open.index, address, bytes, rkey, rights: open.rights }
        });
        let Endpoint { qpn, psn, gid, lid, mtu } = endpoint.clone();
        RdmaGrant { endpoint: RdmaEndpoint { qpn, psn, gid, lid, mtu }, regions: regions.collect() }
    }
}

impl Plan {
    /// Registers what is not registered yet, and connects a queue pair. Blocks.
    ///
    /// # Errors
    /// When memory cannot be registered, or the device refuses.
    pub fn run(self) -> Result<(Connection, RdmaGrant), ControlError> {
        let reach = match &self.reach {
            Some(reach) => Arc::clone(reach),
            None => Arc::new(self.register()?),
        };
        let all = self.open.iter().fold(Access::default(), |all, open| union(all, access(open.rights)));
        let connect = || {
            let local = self.device.local(self.choice.port, self.choice.gid, None, Some(self.peer_gid))?;
            let pair = QueuePair::new(&reach.domain, &local, DEPTH, all)?;
            let endpoint = pair.endpoint().clone();
            Ok((pair.connect(&self.peer)?, endpoint))
        };
        let (pair, endpoint) = connect().map_err(|error: naam_verbs::Error| refused(self.session, &error))?;
        let grant = reach.grant(&endpoint);
        Ok((Connection { pair, reach }, grant))
    }

    fn register(&self) -> Result<Reach, ControlError> {
        let domain = Domain::new(&self.device).map_err(|error| refused(self.session, &error))?;
        let mut memory = Vec::new();
        for open in &self.open {
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
            let registered = MemoryRegion::register(&domain, pages, access(open.rights));
            memory.push(registered.map_err(|error| failed(&error))?);
        }
        Ok(Reach { app: self.app, open: self.open.clone(), memory, domain })
    }
}

fn access(rights: Rights) -> Access {
    Access { read: rights.read, write: rights.write, atomic: false }
}

fn union(one: Access, other: Access) -> Access {
    Access { read: one.read || other.read, write: one.write || other.write, atomic: false }
}

fn refused(session: u32, cause: &dyn ToString) -> ControlError {
    ControlError::new("connect", format!("a queue pair of session {session}"), cause.to_string())
}

/// Whoever comes over the network has answered at its own address; answers to READs go nowhere else.
fn require_own_address(peer: &Peer, address: IpAddr) -> Result<(), String> {
    match peer.origin {
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
        let peer = |origin| Peer { origin, admin: false };
        let from = |address: &str| peer(Origin::Tcp(address.parse().unwrap()));
        let is = |peer: &Peer, address: &str| require_own_address(peer, address.parse().unwrap());
        assert!(is(&from("10.0.0.1:9"), "10.0.0.1").is_ok() && is(&from("[::ffff:10.0.0.1]:9"), "10.0.0.1").is_ok());
        let error = is(&from("10.0.0.1:9"), "10.0.0.2").unwrap_err();
        assert!(error.contains("10.0.0.2") && error.contains("comes from 10.0.0.1"), "{error}");
        assert!(is(&peer(Origin::Unknown), "10.0.0.2").is_ok());
    }

    #[test]
    fn atomics_are_open_to_nobody() {
        assert_eq!(access(Rights::ALL), Access { read: true, write: true, atomic: false });
        let read = access(Rights { read: true, ..Rights::NONE });
        assert_eq!((read, union(read, access(Rights::NONE))), (read, read));
    }
}
