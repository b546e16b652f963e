//! `cargo xtask vm matrix`: the tests on every kernel, and the page of `kernel-notes` that says how it went.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use anyhow::{Context as _, Result, bail};
use naam_vm::{
    Places, Topology,
    describe::{self, Architecture, Kernel},
};
use serde_json::Value;

use super::images_of;
use crate::{test, workspace::Workspace};

const PAGE: &str = "kernel-notes/kernels.md";
/// The tests that say something of a kernel, and how their column is called.
const PROGRAMS: [(&str, &str); 3] = [
    ("vm_kernel", "handlers load"),
    ("vm_pair", "echo, MICA: XDP, TC, VLAN, IPv6"),
    ("vm_rdma", "region as memory region"),
];
const HEAD: &str = "\
# Kernels

Written by `cargo xtask vm matrix`: Debian's kernels in virtual machines, the kernel of the row on the host, 6.12 on the client.
A cell says how many tests passed, failed and were skipped; a skip is a handler that the kernel's verifier is known to refuse, or
what takes such a handler (`vm-images/kernels`).

";

/// Runs the tests on some kernels, or on all of this machine's architecture, and writes the page.
///
/// # Errors
/// When a test failed.
pub fn run(workspace: &Workspace, places: &Places, kernels: &[String]) -> Result<()> {
    let kernels = if kernels.is_empty() { native(places)? } else { kernels.to_vec() };
    let mut rows = String::new();
    let mut failed = Vec::new();
    for name in &kernels {
        let mut images = BTreeSet::new();
        for topology in describe::names(places, "topologies")? {
            images.extend(images_of(&Topology::load(places, &topology)?, Some(name)));
        }
        super::build(workspace, places, &images)?;
        let mut cells = String::new();
        for (program, _) in PROGRAMS {
            println!("\n== {name}: {program}");
            let (tally, good) = test::run_vm(workspace, &[program.to_owned()], Some(name))?;
            if !good {
                failed.push(format!("{program} on {name}"));
            }
            write!(cells, " {} / {} / {} |", tally.passed, tally.failed, tally.skipped)?;
        }
        let release = record(places, name)?["release"].as_str().unwrap_or("did not boot").to_owned();
        writeln!(rows, "| {name} | {release} |{cells}")?;
    }
    let titles: String = PROGRAMS.iter().map(|(_, title)| format!(" {title} |")).collect();
    let lines = "---|".repeat(PROGRAMS.len() + 2);
    let mut page = format!("{HEAD}| kernel | release |{titles}\n|{lines}\n{rows}");
    page += &handlers(places, &kernels)?;
    let path = workspace.root().join(PAGE);
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nwrote {PAGE}");
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn native(places: &Places) -> Result<Vec<String>> {
    let mut kernels = Vec::new();
    for name in describe::names(places, "kernels")? {
        if Architecture::native() == Some(Kernel::load(places, &name)?.architecture) {
            kernels.push(name);
        }
    }
    Ok(kernels)
}

/// What the test `vm_kernel` found; nothing if it did not get so far.
fn record(places: &Places, kernel: &str) -> Result<Value> {
    match fs::read(places.matrix(kernel)) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("cannot understand the record of {kernel}")),
        Err(_) => Ok(Value::Null),
    }
}

/// The table of handlers: instructions that the verifier walked through at XDP and at TC.
fn handlers(places: &Places, kernels: &[String]) -> Result<String> {
    let records = kernels.iter().map(|kernel| record(places, kernel)).collect::<Result<Vec<_>>>()?;
    let names: BTreeSet<&String> = records
        .iter()
        .filter_map(|record| record["handlers"].as_object())
        .flat_map(|handlers| handlers.keys())
        .collect();
    let mut text = String::from(
        "\nInstructions that the verifier walked through, at XDP and at TC, with the loops that suit the kernel:\n\n",
    );
    let titles: String = kernels.iter().map(|kernel| format!(" {kernel} |")).collect();
    writeln!(text, "| handler |{titles}\n|{}", "---|".repeat(kernels.len() + 1))?;
    let mut reasons = String::new();
    for name in names {
        write!(text, "| {name} |")?;
        for (kernel, record) in kernels.iter().zip(&records) {
            let found = &record["handlers"][name];
            match found["refused"].as_str() {
                Some(reason) => {
                    write!(text, " refused |")?;
                    writeln!(reasons, "- {name} on {kernel}: \u{201c}{reason}\u{201d}")?;
                }
                None => write!(text, " {}, {} |", found["xdp"], found["tc"])?,
            }
        }
        text.push('\n');
    }
    if !reasons.is_empty() {
        write!(text, "\nWhat was refused, and why:\n{reasons}")?;
    }
    Ok(text)
}
