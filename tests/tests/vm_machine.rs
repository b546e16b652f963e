//! The machines themselves: what becomes of commands, files, and of machines that fail.

use std::{path::Path, time::Duration};

use naam_vm::{Error, Options, Places, Shared, Topology};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// For tests that do not need one of their own.
static MACHINE: Shared = Shared::new("single");

/// ```text
///   cargo test ─ agent ─ host
/// ```
#[test]
fn commands_and_files_come_back_whole() {
    let lab = MACHINE.take();
    let host = lab.machine("host").unwrap();
    assert_eq!(host.sh("uname -r").unwrap().trim(), host.kernel());

    let both = host.run("sh", &["-c", "echo out; echo err >&2; exit 3"], Duration::from_secs(30)).unwrap();
    assert_eq!((both.stdout.as_slice(), both.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert!(!both.success());
    let error = host.sh("echo to stdout; echo to stderr >&2; exit 3").unwrap_err().to_string();
    assert!(error.contains("code 3") && error.contains("to stdout") && error.contains("to stderr"), "{error}");
    let error = host.run("no-such-program", &[], Duration::from_secs(30)).unwrap_err().to_string();
    assert!(error.contains("no-such-program"), "{error}");

    // Longer than any chunk, with every byte.
    let bytes: Vec<u8> = (0..200_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    host.put("/tmp/new/file", 0o600, &bytes).unwrap();
    assert_eq!(host.get("/tmp/new/file").unwrap(), bytes);
    let mode = host.sh("stat -c %a /tmp/new/file").unwrap();
    assert_eq!(mode.trim(), "600");
    host.put("/tmp/new/file", 0o600, b"").unwrap();
    assert_eq!(host.get("/tmp/new/file").unwrap(), b"");
    assert!(matches!(host.get("/tmp/none"), Err(Error::Refused { .. })));
    lab.finish().unwrap();
}

#[test]
fn what_takes_too_long_is_killed_with_its_children() {
    let lab = MACHINE.take();
    let host = lab.machine("host").unwrap();
    let error = host.sh_within("sleep 1001 & sleep 1002", Duration::from_secs(2)).unwrap_err();
    assert!(error.to_string().contains("killed at its time limit"), "{error}");
    let running = host.start_program("sleep", &["1003"], Duration::from_secs(600)).unwrap();
    running.kill().unwrap();
    drop(host.start_program("sleep", &["1004"], Duration::from_secs(600)).unwrap());
    host.sh("for i in 1 2 3 4 5 6 7 8 9 10; do pgrep -f 'sleep 100[1-4]' || exit 0; sleep 1; done; exit 1").unwrap();
    lab.finish().unwrap();
}

#[test]
fn a_panic_is_told_with_the_consoles_words() {
    let lab = naam_vm::boot("single");
    let host = lab.machine("host").unwrap();
    let error = host.sh("echo c > /proc/sysrq-trigger; sleep 100").unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("Kernel panic - not syncing: sysrq triggered crash"), "{text}");
    // Whoever comes later is told the same at once.
    assert!(matches!(host.sh("true"), Err(Error::Gone { .. })));
}

/// QEMU ends with success then, and what was running has no end.
#[test]
fn a_machine_that_goes_away_without_a_word_is_a_failure() {
    let lab = naam_vm::boot("single");
    let error = lab.machine("host").unwrap().sh("poweroff -f; sleep 100").unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error}");
    assert!(lab.finish().is_err());
}

#[test]
fn a_machine_that_hangs_is_told_and_killed() {
    let options = Options { grace: Some(Duration::from_secs(2)), ..Options::default() };
    let lab = Topology::load(&Places::locate(), "single").unwrap().boot(&options).unwrap();
    let host = lab.machine("host").unwrap();
    let qemu = only_child();
    kill_process(qemu, Signal::STOP).unwrap();
    let error = host.run("true", &[], Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, Error::Silent { .. }), "{error}");
    // Where to look is said, and the log is there.
    let text = error.to_string();
    let console =
        text.split_whitespace().find(|word| word.contains(".console.log")).unwrap_or_else(|| panic!("{text}"));
    assert!(Path::new(console.trim_matches([':', ',', '(', ')'])).is_file(), "{text}");
    drop(lab);
    assert!(test_kill_process(qemu).is_err(), "QEMU is there still");
}

/// QEMU of the one machine that runs. Tests of this tier run one at a time.
fn only_child() -> Pid {
    let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", rustix::thread::gettid())).unwrap();
    let [pid] = children.split_whitespace().collect::<Vec<_>>()[..] else { panic!("children: {children}") };
    Pid::from_raw(pid.parse().unwrap()).unwrap()
}

#[test]
fn a_kernels_complaint_fails_the_test() {
    let lab = MACHINE.take();
    let host = lab.machine("host").unwrap();
    host.check_kernel_log().unwrap();
    host.sh("echo '<4>WARNING: CPU: 0 PID: 1 at a/test.c:1' > /dev/kmsg").unwrap();
    let error = lab.finish().unwrap_err();
    assert!(error.to_string().contains("test.c:1"), "{error}");
}
