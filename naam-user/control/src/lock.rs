//! Locks that keep a second daemon away.

use std::fs::{File, TryLockError};
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a daemon waits for one that may be dying. A killed process holds its locks until its memory is
/// gone, which takes a while where it has mapped large regions.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Locks `file` until it is closed. Who holds it is waited for a few seconds.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if it is still held then.
pub fn take(file: &File, object: &dyn std::fmt::Display) -> io::Result<()> {
    let began = Instant::now();
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                if !said {
                    tracing::info!(%object, "another daemon has it; waiting, in case it is just ending");
                    said = true;
                }
                sleep(PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
