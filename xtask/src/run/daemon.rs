//! `naam serve` and what it says of itself.

use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use naam_testbed::Namespace;
use serde_json::Value;

use super::{
    child::{Interrupt, POLL_INTERVAL, Process},
    config::{APP, Store},
    instance::Instance,
};
use crate::process;

/// How long it may take to load and attach everything.
const START_TIME: Duration = Duration::from_secs(60);
/// Lines of the log that go into an error.
const TAIL_LINES: usize = 20;

/// A daemon that serves. It ends when this is dropped, unless it was [kept](Self::keep).
pub struct Daemon {
    naam: PathBuf,
    instance: String,
    process: Process,
}

impl Daemon {
    /// Starts it in `namespace`, or in our own, and waits until it serves. Its log goes to [`log`].
    ///
    /// # Errors
    /// When it ends instead, or the user interrupts.
    pub fn start(
        naam: &Path,
        namespace: Option<&Namespace>,
        instance: &Instance,
        config: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let log = log(instance);
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = namespace.map_or_else(|| Command::new(naam), |namespace| namespace.command(naam));
        command.args(["-v", "serve", "--detach-on-exit", "--config"]).arg(config);
        command.stdin(Stdio::null()).stdout(file.try_clone().context("cannot copy a descriptor")?).stderr(file);
        let process = Process::start(&mut command)?;
        let mut daemon = Self { naam: naam.to_owned(), instance: instance.name().to_owned(), process };
        daemon.wait_for_socket(&instance.socket(), &log, interrupt)?;
        Ok(daemon)
    }

    /// Waits for its end; ends it if the user wants to.
    ///
    /// # Errors
    /// [`Interrupted`](super::child::Interrupted).
    pub fn wait(self, interrupt: &Interrupt) -> Result<ExitStatus> {
        self.process.wait(interrupt)
    }

    fn wait_for_socket(&mut self, socket: &Path, log: &Path, interrupt: &Interrupt) -> Result<()> {
        let deadline = Instant::now() + START_TIME;
        // The socket takes connections before the datapath is set up; the answer to one comes after.
        loop {
            if let Some(status) = self.process.ended()? {
                bail!("`naam serve` ended ({status}) instead of serving; its log:\n{}", tail(log));
            }
            if UnixStream::connect(socket).is_ok() && self.ask(&["status"]).is_ok() {
                return Ok(());
            }
            interrupt.check()?;
            if Instant::now() > deadline {
                bail!("`naam serve` does not answer after {} s; its log:\n{}", START_TIME.as_secs(), tail(log));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// What `naam --json COMMAND` prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, command: &[&str]) -> Result<Value> {
        let mut naam = Command::new(&self.naam);
        naam.args(["--instance", &self.instance, "--json"]).args(command);
        let text = process::output(&mut naam)?;
        serde_json::from_str(&text).with_context(|| format!("`{}` printed no JSON", process::shown(&naam)))
    }

    /// Where it is attached.
    ///
    /// # Errors
    /// When it does not say.
    pub fn attachment(&self) -> Result<Attachment> {
        let status = self.ask(&["status"])?;
        let attachment = &status["attachments"][0];
        let text = |key: &str| -> Result<String> {
            let text = attachment[key].as_str();
            Ok(text.with_context(|| format!("`naam status` names no `{key}` of the attachment: {status}"))?.to_owned())
        };
        Ok(Attachment { hook: text("hook")?.replace('_', "-"), reason: text("reason")? })
    }

    /// Makes the region an empty store.
    ///
    /// # Errors
    /// When it cannot be mapped, or holds a store.
    pub fn format(&self, store: Store) -> Result<()> {
        self.ask(&["store", "format", "--app", APP, "--log2-buckets", &store.log2_buckets.to_string()]).map(drop)
    }

    /// Lets it outlive us.
    pub fn keep(self) {
        self.process.keep();
    }
}

/// Where a daemon is attached, and why there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// `xdp-native`, `xdp-generic` or `tc`.
    pub hook: String,
    /// For people.
    pub reason: String,
}

/// Where a daemon's log is.
pub fn log(instance: &Instance) -> PathBuf {
    instance.dir().join("serve.log")
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("    {line}\n")).collect()
}
