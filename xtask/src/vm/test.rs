//! `cargo xtask vm test`: the tier of tests that takes machines. `cargo xtask test` runs the same.

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
    /// Only these: a program's name such as vm_kernel, or a part of a test's
    names: Vec<String>,
    /// Give the machines that are called `host` this kernel
    #[arg(long)]
    kernel: Option<String>,
}

/// The test program that says something of a kernel.
pub const OF_A_KERNEL: &str = "vm_kernel";
/// Which topologies test programs boot. One that does not stand here may boot any, so that all are built for it.
const BOOTED: [(&str, &[&str]); 6] = [
    (OF_A_KERNEL, &["pair"]),
    ("vm_arm64", &["arm64"]),
    ("vm_machine", &["single"]),
    ("vm_ordering", &["tests"]),
    ("vm_rdma", &["rdma"]),
    ("vm_rdma_reads", &["rdma"]),
];

/// Test programs that run with one kernel on the host, or with those that the topologies name.
struct Pass {
    kernel: Option<String>,
    programs: Vec<String>,
}

impl Pass {
    fn run(&self, workspace: &Workspace, places: &Places) -> Result<TierReport> {
        super::build(workspace, places, &images_for(places, &self.programs, self.kernel.as_deref())?)?;
        test::run_vm(workspace, &self.programs, self.kernel.as_deref())
    }

    /// Like [`run`](Self::run); but what cannot be had here makes skips of its test programs.
    fn run_or_skip(&self, workspace: &Workspace, places: &Places) -> Result<TierReport> {
        let outcome = self.run(workspace, places);
        let missing = outcome.as_ref().err().and_then(|error| error.downcast_ref::<Unobtainable>());
        let (Some(missing), Err(error)) = (missing.map(ToString::to_string), &outcome) else { return outcome };
        println!("\n== tier vm\n{}", process::explain(error));
        let name = self.kernel.as_ref().map_or_else(|| "vm".to_owned(), |kernel| format!("vm {kernel}"));
        Ok(TierReport::skipped(&name, &self.programs, &missing))
    }
}

/// Builds the images and runs the tests; the last line counts them. Without a choice it is the whole [`tier`].
///
/// # Errors
/// When an image cannot be built or the tests cannot run. When one fails this program ends.
pub fn run(workspace: &Workspace, places: &Places, options: &Options) -> Result<()> {
    let reports = if options.names.is_empty() && options.kernel.is_none() {
        tier(workspace)
    } else {
        vec![Pass { kernel: options.kernel.clone(), programs: options.names.clone() }.run(workspace, places)?]
    };
    test::conclude(&reports, &reports);
    Ok(())
}

/// All tests with the kernels of the topologies; and what a kernel does, on this architecture's oldest and newest one and on
/// the other architecture's oldest. Where QEMU or packages are not to be had, each of the test programs is a skip.
pub fn tier(workspace: &Workspace) -> Vec<TierReport> {
    let places = Places::new(workspace.root(), workspace.target());
    let started = Instant::now();
    let mut reports = Vec::new();
    let outcome = passes(workspace, &places).and_then(|passes| {
        passes.iter().try_for_each(|pass| {
            reports.push(pass.run_or_skip(workspace, &places)?);
            Ok(())
        })
    });
    if let Err(error) = outcome {
        println!("\n== tier vm\n{}", process::explain(&error));
        reports.push(TierReport::failed("vm", started.elapsed()));
    }
    reports
}

fn passes(workspace: &Workspace, places: &Places) -> Result<Vec<Pass>> {
    let others = test::vm_programs(workspace).into_iter().filter(|name| name != OF_A_KERNEL);
    let mut passes = vec![Pass { kernel: None, programs: others.collect() }];
    let of_a_kernel = |kernel| Pass { kernel: Some(kernel), programs: vec![OF_A_KERNEL.to_owned()] };
    passes.extend(kernels(places)?.into_iter().map(of_a_kernel));
    Ok(passes)
}

/// Role and kernel of every machine that these test programs boot, with another kernel on the host if one is named.
///
/// # Errors
/// When a description is not understood.
pub fn images_for(places: &Places, programs: &[String], kernel: Option<&str>) -> Result<BTreeSet<(String, String)>> {
    let known = |program: &String| BOOTED.iter().find(|(name, _)| name == program).map(|(_, topologies)| *topologies);
    let topologies: Vec<_> = match programs.iter().map(known).collect::<Option<Vec<_>>>() {
        Some(known) if !programs.is_empty() => known.concat().into_iter().map(str::to_owned).collect(),
        _ => describe::names(places, "topologies")?,
    };
    let mut images = BTreeSet::new();
    for topology in topologies {
        images.extend(images_of(&Topology::load(places, &topology)?, kernel));
    }
    Ok(images)
}

/// Those that [`tier`] says something of.
fn kernels(places: &Places) -> Result<Vec<String>> {
    let described = described(places)?;
    let mut names = Vec::new();
    for architecture in [Architecture::Amd64, Architecture::Arm64] {
        let mut of_it: Vec<_> = described.iter().filter(|(_, kernel)| kernel.architecture == architecture).collect();
        of_it.sort_by_key(|(_, kernel)| version(&kernel.release));
        let is_native = Architecture::native() == Some(architecture);
        let newest = of_it.last().filter(|_| is_native && of_it.len() > 1);
        names.extend(of_it.first().into_iter().chain(newest).map(|(name, _)| name.clone()));
    }
    Ok(names)
}

fn described(places: &Places) -> Result<Vec<(String, Kernel)>> {
    let names = describe::names(places, "kernels")?;
    names.into_iter().map(|name| Ok((name.clone(), Kernel::load(places, &name)?))).collect()
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
        let passes = passes(&workspace, &places).expect("descriptions");
        let kernels: Vec<_> = passes.iter().filter_map(|pass| pass.kernel.as_deref()).collect();
        assert!(kernels.contains(&"amd64-6.1") && kernels.contains(&"arm64-6.12"), "{kernels:?}");
        assert!(!passes[0].programs.is_empty());
    }

    #[test]
    fn only_what_is_booted_is_built() {
        let workspace = Workspace::locate().expect("a checkout");
        let places = Places::new(workspace.root(), workspace.target());
        let programs = test::vm_programs(&workspace);
        assert!(BOOTED.iter().all(|(program, _)| programs.iter().any(|known| known == program)), "{programs:?}");
        let images = |programs: &[&str]| {
            let programs: Vec<_> = programs.iter().map(|program| (*program).to_owned()).collect();
            images_for(&places, &programs, Some("amd64-6.1")).expect("descriptions")
        };
        assert_eq!(images(&["vm_machine"]), [("host".to_owned(), "amd64-6.1".to_owned())].into());
        assert!(images(&["vm_machine", "round_trips"]).len() > 1);
        assert_eq!(images(&[]), images(&["round_trips"]));
    }
}
