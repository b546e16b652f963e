//! What can go wrong with machines.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use naam_vm_agent::End;
use thiserror::Error;

/// A machine that is not there, does not come up, or does not do what it was asked for.
#[derive(Debug, Error)]
pub enum Error {
    /// Nothing of this name is described.
    #[error("there is no {kind} `{name}` in vm-images\ncure: one of {known}")]
    Unknown {
        /// `kernel`, `role` or `topologie`.
        kind: String,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A description that is not understood.
    #[error("{}: {problem}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file that cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// For example `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An image that was not built.
    #[error("there is no image {name} ({}: {problem})\ncure: cargo xtask vm build", path.display())]
    NoImage {
        /// Role and kernel.
        name: String,
        /// Where it would be.
        path: PathBuf,
        /// What the file system says.
        problem: String,
    },
    /// QEMU, or what it is started by, is not installed.
    #[error("`{program}` cannot be started: {source}\ncure: cargo xtask vm build, as root (installs QEMU)")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A socket or a pipe on this side.
    #[error("machine {vm}: cannot {action}: {source}")]
    Io {
        /// The machine.
        vm: String,
        /// What for.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// There is no such machine in the topology.
    #[error("topology {topology} has no machine `{vm}`, only {known}")]
    NoMachine {
        /// The topology.
        topology: String,
        /// What was asked for.
        vm: String,
        /// What there is.
        known: String,
    },
    /// The machine is gone: it panicked, QEMU failed, or it said what no agent would.
    #[error("machine {vm} is gone while {doing}: {cause} (QEMU: {}){}", status.map_or("running".into(), |status| status.to_string()), console)]
    Gone {
        /// The machine.
        vm: String,
        /// What it was to do.
        doing: String,
        /// What its console or its last message says.
        cause: String,
        /// How QEMU ended, if it did.
        status: Option<ExitStatus>,
        /// The end of the console.
        console: Box<Tail>,
    },
    /// The machine says nothing.
    #[error("machine {vm} does not answer within {} s while {doing}{console}", time.as_secs())]
    Silent {
        /// The machine.
        vm: String,
        /// What it was to do.
        doing: String,
        /// How long it had.
        time: Duration,
        /// The end of the console.
        console: Box<Tail>,
    },
    /// The agent says that it cannot.
    #[error("machine {vm}: {doing}: {message}")]
    Refused {
        /// The machine.
        vm: String,
        /// What it was to do.
        doing: String,
        /// Why not.
        message: String,
    },
    /// The machine came up, but not whole.
    #[error("machine {vm} came up with faults: {faults}")]
    Faulty {
        /// The machine.
        vm: String,
        /// What the agent says.
        faults: String,
    },
    /// A program failed.
    #[error("machine {vm}: `{line}` {}\n{output}", describe(*end))]
    Failed {
        /// The machine.
        vm: String,
        /// What ran.
        line: String,
        /// How it ended.
        end: End,
        /// What it wrote.
        output: String,
    },
    /// The kernel complained.
    #[error("the kernel of machine {vm} complains:\n{complaints}")]
    Complaint {
        /// The machine.
        vm: String,
        /// Lines of its log.
        complaints: String,
    },
}

impl Error {
    /// Whether the machine was lost, or stood still, before its agent ran.
    pub(crate) fn is_early(&self) -> bool {
        matches!(self, Self::Gone { doing, .. } | Self::Silent { doing, .. } if doing == crate::machine::BOOTING)
    }
}

fn describe(end: End) -> String {
    match end {
        End::Code(code) => format!("ended with code {code}"),
        End::Signal(signal) => format!("was ended by signal {signal}"),
        End::TimeLimit => "was killed at its time limit".to_owned(),
    }
}

/// The last lines of a console, and where all of it is.
#[derive(Debug)]
pub struct Tail {
    /// The file.
    pub path: PathBuf,
    /// The line with which the kernel gave up, if it did; it may come long before the end.
    pub panic: Option<String>,
    /// The lines.
    pub lines: Vec<String>,
}

impl std::fmt::Display for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\nits console ({}) ends with:", self.path.display())?;
        self.lines.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}
