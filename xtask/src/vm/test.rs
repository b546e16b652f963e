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

/// The test program that says something of a kernel, and the topology that it boots.
const OF_A_KERNEL: (&str, &str) = ("vm_kernel", "pair");

/// Test programs that run with one kernel on the host, or with those that the topologies name.
struct Pass {
    kernel: Option<String>,
    programs: Vec<String>,
    topologies: Vec<String>,
}

impl Pass {
    fn run(&self, workspace: &Workspace, places: &Places) -> Result<TierReport> {
        let mut images = BTreeSet::new();
        for topology in &self.topologies {
            images.extend(images_of(&Topology::load(places, topology)?, self.kernel.as_deref()));
        }
        super::build(workspace, places, &images)?;
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
        let topologies = describe::names(places, "topologies")?;
        let (kernel, programs) = (options.kernel.clone(), options.names.clone());
        vec![Pass { kernel, programs, topologies }.run(workspace, places)?]
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
    let (program, topology) = OF_A_KERNEL;
    let others = test::vm_programs(workspace).into_iter().filter(|name| name != program);
    let topologies = describe::names(places, "topologies")?;
    let mut passes = vec![Pass { kernel: None, programs: others.collect(), topologies }];
    passes.extend(kernels(places)?.into_iter().map(|kernel| Pass {
        kernel: Some(kernel),
        programs: vec![program.to_owned()],
        topologies: vec![topology.to_owned()],
    }));
    Ok(passes)
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
}
