//! Reliable connections: requests and their completions.

use std::{
    collections::VecDeque,
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd},
    ptr::NonNull,
    sync::Arc,
};

use naam_verbs_sys::{
    self as sys, ibv_mtu, ibv_qp_attr_mask as mask, ibv_qp_state as state, ibv_send_flags, ibv_wc_status, ibv_wr_opcode,
};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::{Access, Device, Domain, Error, Gid, Local, MemoryRegion, RemoteMemory, channel::Channel};

/// Sequence numbers of packets have 24 bits.
const SEQUENCE_MASK: u32 = (1 << 24) - 1;
/// READs that may be on their way to a peer, and from one, if the devices have as many.
const READS_MAX: u8 = 16;
/// 4.096 µs times two to this: how long to wait for an acknowledgement, 67 ms.
const TIMEOUT: u8 = 14;
/// As often is a packet sent again; for a peer that is not ready 7 means without end, so less.
const RETRIES: u8 = 6;
/// How long a peer that is not ready asks to wait: 0.64 ms.
const NOT_READY_TIMER: u8 = 12;
const HOPS_MAX: u8 = 64;
/// Requests that are handed over together, with one completion.
pub const CHAIN: usize = 16;
/// Completions that are looked at together.
const POLL: usize = 16;

/// One end of a connection, as its peer has to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The queue pair's number.
    pub qpn: u32,
    /// The number of its first packet.
    pub psn: u32,
    /// The port's address, in hexadecimal digits.
    pub gid: String,
    /// The port's address in an InfiniBand subnet; 0 on Ethernet.
    #[serde(default)]
    pub lid: u16,
    /// Largest payload of a packet that its port takes, in bytes.
    pub mtu: u32,
    /// READs that its device serves at a time; an end that does not say serves 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads_max: Option<u8>,
}

/// Names a request until it has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkId(u64);

/// A queue pair that is not connected yet.
#[derive(Debug)]
pub struct QueuePair {
    handles: Handles,
    limits: Limits,
    local: Local,
    endpoint: Endpoint,
}

/// A connected queue pair.
///
/// Requests are [staged](Self::stage_read) and go to the device together ([`ring`](Self::ring)). They complete in order, so
/// only the last one of a chain is asked to tell.
#[derive(Debug)]
pub struct Connected {
    /// Goes first: behind it, no request reaches the memory below.
    handles: Handles,
    staged: VecDeque<Request>,
    /// At the device, in order.
    posted: VecDeque<Request>,
    /// Completed, and not told yet.
    completed: VecDeque<WorkId>,
    next: u64,
    peer: Gid,
    /// The device is to tell of the next completion, and may have.
    armed: bool,
}

/// What is asked of a peer. It holds its memory until it has completed, or the pair is gone.
#[derive(Debug)]
struct Request {
    id: WorkId,
    name: &'static str,
    opcode: ibv_wr_opcode,
    local: Arc<MemoryRegion>,
    offset: u64,
    len: u32,
    address: u64,
    rkey: u32,
}

/// How much of a queue pair its device can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    /// Requests at a time.
    depth: u32,
    /// READs of the peer that are served at a time.
    served: u8,
    /// READs that the peer is asked at a time.
    asked: u8,
}

impl Limits {
    /// For who wants `depth` requests at a time.
    fn of(device: &sys::ibv_device_attr, depth: u32) -> Self {
        // None of these is negative.
        let most = |number: i32| u32::try_from(number).unwrap_or(0);
        let reads = |number: i32| u8::try_from(number.clamp(0, READS_MAX.into())).unwrap_or(READS_MAX);
        Self {
            depth: depth.min(most(device.max_qp_wr)).min(most(device.max_cqe)),
            served: reads(device.max_qp_rd_atom),
            asked: reads(device.max_qp_init_rd_atom),
        }
    }

    /// READs that a peer is asked at a time which serves so many.
    fn asked_of(self, served: Option<u8>) -> u8 {
        self.asked.min(served.unwrap_or(READS_MAX))
    }
}

/// Queue pair, completion queue and the channel that tells of it, which it has to itself.
#[derive(Debug)]
struct Handles {
    pair: NonNull<sys::ibv_qp>,
    completions: NonNull<sys::ibv_cq>,
    /// Where the device tells of a completion, when it is asked to: a descriptor of the process.
    channel: Option<Channel>,
    domain: Arc<Domain>,
    depth: u32,
}

// SAFETY: handles of a library that may be called from any thread.
unsafe impl Send for Handles {}

impl QueuePair {
    /// Makes one for up to `depth` requests at a time, or as many as the device takes, on a port; peers may do to memory of the domain what `access` and
    /// the memory's own rights both allow.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn new(domain: &Arc<Domain>, local: &Local, depth: u32, access: Access) -> Result<Self, Error> {
        Self::with(domain, local, depth, access, false)
    }

    /// The same, of which the device can tell that a request has completed: see [`Connected::arm`]. It takes a file descriptor.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn that_tells(domain: &Arc<Domain>, local: &Local, depth: u32, access: Access) -> Result<Self, Error> {
        Self::with(domain, local, depth, access, true)
    }

    fn with(domain: &Arc<Domain>, local: &Local, depth: u32, access: Access, tells: bool) -> Result<Self, Error> {
        let Local { port, gid, .. } = *local;
        let limits = Limits::of(&domain.device().attributes()?, depth);
        let handles = Handles::new(domain, limits.depth, tells)?;
        let mut attributes = sys::ibv_qp_attr {
            qp_state: state::IBV_QPS_INIT,
            port_num: port.number,
            qp_access_flags: access.bits() as u32,
            ..Default::default()
        };
        let given = mask::IBV_QP_STATE | mask::IBV_QP_PKEY_INDEX | mask::IBV_QP_PORT | mask::IBV_QP_ACCESS_FLAGS;
        handles.modify("initialize a queue pair", &mut attributes, given)?;
        let endpoint = Endpoint {
            qpn: handles.number(),
            psn: first_sequence(domain.device())?,
            gid: gid.to_string(),
            lid: port.lid,
            mtu: mtu_bytes(port.mtu),
            reads_max: Some(limits.served),
        };
        Ok(Self { handles, limits, local: *local, endpoint })
    }

    /// What the peer has to be told.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Connects it to a peer that does the same with [ours](Self::endpoint).
    ///
    /// # Errors
    /// When the peer's endpoint is none, or the device refuses.
    pub fn connect(self, peer: &Endpoint) -> Result<Connected, Error> {
        let Self { handles, limits, local: Local { port, gid_index, gid: own }, endpoint } = self;
        let gid: Gid = peer.gid.parse()?;
        let failed = |error| match error {
            Error::Call { operation, device, source } => {
                let (port, peer_qpn) = (port.number, peer.qpn);
                Error::Connect { operation, device, port, gid: own, peer: gid, peer_qpn, source }
            }
            other => other,
        };
        // The largest size that both take.
        let mtu = (1..=port.mtu).rev().find(|mtu| mtu_bytes(*mtu) <= peer.mtu).unwrap_or(1);
        let mut receive = sys::ibv_qp_attr {
            qp_state: state::IBV_QPS_RTR,
            path_mtu: ibv_mtu(mtu),
            dest_qp_num: peer.qpn,
            rq_psn: peer.psn & SEQUENCE_MASK,
            max_dest_rd_atomic: limits.served,
            min_rnr_timer: NOT_READY_TIMER,
            ..Default::default()
        };
        receive.ah_attr.is_global = 1;
        receive.ah_attr.dlid = peer.lid;
        receive.ah_attr.port_num = port.number;
        receive.ah_attr.grh.dgid = sys::ibv_gid { raw: gid.0 };
        receive.ah_attr.grh.sgid_index = gid_index;
        receive.ah_attr.grh.hop_limit = HOPS_MAX;
        let given = mask::IBV_QP_STATE
            | mask::IBV_QP_AV
            | mask::IBV_QP_PATH_MTU
            | mask::IBV_QP_DEST_QPN
            | mask::IBV_QP_RQ_PSN
            | mask::IBV_QP_MAX_DEST_RD_ATOMIC
            | mask::IBV_QP_MIN_RNR_TIMER;
        handles.modify("make a queue pair ready to receive", &mut receive, given).map_err(failed)?;
        let mut send = sys::ibv_qp_attr {
            qp_state: state::IBV_QPS_RTS,
            sq_psn: endpoint.psn,
            timeout: TIMEOUT,
            retry_cnt: RETRIES,
            rnr_retry: RETRIES,
            max_rd_atomic: limits.asked_of(peer.reads_max),
            ..Default::default()
        };
        let given = mask::IBV_QP_STATE
            | mask::IBV_QP_SQ_PSN
            | mask::IBV_QP_TIMEOUT
            | mask::IBV_QP_RETRY_CNT
            | mask::IBV_QP_RNR_RETRY
            | mask::IBV_QP_MAX_QP_RD_ATOMIC;
        handles.modify("make a queue pair ready to send", &mut send, given).map_err(failed)?;
        Ok(Connected {
            staged: VecDeque::with_capacity(handles.depth as usize),
            posted: VecDeque::with_capacity(handles.depth as usize),
            completed: VecDeque::with_capacity(handles.depth as usize),
            handles,
            peer: gid,
            next: 0,
            armed: false,
        })
    }
}

impl Connected {
    /// The queue pair's number on its device.
    pub fn number(&self) -> u32 {
        self.handles.number()
    }

    /// The peer's address.
    pub fn peer(&self) -> Gid {
        self.peer
    }

    /// Asks for `len` bytes of the peer's memory, which come to `local` until the request has [completed](Self::poll).
    ///
    /// # Errors
    /// When a range lies outside of its memory, as many requests are on their way as the queue pair takes, or the device
    /// refuses.
    pub fn read(
        &mut self,
        local: (&Arc<MemoryRegion>, u64),
        remote: (&RemoteMemory, u64),
        len: u32,
    ) -> Result<WorkId, Error> {
        let id = self.stage_read(local, remote, len)?;
        self.ring().map(|()| id)
    }

    /// Sends `len` bytes of `local` to the peer's memory.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn write(
        &mut self,
        local: (&Arc<MemoryRegion>, u64),
        remote: (&RemoteMemory, u64),
        len: u32,
    ) -> Result<WorkId, Error> {
        let id = self.stage("WRITE", ibv_wr_opcode::IBV_WR_RDMA_WRITE, local, remote, len)?;
        self.ring().map(|()| id)
    }

    /// As [`read`](Self::read), but it waits for the next [`ring`](Self::ring).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn stage_read(
        &mut self,
        local: (&Arc<MemoryRegion>, u64),
        remote: (&RemoteMemory, u64),
        len: u32,
    ) -> Result<WorkId, Error> {
        self.stage("READ", ibv_wr_opcode::IBV_WR_RDMA_READ, local, remote, len)
    }

    /// Hands all that is staged to the device, in chains of up to [`CHAIN`] requests, one completion each.
    ///
    /// # Errors
    /// When the device refuses. The queue pair is of no more use then.
    pub fn ring(&mut self) -> Result<(), Error> {
        while !self.staged.is_empty() {
            self.post_chain()?;
        }
        Ok(())
    }

    /// The next request that has completed, if one has. Requests complete in order, and are told of in that order.
    ///
    /// # Errors
    /// When one did not succeed: then no later one will either.
    pub fn poll(&mut self) -> Result<Option<WorkId>, Error> {
        if self.completed.is_empty() {
            self.collect()?;
        }
        Ok(self.completed.pop_front())
    }

    /// Has the device tell of the next completion: this descriptor then can be read from. None: there is one already, or the pair
    /// [cannot tell](QueuePair::new), so do not wait. What the descriptor has told before is forgotten.
    ///
    /// # Errors
    /// When the device refuses, or as [`poll`](Self::poll).
    pub fn arm(&mut self) -> Result<Option<BorrowedFd<'_>>, Error> {
        let Some(channel) = &self.handles.channel else { return Ok(None) };
        if std::mem::take(&mut self.armed) {
            channel.forget(self.handles.completions);
        }
        // SAFETY: the queue is live.
        let outcome = unsafe { sys::req_notify_cq(self.handles.completions.as_ptr(), 0) };
        self.handles.domain.device().check("ask for completions", outcome)?;
        self.armed = true;
        // What has come before that, it does not tell of.
        if self.completed.is_empty() {
            self.collect()?;
        }
        Ok(self.handles.channel.as_ref().filter(|_| self.completed.is_empty()).map(Channel::as_fd))
    }

    /// Takes what has completed from the device.
    fn collect(&mut self) -> Result<(), Error> {
        let mut told = [sys::ibv_wc::default(); POLL];
        // SAFETY: the queue is live, and there is room for so many completions.
        let count = unsafe { sys::poll_cq(self.handles.completions.as_ptr(), POLL as i32, told.as_mut_ptr()) };
        let device = self.handles.domain.device();
        let Ok(count) = usize::try_from(count) else {
            return device.check("poll a completion queue", count);
        };
        for completion in told.iter().take(count) {
            let id = WorkId(completion.wr_id);
            if completion.status != ibv_wc_status::IBV_WC_SUCCESS {
                let operation =
                    self.posted.iter().find(|request| request.id == id).map_or("a request", |found| found.name);
                // SAFETY: the library answers every number with a string of its own.
                let status = unsafe { CStr::from_ptr(device.verbs().ibv_wc_status_str(completion.status)) };
                return Err(Error::Completion {
                    device: device.name().to_owned(),
                    qpn: self.handles.number(),
                    peer: self.peer,
                    operation,
                    status: status.to_string_lossy().into_owned(),
                    vendor: completion.vendor_err,
                });
            }
            // The device has done with it and with all before it.
            while let Some(request) = self.posted.pop_front_if(|request| request.id <= id) {
                self.completed.push_back(request.id);
            }
        }
        Ok(())
    }

    /// Requests on their way or staged.
    pub fn pending(&self) -> usize {
        self.staged.len() + self.posted.len()
    }

    fn stage(
        &mut self,
        name: &'static str,
        opcode: ibv_wr_opcode,
        (local, offset): (&Arc<MemoryRegion>, u64),
        (remote, remote_offset): (&RemoteMemory, u64),
        len: u32,
    ) -> Result<WorkId, Error> {
        check("the local memory region", offset, len, local.bytes())?;
        check("the peer's memory", remote_offset, len, remote.bytes)?;
        if self.pending() >= self.handles.depth as usize {
            let (device, qpn) = (self.handles.domain.device().name().to_owned(), self.handles.number());
            return Err(Error::Full { device, qpn, most: self.handles.depth });
        }
        let id = WorkId(self.next);
        self.next += 1;
        let (address, rkey) = (remote.address.wrapping_add(remote_offset), remote.rkey);
        self.staged.push_back(Request { id, name, opcode, local: Arc::clone(local), offset, len, address, rkey });
        Ok(id)
    }

    /// Hands up to [`CHAIN`] staged requests over at once; the last one is to tell when it has completed.
    fn post_chain(&mut self) -> Result<(), Error> {
        let count = self.staged.len().min(CHAIN);
        let mut elements = [sys::ibv_sge::default(); CHAIN];
        let mut chain: [sys::ibv_send_wr; CHAIN] = std::array::from_fn(|_| sys::ibv_send_wr::default());
        for (request, (element, work)) in self.staged.iter().zip(elements.iter_mut().zip(&mut chain)) {
            let local = &request.local;
            *element = sys::ibv_sge { addr: local.address() + request.offset, length: request.len, lkey: local.lkey() };
            (work.wr_id, work.opcode) = (request.id.0, request.opcode);
            (work.sg_list, work.num_sge) = (&raw mut *element, 1);
            work.wr.rdma.remote_addr = request.address;
            work.wr.rdma.rkey = request.rkey;
        }
        for at in 1..count {
            chain[at - 1].next = &raw mut chain[at];
        }
        chain[count - 1].send_flags = ibv_send_flags::IBV_SEND_SIGNALED.0;
        let mut refused = std::ptr::null_mut();
        // SAFETY: the pair is connected; requests and elements are copied by the call; the memory that the elements name is
        // held by `posted` until the requests complete, or the pair is gone.
        let outcome = unsafe { sys::post_send(self.handles.pair.as_ptr(), chain.as_mut_ptr(), &raw mut refused) };
        // Also of those that were refused: nothing is taken back, and a pair that refuses is given up.
        self.posted.extend(self.staged.drain(..count));
        self.handles.domain.device().check("post requests", outcome)
    }
}

impl Handles {
    fn new(domain: &Arc<Domain>, depth: u32, tells: bool) -> Result<Self, Error> {
        let device = domain.device();
        let channel = tells.then(|| Channel::new(domain)).transpose()?;
        let (null, told_by) = (std::ptr::null_mut(), channel.as_ref().map_or(std::ptr::null_mut(), Channel::as_ptr));
        // SAFETY: the context is open, the channel live if there is one; no context of ours is given.
        let made = unsafe { device.verbs().ibv_create_cq(device.context(), depth as i32, null, told_by, 0) };
        let completions = device.made("create a completion queue", made)?;
        let mut attributes = sys::ibv_qp_init_attr {
            send_cq: completions.as_ptr(),
            recv_cq: completions.as_ptr(),
            cap: sys::ibv_qp_cap {
                max_send_wr: depth,
                max_recv_wr: 1,
                max_send_sge: 1,
                max_recv_sge: 1,
                max_inline_data: 0,
            },
            qp_type: sys::ibv_qp_type::IBV_QPT_RC,
            ..Default::default()
        };
        // SAFETY: domain and queue are live, and the attributes may be written.
        let made = unsafe { device.verbs().ibv_create_qp(domain.as_ptr(), &raw mut attributes) };
        let pair = device.made("create a queue pair", made).inspect_err(|_| {
            // SAFETY: the queue is ours, and nothing uses it.
            unsafe { device.verbs().ibv_destroy_cq(completions.as_ptr()) };
        })?;
        Ok(Self { pair, completions, channel, domain: Arc::clone(domain), depth })
    }

    fn number(&self) -> u32 {
        // SAFETY: the pair is live; its number does not change.
        unsafe { (*self.pair.as_ptr()).qp_num }
    }

    fn modify(&self, operation: &'static str, attributes: &mut sys::ibv_qp_attr, given: mask) -> Result<(), Error> {
        let device = self.domain.device();
        // SAFETY: the pair is live, and the attributes that the mask names are set.
        let outcome = unsafe { device.verbs().ibv_modify_qp(self.pair.as_ptr(), &raw mut *attributes, given.0 as i32) };
        device.check(operation, outcome)
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        let device = self.domain.device();
        // SAFETY: it is ours.
        let outcome = unsafe { device.verbs().ibv_destroy_qp(self.pair.as_ptr()) };
        device.destroyed("destroy a queue pair", outcome);
        // SAFETY: it is ours; the pair, which used it, is gone.
        let outcome = unsafe { device.verbs().ibv_destroy_cq(self.completions.as_ptr()) };
        device.destroyed("destroy a completion queue", outcome);
    }
}

fn check(what: &'static str, offset: u64, len: u32, bytes: u64) -> Result<(), Error> {
    match offset.checked_add(len.into()) {
        Some(end) if end <= bytes => Ok(()),
        _ => Err(Error::Range { what, offset, len: len.into(), bytes }),
    }
}

/// Nobody guesses it, nor is it that of an earlier connection, whose packets would be taken for ours.
fn first_sequence(device: &Device) -> Result<u32, Error> {
    let mut bytes = [0; 4];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|errno| Error::call("draw a first sequence number for a queue pair", device.name(), errno.into()))?;
    Ok(u32::from_ne_bytes(bytes) & SEQUENCE_MASK)
}

/// As the device counts: 1 is 256, 5 is 4096.
fn mtu_bytes(number: u32) -> u32 {
    128 << number.min(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_asked_of_a_device_than_it_has() {
        let device = |max_qp_wr, max_cqe, max_qp_rd_atom, max_qp_init_rd_atom| sys::ibv_device_attr {
            max_qp_wr,
            max_cqe,
            max_qp_rd_atom,
            max_qp_init_rd_atom,
            ..Default::default()
        };
        let large = Limits::of(&device(1 << 15, 1 << 22, 16, 128), 64);
        assert_eq!(large, Limits { depth: 64, served: 16, asked: 16 });
        let small = Limits::of(&device(32, 48, 4, 8), 64);
        assert_eq!(small, Limits { depth: 32, served: 4, asked: 8 });
        assert_eq!(Limits::of(&device(64, 16, -1, 0), 64), Limits { depth: 16, served: 0, asked: 0 });
        // Nor of the peer's, which may be of an earlier version and not say.
        assert_eq!((large.asked_of(Some(4)), small.asked_of(Some(16)), large.asked_of(None)), (4, 8, 16));
        let told = r#"{"qpn":1,"psn":2,"gid":"00","mtu":1024}"#;
        assert_eq!(serde_json::from_str::<Endpoint>(told).unwrap().reads_max, None);
    }

    #[test]
    fn ranges_are_checked_without_overflow() {
        assert!(check("m", 4096 - 8, 8, 4096).is_ok());
        assert!(check("m", 4096 - 8, 16, 4096).is_err());
        let error = check("m", u64::MAX, 8, 4096).unwrap_err().to_string();
        assert!(error.contains("8 bytes at 18446744073709551615 of m end after its 4096 bytes"), "{error}");
    }
}
