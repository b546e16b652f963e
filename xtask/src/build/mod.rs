//! `cargo xtask build`: BPF objects into `target/bpf/`, then the userspace programs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process, setup,
    workspace::{self, Workspace},
};

mod c;
pub mod rust;

/// A BPF object that is ready to load.
pub struct Object {
    /// Its name: the program's in Cargo.toml, or the C file's without `.c`.
    pub name: String,
    /// `target/bpf/NAME.o`.
    pub path: PathBuf,
}

/// The package whose programs users run.
const USER_PACKAGE: &str = "naam-cli";

/// Sets up the machine if need be and builds everything.
///
/// # Errors
/// When something does not compile, or the machine cannot be set up.
pub fn run(workspace: &Workspace) -> Result<()> {
    setup::ensure(workspace)?;
    let objects = all(workspace)?;
    if objects.is_empty() {
        println!("no BPF programs (no crate with `[package.metadata.naam] bpf = true`, no C handlers)");
    }
    for object in &objects {
        let size = fs::metadata(&object.path).map(|file| file.len()).unwrap_or(0);
        println!("  {:24} {:>8} bytes  {}", object.name, size, workspace.shorten(&object.path));
    }
    Ok(())
}

/// Builds everything on a machine that is set up.
///
/// # Errors
/// When something does not compile.
pub fn all(workspace: &Workspace) -> Result<Vec<Object>> {
    let objects = objects(workspace)?;
    user_programs(workspace)?;
    Ok(objects)
}

/// Builds all BPF objects, as far as their inputs changed, and says where they are.
///
/// # Errors
/// When one does not compile, or two have the same name.
pub fn objects(workspace: &Workspace) -> Result<Vec<Object>> {
    let dir = workspace.target().join("bpf");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut objects = BTreeMap::new();
    for built in rust::build(workspace)?.into_iter().chain(c::build(workspace)?) {
        let path = dir.join(format!("{}.o", built.name));
        copy_if_changed(&built.file, &path)?;
        if objects.insert(built.name.clone(), path).is_some() {
            bail!("two BPF programs are called `{}`: rename one, both would be {}.o", built.name, built.name);
        }
    }
    remove_stale(&dir, &objects)?;
    Ok(objects.into_iter().map(|(name, path)| Object { name, path }).collect())
}

/// What a compiler made.
struct Built {
    name: String,
    file: PathBuf,
}

fn user_programs(workspace: &Workspace) -> Result<()> {
    if !workspace.has_package(USER_PACKAGE) {
        return Ok(());
    }
    let mut command = workspace::cargo();
    command.args(["build", "--release", "-p", USER_PACKAGE]).current_dir(workspace.root());
    process::inherit(&mut command).context("the userspace programs do not build")
}

/// Keeps the time of an unchanged object, so that nothing that depends on it is built again.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    // Whoever opens the object meanwhile sees the old one or the new one.
    let partial = to.with_extension(format!("{}.partial", std::process::id()));
    fs::write(&partial, &new).with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, to).with_context(|| format!("cannot write {}", to.display()))
}

/// An object whose source is gone must not be loaded by mistake.
fn remove_stale(dir: &Path, objects: &BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "o") && !objects.values().any(|known| *known == path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
