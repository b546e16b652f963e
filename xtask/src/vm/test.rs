//! `cargo xtask vm test`: the tier of tests that takes machines; and the part of it that `cargo xtask test` runs.

use std::{collections::BTreeSet, time::Instant};

use anyhow::Result;
use clap::Args;
use naam_vm::{
    Places, Topology,
    describe::{self, Architecture, Kernel},
};

use super::{Unobtainable, images_of};
use crate::{
    process,
    test::{self, TierReport},
    workspace::Workspace,
};

/// Which tests.
#[derive(Args)]
pub struct Options {
    /// Only these: a program's name such as vm_pair, or a part of a test's
    names: Vec<String>,
    /// Give the machines that are called `host` this kernel
    #[arg(long)]
    kernel: Option<String>,
}

/// Test programs that say something of a kernel, with the topology that each boots.
const OF_A_KERNEL: [(&str, &str); 3] = [("vm_kernel", "single"), ("vm_pair", "pair"), ("vm_cell", "pair")];
/// Those that besides say something of the machines and of RDMA.
const OF_MACHINES: [(&str, &str); 2] = [("vm_machine", "single"), ("vm_rdma", "rdma")];

/// Some test programs with one kernel on the host.
struct Pass {
    kernel: String,
    programs: Vec<(&'static str, &'static str)>,
}

impl Pass {
    fn images(&self, places: &Places) -> Result<BTreeSet<(String, String)>> {
        let mut images = BTreeSet::new();
        for (_, topology) in &self.programs {
            images.extend(images_of(&Topology::load(places, topology)?, Some(&self.kernel)));
        }
        Ok(images)
    }

    fn run(&self, workspace: &Workspace, places: &Places) -> Result<TierReport> {
        super::build(workspace, places, &self.images(places)?)?;
        let names: Vec<_> = self.programs.iter().map(|(program, _)| (*program).to_owned()).collect();
        test::run_vm(workspace, &names, Some(&self.kernel))
    }
}

/// Builds the images and runs the tests; the last line counts them. Without a choice: all tests with the kernels of the
/// topologies, then those of a kernel on the oldest and the newest one of each architecture.
///
/// # Errors
/// When an image cannot be built or the tests cannot run. When one fails this program ends.
pub fn run(workspace: &Workspace, places: &Places, options: &Options) -> Result<()> {
    let kernel = options.kernel.as_deref();
    let mut images = BTreeSet::new();
    for name in describe::names(places, "topologies")? {
        images.extend(images_of(&Topology::load(places, &name)?, kernel));
    }
    super::build(workspace, places, &images)?;
    let mut reports = vec![test::run_vm(workspace, &options.names, kernel)?];
    if options.names.is_empty() && kernel.is_none() {
        for kernel in outermost(&described(places)?) {
            reports.push(Pass { kernel, programs: OF_A_KERNEL.into() }.run(workspace, places)?);
        }
    }
    test::conclude(&reports, &reports);
    Ok(())
}

/// The part that `cargo xtask test` runs: this machine's architecture, its oldest kernel and its newest. Where QEMU or
/// packages are not to be had, each of its test programs is a skip.
pub fn tier(workspace: &Workspace) -> Vec<TierReport> {
    let places = Places::new(workspace.root(), workspace.target());
    let started = Instant::now();
    let mut reports = Vec::new();
    let outcome = passes(&places).and_then(|passes| {
        for pass in passes {
            let outcome = pass.run(workspace, &places);
            let missing = outcome.as_ref().err().and_then(|error| error.downcast_ref::<Unobtainable>());
            let Some(missing) = missing.map(ToString::to_string) else {
                reports.push(outcome?);
                continue;
            };
            if let Err(error) = outcome {
                println!("\n== tier vm, {}\n{}", pass.kernel, process::explain(&error));
            }
            let programs: Vec<_> = pass.programs.iter().map(|(program, _)| *program).collect();
            reports.push(TierReport::skipped(&format!("vm {}", pass.kernel), &programs, &missing));
        }
        Ok(())
    });
    if let Err(error) = outcome {
        println!("\n== tier vm\n{}", process::explain(&error));
        reports.push(TierReport::failed("vm", started.elapsed()));
    }
    reports
}

fn passes(places: &Places) -> Result<Vec<Pass>> {
    let mut kernels = described(places)?;
    kernels.retain(|(_, kernel)| Architecture::native() == Some(kernel.architecture));
    let mut passes: Vec<_> =
        outermost(&kernels).into_iter().map(|kernel| Pass { kernel, programs: OF_A_KERNEL.into() }).collect();
    if let Some(newest) = passes.last_mut() {
        newest.programs.extend(OF_MACHINES);
    }
    Ok(passes)
}

fn described(places: &Places) -> Result<Vec<(String, Kernel)>> {
    let names = describe::names(places, "kernels")?;
    names.into_iter().map(|name| Ok((name.clone(), Kernel::load(places, &name)?))).collect()
}

/// The oldest and the newest kernel of each architecture.
fn outermost(kernels: &[(String, Kernel)]) -> Vec<String> {
    let mut names = Vec::new();
    for architecture in [Architecture::Amd64, Architecture::Arm64] {
        let mut of_it: Vec<_> = kernels.iter().filter(|(_, kernel)| kernel.architecture == architecture).collect();
        of_it.sort_by_key(|(_, kernel)| version(&kernel.release));
        let ends = [of_it.first(), of_it.last().filter(|_| of_it.len() > 1)];
        names.extend(ends.into_iter().flatten().map(|(name, _)| name.clone()));
    }
    names
}

/// `6.12.` as numbers.
fn version(release: &str) -> Vec<u32> {
    release.split('.').map_while(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_as_numbers() {
        assert!(version("6.1.") < version("6.12."));
        assert!(version("6.12.") < version("6.18.15"));
        assert!(version("6.18.") < version("7.3."));
    }

    #[test]
    fn the_tier_has_the_oldest_and_the_newest_kernel() {
        let workspace = Workspace::locate().expect("a checkout");
        let places = Places::new(workspace.root(), workspace.target());
        let names = outermost(&described(&places).expect("descriptions"));
        assert_eq!(names, ["amd64-6.1", "amd64-7.3", "arm64-6.12", "arm64-7.3"]);
        for pass in passes(&places).expect("passes") {
            assert!(!pass.images(&places).expect("topologies").is_empty());
        }
    }
}
