//! What a run leaves on the machine: its name, its places, and how all of it goes away again.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use naam_testbed::is_alive;
use rustix::process::{Pid, Signal, kill_process};

use super::child::{END_TIME, POLL_INTERVAL};

/// Where daemons keep sockets and state; only root writes there.
const STATE: &str = "/run/naam";
/// Where instances pin what the kernel holds for them.
const PINS: &str = "/sys/fs/bpf/naam";
/// Names of runs: this and a process id, so that bpffs and the kernel take them as they are.
const PREFIX: &str = "run";
/// Ends the name of a run's own folder; no instance's name has a dot.
const DIR_SUFFIX: &str = ".d";
/// In the folder of a run: its daemon's configuration, on whose command line it stands.
const CONFIG: &str = "naam.toml";
/// In the folder of a run that `--keep` left running on purpose.
const KEPT: &str = "kept";

/// An instance of NAAM that belongs to one run. Removed when dropped, unless it was [kept](Self::keep).
pub struct Instance {
    name: String,
    remains: bool,
}

impl Instance {
    /// Reserves the name of this process and makes the folder.
    ///
    /// # Errors
    /// When the folder cannot be made, above all without root.
    pub fn create() -> Result<Self> {
        let name = format!("{PREFIX}{}", std::process::id());
        if is_kept(&name) {
            bail!("a run that was kept has the name {name}, which is ours\ncure: cargo xtask run --stop");
        }
        // Process ids come again: of a crashed run with ours nothing may be taken over.
        remove_whole(name.clone())?;
        let instance = Self { name, remains: false };
        let dir = instance.dir();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755).create(STATE).with_context(|| format!("cannot create {STATE}"))?;
        fs::DirBuilder::new().mode(0o700).create(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(instance)
    }

    /// The instance's name, `runPID`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The run's own files.
    pub fn dir(&self) -> PathBuf {
        Path::new(STATE).join(format!("{}{DIR_SUFFIX}", self.name))
    }

    /// The daemon's configuration.
    pub fn config(&self) -> PathBuf {
        self.dir().join(CONFIG)
    }

    /// The daemon's socket, where every `naam` command with `--instance` looks for it.
    pub fn socket(&self) -> PathBuf {
        Path::new(STATE).join(format!("{}.sock", self.name))
    }

    /// What the kernel holds for it, in bpffs.
    pub fn pins(&self) -> PathBuf {
        Path::new(PINS).join(&self.name)
    }

    /// Lets it outlive this process, until [`stop_kept`].
    ///
    /// # Errors
    /// When that cannot be noted; it then goes with this process.
    pub fn keep(mut self) -> Result<()> {
        let mark = self.dir().join(KEPT);
        fs::write(&mark, "").with_context(|| format!("cannot write {}", mark.display()))?;
        self.remains = true;
        Ok(())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if !self.remains
            && let Err(error) = remove(&self.name)
        {
            eprintln!("warning: {error:#}");
        }
    }
}

/// Removes what crashed runs left: namespaces and what runs in them, pins, files. Returns their names.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_leftovers() -> Result<Vec<String>> {
    naam_testbed::remove_leftovers().context("cannot remove the namespaces of a crashed run")?;
    let dead = runs()?.into_iter().filter(|run| !is_alive(run.pid) && !is_kept(&run.name));
    dead.map(|run| remove_whole(run.name)).collect()
}

/// Ends the runs that `--keep` left running, or only the one of this name. Returns their names.
///
/// # Errors
/// When something cannot be removed.
pub fn stop_kept(name: Option<&str>) -> Result<Vec<String>> {
    let meant = |run: &Run| is_kept(&run.name) && name.is_none_or(|name| run.name == name);
    runs()?.into_iter().filter(meant).map(|run| remove_whole(run.name)).collect()
}

struct Run {
    name: String,
    pid: Pid,
}

/// Every run that left a trace.
fn runs() -> Result<Vec<Run>> {
    let mut names = Vec::new();
    for dir in [STATE, PINS] {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {dir}")),
        };
        for entry in entries {
            let file = entry.with_context(|| format!("cannot read {dir}"))?.file_name();
            names.extend(file.to_str().and_then(run_of));
        }
    }
    names.sort_by(|a, b| a.name.cmp(&b.name));
    names.dedup_by(|a, b| a.name == b.name);
    Ok(names)
}

/// The run that a file in [`STATE`] or [`PINS`] belongs to.
fn run_of(file: &str) -> Option<Run> {
    let name = file.split_once('.').map_or(file, |(name, _)| name);
    let pid = name.strip_prefix(PREFIX)?.parse().ok().filter(|pid| *pid > 0)?;
    Some(Run { name: name.to_owned(), pid: Pid::from_raw(pid)? })
}

fn is_kept(name: &str) -> bool {
    Path::new(STATE).join(format!("{name}{DIR_SUFFIX}")).join(KEPT).exists()
}

/// Removes a run whose maker is gone, its processes first.
fn remove_whole(name: String) -> Result<String> {
    end_daemon(&Path::new(STATE).join(format!("{name}{DIR_SUFFIX}")).join(CONFIG));
    naam_testbed::remove_named(&name).with_context(|| format!("cannot remove the namespaces of {name}"))?;
    remove(&name)?;
    Ok(name)
}

/// Ends the daemon with this configuration, if it runs: on an interface of the machine it is in no namespace of ours.
fn end_daemon(config: &Path) {
    let is_it = |pid: &Pid| {
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == config.as_os_str().as_bytes())
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    for pid in pids.filter(is_it) {
        // It may have ended by itself meanwhile.
        _ = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + END_TIME;
        while is_it(&pid) {
            if Instant::now() > deadline {
                _ = kill_process(pid, Signal::KILL);
                break;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Removes pins and files; the daemon must have ended.
fn remove(name: &str) -> Result<()> {
    let places = [
        Path::new(PINS).join(name),
        Path::new(STATE).join(format!("{name}.sock")),
        Path::new(STATE).join(format!("{name}.sock.lock")),
        Path::new(STATE).join(name),
        Path::new(STATE).join(format!("{name}{DIR_SUFFIX}")),
    ];
    let mut failures = Vec::new();
    for place in places {
        let removed = match fs::symlink_metadata(&place) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&place),
            Ok(_) => fs::remove_file(&place),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                failures.push(format!("cannot remove {}: {error}", place.display()));
            }
            _ => {}
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_are_ours() {
        let name = |file| run_of(file).map(|run| run.name);
        for file in ["run4711", "run4711.sock", "run4711.sock.lock", "run4711.d"] {
            assert_eq!(name(file).as_deref(), Some("run4711"), "{file}");
        }
        for file in ["host", "host.sock", "run", "runner", "run0", "run-1", "run12x", "test_4711_0", ""] {
            assert_eq!(name(file), None, "{file}");
        }
    }

    #[test]
    fn places_follow_the_name() {
        let instance = Instance { name: "run4711".to_owned(), remains: true };
        assert_eq!(instance.socket(), Path::new("/run/naam/run4711.sock"));
        assert_eq!(instance.pins(), Path::new("/sys/fs/bpf/naam/run4711"));
        assert_eq!(instance.dir(), Path::new("/run/naam/run4711.d"));
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        // No process has this id: the kernel's largest is 2^22.
        end_daemon(Path::new("/run/naam/run4194305.d/naam.toml"));
        assert!(remove("run4194305").is_ok());
    }
}
