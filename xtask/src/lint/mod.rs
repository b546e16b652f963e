//! `cargo xtask lint`: format, clippy on both sides of the kernel's boundary, documentation, our own rules.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    build, process,
    workspace::{self, Workspace},
};

mod rules;

type Check = fn(&Workspace) -> Result<()>;

const CHECKS: [(&str, Check); 5] = [
    ("rules", rules::check),
    ("format", format),
    ("clippy-host", clippy_host),
    ("clippy-bpf", clippy_bpf),
    ("doc", doc),
];

/// How one check went.
pub struct Outcome {
    /// For example `clippy-bpf`.
    pub name: &'static str,
    /// What it took.
    pub took: Duration,
    /// Whether it found nothing.
    pub passed: bool,
}

/// Runs all checks.
///
/// # Errors
/// When one found something.
pub fn run(workspace: &Workspace) -> Result<()> {
    let failed: Vec<_> =
        outcomes(workspace).into_iter().filter(|check| !check.passed).map(|check| check.name).collect();
    if !failed.is_empty() {
        bail!("lint: {} failed, see above", failed.join(", "));
    }
    Ok(())
}

/// Runs all checks, whatever the ones before found.
pub fn outcomes(workspace: &Workspace) -> Vec<Outcome> {
    let run_check = |(name, check): (&'static str, Check)| {
        let started = Instant::now();
        let result = check(workspace);
        let took = started.elapsed();
        match &result {
            Ok(()) => println!("lint {name} ... ok ({:.1} s)", took.as_secs_f64()),
            Err(error) => println!("{}\nlint {name} ... FAILED", process::explain(error)),
        }
        Outcome { name, took, passed: result.is_ok() }
    };
    CHECKS.map(run_check).into()
}

/// `cargo SUBCOMMAND` on the crates that compile for this machine.
fn host_cargo(workspace: &Workspace, subcommand: &str) -> Command {
    let mut command = workspace::cargo();
    command.args([subcommand, "--quiet"]).current_dir(workspace.root());
    for package in workspace.host_packages() {
        command.args(["-p", &package.name]);
    }
    command
}

fn format(workspace: &Workspace) -> Result<()> {
    let mut command = workspace::cargo();
    process::inherit(command.args(["fmt", "--all", "--check"]).current_dir(workspace.root()))
}

fn clippy_host(workspace: &Workspace) -> Result<()> {
    let mut command = host_cargo(workspace, "clippy");
    process::inherit(command.args(["--all-targets", "--", "-D", "warnings"]))
}

fn clippy_bpf(workspace: &Workspace) -> Result<()> {
    if workspace.bpf_packages().next().is_none() {
        return Ok(());
    }
    let mut command = build::rust::cargo(workspace, "clippy")?;
    command.args(["--quiet", "--release"]);
    build::rust::select_packages(workspace, &mut command);
    process::inherit(command.args(["--", "-D", "warnings"]))
}

fn doc(workspace: &Workspace) -> Result<()> {
    let mut command = host_cargo(workspace, "doc");
    process::inherit(command.arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings"))
}
