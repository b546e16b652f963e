//! Messages that home has given back: they go home again, under the slot and sequence that they had, or wait here for an
//! owner who goes on with them.
//!
//! Without an owner ([`Core::hold`]) a message goes home again as it came. With one, its call is *held*: nothing of it is
//! sent, until its owner sends it home, as it came or some steps further, or, if it only reads, ends it. Other copies of it
//! may be on their way all the while, and an answer to one of them ends the call like any other. So only home
//! ends what writes: there its slot remembers the end, and whichever copy comes first runs.

use std::collections::VecDeque;

use naam_abi::limits::HOPS_MAX;
use naam_abi::wire::{Carried, HEADER_BYTES, Header, MESSAGE_BYTES, Message};

use super::calls::{Cargo, Phase};
use super::{Completion, Core, Function, Reply, Ticket};
use crate::error::{CallError, SubmitError};

/// Whether messages that home gives back are held, and those of them that nobody has looked at yet.
#[derive(Debug, Default)]
pub(super) struct Holding {
    on: bool,
    new: VecDeque<Ticket>,
}

/// A call whose message home has given back.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// What it calls.
    pub function: Function,
    /// Where.
    pub shard: u16,
    /// Handler version whose state it is: no other may go on with it.
    pub version: u16,
    /// Whether its function writes, so that only home may end it.
    pub writes: bool,
    /// The message. Its lengths are sound; all else is a sender's word.
    pub carried: Carried<'a>,
}

impl Core {
    /// From now on, whether messages that home gives back are held for [`next_held`](Self::next_held) instead of going home
    /// again by themselves. Who holds asks for them whenever something has arrived.
    pub fn hold(&mut self, on: bool) {
        self.holding.on = on;
    }

    /// A call that has been held since the last question; each is told once.
    pub fn next_held(&mut self) -> Option<Ticket> {
        // Some may have ended meanwhile, by an answer to another copy or by their deadline.
        while let Some(ticket) = self.holding.new.pop_front() {
            if self.held(ticket).is_some() {
                return Some(ticket);
            }
        }
        None
    }

    /// A held call's message as it came, or as [`advance`](Self::advance) left it; `None` if the call is not held.
    pub fn held(&self, ticket: Ticket) -> Option<Held<'_>> {
        let call = &self.calls[self.held_index(ticket)?];
        let cargo = call.held.as_ref()?;
        let carried = Carried::decode(&cargo.header, &cargo.body).ok()?;
        let function = Function { number: call.function };
        Some(Held { function, shard: call.shard, version: cargo.version, writes: call.slot.is_some(), carried })
    }

    fn held_index(&self, ticket: Ticket) -> Option<u32> {
        let index = ticket.index() as u32;
        let call = &self.calls[index];
        (call.request == ticket.request && call.phase == Phase::Held).then_some(index)
    }

    /// Replaces a held call's message by what has become of it some steps further: with that it goes home, if it does.
    ///
    /// # Errors
    /// [`SubmitError::RoomTooLong`] if it no longer fits a datagram of this path; what was held stays. A call that is not
    /// held stays as it is.
    pub fn advance(&mut self, ticket: Ticket, carried: &Carried<'_>) -> Result<(), SubmitError> {
        let Some(index) = self.held_index(ticket) else { return Ok(()) };
        if HEADER_BYTES + MESSAGE_BYTES + carried.room() > self.max_payload {
            return Err(SubmitError::RoomTooLong { room: carried.room(), max: self.max_payload });
        }
        if let Some(cargo) = &mut self.calls[index].held {
            // This site is one that it passes. The last visit that its hops allow is home's.
            let hops = cargo.passed.saturating_add(1).min(HOPS_MAX - 1);
            cargo.replace(carried, hops);
        }
        Ok(())
    }

    /// Sends a held call home, where its message goes on; false if it is not held.
    pub fn resume(&mut self, ticket: Ticket, now: u64) -> bool {
        let Some(index) = self.held_index(ticket) else { return false };
        let call = &mut self.calls[index];
        if let Some(cargo) = call.held.take() {
            call.room = call.room.max(cargo.header.room);
            call.continues = true;
            call.cargo = Some(cargo);
        }
        self.send_again(index, now);
        true
    }

    /// Takes a held call's message for a lie: the call waits for its answer as it did before, and asks again. False if it is
    /// not held.
    pub fn disown(&mut self, ticket: Ticket, now: u64) -> bool {
        let Some(index) = self.held_index(ticket) else { return false };
        self.stats.malformed += 1;
        let call = &mut self.calls[index];
        call.held = None;
        call.phase = Phase::Sent;
        let retry = now.saturating_add(self.backoff.delay(call.attempts));
        self.timers.set(index, retry.min(call.deadline));
        true
    }

    /// Ends a held call that only reads: its message has come to its end here. False, and nothing is done, if the call is
    /// not held, or may write: another copy of it could still have its effect at home.
    pub fn conclude(
        &mut self,
        ticket: Ticket,
        outcome: Result<Reply<'_>, CallError>,
        done: &mut impl FnMut(Completion<'_>),
    ) -> bool {
        let Some(index) = self.held_index(ticket).filter(|index| self.calls[*index].slot.is_none()) else {
            return false;
        };
        self.end(index, true, outcome, done);
        true
    }

    /// Takes in a message that home has given back. An answer to an earlier attempt, or one that is not further, is late;
    /// what this call could not have become is malformed.
    pub(super) fn take_back(
        &mut self,
        index: u32,
        header: &Header,
        message: &Message,
        room: &[u8],
        newest: bool,
        now: u64,
    ) {
        let call = &mut self.calls[index];
        let Ok(carried) = Carried::decode(message, room) else {
            self.stats.malformed += 1;
            return;
        };
        // Home neither adds to its room nor to its reply.
        if carried.room() > usize::from(call.room) || carried.reply_max() > call.reply_max() {
            self.stats.malformed += 1;
            return;
        }
        let further = call.cargo.as_ref().is_none_or(|cargo| cargo.header.steps < carried.steps());
        if !newest || !further || call.phase != Phase::Sent {
            self.stats.late += 1;
            return;
        }
        // Continues name a version, and no other has run them.
        if header.handler == 0 || header.handler != call.version {
            self.stats.malformed += 1;
            return;
        }
        self.stats.pushbacks += 1;
        let cargo = Cargo::new(&carried, header.handler, message.hops);
        call.held = Some(cargo);
        call.phase = Phase::Held;
        self.timers.set(index, call.deadline);
        let ticket = self.ticket(index);
        if self.holding.on {
            self.holding.new.push_back(ticket);
        } else {
            self.resume(ticket, now);
        }
    }
}
