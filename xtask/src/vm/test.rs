//! `cargo xtask vm test`: the tier of tests that takes machines.

use anyhow::Result;
use clap::Args;
use naam_vm::{Places, Topology, describe};

use super::images_of;
use crate::{test, workspace::Workspace};

/// Which tests.
#[derive(Args)]
pub struct Options {
    /// Only these: a program's name such as vm_pair, or a part of a test's
    names: Vec<String>,
    /// Give the machines that are called `host` this kernel
    #[arg(long)]
    kernel: Option<String>,
}

/// Builds the images and runs the tests; the last line counts them.
///
/// # Errors
/// When an image cannot be built, a test failed, or none ran.
pub fn run(workspace: &Workspace, places: &Places, options: &Options) -> Result<()> {
    let kernel = options.kernel.as_deref();
    let mut images = std::collections::BTreeSet::new();
    for name in describe::names(places, "topologies")? {
        images.extend(images_of(&Topology::load(places, &name)?, kernel));
    }
    super::build(workspace, places, &images)?;
    let (_, good) = test::run_vm(workspace, &options.names, kernel)?;
    // The count is the last thing on standard output; the exit code says the rest.
    if !good {
        std::process::exit(1);
    }
    Ok(())
}
