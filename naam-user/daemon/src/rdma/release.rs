//! Giving up on a thread of its own what takes long to give up.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A thread that drops what it is given, one after another. It ends behind the last of these handles.
#[derive(Debug)]
pub struct Releases<T> {
    sender: Sender<T>,
    waiting: Arc<Waiting>,
}

/// How many are not dropped yet.
#[derive(Debug, Default)]
struct Waiting {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl<T> Clone for Releases<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), waiting: Arc::clone(&self.waiting) }
    }
}

impl<T: Send + 'static> Releases<T> {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn start() -> io::Result<Self> {
        let (sender, receiver) = channel();
        let waiting = Arc::new(Waiting::default());
        let done = Arc::clone(&waiting);
        std::thread::Builder::new().name("naam-rdma-free".to_owned()).spawn(move || {
            for value in receiver {
                drop::<T>(value);
                done.change(|count| *count -= 1);
            }
        })?;
        Ok(Self { sender, waiting })
    }

    /// Has it dropped over there.
    pub fn give_up(&self, value: T) {
        self.waiting.change(|count| *count += 1);
        if let Err(refused) = self.sender.send(value) {
            // The thread has panicked.
            drop(refused.0);
            self.waiting.change(|count| *count -= 1);
        }
    }

    /// Waits until all that was given is dropped, for so long at most; whether it is.
    pub fn settle(&self, time: Duration) -> bool {
        let count = self.waiting.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.waiting.fewer.wait_timeout_while(count, time, |count| *count > 0);
        let (count, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *count == 0
    }
}

impl Waiting {
    fn change(&self, change: impl FnOnce(&mut usize)) {
        change(&mut self.count.lock().unwrap_or_else(PoisonError::into_inner));
        self.fewer.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;
    use std::thread::ThreadId;

    use super::*;

    /// Takes as long to drop as nobody lets it, and says where it is dropped.
    struct Slow {
        go: Receiver<()>,
        dropped: Sender<ThreadId>,
    }

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.go.recv();
            let _ = self.dropped.send(std::thread::current().id());
        }
    }

    #[test]
    fn who_gives_up_does_not_wait() {
        let releases = Releases::start().unwrap();
        let ((go, wait), (dropped, where_dropped)) = (channel(), channel());
        releases.give_up(Slow { go: wait, dropped });
        assert!(!releases.settle(Duration::from_millis(1)), "it cannot be dropped yet");
        go.send(()).unwrap();
        assert!(releases.settle(Duration::from_secs(60)));
        assert_ne!(where_dropped.recv().unwrap(), std::thread::current().id());
    }
}
