//! `cargo xtask run`: from a bare machine to a served store, filled, checked and measured.
//!
//! ```text
//!   namespace naam-…-client                     namespace naam-…-host
//!   naam bench ─ AF_XDP or UDP ─ naam0 ── veth ── naam0 ─ XDP or TC: entry, shell, MICA   naam serve
//!        └───────────────── /run/naam/runPID.sock: sessions, counters ──────────────────────┘
//! ```
//! What a run makes carries its process id and goes with it: on success, on failure, on a signal. What a killed run
//! left goes at the start of the next one.

mod child;
mod client;
mod config;
mod daemon;
mod instance;
mod interface;
mod look;
mod options;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use naam_testbed::{DEVICE, Topology};

pub use self::options::Options;
use self::{
    child::Interrupt,
    client::Client,
    config::{Config, FUNCTIONS, Store},
    daemon::Daemon,
    instance::Instance,
    report::Report,
};
use crate::{build, setup, workspace::Workspace};

/// Bytes of an IP packet between client and host: a datagram of the greatest length, and about the most that native
/// XDP on veth takes.
const MTU: u32 = 3_472;

/// Does what the options say.
///
/// # Errors
/// When something fails, or an operation of the client did. Nothing of the run stays behind.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if !setup::is_root() {
        bail!("namespaces, BPF programs and interfaces take root\ncure: run `cargo xtask run` as root");
    }
    if let Some(name) = &options.stop {
        return stop(name.as_deref());
    }
    // A wrong file should not cost a build.
    let store = Store::plan(options)?;
    setup::ensure(workspace)?;
    let objects = workspace.target().join("bpf");
    build::all(workspace)?;
    let naam = workspace.target().join("release/naam");
    for name in instance::remove_leftovers()? {
        println!("removed what an earlier run left: {name}");
    }
    match &options.iface {
        Some(interface) => interface::serve(&naam, &objects, interface, store, options),
        None => in_namespaces(&naam, &objects, store, options),
    }
}

/// Ends the runs that were kept, or the one of this name, and cleans up behind those that crashed.
fn stop(name: Option<&str>) -> Result<()> {
    let mut stopped = instance::stop_kept(name)?;
    stopped.extend(instance::remove_leftovers()?);
    if stopped.is_empty() {
        println!("nothing to stop: no run was kept");
    }
    for name in stopped {
        println!("stopped {name}: its processes, namespaces, pins and files are gone");
    }
    Ok(())
}

fn in_namespaces(naam: &Path, objects: &Path, store: Store, options: &Options) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let started = Instant::now();
    // Dropped in reverse: processes end before their namespaces, pins and files go last.
    let instance = Instance::create()?;
    let mut builder = Topology::builder().mtu(MTU).leave_signals();
    if options.keep {
        builder = builder.name(instance.name());
    }
    let topology = builder.build().context("cannot make the namespaces")?;
    println!("{:10} {} and {}, joined by {DEVICE}", "namespaces", topology.client().name(), topology.host().name());

    let config = write_config(&instance, DEVICE, objects, store, options)?;
    println!("{:10} the kernel verifies {} functions for XDP and for TC; it takes seconds", "loading", FUNCTIONS.len());
    let daemon = Daemon::start(naam, Some(topology.host()), &instance, &config, &interrupt)?;
    let attachment = daemon.attachment()?;
    println!("{:10} {DEVICE} at {}: {}", "served", attachment.hook, attachment.reason);
    daemon.format(store)?;
    println!("{:10} {store}", "store");
    let client = Client::prepare(naam, topology.client(), &instance)?;
    println!("{:10} after {:.1} s", "ready", started.elapsed().as_secs_f64());

    let summary = client.bench(options, &interrupt)?;
    let report = Report::new(summary, &attachment, &daemon)?;
    print!("\n{report}");
    if let Some(path) = &options.json {
        report.write(path)?;
    }
    look::show_kernel(&daemon, &attachment)?;
    if options.keep {
        look::print_ways_to_use(&client, &instance);
        daemon.keep();
        topology.keep();
        instance.keep()?;
    }
    report.verdict()
}

/// Writes the daemon's configuration into the instance's folder.
fn write_config(
    instance: &Instance,
    interface: &str,
    objects: &Path,
    store: Store,
    options: &Options,
) -> Result<PathBuf> {
    let hook = options::name(options.hook);
    let config = Config { instance: instance.name(), interface, hook: &hook, objects, store, control: options.control };
    let path = instance.config();
    fs::write(&path, config.to_toml()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
