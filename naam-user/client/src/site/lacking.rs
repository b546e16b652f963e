//! Visits that cannot go on because the client below is full: woken when something of it is free, ended at their deadline.

use std::collections::VecDeque;
use std::time::Duration;

use super::earliest::Earliest;
use super::visit::Doing;
use super::{SiteClient, SiteCompletion, SiteTicket};
use crate::error::SubmitError;

/// They stand in the order in which they came, by what they lack.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    place: VecDeque<SiteTicket>,
    slot: VecDeque<SiteTicket>,
    earliest: Earliest,
}

impl Lacking {
    /// How long until one of them may have to end; at most `limit`.
    pub fn bound(&self, limit: Duration) -> Duration {
        self.earliest.bound(limit)
    }
}

impl SiteClient {
    /// Lets a visit wait for what `refused` says is lacking.
    pub(super) fn lack(&mut self, index: u32, refused: SubmitError) {
        let ticket = self.ticket(index);
        let visit = &mut self.visits[index as usize];
        visit.doing = Doing::Lacking;
        self.lacking.earliest.note(visit.deadline);
        match refused {
            SubmitError::NoSlot { .. } => self.lacking.slot.push_back(ticket),
            _ => self.lacking.place.push_back(ticket),
        }
    }

    /// Wakes as many visits as there are places and slots for.
    pub(super) fn wake(&mut self) {
        if self.lacking.earliest.is_clear() {
            return;
        }
        let core = self.client.core();
        let (mut places, mut slots) = (core.window() - core.in_flight(), core.free_slots());
        while slots > 0
            && places > 0
            && let Some(ticket) = self.lacking.slot.pop_front()
        {
            (slots, places) = (slots - 1, places - 1);
            self.make_ready(ticket.index);
        }
        while places > 0
            && let Some(ticket) = self.lacking.place.pop_front()
        {
            places -= 1;
            self.make_ready(ticket.index);
        }
        if self.lacking.slot.is_empty() && self.lacking.place.is_empty() {
            self.lacking.earliest.clear();
        }
    }

    /// Ends the visits that lack something still when their time is over; how many. No copy of them was sent.
    pub(super) fn expire(&mut self, done: &mut impl FnMut(SiteCompletion<'_>)) -> usize {
        let Some(now) = self.lacking.earliest.take_due() else { return 0 };
        let mut over = Vec::new();
        let Self { lacking, visits, .. } = self;
        for queue in [&mut lacking.place, &mut lacking.slot] {
            queue.retain(|ticket| {
                let deadline = visits[ticket.index()].deadline;
                if deadline <= now {
                    over.push(ticket.index);
                } else {
                    lacking.earliest.note(deadline);
                }
                deadline > now
            });
        }
        for index in &over {
            self.end_unsent(*index, done);
        }
        over.len()
    }
}
