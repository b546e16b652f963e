//! Handlers in C: one file, one object, by clang.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context as _, Result};

use super::Built;
use crate::{process, workspace::Workspace};

const SOURCES: &str = "naam-ebpf/handlers/c";
/// Where `naam.h` is.
const INCLUDE: &str = "naam-ebpf/handler/include";
const FLAGS: [&str; 9] =
    ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fno-stack-protector"];

/// Compiles those that are older than anything they include.
pub(super) fn build(workspace: &Workspace) -> Result<Vec<Built>> {
    let sources = workspace.root().join(SOURCES);
    if !sources.is_dir() {
        return Ok(Vec::new());
    }
    let out = workspace.target().join("ebpf/c");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut built = Vec::new();
    for entry in fs::read_dir(&sources).with_context(|| format!("cannot read {}", sources.display()))? {
        let source = entry?.path();
        if source.extension().is_none_or(|extension| extension != "c") {
            continue;
        }
        let name = source.file_stem().context("a source has no name")?.to_string_lossy().into_owned();
        let file = out.join(format!("{name}.o"));
        compile(workspace, &source, &file)?;
        built.push(Built { name, file });
    }
    Ok(built)
}

fn compile(workspace: &Workspace, source: &Path, object: &Path) -> Result<()> {
    let inputs = object.with_extension("d");
    if is_fresh(object, &inputs) {
        return Ok(());
    }
    let mut command = Command::new("clang");
    command.current_dir(workspace.root()).args(FLAGS).arg("-I").arg(workspace.root().join(INCLUDE));
    command.args(["-MD", "-MF"]).arg(&inputs).arg("-c").arg(source).arg("-o").arg(object);
    process::inherit(&mut command).with_context(|| format!("{} does not build", workspace.shorten(source)))
}

fn is_fresh(object: &Path, inputs: &Path) -> bool {
    let Some(built) = modified(object) else { return false };
    // A changed flag counts as well, and flags are in this program.
    let own = std::env::current_exe().ok();
    let Ok(rule) = fs::read_to_string(inputs) else { return false };
    parse_inputs(&rule).into_iter().chain(own).all(|input| modified(&input).is_some_and(|time| time < built))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// The right side of the make rule that clang writes: `object: source header \` and so on.
fn parse_inputs(rule: &str) -> Vec<PathBuf> {
    let Some((_, inputs)) = rule.split_once(": ") else { return Vec::new() };
    inputs.split_whitespace().filter(|word| *word != "\\").map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_of_a_make_rule() {
        let rule = "target/ebpf/c/echo.o: naam-ebpf/handlers/c/echo.c \\\n  naam-ebpf/handler/include/naam.h\n";
        let expected = ["naam-ebpf/handlers/c/echo.c", "naam-ebpf/handler/include/naam.h"].map(PathBuf::from);
        assert_eq!(parse_inputs(rule), expected);
        assert_eq!(parse_inputs("").len(), 0);
    }
}
