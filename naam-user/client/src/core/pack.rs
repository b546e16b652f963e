//! Messages of one function and shard share datagrams.

use naam_abi::limits::{FUNCTIONS_MAX, MESSAGES_MAX, SHARDS_MAX};
use naam_abi::wire::{self, HEADER_BYTES, Header, Kind, MESSAGE_BYTES, Message};
use naam_transport::Outgoing;

use super::calls::{Call, Phase};
use super::{Core, Known};
use crate::list::Lists;
use crate::session::Integrity;

const BINS: usize = FUNCTIONS_MAX * SHARDS_MAX;
/// Bins that hold a whole datagram.
const FULL: u32 = 0;
/// Bins that hold less, in the order in which they began to wait.
const WAITING: u32 = 1;

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    /// Bytes of its messages, rooms included.
    bytes: usize,
    /// Since when its first message waits.
    since: u64,
}

/// Calls in line, by function and shard.
pub(super) struct Bins {
    bins: Box<[Bin]>,
    /// One list of calls for each bin.
    queues: Lists,
    /// The bins that are not empty, in [`FULL`] or [`WAITING`].
    ready: Lists,
    /// Messages of a datagram at most.
    messages_max: usize,
}

impl Bins {
    pub(super) fn new(window: usize, messages_max: usize) -> Self {
        Self {
            bins: vec![Bin::default(); BINS].into(),
            queues: Lists::new(window, BINS),
            ready: Lists::new(BINS, 2),
            messages_max: messages_max.clamp(1, MESSAGES_MAX),
        }
    }

    fn of(call: &Call) -> u32 {
        u32::from(call.function) * SHARDS_MAX as u32 + u32::from(call.shard)
    }

    /// Puts a call at the end of its bin.
    pub(super) fn queue(&mut self, index: u32, call: &Call, max_payload: usize, now: u64) {
        let number = Self::of(call);
        let bin = &mut self.bins[number as usize];
        self.queues.push_back(number, index);
        bin.bytes += message_bytes(call);
        if self.ready.list_of(number).is_none() {
            bin.since = now;
            self.ready.push_back(WAITING, number);
        }
        // Full as soon as another message of this size would not fit.
        let filled = HEADER_BYTES + bin.bytes + message_bytes(call) > max_payload;
        if (filled || self.queues.len(number) >= self.messages_max) && self.ready.list_of(number) == Some(WAITING) {
            self.ready.remove(number);
            self.ready.push_back(FULL, number);
        }
    }

    /// Takes a call out of line, if it stands there.
    pub(super) fn forget(&mut self, index: u32, call: &Call) {
        if let Some(number) = self.queues.remove(index) {
            self.bins[number as usize].bytes -= message_bytes(call);
            if self.queues.is_empty(number) {
                self.ready.remove(number);
            }
        }
    }

    /// The bin to send next.
    fn due(&self, linger_ns: u64, now: u64) -> Option<u32> {
        self.ready.front(FULL).or_else(|| {
            let waiting = self.ready.front(WAITING)?;
            (self.bins[waiting as usize].since.saturating_add(linger_ns) <= now).then_some(waiting)
        })
    }

    /// When a bin will be due.
    pub(super) fn next(&self, linger_ns: u64) -> Option<u64> {
        match self.ready.front(FULL) {
            Some(_) => Some(0),
            None => self.ready.front(WAITING).map(|bin| self.bins[bin as usize].since.saturating_add(linger_ns)),
        }
    }

    /// A bin that was packed goes to the end of the line if something is left in it.
    fn rotate(&mut self, number: u32, max_payload: usize, now: u64) {
        self.ready.remove(number);
        if !self.queues.is_empty(number) {
            let bin = &mut self.bins[number as usize];
            bin.since = now;
            let full = HEADER_BYTES + bin.bytes >= max_payload || self.queues.len(number) >= self.messages_max;
            self.ready.push_back(if full { FULL } else { WAITING }, number);
        }
    }
}

fn message_bytes(call: &Call) -> usize {
    MESSAGE_BYTES + usize::from(call.room)
}

impl Core {
    /// Packs the next datagram that is due into `buffer`, which holds at least the path's longest;
    /// `None` if there is none. For use with [`naam_transport::Transport::send`].
    pub fn transmit(&mut self, now: u64, buffer: &mut [u8]) -> Option<Outgoing> {
        let bin = self.bins.due(self.linger_ns, now)?;
        let (function, shard) = ((bin / SHARDS_MAX as u32) as u16, (bin % SHARDS_MAX as u32) as u16);
        let known = self.functions[usize::from(function)].map_or(0, |Known { version, .. }| version);
        // The header names one version for all: calls that carry another's state than serves by now go apart.
        let named = |call: &Call| call.cargo.as_ref().map_or(known, |cargo| cargo.version);
        let version = self.bins.queues.front(bin).map_or(known, |index| named(&self.calls[index]));
        let mut len = HEADER_BYTES;
        let mut count = 0;
        let mut kind = Kind::Request;
        while usize::from(count) < self.bins.messages_max
            && let Some(index) = self.bins.queues.front(bin)
        {
            let bytes = message_bytes(&self.calls[index]);
            if len + bytes > self.max_payload || named(&self.calls[index]) != version {
                break;
            }
            if self.calls[index].continues {
                // The others of the datagram begin there as they would anywhere.
                kind = Kind::Continue;
            }
            self.bins.queues.remove(index);
            self.bins.bins[bin as usize].bytes -= bytes;
            self.write_message(index, version, now, &mut buffer[len..len + bytes]);
            len += bytes;
            count += 1;
        }
        self.bins.rotate(bin, self.max_payload, now);
        self.write_header(kind, function, shard, version, count, &mut buffer[..len]);
        self.stats.datagrams += 1;
        self.stats.bytes += len as u64;
        Some(Outgoing { port: self.session.port(shard), len })
    }

    /// When [`transmit`](Self::transmit) or [`tick`](Self::tick) will have something to do.
    pub fn next_event(&self) -> Option<u64> {
        match (self.bins.next(self.linger_ns), self.timers.next()) {
            (Some(send), Some(timer)) => Some(send.min(timer)),
            (send, timer) => send.or(timer),
        }
    }

    fn write_message(&mut self, index: u32, version: u16, now: u64, out: &mut [u8]) {
        let call = &mut self.calls[index];
        call.phase = Phase::Sent;
        call.attempts = call.attempts.saturating_add(1);
        call.version = version;
        // Attempts must differ in their stamps even if the clock is coarse.
        call.stamp =
            if call.attempts > 1 && now as u32 == call.stamp { call.stamp.wrapping_add(1) } else { now as u32 };
        let (slot, sequence) = call.slot.as_ref().map_or((0, 0), |slot| (slot.number, slot.sequence));
        let carried = call.cargo.as_ref().map(|cargo| cargo.header);
        // A Continue's room is for what it will carry, and does not say how long a reply may be.
        let reply_max = if call.continues { (call.reply_max() / 8) as u8 } else { 0 };
        let fresh = Message { arg_len: call.arg_len, reply_max, ..Message::default() };
        let message = Message {
            request: call.request,
            sequence,
            slot,
            room: call.room,
            sent: call.stamp,
            ..carried.unwrap_or(fresh)
        };
        self.stats.messages += 1;
        self.stats.retries += u64::from(call.attempts > 1);
        let retry = now.saturating_add(self.backoff.delay(call.attempts));
        self.timers.set(index, retry.min(call.deadline));
        message.encode(out);
        let call = &self.calls[index];
        let args = call.cargo.as_ref().map_or_else(|| self.calls.args(index), |cargo| &cargo.body);
        let (filled, padding) = out[MESSAGE_BYTES..].split_at_mut(args.len());
        filled.copy_from_slice(args);
        // The buffer's old bytes are nobody else's business.
        padding.fill(0);
    }

    fn write_header(&mut self, kind: Kind, function: u16, shard: u16, version: u16, count: u8, datagram: &mut [u8]) {
        self.nonce += 1;
        let key = match self.session.integrity {
            Integrity::Off => 0,
            Integrity::Tagged { id, .. } => id,
        };
        let mut header = Header {
            kind,
            flags: 0,
            count,
            app: self.session.app,
            function,
            handler: version,
            shard,
            session: self.session.session,
            length: datagram.len() as u16,
            status: 0,
            epoch: self.placements[usize::from(shard)].epoch,
            key,
            placement: 0,
            lease: 0,
            nonce: self.nonce,
            tag: 0,
        };
        header.encode(datagram);
        if let Integrity::Tagged { key, .. } = self.session.integrity {
            header.tag = wire::tag(key, datagram);
            datagram[wire::TAG_OFFSET..wire::HEADER_BYTES].copy_from_slice(&header.tag.to_le_bytes());
        }
    }
}
