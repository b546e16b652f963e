//! clippy and rustfmt, which `cargo xtask lint` runs; rustup's minimal profile lacks them.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Finding, Step};
use crate::{
    process,
    toolchain::Rustc,
    workspace::{self, Workspace},
};

/// The toolchain's own checkers.
pub struct RustTools;

const COMPONENTS: [(&str, &str); 2] = [("clippy", "clippy"), ("rustfmt", "fmt")];

impl Step for RustTools {
    fn name(&self) -> &'static str {
        "rust tools"
    }

    fn check(&self, workspace: &Workspace) -> Result<Finding> {
        let missing = missing(workspace);
        Ok(if missing.is_empty() {
            let rustc = Rustc::query(workspace)?;
            Finding::Ready(format!("rustc {} ({}), clippy, rustfmt", rustc.release, rustc.host))
        } else {
            Finding::Missing(missing.join(", "))
        })
    }

    fn install(&self, workspace: &Workspace) -> Result<()> {
        let missing = missing(workspace);
        if process::find_program("rustup").is_none() {
            bail!("cargo lacks {0}\ncure: install {0} of the very version of your rustc", missing.join(" and "));
        }
        let mut command = Command::new("rustup");
        command.args(["component", "add"]).args(&missing).current_dir(workspace.root());
        process::logged("rustup component add", &mut command, &workspace.log("rust-tools"))
            .context("rustup cannot add its components: is there a network?")
    }
}

fn missing(workspace: &Workspace) -> Vec<&'static str> {
    let is_missing = |subcommand: &str| {
        let mut command = workspace::cargo();
        process::output(command.args([subcommand, "--version"]).current_dir(workspace.root())).is_err()
    };
    COMPONENTS.iter().filter(|(_, subcommand)| is_missing(subcommand)).map(|(component, _)| *component).collect()
}
