//! `cargo xtask vm matrix`: the tests on every kernel, and the page of `kernel-notes` that says how it went.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use naam_vm::{Places, describe};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::test::{OF_A_KERNEL, images_for};
use crate::{
    test::{self, Tally},
    workspace::Workspace,
};

const PAGE: &str = "kernel-notes/kernels.md";
/// The test programs that every kernel runs.
const PROGRAMS: [&str; 3] = [OF_A_KERNEL, "vm_rdma", "vm_rdma_reads"];
/// Columns of the table: program, how its tests' names begin, title.
const COLUMNS: [(&str, &str, &str); 8] = [
    (OF_A_KERNEL, "verifier::", "handlers load"),
    (OF_A_KERNEL, "calls::round_trips_at_xdp", "MICA at XDP: IPv4, IPv6, AF_XDP"),
    (OF_A_KERNEL, "calls::round_trips_at_tc", "at TC"),
    (OF_A_KERNEL, "calls::frames_with_a_vlan_tag", "VLAN"),
    (OF_A_KERNEL, "calls::the_client_site", "MICA, both sites"),
    (OF_A_KERNEL, "tree::", "Cell, both sites"),
    ("vm_rdma", "", "regions by RDMA"),
    ("vm_rdma_reads", "", "handlers that read by RDMA"),
];
const HEAD: &str = "\
# Kernels

Written by `cargo xtask vm matrix`: Debian's kernels in virtual machines, the kernel of the row on the host, 6.12 (amd64) on the
client. A cell says how many of the column's tests passed.

";

/// How tests went on a kernel, by program and by test.
#[derive(Default, Serialize, Deserialize)]
struct Record {
    tests: BTreeMap<String, BTreeMap<String, Tally>>,
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
        let (record, bad) = test_kernel(workspace, places, name)?;
        failed.extend(bad.into_iter().map(|program| format!("{program} on {name}")));
        let path = tests_of(places, name);
        let text = serde_json::to_vec_pretty(&record).context("counts are plain data")?;
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

/// How it went, and the programs that failed.
fn test_kernel(workspace: &Workspace, places: &Places, name: &str) -> Result<(Record, Vec<String>)> {
    super::build(workspace, places, &images_for(places, &PROGRAMS.map(str::to_owned), Some(name))?)?;
    let (mut record, mut bad) = (Record::default(), Vec::new());
    for program in PROGRAMS {
        println!("\n== {name}: {program}");
        let report = test::run_vm(workspace, &[program.to_owned()], Some(name))?;
        let counts = report.counts();
        if counts.tally.failed > 0 || counts.tests.is_empty() {
            bad.push(program.to_owned());
        }
        record.tests.insert(program.to_owned(), counts.tests.clone());
        record.skips.extend(counts.skips.iter().cloned());
    }
    Ok((record, bad))
}

fn tests_of(places: &Places, kernel: &str) -> PathBuf {
    places.matrix(&format!("{kernel}.tests"))
}

/// Writes the page of all kernels that have been tested.
fn write_page(workspace: &Workspace, places: &Places, described: &[String]) -> Result<()> {
    let mut rows = String::new();
    let mut skips = String::new();
    let mut kernels = Vec::new();
    for name in described {
        let path = tests_of(places, name);
        let Ok(text) = fs::read(&path) else { continue };
        let tests: Record =
            serde_json::from_slice(&text).with_context(|| format!("cannot understand {}", path.display()))?;
        let release = record(places, name)?["release"].as_str().unwrap_or("did not boot").to_owned();
        let cells: String =
            COLUMNS.iter().map(|(program, prefix, _)| format!(" {} |", cell(&tests, program, prefix))).collect();
        writeln!(rows, "| {name} | {release} |{cells}")?;
        for skip in tests.skips {
            writeln!(skips, "- {name}: {skip}")?;
        }
        kernels.push(name.clone());
    }
    let titles: String = COLUMNS.iter().map(|(.., title)| format!(" {title} |")).collect();
    let lines = "---|".repeat(COLUMNS.len() + 2);
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

/// `2 of 2`, and what became of the others.
fn cell(record: &Record, program: &str, prefix: &str) -> String {
    let mut sum = Tally::default();
    let tests = record.tests.get(program).into_iter().flatten();
    tests.filter(|(name, _)| name.starts_with(prefix)).for_each(|(_, tally)| sum += *tally);
    let all = sum.passed + sum.failed + sum.skipped;
    match sum {
        _ if all == 0 => "did not run".to_owned(),
        Tally { failed: 0, skipped: 0, .. } => format!("{all} of {all}"),
        Tally { passed, failed, skipped } => format!("{passed} of {all}, {failed} failed, {skipped} skipped"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_sums_up_the_tests_of_its_column() {
        let tally = |passed, failed, skipped| Tally { passed, failed, skipped };
        let tests = [("calls::a", tally(1, 0, 0)), ("calls::b", tally(0, 1, 0)), ("tree::a", tally(1, 0, 0))];
        let tests = tests.map(|(name, tally)| (name.to_owned(), tally)).into();
        let record = Record { tests: BTreeMap::from([("vm_kernel".to_owned(), tests)]), skips: Vec::new() };
        assert_eq!(cell(&record, "vm_kernel", "tree::"), "1 of 1");
        assert_eq!(cell(&record, "vm_kernel", "calls::"), "1 of 2, 1 failed, 0 skipped");
        assert_eq!(cell(&record, "vm_kernel", "verifier::"), "did not run");
        assert_eq!(cell(&record, "vm_rdma", ""), "did not run");
    }
}
