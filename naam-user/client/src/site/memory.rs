//! Memory that stands before the built-in functions: handlers' READs come from there, as far as it reaches.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use naam_transport::TransportError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::choice::ONESIDED;
use super::visit::Doing;
use super::{SiteClient, SiteCompletion};
use crate::client::now;

/// How long a memory is looked at again and again before it is to tell: what a device brings in time comes sooner than a sleep
/// ends.
const SPIN: Duration = Duration::from_micros(50);
/// Longest sleep: a memory that stays silent has to be noticed.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// A way to the memory of the session's regions besides built-in function 0, such as RDMA.
///
/// READs are taken one by one and asked for together. Their bytes come in any order; what a READ brings need not be of one
/// moment, nor are its words in order of time, as with one-sided functions.
pub trait Memory: Send {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Takes a READ of whole words, whose bytes [`poll`](Self::poll) hands out under `tag`. It is asked for with the next
    /// [`flush`](Self::flush). False: it is not for this memory, because the session may not reach the region this way, home
    /// would refuse the range, or as many are on their way as can be. Then it goes by built-in function 0.
    fn read(&mut self, tag: u64, region: u32, offset: u64, len: u32) -> bool;

    /// Asks for all that was taken.
    ///
    /// # Errors
    /// [`Lost`]: nothing comes any more.
    fn flush(&mut self) -> Result<(), Lost>;

    /// Hands out what has arrived; never waits.
    ///
    /// # Errors
    /// [`Lost`]: nothing comes any more, also of what was asked for before.
    fn poll(&mut self, each: &mut dyn FnMut(u64, &[u8])) -> Result<(), Lost>;

    /// Looked at again and again for longer than READs take, it may tell by a descriptor, which can be read from once something
    /// has arrived. None: it cannot, or something has.
    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// READs that were taken and have not arrived.
    fn in_flight(&self) -> usize;
}

/// A memory that is of no use any more. Its READs are asked for again, by the built-in functions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{memory} is lost: {cause}")]
pub struct Lost {
    /// Its name.
    pub memory: &'static str,
    /// Why.
    pub cause: String,
}

impl SiteClient {
    /// READs come from `memory` from now on, as far as it reaches, instead of by built-in function 0. If it is lost, and for
    /// what it does not reach, they come by that function again: no call ends for it. A lost memory is looked for again if
    /// [`look_for_lost`](Self::look_for_lost) says how.
    pub fn set_memory(&mut self, memory: Box<dyn Memory>) {
        self.trial = None;
        self.take_memory(memory, false);
    }

    /// What READs come from: the memory's name, or `onesided`.
    pub fn memory_name(&self) -> &'static str {
        self.memory.as_ref().map_or(ONESIDED, |memory| memory.name())
    }

    /// Why the last memory was given up, if one was.
    pub fn lost(&self) -> Option<&Lost> {
        self.lost.as_ref()
    }

    /// Takes what has arrived.
    pub(super) fn poll_memory(&mut self) {
        let Some(memory) = &mut self.memory else { return };
        let Self { visits, ready, stats, looked, .. } = self;
        let polled = memory.poll(&mut |tag, bytes| {
            stats.memory_reads += 1;
            *looked = None;
            let (index, fetch) = (tag as u32, (tag >> 32) as u32);
            let Some(visit) = visits.get_mut(index as usize) else { return };
            if (visit.doing, visit.fetches) == (Doing::Fetch, fetch) {
                visit.fetched(bytes, stats);
                ready.push_back(index);
            }
        });
        self.note_loss(polled);
    }

    /// Asks for what visits want.
    pub(super) fn flush_memory(&mut self) {
        let flushed = self.memory.as_mut().map(|memory| memory.flush());
        self.note_loss(flushed.unwrap_or(Ok(())));
    }

    /// Ends the visits whose READ has not come when their time is over; how many. Those that home has given back end with
    /// the call below.
    pub(super) fn expire_fetches(&mut self, done: &mut impl FnMut(SiteCompletion<'_>)) -> usize {
        let Some(now) = self.fetching_until.take_due() else { return 0 };
        let mut over = 0;
        for index in 0..self.visits.len() {
            let visit = &self.visits[index];
            if visit.doing != Doing::Fetch || visit.held.is_some() {
                continue;
            }
            if visit.deadline <= now {
                // Should its READ come still, it is known by its number, and nobody's.
                self.end_unsent(index as u32, done);
                over += 1;
            } else {
                self.fetching_until.note(visit.deadline);
            }
        }
        over
    }

    /// Whether a memory has something on its way.
    pub(super) fn waits_for_memory(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.in_flight() > 0)
            || self.trial.as_ref().is_some_and(|trial| trial.waits_for_memory())
    }

    /// Waits for it, at most `limit`. Where datagrams are on their way, too, nobody tells of both: then it only looks.
    pub(super) fn wait_for_memory(&mut self, limit: Duration) -> Result<(), TransportError> {
        let began = *self.looked.get_or_insert_with(now);
        let waker = self.client.waker();
        let alone = self.client.core().in_flight() == 0 && self.ready.is_empty() && self.lacking.bound(limit) == limit;
        let counts = u64::from(self.trial.is_none());
        let memory = self.trial.as_mut().map(|trial| trial.memory()).or(self.memory.as_mut());
        let spun = now().saturating_sub(began) > SPIN.as_nanos() as u64;
        let Some(told) = memory.filter(|_| alone && spun).and_then(|memory| memory.arm()) else {
            std::thread::yield_now();
            return Ok(());
        };
        self.stats.memory_sleeps += counts;
        let limit = self.fetching_until.bound(limit);
        let mut polled = [PollFd::from_borrowed_fd(told, PollFlags::IN), PollFd::new(&waker, PollFlags::IN)];
        let time = Timespec::try_from(limit.min(SLEEP_MAX)).ok();
        // Whatever ends the sleep: what has come is seen next.
        let _ = poll(&mut polled, time.as_ref());
        let was_woken = !polled[1].revents().is_empty();
        self.looked = None;
        // The transport forgets that it was.
        if was_woken { self.client.wait(Duration::ZERO) } else { Ok(()) }
    }

    fn note_loss(&mut self, outcome: Result<(), Lost>) {
        if let Err(lost) = outcome {
            tracing::warn!(%lost, "handlers' READs go by one-sided functions");
            self.stats.memory_lost += 1;
            self.lost = Some(lost);
            self.forget_memory();
            self.look_again();
        }
    }

    /// Visits that wait for it ask again, elsewhere.
    pub(super) fn forget_memory(&mut self) {
        (self.memory, self.looked) = (None, None);
        for index in 0..self.visits.len() {
            if self.visits[index].doing == Doing::Fetch {
                self.stats.memory_again += 1;
                self.make_ready(index as u32);
            }
        }
    }
}
