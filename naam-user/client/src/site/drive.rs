//! What a visit does next: its steps run here, until it waits, goes home or has ended.

use std::time::Duration;

use naam_abi::tables::Site;
use naam_abi::wire::{CARRIED_BYTES_MAX, Status};
use naam_engine::{Action, Run};

use super::read::{Asked, Wanted};
use super::visit::Doing;
use super::{Owner, SiteClient, SiteCompletion};
use crate::client::now;
use crate::core::{Completion, Reply};
use crate::error::{CallError, SubmitError};

impl SiteClient {
    /// Puts a visit in line to go on.
    pub(super) fn make_ready(&mut self, index: u32) {
        self.visits[index as usize].doing = Doing::Ready;
        self.ready.push_back(index);
    }

    /// Lets every visit that is ready go on until it waits or has ended; how many have ended.
    pub(super) fn drive(&mut self, done: &mut impl FnMut(SiteCompletion<'_>)) -> usize {
        let mut ended = 0;
        if !self.ready.is_empty() {
            self.turn = now();
        }
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { break };
            // One that has ended may still stand in line, or its place does for another visit, twice.
            if self.visits[index as usize].doing == Doing::Ready {
                ended += usize::from(self.go_on(index, done));
            }
        }
        ended
    }

    /// One visit's next ops; true if they were its last.
    fn go_on(&mut self, index: u32, done: &mut impl FnMut(SiteCompletion<'_>)) -> bool {
        let visit = &mut self.visits[index as usize];
        let left = Duration::from_nanos(visit.deadline.saturating_sub(self.turn));
        if let Some(error) = visit.failed.take() {
            match visit.held {
                // Home knows better what became of it.
                Some(ticket) => self.return_home(index, ticket),
                None => return self.end(index, Site::Client, Err(error), done),
            }
            return false;
        }
        loop {
            let visit = &mut self.visits[index as usize];
            let held = visit.held;
            let Some(run) = visit.run.as_mut().filter(|_| !visit.goes_home) else {
                return self.go_home(index, left, done);
            };
            let wanted = match (run.action(), held) {
                (Action::Read { region, offset, len }, _) => Wanted { region, offset, len },
                (Action::Ended(_), _) => return self.end_here(index, done),
                (Action::Spent | Action::Effect(_), Some(ticket)) => {
                    self.return_home(index, ticket);
                    return false;
                }
                (Action::Spent | Action::Effect(_), None) if self.carries => return self.carry_home(index, left, done),
                // What home would say of the same steps.
                (Action::Spent, None) => {
                    run.refuse(Status::Budget);
                    continue;
                }
                (Action::Effect(_), None) => {
                    visit.goes_home = true;
                    continue;
                }
            };
            if let Some(ticket) = held
                && run.program().writes()
            {
                self.note_progress(index, ticket);
            }
            match (self.read(index, &wanted, left), held) {
                (Asked::Waits, _) => return false,
                // It has a place, and gives back none by waiting for another.
                (Asked::Full(_), Some(ticket)) => {
                    self.return_home(index, ticket);
                    return false;
                }
                (Asked::Full(lack), None) => {
                    self.lack(index, lack);
                    return false;
                }
                (Asked::Refused(status), _) => {
                    if let Some(run) = &mut self.visits[index as usize].run {
                        run.refuse(status);
                    }
                }
                (Asked::AtHome, Some(ticket)) => {
                    self.return_home(index, ticket);
                    return false;
                }
                (Asked::AtHome, None) => self.visits[index as usize].goes_home = true,
            }
        }
    }

    /// The end of a visit whose handler has come to its own; false if that is for home to say.
    fn end_here(&mut self, index: u32, done: &mut impl FnMut(SiteCompletion<'_>)) -> bool {
        let ticket = self.ticket(index);
        let Self { visits, client, stats, .. } = self;
        let visit = &mut visits[index as usize];
        let Some(Action::Ended(end)) = visit.run.as_ref().map(Run::action) else { return false };
        if let Some(held) = visit.held
            && visit.run.as_ref().is_some_and(|run| run.program().writes())
        {
            self.return_home(index, held);
            return false;
        }
        let outcome = match end.status {
            Status::Ok => {
                let steps = u8::try_from(end.steps).unwrap_or(u8::MAX);
                Ok(Reply { code: end.code, bytes: end.reply, from_slot: false, steps, hops: 0 })
            }
            Status::Failed => Err(CallError::Failed { code: end.code }),
            status => Err(CallError::Refused { status, code: end.code, may_have_run: false }),
        };
        stats.steps += u64::from(end.steps);
        stats.ended_here += 1;
        match visit.held {
            Some(held) => {
                self.owners[held.index()] = Owner::Nobody;
                client.core_mut().conclude(held, outcome, &mut |Completion { outcome, .. }| {
                    done(SiteCompletion { ticket, site: Site::Client, outcome });
                });
            }
            None => done(SiteCompletion { ticket, site: Site::Client, outcome }),
        }
        self.free(index);
        true
    }

    /// Sends a call home as it stands: its next op is performed there. It has had no effect here, and no copy of it was sent.
    fn carry_home(&mut self, index: u32, left: Duration, done: &mut impl FnMut(SiteCompletion<'_>)) -> bool {
        if left.is_zero() {
            return self.end_unsent(index, done);
        }
        let visit = &mut self.visits[index as usize];
        let mut buffer = [0; CARRIED_BYTES_MAX];
        let carried = visit.run.as_mut().and_then(|run| run.cut(&mut buffer));
        let call = visit.call(left);
        let submitted = carried.map(|carried| self.client.submit_carried(&call, &carried, visit.version));
        let Some(submitted) = submitted else {
            visit.goes_home = true;
            return self.go_home(index, left, done);
        };
        match submitted {
            Ok(ticket) => {
                self.owners[ticket.index()] = Owner::Home(index);
                self.unsent = true;
                visit.doing = Doing::Home;
                self.stats.sent_home += 1;
                self.stats.carried_home += 1;
                false
            }
            Err(lack @ (SubmitError::Busy { .. } | SubmitError::NoSlot { .. })) => {
                self.lack(index, lack);
                false
            }
            Err(_) => {
                visit.goes_home = true;
                self.go_home(index, left, done)
            }
        }
    }

    /// Sends a call home, where it begins anew: here it has had no effect. One that home has given back goes on there.
    fn go_home(&mut self, index: u32, left: Duration, done: &mut impl FnMut(SiteCompletion<'_>)) -> bool {
        let visit = &mut self.visits[index as usize];
        if let Some(ticket) = visit.held {
            self.return_noted(index, ticket);
            return false;
        }
        if left.is_zero() {
            return self.end_unsent(index, done);
        }
        match self.client.submit(&visit.call(left)) {
            Ok(ticket) => {
                self.owners[ticket.index()] = Owner::Home(index);
                self.unsent = true;
                visit.doing = Doing::Home;
                self.stats.sent_home += 1;
                false
            }
            Err(lack @ (SubmitError::Busy { .. } | SubmitError::NoSlot { .. })) => {
                self.lack(index, lack);
                false
            }
            Err(_) => {
                let outcome = Err(CallError::Refused { status: Status::TooLong, code: 0, may_have_run: false });
                self.end(index, Site::Host, outcome, done)
            }
        }
    }

    /// Ends a visit whose time is over before it went home.
    pub(super) fn end_unsent(&mut self, index: u32, done: &mut impl FnMut(SiteCompletion<'_>)) -> bool {
        self.stats.never_sent += 1;
        self.end(index, Site::Client, Err(CallError::Timeout { attempts: 0, may_have_run: false }), done)
    }

    /// Ends a visit of which nothing is at home.
    pub(super) fn end(
        &mut self,
        index: u32,
        site: Site,
        outcome: Result<Reply<'_>, CallError>,
        done: &mut impl FnMut(SiteCompletion<'_>),
    ) -> bool {
        let ticket = self.ticket(index);
        self.free(index);
        *(if site == Site::Client { &mut self.stats.ended_here } else { &mut self.stats.ended_at_host }) += 1;
        done(SiteCompletion { ticket, site, outcome });
        true
    }

    fn free(&mut self, index: u32) {
        let visit = &mut self.visits[index as usize];
        (visit.doing, visit.held) = (Doing::Nothing, None);
        self.free.push(index);
    }
}
