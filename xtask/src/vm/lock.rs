//! `vm-images/lock.toml`: which version of which package, and the hash of its file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use naam_vm::{
    Places,
    describe::{self, Architecture, Kernel, Role},
};
use serde::Deserialize;

use super::{packages::Archive, verbs_sys};
use crate::workspace::Workspace;

const HEAD: &str = "\
# Debian's packages that the images are made of. Written by `cargo xtask vm lock`; apt checks the archive's signature,
# and every file that is fetched later has to have the hash that stands here.
";

/// A kernel's image comes in one package or in several; others that it depends on serve its installation only.
const KERNEL_PARTS: [&str; 4] = ["linux-image-", "linux-binary-", "linux-modules-", KERNEL_BASE];
/// Debian removes it from the archive before the image that it belongs to.
const KERNEL_BASE: &str = "linux-base-";

/// A package that a description asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// The suite of Debian's archive.
    pub suite: String,
    /// What it runs on.
    pub architecture: Architecture,
    /// The package, or one that depends on those that are meant.
    pub package: String,
}

/// A package that is locked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// The suite of Debian's archive.
    pub suite: String,
    /// What it runs on.
    pub architecture: Architecture,
    /// What the description asks for.
    pub wanted: String,
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its file.
    pub sha256: String,
}

/// The lock file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    #[serde(default, rename = "package")]
    packages: Vec<Locked>,
}

impl Lock {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is not there or not understood.
    pub fn read(places: &Places) -> Result<Self> {
        let path = path(places);
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}\ncure: cargo xtask vm lock", path.display()))?;
        toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    /// What is locked for a wish.
    ///
    /// # Errors
    /// When nothing is.
    pub fn packages(&self, wanted: &Wanted) -> Result<Vec<&Locked>> {
        let serves = |locked: &&Locked| {
            (&locked.suite, locked.architecture, &locked.wanted)
                == (&wanted.suite, wanted.architecture, &wanted.package)
        };
        let found: Vec<_> = self.packages.iter().filter(serves).collect();
        if found.is_empty() {
            let Wanted { suite, architecture, package } = wanted;
            bail!(
                "vm-images/lock.toml has no package for `{package}` of {suite}, {}\ncure: cargo xtask vm lock",
                architecture.debian()
            );
        }
        Ok(found)
    }

    fn to_toml(&self) -> String {
        let mut text = HEAD.to_owned();
        for Locked { suite, architecture, wanted, package, version, sha256 } in &self.packages {
            let architecture = architecture.debian();
            text += &format!(
                "\n[[package]]\nsuite = {suite:?}\narchitecture = {architecture:?}\nwanted = {wanted:?}\n\
                 package = {package:?}\nversion = {version:?}\nsha256 = {sha256:?}\n"
            );
        }
        text
    }
}

/// Asks Debian's archive what there is now for everything that `vm-images/` describes, and writes the file anew.
///
/// # Errors
/// When the archive cannot be reached, or lacks a package.
pub fn update(workspace: &Workspace, places: &Places) -> Result<()> {
    let before = Lock::read(places).unwrap_or_default();
    let mut archives = BTreeMap::new();
    let mut lock = Lock::default();
    for wanted in wishes(places)? {
        let key = (wanted.suite.clone(), wanted.architecture);
        let archive = match archives.entry(key) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Archive::fetch(workspace, places, &wanted.suite, wanted.architecture)?)
            }
        };
        lock.packages.extend(resolve(archive, &wanted)?);
    }
    let path = path(places);
    fs::write(&path, lock.to_toml()).with_context(|| format!("cannot write {}", path.display()))?;
    for locked in lock.packages.iter().filter(|locked| !before.packages.contains(locked)) {
        let Locked { suite, architecture, package, version, .. } = locked;
        println!("  {package} {version}  ({suite}, {})", architecture.debian());
    }
    println!("{}: {} packages", workspace.shorten(&path), lock.packages.len());
    Ok(())
}

/// Everything that the descriptions ask for. A role's packages are wanted for every architecture that has a kernel.
fn wishes(places: &Places) -> Result<BTreeSet<Wanted>> {
    let mut wishes = BTreeSet::from([verbs_sys::header()]);
    let mut architectures = BTreeSet::new();
    for name in describe::names(places, "kernels")? {
        let kernel = Kernel::load(places, &name)?;
        architectures.insert(kernel.architecture);
        wishes.insert(Wanted { suite: kernel.suite, architecture: kernel.architecture, package: kernel.package });
    }
    for name in describe::names(places, "roles")? {
        let role = Role::load(places, &name)?;
        for &architecture in &architectures {
            wishes.extend(role.packages.iter().map(|package| Wanted {
                suite: role.suite.clone(),
                architecture,
                package: package.clone(),
            }));
        }
    }
    Ok(wishes)
}

/// The package itself, or for a kernel all packages that it consists of, as the archive has them now.
///
/// # Errors
/// When the archive lacks one.
pub fn resolve(archive: &Archive, wanted: &Wanted) -> Result<Vec<Locked>> {
    let is_part = |name: &str| KERNEL_PARTS.iter().any(|part| name.starts_with(part));
    let mut names = vec![wanted.package.clone()];
    let mut locked = Vec::new();
    let mut next = 0;
    while let Some(name) = names.get(next).cloned() {
        next += 1;
        let offer = match archive.offer(&name) {
            Err(_) if name.starts_with(KERNEL_BASE) => continue,
            offer => offer?,
        };
        if is_part(&wanted.package) {
            for depend in offer.depends.iter().filter(|depend| is_part(depend)) {
                if !names.contains(depend) {
                    names.push(depend.clone());
                }
            }
        }
        locked.push(Locked {
            suite: wanted.suite.clone(),
            architecture: wanted.architecture,
            wanted: wanted.package.clone(),
            package: name,
            version: offer.version,
            sha256: offer.sha256,
        });
    }
    Ok(locked)
}

fn path(places: &Places) -> PathBuf {
    places.descriptions().join("lock.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_back_as_it_was() {
        let locked = |wanted: &str, package: &str| Locked {
            suite: "trixie".to_owned(),
            architecture: Architecture::Arm64,
            wanted: wanted.to_owned(),
            package: package.to_owned(),
            version: "1:6.12~rc1-1+b2".to_owned(),
            sha256: "00ff".to_owned(),
        };
        let packages = vec![locked("linux-image-arm64", "linux-image-6.12-arm64"), locked("libc6", "libc6")];
        let lock = Lock { packages };
        assert_eq!(toml::from_str::<Lock>(&lock.to_toml()).unwrap(), lock);

        let mut wanted = Wanted {
            suite: "trixie".to_owned(),
            architecture: Architecture::Arm64,
            package: "linux-image-arm64".to_owned(),
        };
        assert_eq!(lock.packages(&wanted).unwrap()[0].package, "linux-image-6.12-arm64");
        wanted.architecture = Architecture::Amd64;
        assert!(lock.packages(&wanted).unwrap_err().to_string().contains("cargo xtask vm lock"));
    }

    #[test]
    fn the_lock_in_the_checkout_has_all_that_is_described() {
        let places = Places::locate();
        let lock = Lock::read(&places).unwrap();
        for wanted in wishes(&places).unwrap() {
            lock.packages(&wanted).unwrap();
        }
    }
}
