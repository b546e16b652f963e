//! `cargo xtask vm matrix`: the tests on every kernel, and the page of `kernel-notes` that says how it went.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use naam_vm::{Places, Topology, describe};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::images_of;
use crate::{test, workspace::Workspace};

const PAGE: &str = "kernel-notes/kernels.md";
/// The tests that say something of a kernel, the topology that they boot, and how their column is called.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("vm_kernel", "single", "handlers load"),
    ("vm_pair", "pair", "echo, MICA: XDP, TC, VLAN, IPv6, client site"),
    ("vm_cell", "pair", "Cell, both sites"),
    ("vm_rdma", "rdma", "region as memory region"),
];
const HEAD: &str = "\
# Kernels

Written by `cargo xtask vm matrix`: Debian's kernels in virtual machines, the kernel of the row on the host, 6.12 (amd64) on the
client. A cell says how many tests passed, failed and were skipped.

";

/// How the tests went on a kernel, by program.
type Tallies = BTreeMap<String, Outcome>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Outcome {
    passed: u64,
    failed: u64,
    skipped: u64,
    skips: Vec<String>,
}

/// Runs the tests on some kernels, or on all that are described, and writes the page of these and of those whose results are
/// still there.
///
/// # Errors
/// When a test failed.
pub fn run(workspace: &Workspace, places: &Places, kernels: &[String]) -> Result<()> {
    let described = describe::names(places, "kernels")?;
    let mut failed = Vec::new();
    for name in if kernels.is_empty() { &described } else { kernels } {
        let tallies = test_kernel(workspace, places, name)?;
        let bad = tallies.iter().filter(|(_, outcome)| outcome.failed > 0 || outcome.passed + outcome.skipped == 0);
        failed.extend(bad.map(|(program, _)| format!("{program} on {name}")));
        let path = tallies_of(places, name);
        let text = serde_json::to_vec_pretty(&tallies).context("tallies are plain data")?;
        fs::create_dir_all(path.parent().unwrap_or(&path))
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
        write_page(workspace, places, &described)?;
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn test_kernel(workspace: &Workspace, places: &Places, name: &str) -> Result<Tallies> {
    let mut images = BTreeSet::new();
    for (_, topology, _) in PROGRAMS {
        images.extend(images_of(&Topology::load(places, topology)?, Some(name)));
    }
    super::build(workspace, places, &images)?;
    let mut tallies = Tallies::new();
    for (program, ..) in PROGRAMS {
        println!("\n== {name}: {program}");
        let report = test::run_vm(workspace, &[program.to_owned()], Some(name))?;
        let tally = report.tally();
        let (passed, failed, skipped) = (tally.passed, tally.failed, tally.skipped);
        tallies.insert(program.to_owned(), Outcome { passed, failed, skipped, skips: report.skips().to_vec() });
    }
    Ok(tallies)
}

fn tallies_of(places: &Places, kernel: &str) -> PathBuf {
    places.matrix(&format!("{kernel}.tests"))
}

/// Writes the page of all kernels that have been tested.
fn write_page(workspace: &Workspace, places: &Places, described: &[String]) -> Result<()> {
    let mut rows = String::new();
    let mut skips = String::new();
    let mut kernels = Vec::new();
    for name in described {
        let path = tallies_of(places, name);
        let Ok(text) = fs::read(&path) else { continue };
        let tallies: Tallies =
            serde_json::from_slice(&text).with_context(|| format!("cannot understand {}", path.display()))?;
        let release = record(places, name)?["release"].as_str().unwrap_or("did not boot").to_owned();
        write!(rows, "| {name} | {release} |")?;
        for (program, ..) in PROGRAMS {
            let Some(Outcome { passed, failed, skipped, skips: why }) = tallies.get(program) else {
                write!(rows, " not run |")?;
                continue;
            };
            write!(rows, " {passed} / {failed} / {skipped} |")?;
            for skip in why {
                writeln!(skips, "- {name}: {skip}")?;
            }
        }
        rows.push('\n');
        kernels.push(name.clone());
    }
    let titles: String = PROGRAMS.iter().map(|(.., title)| format!(" {title} |")).collect();
    let lines = "---|".repeat(PROGRAMS.len() + 2);
    let mut page = format!("{HEAD}| kernel | release |{titles}\n|{lines}\n{rows}");
    if !skips.is_empty() {
        write!(page, "\nSkipped:\n{skips}")?;
    }
    page += &handlers(places, &kernels)?;
    let path = workspace.root().join(PAGE);
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nwrote {PAGE}");
    Ok(())
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
