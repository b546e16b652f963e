//! What a visit does next: its steps run here, until it waits, goes home or has ended.

use std::time::{Duration, Instant};

use naam_abi::tables::Site;
use naam_abi::wire::{CARRIED_BYTES_MAX, Status};
use naam_engine::Action;

use super::read::{Asked, Wanted};
use super::visit::Doing;
use super::{Owner, SiteClient, SiteCompletion, SiteTicket};
use crate::core::Reply;
use crate::error::{CallError, SubmitError};

impl SiteClient {
    /// Lets every visit that is ready go on until it waits or has ended; how many have ended.
    pub(super) fn drive(&mut self, done: &mut impl FnMut(SiteCompletion<'_>)) -> usize {
        let mut ended = 0;
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { break };
            ended += usize::from(self.go_on(index, done));
        }
        ended
    }

    /// One visit's next op; true if that was its end.
    fn go_on(&mut self, index: u32, done: &mut impl FnMut(SiteCompletion<'_>)) -> bool {
        let visit = &mut self.visits[index as usize];
        let left = visit.deadline.saturating_duration_since(Instant::now());
        if let Some(error) = visit.failed.take() {
            return self.end(index, Site::Client, Err(error), done);
        }
        loop {
            let visit = &mut self.visits[index as usize];
            let Some(run) = visit.run.as_mut().filter(|_| !visit.goes_home) else {
                return self.go_home(index, left, done);
            };
            let wanted = match run.action() {
                Action::Read { region, offset, len } => Wanted { region, offset, len },
                Action::Ended(end) => {
                    self.stats.steps += u64::from(end.steps);
                    let ticket = SiteTicket { index, generation: visit.generation };
                    let outcome = match end.status {
                        Status::Ok => {
                            let steps = u8::try_from(end.steps).unwrap_or(u8::MAX);
                            Ok(Reply { code: end.code, bytes: end.reply, from_slot: false, steps, hops: 0 })
                        }
                        Status::Failed => Err(CallError::Failed { code: end.code }),
                        status => Err(CallError::Refused { status, code: end.code, may_have_run: false }),
                    };
                    self.stats.ended_here += 1;
                    done(SiteCompletion { ticket, site: Site::Client, outcome });
                    visit.doing = Doing::Nothing;
                    self.free.push(index);
                    return true;
                }
                Action::Spent | Action::Effect(_) if self.carries => return self.carry_home(index, left, done),
                // What home would say of the same steps.
                Action::Spent => {
                    run.refuse(Status::Budget);
                    continue;
                }
                Action::Effect(_) => {
                    visit.goes_home = true;
                    continue;
                }
            };
            match self.read(index, &wanted, left) {
                Asked::Waits => return false,
                Asked::Full => {
                    self.ready.push_back(index);
                    return false;
                }
                Asked::Refused(status) => {
                    if let Some(run) = &mut self.visits[index as usize].run {
                        run.refuse(status);
                    }
                }
                Asked::AtHome => self.visits[index as usize].goes_home = true,
            }
        }
    }

    /// Sends a call home as it stands: its next op is performed there. It has had no effect here, and no copy of it was sent.
    fn carry_home(&mut self, index: u32, left: Duration, done: &mut impl FnMut(SiteCompletion<'_>)) -> bool {
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
            Err(SubmitError::Busy { .. } | SubmitError::NoSlot { .. }) => {
                self.ready.push_back(index);
                false
            }
            Err(_) => {
                visit.goes_home = true;
                self.go_home(index, left, done)
            }
        }
    }

    /// Sends a call home, where it begins anew: here it has had no effect.
    fn go_home(&mut self, index: u32, left: Duration, done: &mut impl FnMut(SiteCompletion<'_>)) -> bool {
        let visit = &mut self.visits[index as usize];
        match self.client.submit(&visit.call(left)) {
            Ok(ticket) => {
                self.owners[ticket.index()] = Owner::Home(index);
                self.unsent = true;
                visit.doing = Doing::Home;
                self.stats.sent_home += 1;
                false
            }
            Err(SubmitError::Busy { .. } | SubmitError::NoSlot { .. }) => {
                self.ready.push_back(index);
                false
            }
            Err(_) => {
                let outcome = Err(CallError::Refused { status: Status::TooLong, code: 0, may_have_run: false });
                self.end(index, Site::Host, outcome, done)
            }
        }
    }

    fn end(
        &mut self,
        index: u32,
        site: Site,
        outcome: Result<Reply<'_>, CallError>,
        done: &mut impl FnMut(SiteCompletion<'_>),
    ) -> bool {
        let ticket = self.ticket(index);
        self.visits[index as usize].doing = Doing::Nothing;
        self.free.push(index);
        *(if site == Site::Client { &mut self.stats.ended_here } else { &mut self.stats.ended_at_host }) += 1;
        done(SiteCompletion { ticket, site, outcome });
        true
    }
}
