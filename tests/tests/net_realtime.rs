//! Kernels that the datapath refuses.

use std::process::Command;

use naam_loader::{Datapath, LoaderError, Objects, Options};

/// Set in the process that sees another `/sys/kernel`.
const INSIDE: &str = "NAAM_TEST_REALTIME";

/// As on PREEMPT_RT: `/sys/kernel/realtime` says 1, in a mount namespace of the test's own.
#[test]
fn a_realtime_kernel_is_refused() {
    if std::env::var_os(INSIDE).is_some() {
        let options = Options::instance(&naam_testbed::instance());
        let error = Datapath::open(&options, Objects { entry: &[], shell: &[] }).unwrap_err();
        assert!(matches!(error, LoaderError::Realtime), "{error}");
        assert!(error.to_string().contains("PREEMPT_RT") && !options.pins.exists(), "{error}");
        return;
    }
    let script = "mount -t tmpfs tmpfs /sys/kernel && echo 1 > /sys/kernel/realtime && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", "a_realtime_kernel_is_refused"]);
    let output = command.env(INSIDE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
