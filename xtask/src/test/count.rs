//! Counting what test programs report.
//!
//! libtest knows no test that finds at run time that it cannot run here. Ours print `SKIPPED name: reason` and return;
//! libtest calls that passed. With `--show-output` those lines reach us, and the test is counted as skipped. `REPEATED what:
//! why` says that something had to be begun again that is not tested: it is told, and counts for nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Did what they claim.
    pub passed: u64,
    /// Did not, or did not even start.
    pub failed: u64,
    /// Could not run here.
    pub skipped: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// What test programs said.
#[derive(Debug, Default)]
pub struct Counts {
    /// In sum.
    pub tally: Tally,
    /// Why tests could not run.
    pub skips: Vec<String>,
    /// What tests had to begin again.
    pub repeats: Vec<String>,
    /// Each test by its name; of several programs with a test of one name, in sum.
    pub tests: BTreeMap<String, Tally>,
}

/// Reads the output of `cargo test -- --show-output`, line by line.
pub struct Counter {
    /// Whether a skip is one that may be.
    is_expected: fn(&str) -> bool,
    counts: Counts,
    section: Section,
    /// Of the test program that is running: tests that said they were skipped.
    skipped_here: BTreeSet<String>,
    /// And tests that should not have been.
    wrongly_skipped_here: BTreeSet<String>,
    /// Test programs that gave a result.
    reported: u64,
    /// Test programs that cargo started.
    started: u64,
}

#[derive(Default, PartialEq, Eq)]
enum Section {
    /// Progress, and the output of tests that failed.
    #[default]
    Shown,
    /// The output of tests that passed, nobody's interest but ours.
    Successes { test: String },
}

impl Counter {
    /// A counter to whom a skip is a failure unless `is_expected` says that it may be.
    pub fn new(is_expected: fn(&str) -> bool) -> Self {
        Self {
            is_expected,
            counts: Counts::default(),
            section: Section::default(),
            skipped_here: BTreeSet::new(),
            wrongly_skipped_here: BTreeSet::new(),
            reported: 0,
            started: 0,
        }
    }

    /// Takes a line of standard output; says whether the user should see it.
    pub fn stdout_line(&mut self, line: &str) -> bool {
        if let Some(result) = parse_result(line) {
            self.finish_program(result);
            return true;
        }
        match line {
            "successes:" => {
                self.section = Section::Successes { test: String::new() };
                return false;
            }
            "failures:" => self.section = Section::Shown,
            _ => {}
        }
        if let (Section::Shown, Some((name, verdict))) = (&self.section, parse_verdict(line)) {
            *self.counts.tests.entry(name.to_owned()).or_default() += verdict;
        }
        if let (Section::Successes { test }, Some(name)) = (&mut self.section, parse_header(line)) {
            name.clone_into(test);
        }
        if let Some(repeat) = line.strip_prefix("REPEATED ") {
            self.counts.repeats.push(repeat.to_owned());
        }
        if let Some(skip) = parse_skip(line) {
            let test = match &self.section {
                Section::Successes { test } if !test.is_empty() => test.as_str(),
                _ => skip,
            };
            if (self.is_expected)(skip) {
                self.skipped_here.insert(test.to_owned());
                self.counts.skips.push(skip.to_owned());
            } else {
                self.wrongly_skipped_here.insert(test.to_owned());
                self.counts.skips.push(format!("{skip} (UNEXPECTED: counted as failed)"));
            }
        }
        self.section == Section::Shown
    }

    /// Takes a line of standard error, where cargo says what it runs.
    pub fn stderr_line(&mut self, line: &str) {
        let line = line.trim_start();
        if line.starts_with("Running ") || line.starts_with("Doc-tests ") {
            self.started += 1;
        }
    }

    /// The sum, given how cargo ended: what broke without a report counts as failed.
    pub fn finish(mut self, success: bool) -> Counts {
        // A program that crashed or was killed gives no result.
        let tally = &mut self.counts.tally;
        tally.failed += self.started.saturating_sub(self.reported);
        if !success && tally.failed == 0 {
            tally.failed = 1;
        }
        self.counts
    }

    fn finish_program(&mut self, result: Tally) {
        let wrongly = (self.wrongly_skipped_here.len() as u64).min(result.passed);
        let skipped_here = self.skipped_here.difference(&self.wrongly_skipped_here).count() as u64;
        let skipped_here = skipped_here.min(result.passed - wrongly);
        for skipped in self.skipped_here.difference(&self.wrongly_skipped_here) {
            if let Some(test) = self.counts.tests.get_mut(skipped) {
                *test = Tally { skipped: 1, ..Tally::default() };
            }
        }
        self.counts.tally += Tally {
            passed: result.passed - skipped_here - wrongly,
            failed: result.failed + wrongly,
            skipped: result.skipped + skipped_here,
        };
        self.skipped_here.clear();
        self.wrongly_skipped_here.clear();
        self.section = Section::Shown;
        self.reported += 1;
    }
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; …`
fn parse_result(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut tally = Tally::default();
    for part in counts.split("; ") {
        let Some((number, word)) = part.split_once(' ') else { continue };
        let field = match word {
            "passed" => &mut tally.passed,
            "failed" => &mut tally.failed,
            "ignored" => &mut tally.skipped,
            _ => continue,
        };
        *field = number.parse().ok()?;
    }
    Some(tally)
}

/// `test module::name ... ok`
fn parse_verdict(line: &str) -> Option<(&str, Tally)> {
    let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let mut tally = Tally::default();
    match verdict {
        "ok" => tally.passed = 1,
        "FAILED" => tally.failed = 1,
        _ => tally.skipped = 1,
    }
    Some((name, tally))
}

/// `---- module::name stdout ----`
fn parse_header(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// `SKIPPED name: reason`, also after libtest's `test name ... `.
fn parse_skip(line: &str) -> Option<&str> {
    let skip = match line.strip_prefix("SKIPPED ") {
        Some(skip) => skip,
        None => line.strip_prefix("test ")?.split_once(" ... SKIPPED ")?.1,
    };
    skip.contains(": ").then_some(skip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(output: &str, programs: u64, success: bool) -> (Tally, Vec<String>, String) {
        let mut counter = Counter::new(|_| true);
        for _ in 0..programs {
            counter.stderr_line("     Running tests/net_echo.rs (target/debug/deps/net_echo-1)");
        }
        let shown = output.lines().filter(|line| counter.stdout_line(line)).map(|line| format!("{line}\n")).collect();
        let Counts { tally, skips, tests, .. } = counter.finish(success);
        assert!(tests.values().all(|test| test.passed + test.failed + test.skipped == 1), "{tests:?}");
        (tally, skips, shown)
    }

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally { passed, failed, skipped }
    }

    #[test]
    fn results_of_several_programs_add_up() {
        let output = "\
            test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s\n";
        assert_eq!(count(output, 2, false).0, tally(6, 2, 1));
    }

    #[test]
    fn a_skipped_test_is_not_a_passed_one() {
        let output = "\
running 2 tests
test echo ... ok
test vlan ... ok

successes:

---- echo stdout ----
chatter
---- vlan stdout ----
SKIPPED vlan: no VLAN device in this kernel
SKIPPED vlan: nor its sysctl


successes:
    echo
    vlan

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";
        let (sum, skips, shown) = count(output, 1, true);
        assert_eq!(sum, tally(1, 0, 1));
        let mut counter = Counter::new(|_| true);
        for line in output.lines() {
            counter.stdout_line(line);
        }
        let tests = counter.finish(true).tests;
        assert_eq!(tests, [("echo".to_owned(), tally(1, 0, 0)), ("vlan".to_owned(), tally(0, 0, 1))].into());
        assert_eq!(skips, ["vlan: no VLAN device in this kernel", "vlan: nor its sysctl"]);
        assert!(!shown.contains("chatter") && shown.contains("test echo ... ok") && shown.contains("test result"));
    }

    #[test]
    fn what_was_begun_again_is_told_of_a_test_that_passed() {
        let mut counter = Counter::new(|_| true);
        let output = "test a ... ok\nsuccesses:\n---- a stdout ----\nREPEATED boot of pair: it is silent\nwhich is said\n\
                      test result: ok. 1 passed; 0 failed; 0 ignored\n";
        for line in output.lines() {
            counter.stdout_line(line);
        }
        let counts = counter.finish(true);
        assert_eq!((counts.tally, counts.repeats), (tally(1, 0, 0), vec!["boot of pair: it is silent".to_owned()]));
    }

    #[test]
    fn uncaptured_skips_count_too() {
        let output = "test a ... SKIPPED a: no root\nok\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        assert_eq!(count(output, 1, true).0, tally(0, 0, 1));
    }

    #[test]
    fn failures_are_shown_after_successes() {
        let output = "successes:\n---- a stdout ----\nquiet\nfailures:\n---- b stdout ----\nloud\n\
                      test result: FAILED. 1 passed; 1 failed; 0 ignored\n";
        let (sum, _, shown) = count(output, 1, false);
        assert_eq!(sum, tally(1, 1, 0));
        assert!(shown.contains("loud") && !shown.contains("quiet"));
    }

    #[test]
    fn a_crash_or_a_compile_error_is_a_failure() {
        let passed = "test result: ok. 3 passed; 0 failed; 0 ignored\n";
        assert_eq!(count(passed, 2, false).0, tally(3, 1, 0));
        assert_eq!(count("", 0, false).0, tally(0, 1, 0));
        assert_eq!(count("", 0, true).0, tally(0, 0, 0));
    }

    #[test]
    fn lines_that_only_look_alike() {
        assert_eq!(parse_result("test result"), None);
        assert_eq!(parse_skip("SKIPPED"), None);
        assert_eq!(parse_skip("we SKIPPED it: really"), None);
    }
}
