//! `cargo xtask setup`: from a bare machine to one that builds and runs NAAM.
//!
//! Each step looks first and installs only what is missing, so running it again costs little and changes nothing.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace::Workspace};

pub mod apt;
mod bpf_linker;
mod kernel;
mod packages;
mod rust_source;
mod rust_tools;

/// What a look at the machine found.
enum Finding {
    /// Everything is there.
    Ready(String),
    /// Something has to be installed, and this is what.
    Missing(String),
    /// It works, but the user should know this.
    Notice(String),
}

/// One thing that the machine must have.
trait Step {
    /// A word for the table.
    fn name(&self) -> &'static str;

    /// Looks, changes nothing.
    fn check(&self, workspace: &Workspace) -> Result<Finding>;

    /// Installs what [`check`](Self::check) found missing. Errors say how to get it by hand.
    fn install(&self, workspace: &Workspace) -> Result<()>;
}

struct Row {
    name: &'static str,
    state: &'static str,
    detail: String,
}

/// Runs every step and shows a table.
///
/// # Errors
/// When a step cannot be done; the steps after it are still tried, because they tell the user more.
pub fn run(workspace: &Workspace) -> Result<()> {
    let started = Instant::now();
    let (rows, failures) = run_steps(workspace);
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    println!();
    for row in &rows {
        println!("  {:width$}  {:9}  {}", row.name, row.state, row.detail);
    }
    println!();
    if !failures.is_empty() {
        bail!("set-up is not complete\n\n{}", failures.join("\n\n"));
    }
    println!("set-up complete in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Like [`run`], but silent when nothing has to be done: for commands that need a machine that is set up.
///
/// # Errors
/// As [`run`].
pub fn ensure(workspace: &Workspace) -> Result<()> {
    let (_, failures) = run_steps(workspace);
    if !failures.is_empty() {
        bail!("set-up is not complete\n\n{}", failures.join("\n\n"));
    }
    Ok(())
}

/// Sees to what virtual machines take beyond that: QEMU, and a cross compiler for those of another architecture.
///
/// # Errors
/// As [`run`].
pub fn ensure_vm(workspace: &Workspace, cross: bool) -> Result<()> {
    let (_, failures) = run_all(workspace, vec![Box::new(packages::Packages::for_vms(cross))]);
    if !failures.is_empty() {
        bail!("set-up for virtual machines is not complete\n\n{}", failures.join("\n\n"));
    }
    Ok(())
}

fn steps() -> Vec<Box<dyn Step>> {
    vec![
        Box::new(kernel::Kernel),
        Box::new(packages::Packages::for_builds()),
        Box::new(rust_tools::RustTools),
        Box::new(rust_source::RustSource),
        Box::new(bpf_linker::BpfLinker),
    ]
}

fn run_steps(workspace: &Workspace) -> (Vec<Row>, Vec<String>) {
    run_all(workspace, steps())
}

fn run_all(workspace: &Workspace, steps: Vec<Box<dyn Step>>) -> (Vec<Row>, Vec<String>) {
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for step in steps {
        let name = step.name();
        match run_step(&*step, workspace) {
            Ok((state, detail)) => rows.push(Row { name, state, detail }),
            Err(error) => {
                let cause = error.to_string().lines().next().unwrap_or_default().to_owned();
                rows.push(Row { name, state: "FAILED", detail: cause });
                failures.push(format!("{name}: {}", process::explain(&error)));
            }
        }
    }
    (rows, failures)
}

fn run_step(step: &dyn Step, workspace: &Workspace) -> Result<(&'static str, String)> {
    let missing = match step.check(workspace)? {
        Finding::Ready(detail) => return Ok(("ready", detail)),
        Finding::Notice(detail) => return Ok(("notice", detail)),
        Finding::Missing(missing) => missing,
    };
    println!("{}: installing {missing}", step.name());
    step.install(workspace)?;
    match step.check(workspace).context("after the installation")? {
        Finding::Ready(detail) => Ok(("installed", detail)),
        Finding::Notice(detail) => Ok(("notice", detail)),
        Finding::Missing(still) => bail!("the installation of {missing} succeeded, yet {still} is still missing"),
    }
}

/// Whether we may install packages and mount file systems.
pub fn is_root() -> bool {
    // The second figure is the effective user.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
}
