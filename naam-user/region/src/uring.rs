//! A thread with an io_uring runtime, for the length of one file operation.

use std::collections::VecDeque;
use std::fs;
use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::thread;

use tokio::task::JoinHandle;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::fs::File;

use crate::RegionError;

/// Submission queue entries: more than the transfers in flight.
const ENTRIES: u32 = 16;
/// Transfers in flight at a time, each of a chunk.
const IN_FLIGHT: usize = 4;

const ENOSYS: i32 = 38;
const EPERM: i32 = 1;
const ENOMEM: i32 = 12;

/// Runs `work` on a thread of its own that has an io_uring runtime: the caller may be in an async
/// runtime, which cannot hold another.
pub(crate) fn run<T, F, W>(work: W) -> Result<T, RegionError>
where
    T: Send,
    F: Future<Output = Result<T, RegionError>>,
    W: FnOnce() -> F + Send,
{
    thread::scope(|scope| {
        let body = || {
            let mut builder = tokio_uring::builder();
            builder.entries(ENTRIES);
            tokio_uring::Runtime::new(&builder).map_err(unavailable)?.block_on(work())
        };
        let thread = thread::Builder::new().name("naam-region-io".to_owned()).spawn_scoped(scope, body);
        let thread = thread.map_err(RegionError::file("start the thread", "naam-region-io"))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn unavailable(source: io::Error) -> RegionError {
    let cure = match source.raw_os_error() {
        Some(ENOSYS) => {
            "this kernel is built without io_uring, or a container's seccomp filter hides it: allow io_uring_setup"
        }
        Some(EPERM) => {
            let disabled =
                fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|value| value.trim() != "0");
            if disabled {
                "it is switched off: sysctl kernel.io_uring_disabled=0, or 1 and membership in kernel.io_uring_group"
            } else {
                "a security policy forbids io_uring_setup: allow it for this program"
            }
        }
        Some(ENOMEM) => "the memlock limit is too low for its rings: raise `ulimit -l`, or LimitMEMLOCK in the unit",
        _ => "see io_uring_setup(2)",
    };
    RegionError::Uring { source, cure }
}

/// A transfer under way: its buffer comes back with the result.
type Transfer = JoinHandle<(io::Result<()>, Vec<u8>)>;

/// Writes pieces of a file, some at a time.
pub(crate) struct Writer<'a> {
    file: Rc<File>,
    path: &'a Path,
    pending: VecDeque<Transfer>,
}

impl<'a> Writer<'a> {
    /// `path` is for errors.
    pub(crate) fn new(file: fs::File, path: &'a Path) -> Self {
        Self { file: Rc::new(File::from_std(file)), path, pending: VecDeque::new() }
    }

    /// Queues `bytes` to be written at `position`; returns a buffer to use next, of any content.
    pub(crate) async fn write(&mut self, bytes: Vec<u8>, position: u64) -> Result<Vec<u8>, RegionError> {
        let file = Rc::clone(&self.file);
        self.pending.push_back(tokio_uring::spawn(async move { file.write_all_at(bytes, position).await }));
        if self.pending.len() < IN_FLIGHT { Ok(Vec::new()) } else { self.finish_oldest().await }
    }

    async fn finish_oldest(&mut self) -> Result<Vec<u8>, RegionError> {
        let Some(oldest) = self.pending.pop_front() else { return Ok(Vec::new()) };
        finished(oldest).await.map_err(RegionError::file("write", self.path))
    }

    /// Waits until everything is written and on the medium.
    pub(crate) async fn finish(mut self) -> Result<(), RegionError> {
        while !self.pending.is_empty() {
            self.finish_oldest().await?;
        }
        self.file.sync_all().await.map_err(RegionError::file("sync", self.path))
    }
}

/// Reads pieces of a file, some ahead.
pub(crate) struct Reader<'a> {
    file: Rc<File>,
    path: &'a Path,
}

impl<'a> Reader<'a> {
    /// `path` is for errors.
    pub(crate) fn new(file: fs::File, path: &'a Path) -> Self {
        Self { file: Rc::new(File::from_std(file)), path }
    }

    /// Calls `take` with every piece `(position, length)`, in order.
    pub(crate) async fn each(
        &self,
        pieces: impl IntoIterator<Item = (u64, usize)>,
        mut take: impl FnMut(&[u8]) -> Result<(), RegionError>,
    ) -> Result<(), RegionError> {
        let mut pieces = pieces.into_iter();
        let mut ahead: VecDeque<Transfer> = VecDeque::new();
        let mut spare = Vec::new();
        loop {
            while ahead.len() < IN_FLIGHT
                && let Some((position, len)) = pieces.next()
            {
                let file = Rc::clone(&self.file);
                let mut bytes = std::mem::take(&mut spare);
                bytes.resize(len, 0);
                // A slice: of a vector it would fill the whole capacity.
                ahead.push_back(tokio_uring::spawn(async move {
                    let (result, slice) = file.read_exact_at(bytes.slice(..len), position).await;
                    (result, slice.into_inner())
                }));
            }
            let Some(oldest) = ahead.pop_front() else { return Ok(()) };
            let bytes = finished(oldest).await.map_err(RegionError::file("read", self.path))?;
            take(&bytes)?;
            spare = bytes;
        }
    }
}

async fn finished(transfer: Transfer) -> io::Result<Vec<u8>> {
    let (result, bytes) = transfer.await.map_err(io::Error::other)?;
    result.map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unavailable_names_the_cure() {
        for (errno, word) in [(ENOSYS, "seccomp"), (ENOMEM, "memlock"), (EPERM, "io_uring")] {
            let text = unavailable(io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(word), "{text}");
        }
    }
}
