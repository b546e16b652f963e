//! bpf-linker: makes one BPF object of rustc's bitcode.

use anyhow::{Context as _, Result};

use super::{Finding, Step};
use crate::{
    process,
    toolchain::{self, BPF_LINKER_VERSION},
    workspace::{self, Workspace},
};

/// The linker of BPF programs, installed for this checkout alone.
pub struct BpfLinker;

impl Step for BpfLinker {
    fn name(&self) -> &'static str {
        "bpf-linker"
    }

    fn check(&self, workspace: &Workspace) -> Result<Finding> {
        Ok(match toolchain::find_bpf_linker(workspace) {
            Some(path) => Finding::Ready(format!("{BPF_LINKER_VERSION} at {}", workspace.shorten(&path))),
            None => Finding::Missing(format!("bpf-linker {BPF_LINKER_VERSION} (compiles for a minute or two)")),
        })
    }

    fn install(&self, workspace: &Workspace) -> Result<()> {
        let mut command = workspace::cargo();
        command.args(["install", "--locked", "--force", "--version", BPF_LINKER_VERSION, "--root"]);
        command.arg(workspace.private().join("tools")).arg("bpf-linker").current_dir(workspace.root());
        // Flags and folders meant for NAAM's own build are not for this one.
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET"] {
            command.env_remove(variable);
        }
        process::logged("cargo install bpf-linker", &mut command, &workspace.log("bpf-linker")).with_context(|| {
            format!(
                "bpf-linker cannot be installed: is there a network?\n\
                 cure: `cargo install --locked --version {BPF_LINKER_VERSION} bpf-linker` where it works, and put the \
                 program on PATH"
            )
        })
    }
}
