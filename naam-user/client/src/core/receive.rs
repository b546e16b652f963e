//! Answers find their calls.

use naam_abi::limits::{HOPS_MAX, STATE_BYTES, STEPS_MAX};
use naam_abi::tables::{RIGHT_READ, Site};
use naam_abi::wire::{
    self, Carried, HEADER_BYTES, Header, Kind, MESSAGE_BYTES, MESSAGE_CARRIED, MESSAGE_DUPLICATE, Message, Status,
};

use super::calls::Phase;
use super::{Completion, Core, Placement, Reply, Serving};
use crate::error::CallError;
use crate::session::Integrity;

impl Core {
    /// Takes a datagram that arrived; calls `done` for every call that it ends.
    pub fn receive(&mut self, now: u64, bytes: &[u8], done: &mut impl FnMut(Completion<'_>)) {
        self.stats.received += 1;
        let Ok((header, messages)) = wire::parse(bytes) else {
            self.stats.malformed += 1;
            return;
        };
        if !matches!(header.kind, Kind::Reply | Kind::Pushback | Kind::Error) {
            self.stats.unexpected += 1;
            return;
        }
        if (header.app, header.session) != (self.session.app, self.session.session) {
            self.stats.foreign += 1;
            return;
        }
        if let Integrity::Tagged { key, .. } = self.session.integrity
            && wire::tag(key, &bytes[..usize::from(header.length)]) != header.tag
        {
            self.stats.wrong_tag += 1;
            return;
        }
        self.note_placement(&header, now);
        let mut sampled = false;
        for message in messages {
            let Ok((message, room)) = message else {
                self.stats.malformed += 1;
                return;
            };
            let status = if header.kind == Kind::Error { header.status } else { message.status };
            match Status::from_code(status) {
                Some(status) => self.answer(now, &header, &message, status, room, &mut sampled, done),
                None => self.stats.malformed += 1,
            }
        }
    }

    fn note_placement(&mut self, header: &Header, now: u64) {
        let site = match header.placement {
            0 => Site::Host,
            1 => Site::Dpu,
            2 => Site::Client,
            _ => return,
        };
        if let Some(placement) = self.placements.get_mut(usize::from(header.shard))
            && header.epoch >= placement.epoch
        {
            let held_until = now.saturating_add(u64::from(header.lease) * 1_000_000);
            *placement = Placement { epoch: header.epoch, site, lease_ms: header.lease, held_until };
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one received message")]
    fn answer(
        &mut self,
        now: u64,
        header: &Header,
        message: &Message,
        status: Status,
        room: &[u8],
        sampled: &mut bool,
        done: &mut impl FnMut(Completion<'_>),
    ) {
        let index = self.calls.index_of(message.request);
        let call = &self.calls[index];
        if call.request != message.request || call.phase == Phase::Free {
            let duplicate = call.request == message.request && call.answered;
            *(if duplicate { &mut self.stats.duplicates } else { &mut self.stats.late }) += 1;
            return;
        }
        if call.attempts == 0 || call.function != header.function {
            self.stats.malformed += 1;
            return;
        }
        let newest = call.stamp == message.sent;
        if !std::mem::replace(sampled, true) && newest {
            self.backoff.sample(u64::from((now as u32).wrapping_sub(message.sent)));
        }
        if header.kind == Kind::Pushback && message.flags & MESSAGE_CARRIED != 0 {
            self.take_back(index, header, message, room, newest, now);
            return;
        }
        match status {
            Status::Budget if newest && self.may_continue(index, message) => {
                // A Continue names its version.
                let serving = self.note_serving(index, header, newest);
                // Room for whatever it will carry, as far as the path allows.
                let most = self.max_payload - HEADER_BYTES - MESSAGE_BYTES;
                let call = &mut self.calls[index];
                call.serving = serving.or(call.serving);
                let wanted = Carried::bytes(call.arg_len.into(), STATE_BYTES / 8, call.room.into());
                call.room = call.room.max(wanted.min(most) as u16);
                call.continues = true;
                self.stats.continued += 1;
                self.send_again(index, now);
            }
            Status::Version | Status::Elsewhere | Status::Running | Status::Budget
                if status != Status::Budget || ran_out_of_time(message) =>
            {
                if newest && call.phase == Phase::Sent {
                    self.postpone(index, status, header.handler, now);
                } else {
                    self.stats.late += 1;
                }
            }
            // Of an earlier attempt, from before it was sent as a Continue.
            Status::Budget if !newest && call.continues && message.flags & MESSAGE_DUPLICATE == 0 => {
                self.stats.late += 1;
            }
            Status::Ok => {
                self.stats.answers += 1;
                let from_slot = message.flags & MESSAGE_DUPLICATE != 0;
                self.stats.from_slot += u64::from(from_slot);
                let bytes = &room[..usize::from(message.reply_len)];
                let reply = Reply { code: message.code, bytes, from_slot, steps: message.steps, hops: message.hops };
                let serving = self.note_serving(index, header, newest);
                self.end_serving(index, true, Ok(reply), serving, done);
            }
            Status::Failed => {
                self.stats.answers += 1;
                self.stats.from_slot += u64::from(message.flags & MESSAGE_DUPLICATE != 0);
                let serving = self.note_serving(index, header, newest);
                self.end_serving(index, true, Err(CallError::Failed { code: message.code }), serving, done);
            }
            status => {
                self.stats.answers += 1;
                let may_have_run = !status.never_ran() || call.attempts > 1;
                let serving = self.note_serving(index, header, newest);
                let refused = CallError::Refused { status, code: message.code, may_have_run };
                self.end_serving(index, true, Err(refused), serving, done);
            }
        }
    }

    /// What an answer says of its function's version: something if its call named none.
    fn note_serving(&mut self, index: u32, header: &Header, newest: bool) -> Option<Serving> {
        let call = &self.calls[index];
        if call.version != 0 || !newest || header.handler == 0 || header.kind == Kind::Error {
            return None;
        }
        if let Some(known) = &mut self.functions[usize::from(call.function)]
            && known.version == 0
        {
            known.version = header.handler;
        }
        Some(Serving { version: header.handler, epoch: header.epoch })
    }

    /// Whether a call that used up a visit's steps, or the host's time, goes on if it is sent as a Continue: its session
    /// must have by itself the rights that it has through handlers. If it has had an effect, its slot will answer as before.
    fn may_continue(&self, index: u32, message: &Message) -> bool {
        let call = &self.calls[index];
        let fresh = call.phase == Phase::Sent && !call.continues && message.flags & MESSAGE_DUPLICATE == 0;
        let known = self.functions[usize::from(call.function)];
        let writes = known.is_some_and(|known| known.info.writes);
        let counts = if writes { u8::MAX } else { RIGHT_READ };
        let regions = &self.session.regions;
        let has_rights = regions.values().all(|region| region.handler_rights & !region.raw_rights & counts == 0);
        // Where no room bounds the reply, a Continue's would not either.
        let bounded = call.plain_room > 0 || known.is_some_and(|known| known.info.reply_max == 0);
        fresh && bounded && !regions.is_empty() && has_rights
    }

    /// Asks again: at once with another version, otherwise after a while.
    fn postpone(&mut self, index: u32, status: Status, serving: u16, now: u64) {
        let call = &mut self.calls[index];
        match status {
            Status::Version => {
                self.stats.version_retries += 1;
                // Nobody takes its state any more. If a copy of it has run all the same, its slot will say so.
                call.begin_anew();
            }
            Status::Elsewhere => self.stats.elsewhere += 1,
            Status::Budget => {
                self.stats.out_of_time += 1;
                // Home can give it back no more. It has had no effect.
                if call.cargo.as_ref().is_some_and(|cargo| cargo.header.hops >= HOPS_MAX - 1) {
                    call.begin_anew();
                }
            }
            _ => self.stats.running += 1,
        }
        if status == Status::Version && serving != 0 && serving != call.version {
            if let Some(known) = &mut self.functions[usize::from(call.function)]
                && known.version != serving
            {
                known.version = serving;
                self.stats.version_refreshes += 1;
            }
            self.send_again(index, now);
        } else {
            let retry = now.saturating_add(self.backoff.delay(call.attempts));
            self.timers.set(index, retry.min(call.deadline));
        }
    }
}

/// Whether a message that is over its budget may find more of it next time: the host's time was up (an interrupt or the
/// messages beside it may have used it), not the message's steps. Time cuts nothing that has had an effect, and a slot is
/// given back then; what comes from the slot is how the message ended.
fn ran_out_of_time(message: &Message) -> bool {
    u32::from(message.steps) < STEPS_MAX && message.flags & MESSAGE_DUPLICATE == 0
}
