//! A client with its transport, driven by the calling thread.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "site")]
use naam_abi::wire::Carried;
use naam_transport::{Sent, Transport, TransportError};
use rustix::time::{ClockId, clock_gettime};

use crate::core::{Call, Completion, Core, Function, Options, Reply, Ticket};
use crate::error::{CallError, SubmitError};
use crate::session::SessionInfo;
use crate::stats::ClientStats;

/// Why a call or a client failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The call was not taken.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The transport failed, and with it the client.
    #[error("the client's transport failed: {0}")]
    Transport(#[source] Arc<TransportError>),
    /// Blocking calls do not mix with submitted ones: their completions would get lost.
    #[error("{in_flight} submitted calls are in flight; poll until they are done, then make blocking calls")]
    Mixed {
        /// Calls in flight.
        in_flight: usize,
    },
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
    /// The client has no client site: all its calls run at the host.
    #[error("this client was started without a client site; `AsyncClient::start_site` starts one with it")]
    NoSite,
}

impl From<TransportError> for ClientError {
    fn from(error: TransportError) -> Self {
        Self::Transport(Arc::new(error))
    }
}

/// A reply that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedReply {
    /// The handler's result code.
    pub code: u32,
    /// Its reply.
    pub bytes: Vec<u8>,
    /// It had run before, and this is the remembered answer.
    pub from_slot: bool,
    /// Steps it took.
    pub steps: u8,
    /// Sites it passed.
    pub hops: u8,
}

impl From<Reply<'_>> for OwnedReply {
    fn from(reply: Reply<'_>) -> Self {
        let Reply { code, bytes, from_slot, steps, hops } = reply;
        Self { code, bytes: bytes.to_vec(), from_slot, steps, hops }
    }
}

/// How long [`Client::wait`] looks again and again before it sleeps: answers on one machine or rack come sooner
/// than a thread wakes up.
const SPIN: Duration = Duration::from_micros(20);
/// Longest sleep, so that nothing hangs on a mistake about the next event.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// See the [module](self).
///
/// Two ways of use: [`submit`](Self::submit) and [`poll`](Self::poll) keep many calls in flight without any
/// allocation; [`call`](Self::call) and [`call_batch`](Self::call_batch) block.
pub struct Client {
    core: Core,
    transport: Box<dyn Transport>,
    /// Of a batch: which of its calls each ticket belongs to.
    owners: Box<[u32]>,
}

impl Client {
    /// A client of `session` over `transport`.
    pub fn new(session: SessionInfo, options: &Options, transport: Box<dyn Transport>) -> Self {
        let core = Core::new(session, options, transport.max_payload(), now());
        let owners = vec![0; core.window()].into();
        Self { core, transport, owners }
    }

    /// The core: session, functions, placements, window.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// For [`Core::learn`].
    pub fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    /// The function of that name.
    pub fn function(&self, name: &str) -> Option<Function> {
        self.core.function(name)
    }

    /// The transport's name.
    pub fn transport_name(&self) -> &'static str {
        self.transport.name()
    }

    /// Ends another thread's [`wait`](Self::wait).
    pub fn waker(&self) -> naam_transport::Waker {
        self.transport.waker()
    }

    /// What the client counted.
    pub fn stats(&self) -> ClientStats {
        self.core.stats()
    }

    /// Takes a call; the next [`poll`](Self::poll) sends it, together with others of its function and shard.
    pub fn submit(&mut self, call: &Call<'_>) -> Result<Ticket, SubmitError> {
        self.core.submit(call, now())
    }

    /// Sends what is due, takes what has arrived, retries and gives up; never waits. Returns how many calls ended.
    pub fn poll(&mut self, mut done: impl FnMut(Completion<'_>)) -> Result<usize, TransportError> {
        let mut ended = 0;
        let mut done = |completion: Completion<'_>| {
            ended += 1;
            done(completion);
        };
        let Self { core, transport, .. } = self;
        let sending = now();
        while transport.send(&mut |buffer| core.transmit(sending, buffer))? == Sent::Queued {}
        transport.flush()?;
        let receiving = now();
        transport.poll(&mut |incoming| core.receive(receiving, incoming.bytes, &mut done))?;
        core.tick(receiving, &mut done);
        Ok(ended)
    }

    /// For [`Core::submit_carried`].
    #[cfg(feature = "site")]
    pub(crate) fn submit_carried(
        &mut self,
        call: &Call<'_>,
        carried: &Carried<'_>,
        version: u16,
    ) -> Result<Ticket, SubmitError> {
        self.core.submit_carried(call, carried, version, now())
    }

    /// Sends what is due, and takes nothing.
    #[cfg(feature = "site")]
    pub(crate) fn flush(&mut self) -> Result<(), TransportError> {
        let Self { core, transport, .. } = self;
        let sending = now();
        while transport.send(&mut |buffer| core.transmit(sending, buffer))? == Sent::Queued {}
        transport.flush()
    }

    /// Waits until something may have arrived, a retry or deadline is due, or `limit` is over.
    pub fn wait(&mut self, limit: Duration) -> Result<(), TransportError> {
        let due = self.core.next_event().map(|at| Duration::from_nanos(at.saturating_sub(now())));
        self.transport.wait(limit.min(due.unwrap_or(limit)))
    }

    /// Calls a function and waits for the answer.
    ///
    /// # Errors
    /// [`ClientError::Mixed`] while submitted calls are in flight.
    pub fn call(&mut self, call: &Call<'_>) -> Result<OwnedReply, ClientError> {
        let mut answer = None;
        self.call_batch(std::slice::from_ref(call), |_, outcome| answer = Some(outcome.map(OwnedReply::from)))?;
        Ok(answer.ok_or(ClientError::Closed)??)
    }

    /// Makes all `calls`, as many at once as the window allows, and hands each outcome to `each` with the call's
    /// index, in the order in which they end.
    ///
    /// # Errors
    /// A call that can never be taken ends the batch: those before it have ended, the rest was not made.
    pub fn call_batch(
        &mut self,
        calls: &[Call<'_>],
        mut each: impl FnMut(usize, Result<Reply<'_>, CallError>),
    ) -> Result<(), ClientError> {
        if self.core.in_flight() > 0 {
            return Err(ClientError::Mixed { in_flight: self.core.in_flight() });
        }
        let mut owners = std::mem::take(&mut self.owners);
        let result = self.run_batch(calls, &mut owners, &mut each);
        self.owners = owners;
        if result.is_err() {
            // Only a failed transport leaves calls behind.
            self.core.close(&mut |_| {});
        }
        result
    }

    fn run_batch(
        &mut self,
        calls: &[Call<'_>],
        owners: &mut [u32],
        each: &mut impl FnMut(usize, Result<Reply<'_>, CallError>),
    ) -> Result<(), ClientError> {
        let mut submitted = 0;
        let mut refused = None;
        let mut last_progress = now();
        while (submitted < calls.len() && refused.is_none()) || self.core.in_flight() > 0 {
            while let Some(call) = calls.get(submitted).filter(|_| refused.is_none()) {
                match self.submit(call) {
                    Ok(ticket) => {
                        owners[ticket.index()] = submitted as u32;
                        submitted += 1;
                    }
                    Err(SubmitError::Busy { .. } | SubmitError::NoSlot { .. }) if self.core.in_flight() > 0 => break,
                    Err(error) => refused = Some(error),
                }
            }
            let ended = self.poll(|completion| each(owners[completion.ticket.index()] as usize, completion.outcome))?;
            if ended > 0 {
                last_progress = now();
            } else if now().saturating_sub(last_progress) > SPIN.as_nanos() as u64 {
                self.wait(SLEEP_MAX)?;
            }
        }
        refused.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, which the kernel's `bpf_ktime_get_ns` reads too.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
