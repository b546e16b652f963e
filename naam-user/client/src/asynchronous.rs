//! Calls as futures, on any executor.
//!
//! A thread of its own drives a [`Client`]; calls reach it through a queue that the window bounds.
//! tokio's `sync` module supplies what a future waits for (a fair semaphore, one-shot channels); it
//! needs no runtime.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use naam_transport::{Transport, TransportError, Waker};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::client::{Client, ClientError, OwnedReply};
use crate::core::{Call, Function, Options, Shard};
use crate::session::SessionInfo;
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

/// A call on its way to the driver.
struct Command {
    function: Function,
    shard: Shard,
    args: Vec<u8>,
    reply_room: Option<u16>,
    timeout: Duration,
    pending: Pending,
}

/// A call that somebody may be waiting for.
struct Pending {
    answer: oneshot::Sender<Result<OwnedReply, ClientError>>,
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
        let client = Client::new(session.clone(), options, transport);
        let shared = Arc::new(Shared {
            commands: Mutex::new(VecDeque::with_capacity(client.core().window())),
            window: Arc::new(Semaphore::new(client.core().window())),
            slots: Arc::new(Semaphore::new(usize::from(session.slots))),
            waker: client.waker(),
            closing: AtomicBool::new(false),
            failure: Mutex::new(None),
            stats: Mutex::new(client.stats()),
        });
        let driven = Arc::clone(&shared);
        let driver =
            std::thread::Builder::new().name("naam-client".to_owned()).spawn(move || drive(client, &driven))?;
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
        let command = Command {
            function: call.function,
            shard: call.shard,
            args: call.args.to_vec(),
            reply_room: call.reply_room,
            timeout: call.timeout,
            pending: Pending { answer, _place: place, _slot: slot },
        };
        lock(&shared.commands).push_back(command);
        shared.waker.wake();
        // The driver may have ended after the permits were given; then nobody else empties the queue.
        if shared.window.is_closed() {
            lock(&shared.commands).clear();
        }
        outcome.await.map_err(|_| shared.closed())?
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

/// The driver's thread.
fn drive(mut client: Client, shared: &Shared) {
    let mut pending: Box<[Option<Pending>]> = (0..client.core().window()).map(|_| None).collect();
    if let Err(error) = turn_until_closed(&mut client, shared, &mut pending) {
        *lock(&shared.failure) = Some(Arc::new(error));
    }
    shared.window.close();
    shared.slots.close();
    client.core_mut().close(&mut |completion| {
        if let Some(pending) = pending[completion.ticket.index()].take() {
            finish(pending, completion.outcome.map(OwnedReply::from).map_err(ClientError::Call));
        }
    });
    lock(&shared.commands).clear();
    *lock(&shared.stats) = client.stats();
}

fn turn_until_closed(
    client: &mut Client,
    shared: &Shared,
    pending: &mut [Option<Pending>],
) -> Result<(), TransportError> {
    while !shared.closing.load(Ordering::Acquire) {
        let mut taken = false;
        while let Some(command) = next_command(shared) {
            take(client, command, pending);
            taken = true;
        }
        let ended = client.poll(|completion| {
            if let Some(pending) = pending[completion.ticket.index()].take() {
                finish(pending, completion.outcome.map(OwnedReply::from).map_err(ClientError::Call));
            }
        })?;
        if ended > 0 || taken {
            *lock(&shared.stats) = client.stats();
        } else {
            client.wait(IDLE)?;
        }
    }
    Ok(())
}

fn next_command(shared: &Shared) -> Option<Command> {
    lock(&shared.commands).pop_front()
}

fn take(client: &mut Client, command: Command, pending: &mut [Option<Pending>]) {
    let Command { function, shard, ref args, reply_room, timeout, .. } = command;
    // The permits keep window and slots from being full.
    match client.submit(&Call { function, shard, args, reply_room, timeout }) {
        Ok(ticket) => pending[ticket.index()] = Some(command.pending),
        Err(error) => finish(command.pending, Err(ClientError::Submit(error))),
    }
}

fn finish(pending: Pending, outcome: Result<OwnedReply, ClientError>) {
    // Nobody may be waiting any more.
    let _ = pending.answer.send(outcome);
}

/// The data behind these locks stays whole whatever panics.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
