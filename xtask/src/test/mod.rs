//! `cargo xtask test`: the tiers of tests, counted.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use self::{
    count::{Counter, Counts},
    watchdog::{PROGRAM_TIME, PROGRAM_TIME_SOAK, Watchdog},
};
use crate::{
    build, lint, process, setup, vm,
    workspace::{self, Workspace},
};

mod count;
mod watchdog;

pub use self::count::Tally;

/// Package of the tests that take a kernel and root.
const TESTS: &str = "naam-tests";

/// What to test.
#[derive(Args)]
pub struct Options {
    /// Only this tier
    #[arg(long)]
    tier: Option<Tier>,
    /// Let those tests that can run long do so
    #[arg(long)]
    soak: bool,
    /// Only say which tests there are
    #[arg(long)]
    list: bool,
}

/// A group of tests, by what they take.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// Nothing but a compiler: lint and the libraries' own tests
    Unit,
    /// The kernel's BPF_PROG_TEST_RUN, as root
    Prog,
    /// Network namespaces, as root
    Net,
    /// Virtual machines
    Vm,
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Prog => "prog",
            Self::Net => "net",
            Self::Vm => "vm",
        }
    }
}

/// How a tier went, or a part of one.
pub struct TierReport {
    name: String,
    counts: Counts,
    took: Duration,
}

impl TierReport {
    /// Test programs of a tier that cannot run here, each a skip with its name.
    pub fn skipped(name: &str, programs: &[String], reason: &str) -> Self {
        let skips: Vec<_> = programs.iter().map(|program| format!("{program}: {reason}")).collect();
        let tally = Tally { skipped: skips.len() as u64, ..Tally::default() };
        Self { name: name.to_owned(), counts: Counts { tally, skips, ..Counts::default() }, took: Duration::ZERO }
    }

    /// A tier that failed before its first test.
    pub fn failed(name: &str, took: Duration) -> Self {
        let tally = Tally { failed: 1, ..Tally::default() };
        Self { name: name.to_owned(), counts: Counts { tally, ..Counts::default() }, took }
    }

    /// What its tests said.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Sets up, builds, runs the tiers, and ends with the line `N passed, N failed, N skipped`.
///
/// # Errors
/// When a test failed or none ran, or when set-up or build do not succeed.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let tiers = match options.tier {
        None => vec![Tier::Unit, Tier::Prog, Tier::Net, Tier::Vm],
        Some(tier) => vec![tier],
    };
    if options.list {
        list(workspace, &tiers);
        return Ok(());
    }
    let takes_root = tiers.iter().any(|tier| matches!(tier, Tier::Prog | Tier::Net));
    if takes_root && !setup::is_root() {
        bail!("the tiers prog and net load BPF programs and make namespaces\ncure: run as root, or `--tier unit`");
    }
    setup::ensure(workspace)?;
    build::all(workspace)?;

    let mut reports = Vec::new();
    if tiers.contains(&Tier::Unit) {
        reports.push(lint_report(workspace));
    }
    let linted = reports.len();
    for tier in tiers {
        match tier {
            Tier::Vm => reports.extend(vm::test::tier(workspace)),
            tier => reports.push(run_tier(workspace, tier, &[], options.soak, |_| {})?),
        }
    }
    conclude(&reports, &reports[linted..]);
    Ok(())
}

/// Shows how it went; the last line counts. Ends this program with code 1 if something failed, or none of `tests` passed.
pub fn conclude(reports: &[TierReport], tests: &[TierReport]) {
    summarize(reports);
    let failed = reports.iter().any(|report| report.counts.tally.failed > 0);
    let ran = tests.iter().any(|report| report.counts.tally.passed > 0);
    // The count is the last thing on standard output; the exit code says the rest.
    if failed || !ran {
        std::process::exit(1);
    }
}

fn list(workspace: &Workspace, tiers: &[Tier]) {
    for tier in tiers {
        println!("{}:", tier.name());
        if *tier == Tier::Unit {
            println!("  lint");
            for package in workspace.host_packages().filter(|package| package.name != TESTS) {
                println!("  {}", package.name);
            }
        }
        for target in targets(workspace, *tier) {
            println!("  {target}");
        }
    }
}

/// The test programs of the tier of virtual machines.
pub fn vm_programs(workspace: &Workspace) -> Vec<String> {
    targets(workspace, Tier::Vm).into_iter().map(str::to_owned).collect()
}

/// Runs test programs of the tier of virtual machines on a machine that has their images, with `kernel` in the machines
/// called `host`: of `names`, those of test programs choose these, others choose the tests whose names contain one of them.
///
/// # Errors
/// When they cannot run.
pub fn run_vm(workspace: &Workspace, names: &[String], kernel: Option<&str>) -> Result<TierReport> {
    let (programs, tests): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.starts_with("vm_"));
    let mut report = run_tier(workspace, Tier::Vm, &programs, false, |command| {
        command.args(tests).env("NAAM_VM_TARGET", workspace.target());
        if let Some(kernel) = kernel {
            command.env("NAAM_VM_KERNEL", kernel);
        }
    })?;
    if let Some(kernel) = kernel {
        report.name = format!("vm {kernel}");
    }
    Ok(report)
}

fn run_tier(
    workspace: &Workspace,
    tier: Tier,
    only: &[&String],
    soak: bool,
    adjust: impl FnOnce(&mut Command),
) -> Result<TierReport> {
    let started = Instant::now();
    let mut command = workspace::cargo();
    command.args(["test", "--no-fail-fast"]).current_dir(workspace.root());
    if tier == Tier::Unit {
        for package in workspace.host_packages().filter(|package| package.name != TESTS) {
            command.args(["-p", &package.name]);
        }
        command.args(["--", "--show-output"]);
    } else {
        let mut targets = targets(workspace, tier);
        targets.retain(|target| only.is_empty() || only.iter().any(|name| name.as_str() == *target));
        if targets.is_empty() {
            return Ok(TierReport { name: tier.name().to_owned(), counts: Counts::default(), took: Duration::ZERO });
        }
        command.args(["-p", TESTS]);
        for target in targets {
            command.args(["--test", target]);
        }
        // One at a time: they share the machine's cores and bpffs.
        command.args(["--", "--show-output", "--test-threads=1"]);
    }
    command.env("NAAM_BPF_DIR", workspace.target().join("bpf"));
    if soak {
        command.env("NAAM_SOAK", "1");
    }
    adjust(&mut command);
    println!("\n== tier {}", tier.name());
    // Machines without KVM are slow.
    let limit = if soak || tier == Tier::Vm { PROGRAM_TIME_SOAK } else { PROGRAM_TIME };
    let counts = run_counted(&mut command, limit, true)?;
    Ok(TierReport { name: tier.name().to_owned(), counts, took: started.elapsed() })
}

/// Whether a test may say that it cannot run here: what the project does not ask for is missing. Every
/// other skip is a failure, or a broken probe would go unseen.
fn is_expected(skip: &str) -> bool {
    // The last one is said of another kernel than this one, in a virtual machine.
    const REASONS: [&str; 4] = [
        " is not installed",
        " does not compare attach types",
        "this machine has one processor",
        ", as vm-images/kernels says",
    ];
    const WITHOUT_ROOT: [&str; 2] = [": needs root", "no network namespace can be made"];
    REASONS.iter().any(|reason| skip.ends_with(reason))
        || !setup::is_root() && WITHOUT_ROOT.iter().any(|reason| skip.contains(reason))
}

/// Runs `command`, which is cargo, each of its test programs for `limit`; `show` its lines as they come.
fn run_counted(command: &mut Command, limit: Duration, show: bool) -> Result<Counts> {
    let line = process::shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{line}` cannot be started"))?;
    let stdout = child.stdout.take().context("standard output was not captured")?;
    let stderr = child.stderr.take().context("standard error was not captured")?;

    let watchdog = Watchdog::start(child.id(), limit);
    let watched = watchdog.clone();
    let errors = thread::spawn(move || {
        let mut lines = Vec::new();
        for_each_line(
            stderr,
            |_| {},
            |line| {
                watched.stderr_line(line);
                if show {
                    eprintln!("{line}");
                }
                lines.push(line.to_owned());
            },
        );
        lines
    });
    let mut counter = Counter::new(is_expected);
    for_each_line(
        stdout,
        |begun| watchdog.stdout(begun),
        |line| {
            watchdog.stdout(line);
            if counter.stdout_line(line) && show {
                println!("{line}");
            }
        },
    );
    let Ok(errors) = errors.join() else { bail!("reading the errors of `{line}` failed") };
    for line in &errors {
        counter.stderr_line(line);
    }
    let status = child.wait().with_context(|| format!("waiting for `{line}`"))?;
    for killed in watchdog.end().iter().filter(|_| show) {
        println!("\n{killed}");
    }
    Ok(counter.finish(status.success()))
}

/// Hands over lines, and each line's beginning as soon as it is there.
fn for_each_line(source: impl std::io::Read, mut begun: impl FnMut(&str), mut take: impl FnMut(&str)) {
    let mut reader = BufReader::new(source);
    let mut line = Vec::new();
    loop {
        let Ok(bytes) = reader.fill_buf() else { return };
        let (used, ended) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (bytes.len(), false),
        };
        line.extend_from_slice(&bytes[..used - usize::from(ended)]);
        reader.consume(used);
        let text = String::from_utf8_lossy(&line);
        if ended || (used == 0 && !line.is_empty()) {
            take(text.trim_end_matches('\r'));
            line.clear();
        } else {
            begun(&text);
        }
        if used == 0 {
            return;
        }
    }
}

/// Lint's checks, counted like tests.
fn lint_report(workspace: &Workspace) -> TierReport {
    println!("\n== lint");
    let outcomes = lint::outcomes(workspace);
    let passed = outcomes.iter().filter(|check| check.passed).count() as u64;
    let failed = outcomes.len() as u64 - passed;
    TierReport {
        name: "lint".to_owned(),
        counts: Counts { tally: Tally { passed, failed, skipped: 0 }, ..Counts::default() },
        took: outcomes.iter().map(|check| check.took).sum(),
    }
}

/// The test programs of a tier: their names begin with it.
fn targets(workspace: &Workspace, tier: Tier) -> Vec<&str> {
    let prefix = format!("{}_", tier.name());
    let tests = workspace.host_packages().filter(|package| package.name == TESTS).flat_map(|package| &package.tests);
    tests.map(String::as_str).filter(|name| name.starts_with(&prefix)).collect()
}

fn summarize(reports: &[TierReport]) {
    println!();
    for report in reports {
        println!("  {:14} {:42} {:7.1} s", report.name, report.counts.tally.to_string(), report.took.as_secs_f64());
    }
    let all = |lines: fn(&Counts) -> &Vec<String>| reports.iter().flat_map(move |report| lines(&report.counts));
    for (title, lines) in [("skipped", all(|counts| &counts.skips)), ("repeated", all(|counts| &counts.repeats))] {
        let lines: Vec<_> = lines.map(|line| format!("  {line}\n")).collect();
        if !lines.is_empty() {
            print!("\n{title}:\n{}", lines.concat());
        }
    }
    let mut sum = Tally::default();
    for report in reports {
        sum += report.counts.tally;
    }
    println!("\n{sum}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Tally {
        // Not shown: whoever counts this program's lines would count them as well.
        run_counted(Command::new("sh").args(["-c", script]), limit, false).expect("a shell").tally
    }

    #[test]
    fn a_test_program_that_hangs_is_killed_and_fails() {
        let started = Instant::now();
        let good = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'";
        let script = format!(
            "echo '     Running one' >&2; printf 'test slow ... '; (sleep 100; echo never); echo; \
             echo '     Running two' >&2; {good}"
        );
        let tally = shell(&script, Duration::from_millis(500));
        assert_eq!(tally, Tally { passed: 2, failed: 1, skipped: 0 });
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn unexpected_skips_fail() {
        let skip = |reason: &str| {
            let result = "test result: ok. 2 passed; 0 failed; 0 ignored";
            shell(&format!("echo '     Running one' >&2; echo 'SKIPPED a: {reason}'; echo '{result}'"), PROGRAM_TIME)
        };
        assert_eq!(skip("memcached is not installed"), Tally { passed: 1, failed: 0, skipped: 1 });
        assert_eq!(skip("the probe fell over"), Tally { passed: 1, failed: 1, skipped: 0 });
    }

    #[test]
    fn lines_are_told_before_they_end() {
        let (mut begun, mut lines) = (Vec::new(), Vec::new());
        let source = std::io::Read::chain(&b"one\ntw"[..], &b"o\r\nthree"[..]);
        for_each_line(source, |words| begun.push(words.to_owned()), |line| lines.push(line.to_owned()));
        assert_eq!(lines, ["one", "two", "three"]);
        assert!(begun.contains(&"tw".to_owned()) && begun.contains(&"three".to_owned()), "{begun:?}");
    }
}
