//! A memory that is lost is looked for again, on a thread of its own: whoever makes calls does not wait for it.

use std::error::Error;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use naam_transport::Waker;

use super::SiteClient;
use super::memory::Memory;

/// Pause before the first time that it is looked for; each is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// No pause is longer. A memory that held for as long is looked for again after a short one.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Makes a memory; waits for whatever it takes.
pub type Connect = dyn FnMut() -> Result<Box<dyn Memory>, Box<dyn Error + Send + Sync>> + Send;

/// What becomes of a memory that was found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is taken.
    Take,
    /// It is tried first: [`SiteClient::try_memory`]. If one-sided functions are found to be faster, no other is looked for.
    Try,
}

/// How a client gets another memory.
pub(super) struct Search {
    connect: Arc<Mutex<Box<Connect>>>,
    then: Found,
    /// The next one.
    pause: Duration,
    /// When a memory was taken.
    taken: Instant,
    /// A thread looks for one.
    running: Option<Running>,
}

struct Running {
    found: Receiver<(Box<dyn Memory>, Duration)>,
    /// Its end ends the thread's pause.
    _stop: Sender<()>,
}

impl SiteClient {
    /// Has a memory that is lost looked for from now on: by `connect`, on a thread of its own, a second after the loss and, for
    /// as long as that fails, after pauses that double up to a minute. Calls go on meanwhile by one-sided functions.
    pub fn look_for_lost(&mut self, then: Found, connect: Box<Connect>) {
        let connect = Arc::new(Mutex::new(connect));
        self.search = Some(Search { connect, then, pause: PAUSE_MIN, taken: Instant::now(), running: None });
    }

    /// Begins to look for a memory, if that is wished and not under way.
    pub(super) fn look_again(&mut self) {
        let waker = self.client.waker();
        if let Some(search) = &mut self.search
            && search.running.is_none()
        {
            search.start(waker);
        }
    }

    /// Takes or tries what was found.
    pub(super) fn take_found(&mut self) {
        let Some(search) = &mut self.search else { return };
        let Some(Ok((memory, pause))) = search.running.as_ref().map(|running| running.found.try_recv()) else { return };
        (search.running, search.pause) = (None, pause);
        match search.then {
            Found::Take => self.take_memory(memory, true),
            Found::Try => self.begin_trial(memory, true),
        }
    }

    /// READs go by `memory` from now on.
    pub(super) fn take_memory(&mut self, memory: Box<dyn Memory>, found: bool) {
        self.stats.memory_found += u64::from(found);
        if let Some(search) = &mut self.search {
            search.taken = Instant::now();
        }
        self.forget_memory();
        self.memory = Some(memory);
    }
}

impl Search {
    fn start(&mut self, waker: Waker) {
        if self.taken.elapsed() >= PAUSE_MAX {
            self.pause = PAUSE_MIN;
        }
        let ((sender, found), (stop, stopped)) = (channel(), channel());
        let (connect, pause) = (Arc::clone(&self.connect), self.pause);
        let look = move || {
            if let Some(memory) = look(&connect, pause, &stopped)
                && sender.send(memory).is_ok()
            {
                waker.wake();
            }
        };
        match std::thread::Builder::new().name("naam-memory".to_owned()).spawn(look) {
            // Not waited for: a thread that is asking somebody ends by itself once that has answered.
            Ok(_) => self.running = Some(Running { found, _stop: stop }),
            Err(error) => tracing::warn!(%error, "no thread to look for a lost memory: READs stay one-sided"),
        }
    }
}

/// A memory and the next pause; none once nobody waits for it.
fn look(
    connect: &Mutex<Box<Connect>>,
    mut pause: Duration,
    stopped: &Receiver<()>,
) -> Option<(Box<dyn Memory>, Duration)> {
    loop {
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return None;
        }
        pause = (pause * 2).min(PAUSE_MAX);
        let mut connect = connect.lock().unwrap_or_else(PoisonError::into_inner);
        match connect() {
            Ok(memory) => return Some((memory, pause)),
            Err(error) => tracing::debug!(%error, ?pause, "no memory yet"),
        }
    }
}
