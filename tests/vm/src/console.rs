//! What a machine writes to its serial console, and what of a kernel's log is a complaint.

use std::{fs, path::Path};

use crate::error::Tail;

/// Lines that go into an error.
const TAIL_LINES: usize = 20;
/// What a kernel says when it gives up.
const PANIC: &str = "Kernel panic";

/// What a kernel says when something of it is broken.
const COMPLAINTS: [&str; 7] =
    ["BUG:", "Oops", "WARNING:", "general protection", "Kernel panic", "Unable to handle kernel", "INFO: task"];
/// What an emulator on a busy machine makes it say, nobody's fault.
const SLOWNESS: [&str; 4] = ["soft lockup", "rcu_preempt", "rcu:", "workqueue lockup"];

/// The end of a console's file, which may not be there yet.
pub(crate) fn tail(path: &Path) -> Tail {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect();
    let panic = lines.iter().find(|line| line.contains(PANIC)).cloned();
    Tail { path: path.to_owned(), panic, lines: lines[lines.len().saturating_sub(TAIL_LINES)..].to_vec() }
}

/// What a console's file holds of a kernel's complaints. It has all that is a warning or worse.
pub(crate) fn complaints_of(path: &Path) -> Vec<String> {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    complaints(&text).into_iter().map(|line| line.trim_end().to_owned()).collect()
}

/// The lines of a kernel's log that say that something is broken.
pub(crate) fn complaints(log: &str) -> Vec<&str> {
    let is_complaint = |line: &&str| {
        COMPLAINTS.iter().any(|word| line.contains(word)) && !SLOWNESS.iter().any(|word| line.contains(word))
    };
    log.lines().filter(is_complaint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_the_kernels_faults_only() {
        let log = "6 [0.1] Linux version 6.12\n4 [2.0] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1\n\
                   0 [3.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!\n1 [4.0] BUG: kernel NULL pointer\n";
        let found = complaints(log);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("dev.c") && found[1].contains("NULL"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        assert!(complaints_of(&path).is_empty());
        fs::write(&path, "[ 9.0] Kernel panic - not syncing: at the very end\r\n").unwrap();
        assert_eq!(complaints_of(&path), ["[ 9.0] Kernel panic - not syncing: at the very end"]);
    }

    #[test]
    fn the_tail_is_the_end_and_finds_the_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        assert!(tail(&path).lines.is_empty());
        let text: String = (0..100).map(|number| format!("line {number}\r\n\r\n")).collect();
        fs::write(&path, format!("[ 1.0] Kernel panic - not syncing: no init\r\n{text}")).unwrap();
        let tail = tail(&path);
        assert_eq!(tail.lines.len(), TAIL_LINES);
        assert_eq!(tail.panic.as_deref(), Some("[ 1.0] Kernel panic - not syncing: no init"));
        assert!(tail.to_string().ends_with("\n    line 99"));
    }
}
