//! `cargo xtask vm`: virtual machines with other kernels, processors and network cards.
//!
//! `vm-images/` describes kernels, roles and topologies; `naam-vm` boots them. Here are images made: kernel and packages
//! out of Debian's archive, locked by version and hash, and the programs of this workspace.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use naam_vm::{
    Places, Topology,
    describe::{self, Architecture, Kernel},
};

use crate::{process, setup, workspace::Workspace};

mod cpio;
mod image;
mod lock;
mod matrix;
mod modules;
mod packages;
mod programs;
mod run;
mod sysroot;
pub mod test;
pub mod verbs_sys;

/// What to do with machines.
#[derive(Subcommand)]
pub enum Action {
    /// Build the images of all topologies, or of some; install QEMU if it is missing
    Build {
        /// Topologies [default: all]
        topologies: Vec<String>,
        /// Give every machine that is called `host` this kernel
        #[arg(long)]
        kernel: Option<String>,
    },
    /// Boot a topology with NAAM serving, and open a shell in one of its machines
    Run(run::Options),
    /// Run the tests in machines and count them
    Test(test::Options),
    /// Run the tests on every kernel, and write kernel-notes/kernels.md
    Matrix {
        /// Only these kernels
        kernels: Vec<String>,
    },
    /// Take the newest packages of Debian's archive: writes vm-images/lock.toml
    Lock,
    /// Show what vm-images describes
    List,
}

/// Does it.
///
/// # Errors
/// When a part of it fails.
pub fn run(workspace: &Workspace, action: &Action) -> Result<()> {
    let places = Places::new(workspace.root(), workspace.target());
    match action {
        Action::Build { topologies, kernel } => {
            let names =
                if topologies.is_empty() { describe::names(&places, "topologies")? } else { topologies.clone() };
            let mut images = BTreeSet::new();
            for name in &names {
                images.extend(images_of(&Topology::load(&places, name)?, kernel.as_deref()));
            }
            build(workspace, &places, &images)
        }
        Action::Run(options) => run::run(workspace, &places, options),
        Action::Test(options) => test::run(workspace, &places, options),
        Action::Matrix { kernels } => matrix::run(workspace, &places, kernels),
        Action::Lock => lock::update(workspace, &places),
        Action::List => list(&places),
    }
}

/// Says that a machine cannot be made here for want of something from elsewhere: not a fault of what is tested.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be had here")]
pub struct Unobtainable {
    /// What is missing.
    what: &'static str,
}

/// What is not for want of a network or of rights: nobody shall take it for a reason to leave tests out.
const FAULTS: [&str; 7] =
    ["NO_PUBKEY", "BADSIG", "GPG error", "is not signed", "Could not get lock", "Hash Sum mismatch", "No space left"];

/// An error of fetching or installing `what`, which [cannot be had](Unobtainable) here unless it is a fault.
fn unobtainable(error: anyhow::Error, what: &'static str) -> anyhow::Error {
    let text = process::explain(&error);
    if FAULTS.iter().any(|fault| text.contains(fault)) { error } else { error.context(Unobtainable { what }) }
}

/// The machine that another kernel is for.
const HOST: &str = "host";

/// Role and kernel of every machine of a topology.
fn images_of(topology: &Topology, kernel: Option<&str>) -> BTreeSet<(String, String)> {
    let kernel_of = |vm: &describe::Vm| match kernel {
        Some(kernel) if vm.name == HOST => kernel.to_owned(),
        _ => vm.kernel.clone(),
    };
    topology.vms().iter().map(|vm| (vm.role.clone(), kernel_of(vm))).collect()
}

/// Sets up and builds images, as far as they are not there.
fn build(workspace: &Workspace, places: &Places, images: &BTreeSet<(String, String)>) -> Result<()> {
    let mut cross = false;
    for (_, kernel) in images {
        cross |= Architecture::native() != Some(Kernel::load(places, kernel)?.architecture);
    }
    if Architecture::native().is_none() {
        bail!("machines are known for amd64 and arm64 only, and this is {}", std::env::consts::ARCH);
    }
    setup::ensure(workspace)?;
    setup::ensure_vm(workspace, cross).map_err(|error| unobtainable(error, "QEMU"))?;
    let _alone = alone(places)?;
    let mut builder = image::Builder::new(workspace, places)?;
    images.iter().try_for_each(|(role, kernel)| builder.build(role, kernel))
}

/// Waits until no other build changes what this one does: a lock that is held until the file is closed.
fn alone(places: &Places) -> Result<fs::File> {
    let path = places.target().join("build.lock");
    let locked = fs::create_dir_all(places.target()).and_then(|()| fs::File::create(&path)).and_then(|file| {
        file.lock()?;
        Ok(file)
    });
    locked.with_context(|| format!("cannot lock {}", path.display()))
}

fn list(places: &Places) -> Result<()> {
    for name in describe::names(places, "topologies")? {
        let topology = Topology::load(places, &name)?;
        println!("{name}: {}", topology.description());
        for vm in topology.vms() {
            let nics: Vec<_> = vm.nic.iter().map(|nic| nic.network.as_str()).collect();
            println!("  {:10} {} on {}, joined to {}", vm.name, vm.role, vm.kernel, nics.join(", "));
        }
    }
    println!("kernels: {}", describe::names(places, "kernels")?.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_out_of_reach_makes_skips() {
        let of = |text: &str| unobtainable(anyhow::anyhow!(text.to_owned()), "QEMU");
        assert!(of("Could not resolve 'mirror.example'").downcast_ref::<Unobtainable>().is_some());
        assert!(of("E: The repository 'x' is not signed.").downcast_ref::<Unobtainable>().is_none());
        assert!(of("E: Could not get lock /x").context("more").downcast_ref::<Unobtainable>().is_none());
    }

    #[test]
    fn builds_wait_for_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path(), dir.path());
        let held = alone(&places).unwrap();
        let other = fs::File::open(dir.path().join("vm/build.lock")).unwrap();
        assert!(other.try_lock().is_err());
        drop(held);
        other.try_lock().unwrap();
    }
}
