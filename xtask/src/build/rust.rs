//! BPF programs in Rust.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Built;
use crate::{
    process,
    toolchain::{self, Rustc},
    workspace::{self, Workspace},
};

/// bpf-linker makes the BTF that the loader and bpftool read; v3 has the atomics and 32-bit jumps.
/// Packets start at odd offsets: without the feature every unaligned word is eight byte accesses.
const RUSTFLAGS: [&str; 10] = [
    "-C",
    "linker=bpf-linker",
    "-C",
    "debuginfo=2",
    "-C",
    "link-arg=--btf",
    "-C",
    "target-cpu=v3",
    "-C",
    "link-arg=--cpu-features=+allows-misaligned-mem-access",
];

/// Builds all programs of all BPF crates in one go.
pub(super) fn build(workspace: &Workspace) -> Result<Vec<Built>> {
    if workspace.bpf_packages().next().is_none() {
        return Ok(Vec::new());
    }
    let mut command = cargo(workspace, "build")?;
    command.args(["--release", "--bins", "--message-format=json-render-diagnostics"]);
    select_packages(workspace, &mut command);
    let line = process::shown(&command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("`{line}` cannot be started"))?;
    if !output.status.success() {
        bail!("the BPF programs do not build; the compiler's messages are above, the command was\n    {line}");
    }
    parse_executables(&String::from_utf8_lossy(&output.stdout))
}

/// cargo with everything that BPF takes: target, linker, standard library from source, its own target folder.
///
/// # Errors
/// When bpf-linker or the source is missing: then set-up has not run.
pub fn cargo(workspace: &Workspace, subcommand: &str) -> Result<Command> {
    let rustc = Rustc::query(workspace)?;
    let linker = toolchain::find_bpf_linker(workspace).context("bpf-linker is missing\ncure: cargo xtask setup")?;
    let source = toolchain::find_source(workspace, &rustc)
        .with_context(|| format!("the source of rustc {} is missing\ncure: cargo xtask setup", rustc.release))?;

    let mut command = workspace::cargo();
    command.arg(subcommand).current_dir(workspace.root());
    command.args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"]);
    // Build scripts look at RUSTC_BOOTSTRAP: in one folder, host and BPF builds would undo each other's work.
    command.arg("--target-dir").arg(workspace.target().join("ebpf"));
    command.env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    if source != rustc.sysroot_source() {
        // The only way to name a source outside of the sysroot. It is cargo's own, for its tests, and rustc is pinned.
        command.env("__CARGO_TESTS_ONLY_SRC_ROOT", &source);
    }
    let linker_dir = linker.parent().context("bpf-linker lies in no folder")?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(linker_dir).chain(std::env::split_paths(&path)))
        .context("PATH cannot be extended by bpf-linker's folder")?;
    command.env("PATH", path);
    Ok(command)
}

/// Names all BPF crates on the command line.
pub fn select_packages(workspace: &Workspace, command: &mut Command) {
    for package in workspace.bpf_packages() {
        command.args(["-p", &package.name]);
    }
}

fn parse_executables(messages: &str) -> Result<Vec<Built>> {
    let mut built = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).with_context(|| format!("cargo wrote no JSON: {line}"))?;
        if message["reason"] == "compiler-artifact"
            && let (Some(name), Some(file)) = (message["target"]["name"].as_str(), message["executable"].as_str())
        {
            built.push(Built { name: name.to_owned(), file: PathBuf::from(file) });
        }
    }
    Ok(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_are_objects() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"core"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"echo"},"executable":"/t/release/echo"}
{"reason":"build-finished","success":true}"#;
        let built = parse_executables(messages).unwrap();
        assert_eq!(built.len(), 1);
        assert_eq!((built[0].name.as_str(), built[0].file.to_str()), ("echo", Some("/t/release/echo")));
        assert!(parse_executables("not json").is_err());
    }
}
