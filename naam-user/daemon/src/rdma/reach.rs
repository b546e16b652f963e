//! What sessions reach: a domain with a memory region for each region that is open to them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use naam_control::protocol::rdma::{RdmaEndpoint, RdmaGrant, RdmaRegion};
use naam_verbs::{Connected, Domain, Endpoint, MemoryRegion};

use super::doors::Open;
use super::release::Releases;

/// Regions that sessions of one app have open, and what is registered of them while one is connected.
#[derive(Debug)]
pub struct Set {
    pub app: u16,
    pub open: Vec<Open>,
    /// Locked while it is registered: sessions that need the same wait for it, others do not.
    reach: Mutex<Weak<Reach>>,
}

/// A session's queue pair. Fields go in this order: the pair first.
#[derive(Debug)]
pub struct Connection {
    pub pair: Connected,
    pub reach: Arc<Reach>,
    pub set: Arc<Set>,
}

/// What is registered of a set. Whoever lets the last reference go does not wait until it is deregistered.
#[derive(Debug)]
pub struct Reach {
    registered: Option<Registered>,
    releases: Releases<Registered>,
}

/// A domain and its memory regions.
#[derive(Debug)]
pub struct Registered {
    memory: Vec<Arc<MemoryRegion>>,
    pub domain: Arc<Domain>,
    /// Bytes of all that is registered.
    bytes: Arc<AtomicU64>,
}

impl Set {
    pub fn new(app: u16, open: Vec<Open>) -> Self {
        Self { app, open, reach: Mutex::new(Weak::new()) }
    }

    /// What is registered, or what `register` registers.
    pub fn reach<E>(&self, register: impl FnOnce() -> Result<Reach, E>) -> Result<Arc<Reach>, E> {
        let mut known = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reach) = known.upgrade() {
            return Ok(reach);
        }
        let reach = Arc::new(register()?);
        *known = Arc::downgrade(&reach);
        Ok(reach)
    }
}

impl Reach {
    /// What is registered goes to `releases` in the end.
    pub fn new(registered: Registered, releases: Releases<Registered>) -> Self {
        Self { registered: Some(registered), releases }
    }

    fn registered(&self) -> &Registered {
        self.registered.as_ref().expect("taken by drop alone")
    }

    /// The domain.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.registered().domain
    }

    /// What a session with this set is told.
    pub fn grant(&self, set: &Set, endpoint: &Endpoint) -> RdmaGrant {
        let regions = set.open.iter().zip(&self.registered().memory).map(|(open, memory)| {
            let naam_verbs::RemoteMemory { address, bytes, rkey } = memory.remote();
            RdmaRegion { index: open.index, address, bytes, rkey, rights: open.rights }
        });
        let Endpoint { qpn, psn, gid, lid, mtu, reads_max } = endpoint.clone();
        RdmaGrant { endpoint: RdmaEndpoint { qpn, psn, gid, lid, mtu, reads_max }, regions: regions.collect() }
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        if let Some(registered) = self.registered.take() {
            self.releases.give_up(registered);
        }
    }
}

impl Registered {
    /// A domain without memory; `bytes` counts what is registered with it.
    pub fn new(domain: Arc<Domain>, bytes: &Arc<AtomicU64>) -> Self {
        Self { memory: Vec::new(), domain, bytes: Arc::clone(bytes) }
    }

    /// Adds what was registered.
    pub fn add(&mut self, memory: Arc<MemoryRegion>) {
        self.bytes.fetch_add(memory.bytes(), Ordering::Relaxed);
        self.memory.push(memory);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        for memory in self.memory.drain(..) {
            let bytes = memory.bytes();
            drop(memory);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}
