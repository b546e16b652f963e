//! Debian's packages: fetched once, checked against the lock, unpacked once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use naam_vm::{Places, describe::Architecture};
use sha2::{Digest as _, Sha256};

use super::{lock::Locked, unobtainable};
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

    fn has(&self, package: &str, version: &str) -> Result<bool> {
        Ok(self.apt.versions(package)?.iter().any(|offered| offered == version))
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

/// Debian has put another version in the place of a locked one.
#[derive(Debug, thiserror::Error)]
#[error("{suite} has no {package} {version} any more\ncure: `cargo xtask vm lock` takes the new version")]
pub struct Replaced {
    suite: String,
    package: String,
    version: String,
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
    /// When it can neither be found nor fetched, or is not what was locked. [`Replaced`] is among them.
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
        // A rename: the folder is either absent or whole.
        fs::rename(&partial, &dir)
            .with_context(|| format!("cannot rename {} to {}", partial.display(), dir.display()))?;
        Ok(dir)
    }

    /// An archive, whose lists are fetched when it is first asked for.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn archive(&mut self, suite: &str, architecture: Architecture) -> Result<&Archive> {
        let key = (suite.to_owned(), architecture);
        let known = self.archives.iter().position(|(known, _)| *known == key);
        let index = match known {
            Some(index) => index,
            None => {
                let archive = Archive::fetch(self.workspace, self.places, suite, architecture);
                self.archives.push((key, archive.map_err(|error| unobtainable(error, "Debian's package archive"))?));
                self.archives.len() - 1
            }
        };
        Ok(&self.archives[index].1)
    }

    fn fetch(&mut self, locked: &Locked) -> Result<PathBuf> {
        let Locked { suite, architecture, package, version, .. } = locked;
        let archive = self.archive(suite, *architecture)?;
        if !archive.has(package, version)? {
            let (suite, package, version) = (suite.clone(), package.clone(), version.clone());
            return Err(Replaced { suite, package, version }.into());
        }
        let file = archive.apt.download(package, version, &archive.log);
        file.with_context(|| format!("cannot fetch {package} {version} of {suite}"))
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
