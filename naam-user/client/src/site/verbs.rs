//! Regions by RDMA: READs go through a queue pair to home's memory, past home's processors.
//!
//! READs of all visits that are ready go to the device together: a chain of up to 16, with one doorbell and one completion.
//! Only READs: what writes is home's, whose processors and handlers do atomics in their own way.
//!
//! A reply by datagrams tells where shards run and which version of a handler serves; a READ by RDMA tells nothing. So a
//! client hears of a change of placement as late as when its lease ends, and of a replaced handler after a second at the
//! latest: then calls go home again and ask.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use naam_abi::limits::{REGIONS_MAX, VIEW_LARGE};
use naam_control::ClientError;
use naam_control::protocol::rdma::{RdmaEndpoint, RdmaGrant};
use naam_control::protocol::session::SessionGrant;
use naam_verbs::{
    Access, Buffer, Connected, Device, Domain, Endpoint, Gid, MemoryRegion, QueuePair, RemoteMemory, WorkId,
    source_address,
};

use super::memory::{Lost, Memory};
use crate::connect::{Control, Lease};

/// Its name as a [`Memory`].
pub const NAME: &str = "verbs";
/// Longest READ of a handler.
const READ_BYTES_MAX: usize = VIEW_LARGE;
/// Longest time without any READ that arrives, while some are on their way. Devices retry for longer; calls cannot wait for that.
const SILENCE: Duration = Duration::from_millis(500);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum VerbsError {
    /// No device, none with an address that home sees, or it refuses.
    #[error(transparent)]
    Device(#[from] naam_verbs::Error),
    /// The daemon cannot be asked, or refuses.
    #[error(transparent)]
    Home(#[from] ClientError),
    /// No memory for what READs bring, or no way to home's address.
    #[error("cannot prepare RDMA with {address}: {source}")]
    Local {
        /// Home's address.
        address: String,
        /// The cause.
        source: io::Error,
    },
}

/// A queue pair of a session. READs of the regions that the session has the raw right to READ.
#[derive(Debug)]
pub struct Verbs {
    /// Goes first: behind it, nothing writes to the buffer.
    pair: Connected,
    registered: Arc<MemoryRegion>,
    buffer: Arc<Buffer>,
    regions: [Option<Reachable>; REGIONS_MAX],
    /// READs in the order in which they were taken, in which they complete.
    flying: VecDeque<Flying>,
    /// Places of the buffer that no READ uses.
    free: Vec<u32>,
    /// When the last one arrived, or the first was asked for while none was on its way.
    heard: Instant,
    /// The first of those that are on their way has not been asked for yet.
    begins: bool,
    device: String,
    /// What was found when it was armed, for the next look.
    failed: Option<Lost>,
}

#[derive(Clone, Copy, Debug)]
struct Reachable {
    memory: RemoteMemory,
    value_len: u64,
}

#[derive(Clone, Copy, Debug)]
struct Flying {
    id: WorkId,
    tag: u64,
    len: u32,
    place: u32,
}

/// What it takes to connect a queue pair of a session, again and again.
#[derive(Clone, Debug)]
pub struct Connector {
    control: Control,
    grant: SessionGrant,
    host: IpAddr,
    reads: u32,
    device: Option<String>,
}

impl Connector {
    /// Queue pairs of the session with home: by the device of this name, or by the one that has the address that home sees.
    /// `reads` are on their way at most: as many as calls, for each waits for one at a time.
    pub fn new(control: &Control, lease: &Lease, host: IpAddr, reads: u32, device: Option<&str>) -> Self {
        let (control, grant) = (control.clone(), lease.grant().clone());
        Self { control, grant, host, reads, device: device.map(str::to_owned) }
    }

    /// Connects one. Waits for the control plane. A queue pair that the session had before is gone.
    ///
    /// # Errors
    /// Without rdma-core or a device, or when the daemon refuses: it has no device, or the session no raw right.
    pub fn connect(&self) -> Result<Verbs, VerbsError> {
        let &Self { ref control, ref grant, host, reads, ref device } = self;
        let local = |source| VerbsError::Local { address: host.to_string(), source };
        // Over TCP home compares with where the request comes from.
        let target = match control {
            Control::Tcp(address) => address.to_socket_addrs().map_err(local)?.next(),
            Control::Unix(_) => None,
        };
        let own = Gid::from(source_address(target.map_or(host, |target| target.ip())).map_err(local)?);
        let (device, here) = match device {
            Some(name) => {
                let device = Device::open(Some(name))?;
                let here = device.local(PORT, None, Some(own), Some(own))?;
                (device, here)
            }
            None => Device::with_gid(own)?,
        };
        let domain = Domain::new(&device)?;
        let pair = QueuePair::that_tells(&domain, &here, reads, Access::default())?;
        let buffer = Arc::new(Buffer::new(reads as usize * READ_BYTES_MAX).map_err(local)?);
        let registered = MemoryRegion::register(&domain, Arc::clone(&buffer) as _, Access::default())?;
        let Endpoint { qpn, psn, gid, lid, mtu, reads_max } = pair.endpoint().clone();
        let ours = RdmaEndpoint { qpn, psn, gid, lid, mtu, reads_max };
        let RdmaGrant { endpoint, regions: granted } = control.connect()?.connect_rdma(grant.key, ours)?;
        let RdmaEndpoint { qpn, psn, gid, lid, mtu, reads_max } = endpoint;
        let pair = pair.connect(&Endpoint { qpn, psn, gid, lid, mtu, reads_max })?;
        let mut regions = [None; REGIONS_MAX];
        for granted in granted.into_iter().filter(|granted| granted.rights.read) {
            let known = grant.regions.iter().find(|region| region.index == granted.index && region.value_len > 0);
            if let (Some(known), Some(region)) = (known, regions.get_mut(usize::from(granted.index))) {
                let memory = RemoteMemory { address: granted.address, bytes: granted.bytes, rkey: granted.rkey };
                *region = Some(Reachable { memory, value_len: known.value_len });
            }
        }
        let (flying, free) = (VecDeque::with_capacity(reads as usize), (0..reads).collect());
        let (heard, device) = (Instant::now(), device.name().to_owned());
        Ok(Verbs { pair, registered, buffer, regions, flying, free, heard, begins: false, device, failed: None })
    }
}

impl Verbs {
    /// The device here.
    pub fn device(&self) -> &str {
        &self.device
    }

    fn lost(&self, cause: impl ToString) -> Lost {
        Lost { memory: NAME, cause: cause.to_string() }
    }
}

/// The port of a device that is named.
const PORT: u8 = 1;

impl Memory for Verbs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn read(&mut self, tag: u64, region: u32, offset: u64, len: u32) -> bool {
        let Some(Some(Reachable { memory, value_len })) = self.regions.get(region as usize) else { return false };
        let end = offset.checked_add(len.into());
        let whole = offset.is_multiple_of(8) && len.is_multiple_of(8) && len > 0 && len as usize <= READ_BYTES_MAX;
        // No op straddles two map values, nor the end: what does, home refuses, and says how.
        let within = end.is_some_and(|end| end <= memory.bytes && offset / value_len == (end - 1) / value_len);
        if !whole || !within {
            return false;
        }
        let Some(place) = self.free.pop() else { return false };
        let at = u64::from(place) * READ_BYTES_MAX as u64;
        match self.pair.stage_read((&self.registered, at), (memory, offset), len) {
            Ok(id) => {
                self.begins |= self.flying.is_empty();
                self.flying.push_back(Flying { id, tag, len, place });
                true
            }
            // As many places as requests; so this is no queue that is full.
            Err(_) => {
                self.free.push(place);
                false
            }
        }
    }

    fn flush(&mut self) -> Result<(), Lost> {
        if std::mem::take(&mut self.begins) {
            self.heard = Instant::now();
        }
        self.pair.ring().map_err(|error| self.lost(error))
    }

    fn poll(&mut self, each: &mut dyn FnMut(u64, &[u8])) -> Result<(), Lost> {
        if let Some(lost) = self.failed.take() {
            return Err(lost);
        }
        let before = self.flying.len();
        loop {
            let done = self.pair.poll().map_err(|error| self.lost(error))?;
            let Some(id) = done else { break };
            let Some(Flying { tag, len, place, .. }) = self.flying.pop_front_if(|first| first.id == id) else {
                return Err(self.lost("a READ has completed that was not asked for"));
            };
            let mut words = [0u64; READ_BYTES_MAX / 8];
            let words = &mut words[..len as usize / 8];
            self.buffer.copy_out(place as usize * READ_BYTES_MAX, words);
            let mut bytes = [0; READ_BYTES_MAX];
            for (bytes, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(&*words) {
                *bytes = word.to_ne_bytes();
            }
            self.free.push(place);
            each(tag, &bytes[..len as usize]);
        }
        if self.flying.len() < before {
            self.heard = Instant::now();
        } else if before > 0 && !self.begins && self.heard.elapsed() > SILENCE {
            let (qpn, device, peer) = (self.pair.number(), &self.device, self.pair.peer().ip());
            return Err(self.lost(format!(
                "no READ by queue pair {qpn:#x} of RDMA device {device} has arrived for {} ms: is {peer} there, and its device?",
                SILENCE.as_millis()
            )));
        }
        Ok(())
    }

    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        match self.pair.arm() {
            Ok(told) => told,
            Err(error) => {
                self.failed = Some(Lost { memory: NAME, cause: error.to_string() });
                None
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.flying.len()
    }
}
