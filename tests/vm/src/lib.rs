//! Virtual machines for tests: other kernels, other processors, network cards that are not veth.
//!
//! What there is, is described in `vm-images/`: [kernels, roles and topologies](describe). `cargo xtask vm build` makes
//! an [image] of each role and kernel; a [`Topology`] boots them, joined by wires that are socket pairs:
//! ```text
//!  cargo test ── socket pair ──▶ QEMU "client" ◀── socket pair, datagrams = frames ──▶ QEMU "host" ◀── …
//!                (agent, JSON lines)
//! ```
//! No root, no device and no name on this machine is touched. The machines are children of the thread that booted them
//! and die with it, whatever ends it; also, their agents switch them off when their host goes away.
//!
//! ```no_run
//! let places = naam_vm::Places::locate();
//! let topology = naam_vm::Topology::load(&places, "pair")?;
//! let lab = topology.boot(&naam_vm::Options::default())?;
//! println!("{}", lab.machine("host")?.sh("uname -a")?);
//! # Ok::<(), naam_vm::Error>(())
//! ```
//!
//! Everything has an end: a boot, a command, a transfer. Success takes a positive mark from the agent; a machine that
//! panics, hangs or vanishes is an [`Error`] that ends with the last lines of its console.

pub mod accelerator;
mod console;
pub mod describe;
mod error;
pub mod image;
mod lab;
mod machine;
mod places;
mod qemu;
mod shared;

pub use self::{
    accelerator::Accelerator,
    describe::Topology,
    error::Error,
    lab::{Lab, Options, boot, host_kernel},
    machine::{Machine, Output, Running},
    places::Places,
    shared::{Lease, Shared},
};
