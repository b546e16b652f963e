//! One end of the topology.

use std::{
    fs::File,
    os::fd::AsFd as _,
    panic,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::command::{self, Error};

/// Where iproute2 keeps named namespaces.
pub(crate) const DIR: &str = "/run/netns";

/// A named network namespace.
///
/// Only the network is separate: files, bpffs and processes are the machine's. `/sys/class/net` goes on showing the
/// devices of the namespace that mounted `/sys`; ask `ip` or netlink instead.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it, with the loopback device up.
    pub(crate) fn create(name: String) -> Result<Self, Error> {
        command::ip(&format!("netns add {name}"))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as in `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for `setns` and `nsenter`.
    pub fn path(&self) -> PathBuf {
        Path::new(DIR).join(&self.name)
    }

    /// Runs `work` on a thread inside the namespace. Sockets that it makes stay inside wherever they are used later.
    ///
    /// # Errors
    /// [`Error::Enter`] when the thread cannot enter.
    ///
    /// # Panics
    /// When `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let enter = || {
            let file = File::open(self.path())?;
            Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
        };
        let inside = || {
            enter().map_err(|source| Error::Enter { namespace: self.name.clone(), source })?;
            Ok(work())
        };
        // A namespace is a thread's; one that lives no longer than the work need not be brought back.
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// A command that runs `program` inside; arguments and the like are added as usual.
    ///
    /// `nsenter --net` leaves mounts alone, where `ip netns exec` would hide bpffs under a fresh `/sys`.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={DIR}/{}", self.name)).arg("--").arg(program);
        command
    }

    /// `ip ARGS` inside; `args` as one would type them. Returns what it printed.
    ///
    /// # Errors
    /// When `ip` cannot run or fails.
    pub fn ip(&self, args: &str) -> Result<String, Error> {
        // Not `ip -n`: it changes mounts on its way, which fails in a chroot and in some containers.
        command::run(self.command("ip").args(args.split_whitespace()))
    }
}

/// Ends the processes that run in namespace `name`, and removes it.
pub(crate) fn remove(name: &str) -> Result<(), Error> {
    for line in command::ip(&format!("netns pids {name}"))?.lines() {
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        // Ourselves we are not: our threads may be inside, but our first thread stays outside.
        if let Some(pid) = pid.filter(|pid| *pid != rustix::process::getpid()) {
            // It may have ended by itself meanwhile.
            _ = kill_process(pid, Signal::KILL);
        }
    }
    command::ip(&format!("netns del {name}")).map(drop)
}
