//! Programs that the host runs.

use std::{
    collections::BTreeMap,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use naam_vm_agent::{End, Event, Stream};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::serve::Host;

const PATH: &str = "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin";
const POLL_INTERVAL: Duration = Duration::from_millis(5);

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
        let copies = [copy(host.clone(), id, Stream::Stdout, stdout), copy(host.clone(), id, Stream::Stderr, stderr)];
        let (programs, host) = (self.clone(), host.clone());
        thread::spawn(move || {
            let end = wait(&mut child, group, Duration::from_millis(time_limit_ms));
            programs.groups().remove(&id);
            // Children that it left hold its output open; they go with it.
            _ = kill_process_group(group, Signal::KILL);
            for copy in copies {
                _ = copy.join();
            }
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

fn copy(host: Host, id: u64, stream: Stream, source: impl std::io::Read + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        // Without the host there is no one to tell.
        _ = host.copy(id, stream, source);
    })
}

fn wait(child: &mut Child, group: Pid, limit: Duration) -> End {
    let deadline = Instant::now() + limit;
    let mut over = false;
    loop {
        match child.try_wait() {
            Ok(Some(_)) if over => return End::TimeLimit,
            Ok(Some(status)) => {
                return status.code().map_or_else(|| End::Signal(status.signal().unwrap_or(0)), End::Code);
            }
            // Nobody else waits for our children; should the kernel say so, the program is gone.
            Err(_) => return End::Signal(0),
            Ok(None) => {}
        }
        if !over && Instant::now() > deadline {
            over = true;
            _ = kill_process_group(group, Signal::KILL);
        }
        thread::sleep(POLL_INTERVAL);
    }
}
