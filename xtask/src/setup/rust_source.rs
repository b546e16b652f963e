//! The standard library's source: BPF targets have no prebuilt `core`, so it is compiled along.
//!
//! It must be of exactly the running rustc. rustup has it; where rustup cannot download, Debian's package of the same
//! version serves, fetched from the mirror that apt is configured with.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{Finding, Step, apt, is_root};
use crate::{
    process,
    toolchain::{self, Rustc},
    workspace::Workspace,
};

/// Suites of the Debian archive that carry new compilers, in the order in which they are asked.
const SUITES: [&str; 2] = ["trixie-backports", "sid"];

/// The source of `core`.
pub struct RustSource;

impl Step for RustSource {
    fn name(&self) -> &'static str {
        "rust source"
    }

    fn check(&self, workspace: &Workspace) -> Result<Finding> {
        let rustc = Rustc::query(workspace)?;
        Ok(match toolchain::find_source(workspace, &rustc) {
            Some(path) => Finding::Ready(format!("{} in {}", rustc.release, workspace.shorten(&path))),
            None => Finding::Missing(format!("the standard library's source of rustc {}", rustc.release)),
        })
    }

    fn install(&self, workspace: &Workspace) -> Result<()> {
        let rustc = Rustc::query(workspace)?;
        let Err(rustup) = from_rustup(workspace, &rustc) else { return Ok(()) };
        println!("  rustup cannot provide it, trying Debian's package");
        let Err(debian) = from_debian(workspace, &rustc) else { return Ok(()) };
        Err(anyhow!(
            "there is no standard library's source for rustc {release}\n\
             cure: with network, `rustup component add rust-src`; or put the folder `library` of the source of rustc \
             {release} at {private}\n\
             from rustup: {rustup}\n\
             from Debian: {debian}",
            release = rustc.release,
            rustup = process::explain(&rustup),
            debian = process::explain(&debian),
            private = toolchain::private_source(workspace, &rustc.release).display(),
        ))
    }
}

fn from_rustup(workspace: &Workspace, rustc: &Rustc) -> Result<()> {
    if process::find_program("rustup").is_none() {
        bail!("rustup is not installed");
    }
    let mut command = Command::new("rustup");
    command.args(["component", "add", "rust-src"]).current_dir(workspace.root());
    process::logged("rustup component add rust-src", &mut command, &workspace.log("rust-source-rustup"))?;
    if !toolchain::is_source(&rustc.sysroot_source()) {
        bail!("rustup reported success, but {} holds no source", rustc.sysroot_source().display());
    }
    Ok(())
}

fn from_debian(workspace: &Workspace, rustc: &Rustc) -> Result<()> {
    if !apt::is_available() {
        bail!("this system has no apt-get");
    }
    let mut mirrors = apt::debian_mirrors()?;
    if mirrors.is_empty() && is_root() {
        apt::update(workspace)?;
        mirrors = apt::debian_mirrors()?;
    }
    if mirrors.is_empty() {
        bail!("apt knows no Debian archive (or its lists are empty: run `apt-get update` as root)");
    }
    let mut failures = Vec::new();
    for suite in SUITES {
        for mirror in &mirrors {
            match fetch(workspace, rustc, mirror, suite) {
                Ok(()) => return Ok(()),
                Err(error) => failures.push(format!("{suite}: {}", process::explain(&error))),
            }
        }
    }
    bail!(failures.join("\n"))
}

fn fetch(workspace: &Workspace, rustc: &Rustc, mirror: &str, suite: &str) -> Result<()> {
    let log = workspace.log("rust-source-debian");
    let work = workspace.private().join("rust-src").join(format!("apt-{suite}"));
    let apt = apt::PrivateApt::new(work.clone(), mirror, suite)?;
    apt.update(&log)?;
    let versions = apt.versions("rust-src")?;
    let version = matching(&versions, &rustc.release)
        .with_context(|| format!("no rust-src of version {}, only {}", rustc.release, versions.join(", ")))?;
    let package = apt.download("rust-src", version, &log)?;
    unpack(&package, &work.join("unpacked"), &toolchain::private_source(workspace, &rustc.release), rustc)?;
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
}

/// The first of `versions` (Debian's, e.g. `1.95.0+dfsg1-2~bpo13+1`) whose upstream part is `release`.
fn matching<'a>(versions: &'a [String], release: &str) -> Option<&'a str> {
    versions.iter().map(String::as_str).find(|version| upstream(version) == release)
}

fn upstream(version: &str) -> &str {
    let after_epoch = version.split_once(':').map_or(version, |(_, rest)| rest);
    after_epoch.split(['+', '-', '~']).next().unwrap_or(after_epoch)
}

fn unpack(package: &Path, scratch: &Path, library: &Path, rustc: &Rustc) -> Result<()> {
    process::output(Command::new("dpkg-deb").arg("-x").args([package, scratch]))?;
    let unpacked = scratch.join("usr/src").join(format!("rustc-{}", rustc.release)).join("library");
    if !toolchain::is_source(&unpacked) {
        bail!("{} does not hold the standard library's source where expected", package.display());
    }
    let parent = library.parent().context("the source's folder has no parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    // A rename: the folder is either absent or whole, also if we are stopped half-way.
    fs::rename(&unpacked, library).with_context(|| format!("cannot move the source to {}", library.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_version_matches() {
        let versions =
            ["1.96.1+dfsg1-2~bpo13+1", "1.95.0+dfsg1-3", "1.95.0+dfsg1-2~bpo13+1", "1.9.0-1"].map(String::from);
        assert_eq!(matching(&versions, "1.95.0"), Some("1.95.0+dfsg1-3"));
        assert_eq!(matching(&versions, "1.9.0"), Some("1.9.0-1"));
        assert_eq!(matching(&versions, "1.95.1"), None);
        assert_eq!(matching(&versions, "1.9"), None);
        assert_eq!(upstream("2:1.95.0~beta"), "1.95.0");
    }
}
