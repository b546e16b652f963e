//! A memory is tried beside one-sided functions, and the faster way is taken: see [`Choice`].
//!
//! READs of the same 64 bytes go by one way and the other in turn, one at a time, waited for as calls wait. A trial goes on in
//! [`SiteClient::poll`] while calls run by one-sided functions: beside them these take longer than alone.

use std::time::Duration;

use naam_abi::onesided;
use naam_abi::tables::RIGHT_READ;

use super::choice::{Choice, Measured};
use super::memory::Memory;
use super::{Owner, SiteClient};
use crate::client::{ClientError, now};
use crate::core::{Call, Function, Reply, Shard};
use crate::error::{CallError, SubmitError};

/// READs by each way, after one that is not counted: it finds nothing warm.
const READS: usize = 9;
/// Bytes of each, at the beginning of a region.
const BYTES: u32 = 64;
/// Longest time of a trial.
const TIME: Duration = Duration::from_secs(1);
/// Longest time of a READ by one-sided functions: the memory is to have its READs all the same.
const PATIENCE: Duration = Duration::from_millis(300);
/// Names the trial's READs to the memory: no visit's does so.
const TAG: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Memory,
    /// By a call at this place of the client below.
    OneSided(usize),
}

/// A memory under trial.
pub(super) struct Trial {
    memory: Box<dyn Memory>,
    /// The READ on its way, and when it was asked for.
    asked: Option<(Way, u64)>,
    by_memory: Measured,
    onesided: Measured,
    /// READs of both ways that have come or failed.
    done: usize,
    began: u64,
    /// It was found after a loss.
    found: bool,
}

impl Trial {
    fn is_over(&self, now: u64) -> bool {
        let has_all = |way: &Measured| way.failed.is_some() || way.took.len() >= READS;
        let in_time = Duration::from_nanos(now.saturating_sub(self.began)) < TIME;
        self.by_memory.failed.is_some() || !in_time || (has_all(&self.by_memory) && has_all(&self.onesided))
    }

    /// Time that is left.
    pub fn left(&self) -> Duration {
        TIME.saturating_sub(Duration::from_nanos(now().saturating_sub(self.began)))
    }

    pub fn memory(&mut self) -> &mut Box<dyn Memory> {
        &mut self.memory
    }

    /// Whether it waits for its memory.
    pub fn waits_for_memory(&self) -> bool {
        matches!(self.asked, Some((Way::Memory, _)))
    }

    /// Takes the end of a READ.
    fn note(&mut self, outcome: Result<(), String>) {
        let Some((way, at)) = self.asked.take() else { return };
        let measured = if way == Way::Memory { &mut self.by_memory } else { &mut self.onesided };
        match outcome {
            // The first of each way warms up.
            Ok(()) if self.done >= 2 => measured.took.push(Duration::from_nanos(now().saturating_sub(at))),
            Ok(()) => {}
            Err(cause) => measured.failed = Some(cause),
        }
        self.done += 1;
    }

    /// The answer to a READ by function 0, at this place of the client below.
    pub fn take(&mut self, place: usize, outcome: Result<Reply<'_>, CallError>) {
        if self.asked.is_some_and(|(way, _)| way == Way::OneSided(place)) {
            self.note(match outcome {
                Ok(reply) if reply.bytes.len() == BYTES as usize => Ok(()),
                Ok(reply) => Err(format!("a READ of {BYTES} bytes was answered by {}", reply.bytes.len())),
                Err(error) => Err(error.to_string()),
            });
        }
    }

    /// Takes what the memory has brought.
    fn poll(&mut self) {
        let mut came = false;
        let polled = self.memory.poll(&mut |tag, bytes| came |= tag == TAG && bytes.len() == BYTES as usize);
        if let Err(lost) = polled {
            self.by_memory.failed = Some(lost.cause);
        } else if came && self.waits_for_memory() {
            self.note(Ok(()));
        }
    }

    fn ask_memory(&mut self, region: u32) {
        self.asked = Some((Way::Memory, now()));
        if !self.memory.read(TAG, region, 0, BYTES) {
            self.note(Err(format!("it does not reach region {region}")));
        } else if let Err(lost) = self.memory.flush() {
            self.note(Err(lost.cause));
        }
    }
}

impl SiteClient {
    /// Tries `memory` beside one-sided functions, a second long at most, and then takes the faster way, as [`Choice`] says; until
    /// then READs go by those. This returns at once: [`poll`](Self::poll) goes on with the trial, [`choice`](Self::choice)
    /// tells how it ended.
    pub fn try_memory(&mut self, memory: Box<dyn Memory>) {
        self.begin_trial(memory, false);
    }

    /// The same, and waits until it is decided.
    ///
    /// # Errors
    /// [`ClientError::Mixed`] while calls are in flight, or when the transport fails.
    pub fn choose_memory(&mut self, memory: Box<dyn Memory>) -> Result<(), ClientError> {
        if self.in_flight() > 0 {
            return Err(ClientError::Mixed { in_flight: self.in_flight() });
        }
        self.try_memory(memory);
        while self.trial.is_some() {
            self.poll(|_| {})?;
            if self.trial.is_some() {
                self.wait(TIME)?;
            }
        }
        Ok(())
    }

    /// How the last trial ended, if there was one; or why there could be none.
    pub fn choice(&self) -> Option<&Choice> {
        self.choice.as_ref()
    }

    /// Notes that a memory which was wished for is not to be had, for [`choice`](Self::choice).
    pub fn do_without(&mut self, tried: &'static str, cause: impl std::fmt::Display) {
        self.choice = Some(Choice::without(tried, cause));
    }

    pub(super) fn begin_trial(&mut self, memory: Box<dyn Memory>, found: bool) {
        self.forget_memory();
        let (by_memory, onesided) = (Measured::default(), Measured::default());
        let trial = Trial { memory, asked: None, by_memory, onesided, done: 0, began: now(), found };
        self.trial = Some(Box::new(trial));
    }

    /// Takes what has come, and asks for the next READ or decides.
    pub(super) fn go_on_with_trial(&mut self) {
        let Some(trial) = &mut self.trial else { return };
        trial.poll();
        if trial.is_over(now()) {
            self.decide();
            return;
        }
        if trial.asked.is_some() {
            return;
        }
        let open = self.rights.iter().position(|(_, raw)| raw & RIGHT_READ != 0);
        let Some(region) = open.map(|region| region as u32) else {
            trial.by_memory.failed = Some("the session has no raw right to READ a region".to_owned());
            self.decide();
            return;
        };
        let memory_is_next = trial.done.is_multiple_of(2) || trial.onesided.failed.is_some();
        if memory_is_next && trial.by_memory.took.len() < READS {
            trial.ask_memory(region);
            self.looked = None;
        } else {
            self.ask_onesided(region);
        }
    }

    fn ask_onesided(&mut self, region: u32) {
        let Some(trial) = &mut self.trial else { return };
        let args = onesided::read_args(region, 0, BYTES);
        let submitted = self.read.ok_or_else(|| "the app serves none".to_owned()).and_then(|function: Function| {
            let (shard, timeout) = (Shard::Number(0), trial.left().min(PATIENCE));
            let read = Call { function, shard, args: &args, reply_room: Some(BYTES as u16), timeout };
            match self.client.core_mut().submit(&read, now()) {
                Ok(ticket) => Ok(Some(ticket)),
                // Calls have all places; some other time.
                Err(SubmitError::Busy { .. }) => Ok(None),
                Err(error) => Err(error.to_string()),
            }
        });
        match submitted {
            Ok(Some(ticket)) => {
                self.owners[ticket.index()] = Owner::Trial;
                self.unsent = true;
                trial.asked = Some((Way::OneSided(ticket.index()), now()));
            }
            Ok(None) => {}
            Err(cause) => {
                trial.onesided.failed = Some(cause);
                trial.done += 1;
            }
        }
    }

    fn decide(&mut self) {
        let Some(trial) = self.trial.take() else { return };
        let Trial { memory, by_memory, onesided, found, .. } = *trial;
        let choice = Choice::of(memory.name(), &by_memory, &onesided);
        tracing::info!(%choice, "how regions are read was tried");
        self.stats.memory_trials += 1;
        if choice.is_taken() {
            self.take_memory(memory, found);
        } else if by_memory.failed.is_some() {
            self.look_again();
        }
        self.choice = Some(choice);
    }
}
