//! Cleaning up when the process is told to end.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};

use crate::{command::Error, namespace};

/// The namespaces of this process that have to go with it.
static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Adds a namespace to those that a signal removes.
pub(crate) fn remember(name: &str) {
    live().insert(name.to_owned());
}

/// Takes a namespace off the list; false if a signal's handler was faster.
pub(crate) fn forget(name: &str) -> bool {
    live().remove(name)
}

/// Installs the handlers, once a process.
pub(crate) fn install() -> Result<(), Error> {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if INSTALLED.get().is_some() {
        return Ok(());
    }
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(Error::Signals)?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            for name in std::mem::take(&mut *live()) {
                if let Err(error) = namespace::remove(&name) {
                    eprintln!("warning: {error}");
                }
            }
            // Ends the process the way the signal would have, so that the parent sees why.
            _ = emulate_default_handler(signal);
        }
    });
    // The lock is held: nobody else can have set it.
    _ = INSTALLED.set(());
    Ok(())
}

fn live() -> MutexGuard<'static, BTreeSet<String>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}
