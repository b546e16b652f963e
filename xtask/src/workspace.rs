//! Where things are, and what the workspace consists of.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process;

/// The checkout that this xtask belongs to.
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
    packages: Vec<Package>,
}

/// A member of the workspace.
pub struct Package {
    /// Its name in `-p NAME`.
    pub name: String,
    /// Runs in the kernel: `[package.metadata.naam] bpf = true`.
    pub is_bpf: bool,
    /// Compiles for this machine too: everything but BPF crates without a library that has tests.
    pub is_host: bool,
    /// Names of its integration tests.
    pub tests: Vec<String>,
}

impl Workspace {
    /// Asks cargo about the checkout.
    ///
    /// # Errors
    /// When cargo cannot read the workspace's manifests.
    pub fn locate() -> Result<Self> {
        // cargo sets the variable for programs that it runs; the compile-time value is for a copied binary.
        let manifest_dir =
            std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
        let mut command = cargo();
        command.args(["metadata", "--format-version=1", "--no-deps", "--manifest-path"]);
        command.arg(Path::new(&manifest_dir).join("Cargo.toml"));
        Self::from_metadata(&process::output(&mut command)?)
    }

    fn from_metadata(json: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(json).context("cargo metadata is not JSON")?;
        let path = |key: &str| -> Result<PathBuf> {
            let text = metadata[key].as_str().with_context(|| format!("cargo metadata lacks `{key}`"))?;
            Ok(PathBuf::from(text))
        };
        let packages = metadata["packages"].as_array().context("cargo metadata lacks `packages`")?;
        Ok(Self {
            root: path("workspace_root")?,
            target: path("target_directory")?,
            packages: packages.iter().map(Package::from_metadata).collect::<Result<_>>()?,
        })
    }

    /// The folder of the top-level Cargo.toml.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// cargo's target folder, `target/` unless CARGO_TARGET_DIR says otherwise.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// What set-up installs for this checkout alone; kept out of git.
    pub fn private(&self) -> PathBuf {
        self.root.join(".naam")
    }

    /// Log file of a long step.
    pub fn log(&self, step: &str) -> PathBuf {
        self.private().join("log").join(format!("{step}.log"))
    }

    /// The members that are built for the kernel.
    pub fn bpf_packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.is_bpf)
    }

    /// The members that compile for this machine; a library of handlers is here and among the BPF packages.
    pub fn host_packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.is_host)
    }

    /// Whether a member of this name exists.
    pub fn has_package(&self, name: &str) -> bool {
        self.packages.iter().any(|package| package.name == name)
    }

    /// `path` as the user knows it: relative to the checkout where it lies inside.
    pub fn shorten<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

impl Package {
    fn from_metadata(package: &Value) -> Result<Self> {
        let name = package["name"].as_str().context("cargo metadata: a package lacks a name")?;
        let is_bpf = package["metadata"]["naam"]["bpf"] == true;
        let targets = package["targets"].as_array().context("cargo metadata: a package lacks its targets")?;
        let has_kind =
            |target: &Value, kind: &str| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind));
        let tested_library = targets.iter().any(|target| has_kind(target, "lib") && target["test"] == true);
        let tests =
            targets.iter().filter(|target| has_kind(target, "test")).filter_map(|target| target["name"].as_str());
        Ok(Self {
            name: name.to_owned(),
            is_bpf,
            is_host: !is_bpf || tested_library,
            tests: tests.map(str::to_owned).collect(),
        })
    }
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_sorted_by_where_they_run() {
        let json = r#"{
            "workspace_root": "/w", "target_directory": "/w/target",
            "packages": [
                {"name": "shell", "metadata": {"naam": {"bpf": true}}, "targets": [
                    {"kind": ["bin"], "name": "entry", "test": false}, {"kind": ["lib"], "name": "shell", "test": false}]},
                {"name": "handlers", "metadata": {"naam": {"bpf": true}}, "targets": [
                    {"kind": ["bin"], "name": "echo", "test": false}, {"kind": ["lib"], "name": "handlers", "test": true}]},
                {"name": "tests", "metadata": null, "targets": [
                    {"kind": ["lib"], "name": "tests", "test": true}, {"kind": ["test"], "name": "net_echo", "test": true}]}
            ]}"#;
        let workspace = Workspace::from_metadata(json).unwrap();
        let names = |packages: Vec<&Package>| packages.iter().map(|package| package.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(workspace.bpf_packages().collect()), ["shell", "handlers"]);
        assert_eq!(names(workspace.host_packages().collect()), ["handlers", "tests"]);
        assert_eq!(workspace.packages[2].tests, ["net_echo"]);
        assert!(workspace.has_package("tests") && !workspace.has_package("cli"));
        assert_eq!(workspace.shorten(Path::new("/w/a/b")).to_string(), "a/b");
    }
}
