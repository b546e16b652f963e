//! Calls as futures, on any executor.
//!
//! A thread of its own drives a [`Client`], or with the feature `site` a [`SiteClient`]; calls reach it through a queue
//! that the window bounds.
//! tokio's `sync` module supplies what a future waits for (a fair semaphore, one-shot channels); it
//! needs no runtime.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use naam_abi::tables::Site;
use naam_transport::{Transport, TransportError, Waker};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::client::{Client, ClientError, OwnedReply};
use crate::core::{Call, Completion, Function, Options, Reply, Shard};
use crate::error::{CallError, SubmitError};
use crate::session::SessionInfo;
#[cfg(feature = "site")]
use crate::site::{SiteClient, SiteCompletion};
use crate::stats::ClientStats;

/// Calls functions asynchronously; cheap to clone. The end of the last clone closes the client; calls still in
/// flight then, whose futures were dropped, are given up.
#[derive(Clone)]
pub struct AsyncClient {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    session: SessionInfo,
    driver: Option<JoinHandle<()>>,
}

/// What the driver's thread turns: a client, or a client site over one.
trait Driven: Send {
    /// Takes a call; its index until it ends.
    fn take(&mut self, call: &Call<'_>) -> Result<usize, SubmitError>;
    /// Sends, takes what has arrived, ends calls; how many.
    fn turn(&mut self, done: &mut Done<'_>) -> Result<usize, TransportError>;
    /// Waits until there is something to do.
    fn wait(&mut self, limit: Duration) -> Result<(), TransportError>;
    /// Ends every call.
    fn close(&mut self, done: &mut Done<'_>);
    fn client(&self) -> &Client;
    #[cfg(feature = "site")]
    fn site(&mut self) -> Option<&mut SiteClient>;
}

/// Hears of a call's end: its index, where it ran, what became of it.
type Done<'a> = dyn FnMut(usize, Site, Result<Reply<'_>, CallError>) + 'a;

impl Driven for Client {
    fn take(&mut self, call: &Call<'_>) -> Result<usize, SubmitError> {
        self.submit(call).map(|ticket| ticket.index())
    }

    fn turn(&mut self, done: &mut Done<'_>) -> Result<usize, TransportError> {
        self.poll(|Completion { ticket, outcome, .. }| done(ticket.index(), Site::Host, outcome))
    }

    fn wait(&mut self, limit: Duration) -> Result<(), TransportError> {
        Client::wait(self, limit)
    }

    fn close(&mut self, done: &mut Done<'_>) {
        self.core_mut().close(&mut |Completion { ticket, outcome, .. }| done(ticket.index(), Site::Host, outcome));
    }

    fn client(&self) -> &Client {
        self
    }

    #[cfg(feature = "site")]
    fn site(&mut self) -> Option<&mut SiteClient> {
        None
    }
}

#[cfg(feature = "site")]
impl Driven for SiteClient {
    fn take(&mut self, call: &Call<'_>) -> Result<usize, SubmitError> {
        self.submit(call).map(|ticket| ticket.index())
    }

    fn turn(&mut self, done: &mut Done<'_>) -> Result<usize, TransportError> {
        self.poll(|SiteCompletion { ticket, site, outcome }| done(ticket.index(), site, outcome))
    }

    fn wait(&mut self, limit: Duration) -> Result<(), TransportError> {
        SiteClient::wait(self, limit)
    }

    fn close(&mut self, done: &mut Done<'_>) {
        SiteClient::close(self, |SiteCompletion { ticket, site, outcome }| done(ticket.index(), site, outcome));
    }

    fn client(&self) -> &Client {
        SiteClient::client(self)
    }

    fn site(&mut self) -> Option<&mut SiteClient> {
        Some(self)
    }
}

/// What callers and driver share.
struct Shared {
    commands: Mutex<VecDeque<Command>>,
    /// One permit for each place in the window: bounds the queue and what is in flight.
    window: Arc<Semaphore>,
    /// One permit for each request slot, for functions that write.
    slots: Arc<Semaphore>,
    waker: Waker,
    closing: AtomicBool,
    /// Set when the driver ends by itself.
    failure: Mutex<Option<Arc<TransportError>>>,
    stats: Mutex<ClientStats>,
}

/// What is on its way to the driver.
enum Command {
    Call(Queued),
    /// Something to do with the client between two turns.
    #[cfg(feature = "site")]
    Do(Work),
}

#[cfg(feature = "site")]
type Work = Box<dyn FnOnce(&mut dyn Driven) + Send>;

/// A call on its way to the driver.
struct Queued {
    function: Function,
    shard: Shard,
    args: Vec<u8>,
    reply_room: Option<u16>,
    timeout: Duration,
    pending: Pending,
}

/// A call that somebody may be waiting for.
struct Pending {
    answer: oneshot::Sender<Result<(OwnedReply, Site), ClientError>>,
    // Held until the call has ended.
    _place: OwnedSemaphorePermit,
    _slot: Option<OwnedSemaphorePermit>,
}

/// Longest sleep of an idle driver.
const IDLE: Duration = Duration::from_secs(1);

impl AsyncClient {
    /// Starts a client of `session` over `transport`, and its thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(session: SessionInfo, options: &Options, transport: Box<dyn Transport>) -> std::io::Result<Self> {
        Self::over(Box::new(Client::new(session, options, transport)))
    }

    /// Starts a client whose calls run where `site` places them, with the same guarantees, and its thread.
    /// [`with_site`](Self::with_site) reaches it later.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    #[cfg(feature = "site")]
    pub fn start_site(site: SiteClient) -> std::io::Result<Self> {
        Self::over(Box::new(site))
    }

    fn over(driven: Box<dyn Driven>) -> std::io::Result<Self> {
        let client = driven.client();
        let session = client.core().session().clone();
        let shared = Arc::new(Shared {
            commands: Mutex::new(VecDeque::with_capacity(client.core().window())),
            window: Arc::new(Semaphore::new(client.core().window())),
            slots: Arc::new(Semaphore::new(usize::from(session.slots))),
            waker: client.waker(),
            closing: AtomicBool::new(false),
            failure: Mutex::new(None),
            stats: Mutex::new(client.stats()),
        });
        let theirs = Arc::clone(&shared);
        let driver =
            std::thread::Builder::new().name("naam-client".to_owned()).spawn(move || drive(driven, &theirs))?;
        Ok(Self { handle: Arc::new(Handle { shared, session, driver: Some(driver) }) })
    }

    /// The function of that name.
    pub fn function(&self, name: &str) -> Option<Function> {
        self.handle.session.functions.get(name).map(|info| Function { number: info.number })
    }

    /// What the client counted, as of the driver's last turn.
    pub fn stats(&self) -> ClientStats {
        *lock(&self.handle.shared.stats)
    }

    /// Calls a function. Waits for a place in the window, then for the answer.
    ///
    /// A future that is dropped once its call was queued does not recall it.
    pub async fn call(&self, call: &Call<'_>) -> Result<OwnedReply, ClientError> {
        self.call_anywhere(call).await.map(|(reply, _)| reply)
    }

    /// Does something with the client site between two of its turns: learns a handler, places a shard, reads its counters.
    /// Calls wait meanwhile; to end them (`poll`, `close`) is for the driver alone.
    ///
    /// # Errors
    /// [`ClientError::NoSite`] of a client that [`start`](Self::start) has made.
    #[cfg(feature = "site")]
    pub async fn with_site<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SiteClient) -> T + Send + 'static,
    ) -> Result<T, ClientError> {
        let shared = &self.handle.shared;
        let (sender, result) = oneshot::channel();
        let work = |driven: &mut dyn Driven| {
            // Nobody may be waiting any more.
            let _ = sender.send(driven.site().map(work).ok_or(ClientError::NoSite));
        };
        self.queue(Command::Do(Box::new(work)));
        result.await.map_err(|_| shared.closed())?
    }

    /// The same as [`call`](Self::call); with the reply comes where the call ran to its end.
    pub async fn call_anywhere(&self, call: &Call<'_>) -> Result<(OwnedReply, Site), ClientError> {
        let shared = &self.handle.shared;
        let writes =
            self.handle.session.functions.values().any(|info| info.number == call.function.number && info.writes);
        let closed = |_| shared.closed();
        // Slots first: there are fewer, and a place must not be held while waiting for one.
        let slot = match writes {
            true => Some(Arc::clone(&shared.slots).acquire_owned().await.map_err(closed)?),
            false => None,
        };
        let place = Arc::clone(&shared.window).acquire_owned().await.map_err(closed)?;
        let (answer, outcome) = oneshot::channel();
        let queued = Queued {
            function: call.function,
            shard: call.shard,
            args: call.args.to_vec(),
            reply_room: call.reply_room,
            timeout: call.timeout,
            pending: Pending { answer, _place: place, _slot: slot },
        };
        self.queue(Command::Call(queued));
        outcome.await.map_err(|_| shared.closed())?
    }

    fn queue(&self, command: Command) {
        let shared = &self.handle.shared;
        lock(&shared.commands).push_back(command);
        shared.waker.wake();
        // The driver may have ended after the permits were given; then nobody else empties the queue.
        if shared.window.is_closed() {
            lock(&shared.commands).clear();
        }
    }
}

impl Shared {
    fn closed(&self) -> ClientError {
        lock(&self.failure).clone().map_or(ClientError::Closed, ClientError::Transport)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.waker.wake();
        if let Some(driver) = self.driver.take() {
            // If it panicked, its callers saw their calls closed.
            let _ = driver.join();
        }
    }
}

/// Nothing more is taken once the driver ends, by a panic of what it was given to do, too.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.window.close();
        self.0.slots.close();
        lock(&self.0.commands).clear();
    }
}

/// The driver's thread.
fn drive(mut driven: Box<dyn Driven>, shared: &Shared) {
    let closing = Closing(shared);
    let mut pending: Box<[Option<Pending>]> = (0..driven.client().core().window()).map(|_| None).collect();
    if let Err(error) = turn_until_closed(&mut *driven, shared, &mut pending) {
        *lock(&shared.failure) = Some(Arc::new(error));
    }
    drop(closing);
    driven.close(&mut |index, site, outcome| end(&mut pending, index, site, outcome));
    *lock(&shared.stats) = driven.client().stats();
}

fn turn_until_closed(
    driven: &mut dyn Driven,
    shared: &Shared,
    pending: &mut [Option<Pending>],
) -> Result<(), TransportError> {
    while !shared.closing.load(Ordering::Acquire) {
        let mut taken = false;
        while let Some(command) = next_command(shared) {
            match command {
                Command::Call(queued) => {
                    if let Some(queued) = take(driven, queued, pending) {
                        lock(&shared.commands).push_front(Command::Call(queued));
                        break;
                    }
                }
                #[cfg(feature = "site")]
                Command::Do(work) => work(driven),
            }
            taken = true;
        }
        let ended = driven.turn(&mut |index, site, outcome| end(pending, index, site, outcome))?;
        if ended > 0 || taken {
            *lock(&shared.stats) = driven.client().stats();
        } else {
            driven.wait(IDLE)?;
        }
    }
    Ok(())
}

fn next_command(shared: &Shared) -> Option<Command> {
    lock(&shared.commands).pop_front()
}

/// Submits a call; gives it back if it has to wait until something else has ended.
fn take(driven: &mut dyn Driven, queued: Queued, pending: &mut [Option<Pending>]) -> Option<Queued> {
    let Queued { function, shard, ref args, reply_room, timeout, .. } = queued;
    match driven.take(&Call { function, shard, args, reply_room, timeout }) {
        Ok(index) => pending[index] = Some(queued.pending),
        // Permits keep a client from this; at a client site, a call in flight may take a place more for its READs.
        Err(SubmitError::Busy { .. } | SubmitError::NoSlot { .. }) if driven.client().core().in_flight() > 0 => {
            return Some(queued);
        }
        Err(error) => finish(queued.pending, Err(ClientError::Submit(error))),
    }
    None
}

fn end(pending: &mut [Option<Pending>], index: usize, site: Site, outcome: Result<Reply<'_>, CallError>) {
    if let Some(pending) = pending[index].take() {
        finish(pending, outcome.map(|reply| (OwnedReply::from(reply), site)).map_err(ClientError::Call));
    }
}

fn finish(pending: Pending, outcome: Result<(OwnedReply, Site), ClientError>) {
    // Nobody may be waiting any more.
    let _ = pending.answer.send(outcome);
}

/// The data behind these locks stays whole whatever panics.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
