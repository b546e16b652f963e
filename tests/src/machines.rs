//! Virtual machines, as `cargo xtask vm test` has made their images.

use std::{collections::BTreeMap, env};

use naam_vm::{Lab, Options, Places, Topology};

/// The machine that NAAM_VM_KERNEL gives another kernel.
const HOST: &str = "host";

/// Boots a topology of `vm-images/topologies`.
///
/// # Panics
/// When it does not come up.
pub fn boot(topology: &str) -> Lab {
    let topology = Topology::load(&Places::locate(), topology).unwrap_or_else(|error| panic!("{error}"));
    let kernels: BTreeMap<_, _> =
        env::var("NAAM_VM_KERNEL").map(|kernel| (HOST.to_owned(), kernel)).into_iter().collect();
    topology.boot(&Options { kernels, ..Options::default() }).unwrap_or_else(|error| panic!("{error}"))
}
