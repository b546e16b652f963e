//! Running `ip` and its like, and what can go wrong.

use std::{ffi::OsStr, io, path::PathBuf, process::Command};

/// What making or using a topology can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is not installed, or may not be run.
    #[error("`{line}` cannot be started: {source}; `cargo xtask setup` installs what is missing")]
    Start {
        /// The command.
        line: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program ran and reported failure.
    #[error("`{line}` failed ({status}): {stderr}")]
    Failed {
        /// The command.
        line: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// A thread cannot enter a namespace.
    #[error("cannot enter network namespace {namespace}: {source}; it takes CAP_SYS_ADMIN")]
    Enter {
        /// Its name.
        namespace: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A folder with what processes may have left cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Its place.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What a killed process pinned cannot be removed.
    #[error("cannot remove {}, which a killed test left: {source}", path.display())]
    Remove {
        /// Its place.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The signal handlers cannot be installed.
    #[error("cannot install the handlers that clean up on signals: {0}")]
    Signals(io::Error),
    /// No such BPF object.
    #[error("BPF object {} cannot be read: {source}; `cargo xtask build` makes it", path.display())]
    Object {
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Runs `command` to its end and returns its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    let output = command.output().map_err(|source| Error::Start { line: shown(command), source })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Failed { line: shown(command), status: output.status, stderr });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `ip ARGS`, with the arguments given as one would type them.
pub(crate) fn ip(args: &str) -> Result<String, Error> {
    run(Command::new("ip").args(args.split_whitespace()))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
