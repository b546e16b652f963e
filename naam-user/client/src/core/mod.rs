//! The client without its IO: calls go in, datagrams come out; datagrams go in, results come out.
//!
//! Time is an argument (nanoseconds of `CLOCK_MONOTONIC`, never going back), so that every
//! behaviour can be tested without waiting. After [`Core::new`] nothing is allocated.
//!
//! | verb | module | function |
//! |---|---|---|
//! | take a call | this | [`Core::submit`] |
//! | pack messages into a datagram | `pack` | [`Core::transmit`] |
//! | match answers | `receive` | [`Core::receive`] |
//! | go on with what home gave back | `held` | [`Core::next_held`] |
//! | retry, give up | `timers` | [`Core::tick`] |

mod calls;
mod held;
mod pack;
mod receive;
mod timers;

use std::time::Duration;

use naam_abi::limits::{ARGS_BYTES, DATAGRAM_BYTES, FUNCTIONS_MAX, MESSAGES_MAX, REPLY_BYTES, SHARDS_MAX};
use naam_abi::tables::Site;
use naam_abi::wire::{Carried, HEADER_BYTES, MESSAGE_BYTES, padded};

use crate::error::{CallError, SubmitError};
use crate::rtt::Backoff;
use crate::session::{FunctionInfo, SessionInfo};
use crate::slots::{Slot, Slots};
use crate::stats::ClientStats;
use calls::{Calls, Cargo, Phase};
use held::Holding;
use pack::Bins;

pub use held::Held;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Calls in flight at most; rounded up to a power of two, at most 65,536.
    pub window: usize,
    /// Longest arguments in bytes; memory is window × this.
    pub args_max: usize,
    /// How long a message may wait for others to share its datagram. Zero: whatever stands in
    /// line when the driver sends goes, which is right for closed loops.
    pub linger: Duration,
    /// Messages of a datagram at most, 1 to [`MESSAGES_MAX`].
    pub messages_max: usize,
    /// Wait before the first retry, until round-trip times are known.
    pub retry_first: Duration,
    /// Shortest wait before a retry.
    pub retry_min: Duration,
    /// Longest wait before a retry.
    pub retry_max: Duration,
    /// Seed of the retries' jitter.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            window: 1024,
            args_max: ARGS_BYTES,
            linger: Duration::ZERO,
            messages_max: MESSAGES_MAX,
            retry_first: Duration::from_millis(20),
            retry_min: Duration::from_millis(10),
            retry_max: Duration::from_millis(200),
            seed: 0x006e_6161_6d5f_7365,
        }
    }
}

/// A function of the session's app, looked up by name once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// The function's number.
    pub number: u16,
}

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shard {
    /// This shard.
    Number(u16),
    /// The shard of a key, given the key's 64-bit hash. The high bits choose, as hash tables
    /// mostly use the low ones.
    Hash(u64),
}

impl Shard {
    /// The shard's number, of `shards`.
    pub fn number(self, shards: u16) -> u16 {
        match self {
            Self::Number(number) => number,
            Self::Hash(hash) => ((u128::from(hash) * u128::from(shards)) >> 64) as u16,
        }
    }
}

/// A call to submit.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What to run.
    pub function: Function,
    /// Where.
    pub shard: Shard,
    /// On what.
    pub args: &'a [u8],
    /// Bytes to leave for the reply; `None`: as many as the function may answer.
    pub reply_room: Option<u16>,
    /// How long to try.
    pub timeout: Duration,
}

impl<'a> Call<'a> {
    /// A call to shard 0 with the function's own reply length and a second's time.
    pub fn new(function: Function, args: &'a [u8]) -> Self {
        Self { function, shard: Shard::Number(0), args, reply_room: None, timeout: Duration::from_secs(1) }
    }

    /// Sends it to `shard`.
    #[must_use]
    pub fn shard(self, shard: Shard) -> Self {
        Self { shard, ..self }
    }

    /// Leaves `bytes` for the reply.
    #[must_use]
    pub fn reply_room(self, bytes: u16) -> Self {
        Self { reply_room: Some(bytes), ..self }
    }

    /// Gives up after `timeout`.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

/// A call that was taken. Its [`index`](Ticket::index) is free for use as a key of the caller's
/// own tables until the call's completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    request: u32,
    mask: u32,
}

impl Ticket {
    /// Below the window; no other call in flight has the same.
    pub fn index(self) -> usize {
        (self.request & self.mask) as usize
    }

    /// The request id on the wire.
    pub fn request(self) -> u32 {
        self.request
    }
}

/// The end of a call: every ticket gets exactly one.
#[derive(Clone, Copy, Debug)]
pub struct Completion<'a> {
    /// Which call.
    pub ticket: Ticket,
    /// What became of it.
    pub outcome: Result<Reply<'a>, CallError>,
    /// The version that serves, as the answer to a call that named none says.
    pub serving: Option<Serving>,
}

/// What an answer says of a function, if its call named no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// The version that the host served when it read the shard's placement, or a later one.
    pub version: u16,
    /// The placement's epoch.
    pub epoch: u32,
}

/// A handler's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The handler's result code.
    pub code: u32,
    /// Its reply; lies in the received datagram.
    pub bytes: &'a [u8],
    /// It had run before, and this is the remembered answer.
    pub from_slot: bool,
    /// Steps it took.
    pub steps: u8,
    /// Sites it passed.
    pub hops: u8,
}

/// What replies say of a shard's placement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Grows with every move.
    pub epoch: u32,
    /// Where the shard's messages run.
    pub site: Site,
    /// Milliseconds for which that holds, counted from the reply.
    pub lease_ms: u16,
    /// Until when that is, on the clock that the core is given.
    pub held_until: u64,
}

/// A function and the version of it that serves.
#[derive(Clone, Copy, Debug)]
struct Known {
    info: FunctionInfo,
    /// 0: calls name none, and the next answer tells.
    version: u16,
}

/// See the [module](self).
pub struct Core {
    session: SessionInfo,
    max_payload: usize,
    linger_ns: u64,
    functions: Box<[Option<Known>; FUNCTIONS_MAX]>,
    placements: Box<[Placement; SHARDS_MAX]>,
    calls: Calls,
    bins: Bins,
    timers: crate::wheel::Wheel,
    slots: Slots,
    backoff: Backoff,
    holding: Holding,
    nonce: u64,
    stats: ClientStats,
}

impl Core {
    /// A client of `session` over a path with datagrams of up to `max_payload` bytes.
    pub fn new(session: SessionInfo, options: &Options, max_payload: usize, now: u64) -> Self {
        let window = options.window.clamp(1, 1 << 16).next_power_of_two();
        let mut functions = Box::new([None; FUNCTIONS_MAX]);
        for info in session.functions.values() {
            if let Some(entry) = functions.get_mut(usize::from(info.number)) {
                *entry = Some(Known { info: *info, version: info.version });
            }
        }
        Self {
            slots: Slots::new(session.slots),
            max_payload: max_payload.min(DATAGRAM_BYTES) / 8 * 8,
            linger_ns: options.linger.as_nanos() as u64,
            functions,
            placements: Box::new([Placement::default(); SHARDS_MAX]),
            calls: Calls::new(window, options.args_max.min(ARGS_BYTES)),
            bins: Bins::new(window, options.messages_max),
            timers: crate::wheel::Wheel::new(window, now),
            backoff: Backoff::new(options),
            holding: Holding::default(),
            nonce: 0,
            stats: ClientStats::default(),
            session,
        }
    }

    /// The session served.
    pub fn session(&self) -> &SessionInfo {
        &self.session
    }

    /// Calls that can be in flight at once.
    pub fn window(&self) -> usize {
        self.calls.window()
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> usize {
        self.calls.in_use()
    }

    /// Request slots that no call has: as many calls of functions that write can be taken.
    pub fn free_slots(&self) -> usize {
        self.slots.free()
    }

    /// Counters.
    pub fn stats(&self) -> ClientStats {
        ClientStats { in_flight: self.in_flight() as u64, rtt_ns: self.backoff.smoothed_ns(), ..self.stats }
    }

    /// The last that replies said of a shard's placement.
    pub fn placement(&self, shard: u16) -> Option<Placement> {
        self.placements.get(usize::from(shard)).copied()
    }

    /// The function of that name.
    pub fn function(&self, name: &str) -> Option<Function> {
        self.session.functions.get(name).map(|info| Function { number: info.number })
    }

    /// Forgets which version of a function serves: calls name none, so that the newest answers, until an answer has told
    /// which that is.
    pub fn ask_version(&mut self, function: Function) {
        if let Some(Some(known)) = self.functions.get_mut(usize::from(function.number)) {
            known.version = 0;
        }
    }

    /// What is known of a function, with the version that serves it as far as replies have told; 0 while that is
    /// [asked](Self::ask_version).
    pub fn info(&self, function: Function) -> Option<FunctionInfo> {
        let known = self.functions.get(usize::from(function.number)).copied().flatten()?;
        Some(FunctionInfo { version: known.version, ..known.info })
    }

    /// Adds or replaces a function, as the control plane announces it.
    pub fn learn(&mut self, name: &str, info: FunctionInfo) -> Result<Function, SubmitError> {
        let entry = self.functions.get_mut(usize::from(info.number));
        let entry = entry.ok_or(SubmitError::NoFunction { number: info.number })?;
        *entry = Some(Known { info, version: info.version });
        self.session.functions.insert(name.to_owned(), info);
        Ok(Function { number: info.number })
    }

    /// Takes a call. Nothing goes out before [`transmit`](Self::transmit).
    ///
    /// # Errors
    /// [`SubmitError::Busy`] and [`SubmitError::NoSlot`] pass; the others will not.
    pub fn submit(&mut self, call: &Call<'_>, now: u64) -> Result<Ticket, SubmitError> {
        self.enter(call, now, None)
    }

    /// Takes a call, fresh or with what it carries and the version whose state that is.
    fn enter(
        &mut self,
        call: &Call<'_>,
        now: u64,
        carried: Option<(&Carried<'_>, u16)>,
    ) -> Result<Ticket, SubmitError> {
        let number = call.function.number;
        let known = self.functions.get(usize::from(number)).copied().flatten();
        let Known { info, .. } = known.ok_or(SubmitError::NoFunction { number })?;
        let shards = self.session.shards.min(SHARDS_MAX as u16);
        let shard = call.shard.number(shards);
        if shard >= shards {
            return Err(SubmitError::NoShard { shard, shards });
        }
        if call.args.len() > self.calls.args_max() {
            return Err(SubmitError::ArgsTooLong { len: call.args.len(), max: self.calls.args_max() });
        }
        let reply = usize::from(call.reply_room.unwrap_or(info.reply_max)).min(REPLY_BYTES);
        let agreed = carried.map_or(reply, |(carried, _)| reply.max(carried.reply_max()));
        let plain_room = padded(call.args.len().max(agreed));
        let room = carried.map_or(plain_room, |(carried, _)| plain_room.max(carried.room()));
        if HEADER_BYTES + MESSAGE_BYTES + room > self.max_payload {
            return Err(SubmitError::RoomTooLong { room, max: self.max_payload });
        }
        if self.calls.is_full() {
            self.stats.busy += 1;
            return Err(SubmitError::Busy { window: self.window() });
        }
        let slot = match info.writes.then(|| self.slots.take()) {
            None => None,
            Some(Some(slot)) => Some(slot),
            Some(None) => {
                self.stats.busy += 1;
                return Err(SubmitError::NoSlot { slots: self.slots.count() });
            }
        };
        let deadline = now.saturating_add(call.timeout.as_nanos() as u64);
        let index = self.calls.start(number, shard, slot, call.args, plain_room, deadline);
        if let Some((carried, version)) = carried {
            let call = &mut self.calls[index];
            call.room = room as u16;
            call.continues = true;
            call.cargo = Some(Cargo::new(carried, version, 0));
        }
        self.timers.set(index, deadline);
        self.bins.queue(index, &self.calls[index], self.max_payload, now);
        self.stats.submitted += 1;
        Ok(self.ticket(index))
    }

    /// Takes a message that was cut elsewhere, by handler version `version`: it goes home as a Continue, where its next
    /// op is performed. Its arguments are those it carries; `call` has those it began with, with which it begins anew if
    /// that version no longer serves. A writing function's gets a slot like any other call: it must not have been sent
    /// before, or it could run twice.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_carried(
        &mut self,
        call: &Call<'_>,
        carried: &Carried<'_>,
        version: u16,
        now: u64,
    ) -> Result<Ticket, SubmitError> {
        self.enter(call, now, Some((carried, version)))
    }

    /// Ends every call, because nothing will be sent or received any more.
    pub fn close(&mut self, done: &mut impl FnMut(Completion<'_>)) {
        for index in 0..self.window() as u32 {
            if self.calls[index].phase != Phase::Free {
                let may_have_run = self.calls[index].attempts > 0;
                self.end(index, false, Err(CallError::Closed { may_have_run }), done);
            }
        }
    }

    fn ticket(&self, index: u32) -> Ticket {
        Ticket { request: self.calls[index].request, mask: self.window() as u32 - 1 }
    }

    /// Ends a call, whatever state it is in.
    fn end(
        &mut self,
        index: u32,
        answered: bool,
        outcome: Result<Reply<'_>, CallError>,
        done: &mut impl FnMut(Completion<'_>),
    ) {
        self.end_serving(index, answered, outcome, None, done);
    }

    /// Ends a call, with what its answer says of the function.
    fn end_serving(
        &mut self,
        index: u32,
        answered: bool,
        outcome: Result<Reply<'_>, CallError>,
        serving: Option<Serving>,
        done: &mut impl FnMut(Completion<'_>),
    ) {
        match &outcome {
            Ok(_) => self.stats.succeeded += 1,
            Err(CallError::Failed { .. }) => self.stats.failed += 1,
            Err(CallError::Refused { .. }) => self.stats.refused += 1,
            Err(CallError::Timeout { may_have_run, .. }) => {
                self.stats.timeouts += 1;
                self.stats.timeouts_not_run += u64::from(!may_have_run);
            }
            Err(CallError::Closed { .. }) => self.stats.closed += 1,
        }
        let ticket = self.ticket(index);
        let serving = serving.or(self.calls[index].serving);
        self.timers.cancel(index);
        self.bins.forget(index, &self.calls[index]);
        if let Some(slot) = self.calls.finish(index, answered) {
            self.slots.give_back(slot);
        }
        done(Completion { ticket, outcome, serving });
    }

    /// Puts a call that was sent, or held, in line again.
    fn send_again(&mut self, index: u32, now: u64) {
        let call = &mut self.calls[index];
        if matches!(call.phase, Phase::Sent | Phase::Held) {
            call.phase = Phase::Queued;
            self.timers.set(index, call.deadline);
            self.bins.queue(index, &self.calls[index], self.max_payload, now);
        }
    }
}
