//! Calls that home has given back go on here, under the slot and sequence that they have at home.
//!
//! One that only reads may end here. One that writes goes home again before its first op that writes, and before its
//! end: copies of it may still reach home, and only home's slot can tell them how it ended.

use naam_abi::wire::CARRIED_BYTES_MAX;
use naam_engine::{Action, Run};

use super::visit::Doing;
use super::{Owner, Placement, SiteClient};
use crate::client::now;
use crate::core::Ticket;

impl SiteClient {
    /// Takes over what home has given back: what cannot go on here goes home again as it came.
    pub(super) fn take_back(&mut self) {
        while let Some(ticket) = self.client.core_mut().next_held() {
            if !self.go_on_with(ticket) {
                self.client.core_mut().resume(ticket, now());
                self.unsent = true;
            }
        }
    }

    /// False if it cannot go on here.
    fn go_on_with(&mut self, ticket: Ticket) -> bool {
        let Self { client, visits, programs, placements, .. } = self;
        let (Owner::Home(index), Some(held)) = (self.owners[ticket.index()], client.core().held(ticket)) else {
            return false;
        };
        let learned = programs.get(usize::from(held.function.number)).and_then(Option::as_ref);
        let learned =
            learned.filter(|learned| learned.version == held.version && (self.read.is_some() || self.memory.is_some()));
        let here = placements.get(usize::from(held.shard)).is_some_and(|placed| *placed != Placement::Host);
        let Some(learned) = learned.filter(|_| here) else { return false };
        let visit = &mut visits[index as usize];
        let run = match &mut visit.run {
            Some(run) => {
                run.take_over(&learned.program, &held.carried, held.shard);
                run
            }
            none => none.insert(Run::resume(&learned.program, &held.carried, held.shard)),
        };
        if matches!(run.action(), Action::Ended(_)) {
            self.stats.strange_pushbacks += 1;
            self.client.core_mut().disown(ticket, now());
            return true;
        }
        (visit.held, visit.goes_home, visit.failed) = (Some(ticket), false, None);
        self.stats.taken_back += 1;
        self.make_ready(index);
        true
    }

    /// Notes how far a call that home has given back has come, if any step of it was run: from there it goes on at home.
    pub(super) fn note_progress(&mut self, index: u32, ticket: Ticket) {
        let mut buffer = [0; CARRIED_BYTES_MAX];
        let run = self.visits[index as usize].run.as_mut().filter(|run| run.steps() > 0);
        if let Some(carried) = run.and_then(|run| run.cut(&mut buffer)) {
            // If it has outgrown its path, home goes on from the steps before.
            let _ = self.client.core_mut().advance(ticket, &carried);
        }
    }

    /// Sends a call that home has given back home again, as far as it has come.
    pub(super) fn return_home(&mut self, index: u32, ticket: Ticket) {
        self.note_progress(index, ticket);
        self.return_noted(index, ticket);
    }

    /// The same, from where it was noted last: what its run holds is not to be relied on.
    pub(super) fn return_noted(&mut self, index: u32, ticket: Ticket) {
        self.client.core_mut().resume(ticket, now());
        let visit = &mut self.visits[index as usize];
        (visit.held, visit.doing) = (None, Doing::Home);
        self.stats.returned += 1;
        self.unsent = true;
    }
}
