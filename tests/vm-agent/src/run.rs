//! Programs that the host runs.

use std::{
    collections::BTreeMap,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use naam_vm_agent::{End, Event, Stream};
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};

use crate::serve::Host;

const PATH: &str = "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin";
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How long the last output of a program that has ended is waited for: a child that has left its group may hold it open.
const OUTPUT_TIME: Duration = Duration::from_secs(2);

/// The programs that run, by request.
#[derive(Clone, Default)]
pub struct Programs {
    groups: Arc<Mutex<BTreeMap<u64, Pid>>>,
}

impl Programs {
    /// Starts one, in a process group of its own. Threads of ours send its output and its end.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn start(&self, host: &Host, id: u64, program: &str, arguments: &[String], time_limit_ms: u64) -> Result<()> {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH).env("HOME", "/tmp").env("TERM", "linux");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("`{program}` cannot be started"))?;
        let stdout = child.stdout.take().context("standard output was not captured")?;
        let stderr = child.stderr.take().context("standard error was not captured")?;
        let group = Pid::from_child(&child);
        self.groups().insert(id, group);
        // Nothing is sent; it is closed when both copies are done.
        let (copying, copied) = mpsc::channel::<()>();
        copy(host.clone(), id, Stream::Stdout, stdout, copying.clone());
        copy(host.clone(), id, Stream::Stderr, stderr, copying);
        let (programs, host) = (self.clone(), host.clone());
        thread::spawn(move || {
            let over = wait(group, Duration::from_millis(time_limit_ms));
            programs.groups().remove(&id);
            // Children that it left go with it, before its number can be another's.
            _ = kill_process_group(group, Signal::KILL);
            // Nobody else waits for our children; should the kernel say so, the program is gone.
            let end = match child.wait() {
                Ok(_) if over => End::TimeLimit,
                Ok(status) => status.code().map_or_else(|| End::Signal(status.signal().unwrap_or(0)), End::Code),
                Err(_) => End::Signal(0),
            };
            _ = copied.recv_timeout(OUTPUT_TIME);
            // Without the host there is no one to tell.
            _ = host.send(&Event::Exited { id, end });
        });
        Ok(())
    }

    /// Kills one and its children; one that has ended is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self, id: u64) -> Result<()> {
        match self.groups().get(&id) {
            Some(group) => kill_process_group(*group, Signal::KILL).context("cannot kill the program"),
            None => Ok(()),
        }
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<u64, Pid>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies in the background, and drops `copying` when it is done.
fn copy(host: Host, id: u64, stream: Stream, source: impl std::io::Read + Send + 'static, copying: Sender<()>) {
    thread::spawn(move || {
        // Without the host there is no one to tell.
        _ = host.copy(id, stream, source);
        drop(copying);
    });
}

/// Waits until it has ended, and leaves it to be waited for; says whether its time was over.
fn wait(pid: Pid, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let mut over = false;
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while let Ok(None) | Err(Errno::INTR) = waitid(WaitId::Pid(pid), ended) {
        if !over && Instant::now() > deadline {
            over = true;
            _ = kill_process_group(pid, Signal::KILL);
        }
        thread::sleep(POLL_INTERVAL);
    }
    over
}
