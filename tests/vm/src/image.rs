//! An image: what `cargo xtask vm build` makes of a role and a kernel.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Error, Places, describe::Architecture};

/// The manifest's file in the image's folder. It is written last: without it there is no image.
pub const MANIFEST: &str = "image.json";
/// The kernel's file in the image's folder.
pub const KERNEL: &str = "kernel";
/// The first file system's file in the image's folder.
pub const INITRD: &str = "initrd";

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What it runs on.
    pub architecture: Architecture,
    /// Memory of a machine.
    pub memory_mib: u32,
    /// Processors of a machine.
    pub cpus: u32,
    /// What `uname -r` says.
    pub release: String,
    /// A hash of all that went in.
    pub key: String,
}

/// An image that is there.
#[derive(Clone, Debug)]
pub struct Image {
    dir: PathBuf,
    manifest: Manifest,
}

impl Image {
    /// The image of a role and a kernel.
    pub fn name(role: &str, kernel: &str) -> String {
        format!("{role}-{kernel}")
    }

    /// Opens one.
    ///
    /// # Errors
    /// When it was not built.
    pub fn open(places: &Places, name: &str) -> Result<Self, Error> {
        let dir = places.image(name);
        let path = dir.join(MANIFEST);
        let missing = |problem: String| Error::NoImage { name: name.to_owned(), path: path.clone(), problem };
        let text = fs::read(&path).map_err(|error| missing(error.to_string()))?;
        let manifest = serde_json::from_slice(&text).map_err(|error| missing(error.to_string()))?;
        Ok(Self { dir, manifest })
    }

    /// What is known of it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join(KERNEL)
    }

    /// The first file system.
    pub fn initrd(&self) -> PathBuf {
        self.dir.join(INITRD)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
