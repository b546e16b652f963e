//! `cargo xtask bench`: builds everything, then lets package `naam-bench` measure.

use anyhow::Result;

use crate::{
    build, process, setup,
    workspace::{self, Workspace},
};

/// Builds and runs the benches with these arguments.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    setup::ensure(workspace)?;
    build::all(workspace)?;
    let mut command = workspace::cargo();
    command.current_dir(workspace.root());
    command.args(["run", "--quiet", "--release", "--package", "naam-bench", "--"]).args(arguments);
    process::inherit(&mut command)
}
