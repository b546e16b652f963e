//! Processes that a run starts and ends.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

use crate::process;

/// How long a process may take to end when asked to.
pub const END_TIME: Duration = Duration::from_secs(5);
/// Time between two looks at a process.
pub const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Whether the user, or whoever started us, wants the run to end.
///
/// From [`install`](Self::install) on SIGINT, SIGTERM and SIGHUP do not end this process; it has to look.
#[derive(Clone, Debug)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Takes the signals over.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn install() -> Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGHUP, SIGINT, SIGTERM] {
            flag::register_usize(number, Arc::clone(&signal), number as usize).context("cannot handle signals")?;
        }
        Ok(Self { signal })
    }

    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }

    /// Fails if a signal came.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn check(&self) -> Result<()> {
        match self.signal() {
            None => Ok(()),
            Some(signal) => Err(Interrupted { signal }.into()),
        }
    }
}

/// A signal asked for the end.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted {
    /// Its number.
    pub signal: i32,
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted by signal {}; everything was cleaned up", self.signal)
    }
}

impl std::error::Error for Interrupted {}

/// A child that ends when this is dropped, unless it was [kept](Self::keep).
pub struct Process {
    child: Child,
    line: String,
    remains: bool,
}

impl Process {
    /// Starts `command` in a process group of its own: Ctrl-C reaches us alone, and we end our children in order.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn start(command: &mut Command) -> Result<Self> {
        let line = process::shown(command);
        let child = command.process_group(0).spawn().with_context(|| format!("`{line}` cannot be started"))?;
        Ok(Self { child, line, remains: false })
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// When the kernel does not know.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("waiting for `{}`", self.line))
    }

    /// Waits for its end; ends it if the user wants to.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn wait(mut self, interrupt: &Interrupt) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            interrupt.check()?;
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Lets it outlive us.
    pub fn keep(mut self) {
        self.remains = true;
    }

    fn end(&mut self) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // It may end by itself meanwhile.
            _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + END_TIME;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.remains
            && let Err(error) = self.end()
        {
            eprintln!("warning: `{}` cannot be ended: {error}", self.line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exists(pid: u32) -> bool {
        Pid::from_raw(pid as i32).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    }

    #[test]
    fn a_dropped_process_is_gone_and_its_end_is_reported() {
        let sleeper = Process::start(Command::new("sleep").arg("1000")).expect("sleep is everywhere");
        let pid = sleeper.child.id();
        assert!(exists(pid));
        drop(sleeper);
        assert!(!exists(pid));
        let interrupt = Interrupt { signal: Arc::default() };
        let status = Process::start(Command::new("sh").args(["-c", "exit 3"])).unwrap().wait(&interrupt).unwrap();
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn a_signal_ends_the_wait_and_the_process() {
        let interrupt = Interrupt { signal: Arc::new(AtomicUsize::new(SIGINT as usize)) };
        let sleeper = Process::start(Command::new("sleep").arg("1000")).unwrap();
        let pid = sleeper.child.id();
        let error = sleeper.wait(&interrupt).unwrap_err();
        assert_eq!(error.downcast_ref::<Interrupted>().map(|interrupted| interrupted.signal), Some(SIGINT));
        assert!(!exists(pid));
    }
}
