//! `cargo xtask verbs-sys`: the bindings to libibverbs, generated again and compared with those in the repository.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use naam_vm::{Places, describe::Architecture};

use super::{
    lock::{Lock, Wanted},
    packages::Store,
};
use crate::{
    process, setup,
    workspace::{self, Workspace},
};

const BINDINGS: &str = "naam-user/verbs-sys/bindings/verbs.rs";
/// Where the header's inline calls are written out in Rust, and what they are there.
const TRANSCRIBED: &str = "naam-user/verbs-sys/src/lib.rs";

/// The package with the header: the very version that the machines with RDMA run.
pub fn header() -> Wanted {
    Wanted { suite: "trixie".to_owned(), architecture: Architecture::Amd64, package: "libibverbs-dev".to_owned() }
}

/// Generates them, and writes or compares.
///
/// # Errors
/// When they cannot be generated, when the header's inline calls are others than those transcribed, or, unless they are to
/// be written, when they are not the same.
pub fn run(workspace: &Workspace, write: bool) -> Result<()> {
    if Architecture::native() != Some(Architecture::Amd64) {
        bail!("the sizes that the bindings assert are those of x86-64\ncure: run this on an x86-64 machine");
    }
    setup::ensure(workspace)?;
    let places = Places::new(workspace.root(), workspace.target());
    let lock = Lock::read(&places)?;
    let mut store = Store::new(workspace, &places);
    let [locked] = lock.packages(&header())?[..] else { bail!("the lock has several packages for the header") };
    let include = store.unpacked(locked)?.join("usr/include");
    check_inline(workspace, &include)?;

    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "-p", "naam-verbs-sys", "--features", "generate", "--bin", "generate", "--"]);
    command.arg(&include).current_dir(workspace.root());
    let generated = process::output(&mut command).context(
        "the bindings cannot be generated\ncure: bindgen takes libclang: apt-get install libclang1-14 or newer",
    )?;
    let path = workspace.root().join(BINDINGS);
    if write {
        fs::write(&path, generated).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{BINDINGS}: of libibverbs-dev {}", locked.version);
        return Ok(());
    }
    let kept = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if kept != generated {
        bail!("{BINDINGS} is not what libibverbs-dev {} gives\ncure: cargo xtask verbs-sys --write", locked.version);
    }
    println!("{BINDINGS}: the same as generated of libibverbs-dev {}", locked.version);
    Ok(())
}

/// Three calls are inline functions, written out in Rust: the header has to say the same still.
fn check_inline(workspace: &Workspace, include: &Path) -> Result<()> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let (header, ours) = (read(&include.join("infiniband/verbs.h"))?, read(&workspace.root().join(TRANSCRIBED))?);
    let bodies: Vec<&str> = ours.split('"').filter(|text| text.starts_with("return ")).collect();
    if bodies.is_empty() {
        bail!("{TRANSCRIBED} names none of the header's inline calls");
    }
    for body in bodies {
        if !header.lines().any(|line| line.trim() == body) {
            bail!("the header no longer has `{body}`\ncure: write the inline call out anew in {TRANSCRIBED}");
        }
    }
    Ok(())
}
