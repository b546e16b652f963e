//! Debian's packages: fetched once, checked against the lock, unpacked once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use naam_vm::{Places, describe::Architecture};
use sha2::{Digest as _, Sha256};

use super::{Unobtainable, lock::Locked};
use crate::{
    process,
    setup::{
        self,
        apt::{self, Offer, PrivateApt},
    },
    workspace::Workspace,
};

/// A suite of Debian's archive for one architecture, by an apt of its own.
pub struct Archive {
    apt: PrivateApt,
    suite: String,
    log: PathBuf,
}

impl Archive {
    /// Fetches the suite's list of packages from the mirror that apt is configured with.
    ///
    /// # Errors
    /// When no mirror has it, or the signature is not good.
    pub fn fetch(workspace: &Workspace, places: &Places, suite: &str, architecture: Architecture) -> Result<Self> {
        let log = workspace.log("vm-apt");
        let mut mirrors = apt::debian_mirrors()?;
        if mirrors.is_empty() && setup::is_root() {
            apt::update(workspace)?;
            mirrors = apt::debian_mirrors()?;
        }
        if mirrors.is_empty() {
            bail!("apt knows no Debian archive\ncure: put a Debian mirror into apt's sources, then `apt-get update`");
        }
        let root = places.target().join("apt").join(format!("{suite}-{}", architecture.debian()));
        let mut failures = Vec::new();
        for mirror in mirrors {
            let apt = PrivateApt::new(root.clone(), &mirror, suite)?.of_architecture(architecture.debian());
            match apt.update(&log) {
                Ok(()) => return Ok(Self { apt, suite: suite.to_owned(), log }),
                Err(error) => failures.push(process::explain(&error)),
            }
        }
        bail!("no mirror that apt is configured with has {suite} for {architecture:?}\n{}", failures.join("\n"));
    }

    /// The newest version of a package.
    ///
    /// # Errors
    /// When there is none.
    pub fn offer(&self, package: &str) -> Result<Offer> {
        let offers = self.apt.offers(package)?;
        offers.into_iter().next().with_context(|| format!("suite {} has no package {package}", self.suite))
    }
}

/// The packages of a build: fetches those that are not there yet.
pub struct Store<'a> {
    workspace: &'a Workspace,
    places: &'a Places,
    archives: Vec<((String, Architecture), Archive)>,
}

impl<'a> Store<'a> {
    /// One that keeps everything in `target/vm`.
    pub fn new(workspace: &'a Workspace, places: &'a Places) -> Self {
        Self { workspace, places, archives: Vec::new() }
    }

    /// The folder with a package's files.
    ///
    /// # Errors
    /// When it can neither be found nor fetched, or is not what was locked.
    pub fn unpacked(&mut self, locked: &Locked) -> Result<PathBuf> {
        // Its hash names it: whatever has that name has that content.
        let dir = self.places.target().join("packages").join(format!("{}-{}", locked.package, &locked.sha256[..16]));
        if dir.is_dir() {
            return Ok(dir);
        }
        let file = self.fetch(locked)?;
        check(&file, &locked.sha256)?;
        let partial = dir.with_added_extension(format!("{}.partial", std::process::id()));
        fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        process::output(Command::new("dpkg-deb").arg("-x").args([&file, &partial]))?;
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        // A rename: the folder is either absent or whole. Another build may have been faster.
        if fs::rename(&partial, &dir).is_err() {
            fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        }
        Ok(dir)
    }

    fn fetch(&mut self, locked: &Locked) -> Result<PathBuf> {
        let Locked { suite, architecture, package, version, .. } = locked;
        let key = (suite.clone(), *architecture);
        if !self.archives.iter().any(|(known, _)| *known == key) {
            let archive = Archive::fetch(self.workspace, self.places, suite, *architecture);
            let archive = archive.context(Unobtainable { what: "Debian's package archive" })?;
            self.archives.push((key.clone(), archive));
        }
        let archive = self.archives.iter().find(|(known, _)| *known == key).map(|(_, archive)| archive);
        let archive = archive.context("the archive was just added")?;
        archive.apt.download(package, version, &archive.log).with_context(|| {
            format!(
                "cannot fetch {package} {version} of {suite}\n\
                 cure: if Debian has replaced this version, `cargo xtask vm lock` takes the new one"
            )
        })
    }
}

fn check(file: &Path, sha256: &str) -> Result<()> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let found = hex(&Sha256::digest(&bytes));
    if found != sha256 {
        bail!(
            "{} is not the file that was locked: its SHA-256 is {found}, the lock says {sha256}\n\
             cure: `cargo xtask vm lock`, and look at what `git diff vm-images` says has changed",
            file.display()
        );
    }
    Ok(())
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_than_the_locked_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.deb");
        fs::write(&file, "abc").unwrap();
        let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check(&file, right).unwrap();
        fs::write(&file, "abd").unwrap();
        assert!(check(&file, right).unwrap_err().to_string().contains("not the file that was locked"));
    }
}
