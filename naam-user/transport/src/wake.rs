//! Waking a thread that waits in a transport.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Ends the wait of the thread that drives a transport; cheap to clone, usable from any thread.
///
/// A wake before the wait is not lost: the next wait returns at once.
#[derive(Clone, Debug)]
pub struct Waker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    event: OwnedFd,
    /// A wake is on its way, so that a burst of wakes costs one system call.
    signalled: AtomicBool,
}

impl Waker {
    /// A waker of a transport that waits for something else than this crate's do; those bring their own.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> rustix::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { inner: Arc::new(Inner { event, signalled: AtomicBool::new(false) }) })
    }

    /// Makes the present or next wait return.
    pub fn wake(&self) {
        if !self.inner.signalled.swap(true, Ordering::AcqRel) {
            // The counter cannot overflow and the descriptor lives as long as we do.
            let _ = rustix::io::write(&self.inner.event, &1u64.to_ne_bytes());
        }
    }

    /// Forgets wakes so far. Whoever waits calls it after every wait and looks at its queues
    /// afterwards, so that a wake in between is seen there or ends the next wait.
    pub(crate) fn clear(&self) {
        self.inner.signalled.store(false, Ordering::Release);
        let mut count = [0; 8];
        // Nothing to read is fine.
        let _ = rustix::io::read(&self.inner.event, &mut count);
    }

    pub(crate) fn is_signalled(&self) -> bool {
        self.inner.signalled.load(Ordering::Acquire)
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.event.as_fd()
    }
}
