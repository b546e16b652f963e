//! Waiting until programs that might still use something have ended.

use std::time::Duration;

use rustix::thread::{MembarrierCommand, membarrier};

/// Longer than any program here runs: the kernel ends a `may_goto` loop after a quarter of a second.
const LONGEST_RUN: Duration = Duration::from_millis(300);

/// Returns once every XDP and TC program that was running at the call has ended. What they read
/// before a change to a map, none of them holds any more.
///
/// Such programs run inside an RCU read-side section, and `MEMBARRIER_CMD_GLOBAL` waits for those to
/// end: some 10 ms. Where the kernel refuses it (`nohz_full`), a pause takes its place. Kernel 4.3.
pub fn wait_for_programs() {
    if membarrier(MembarrierCommand::Global).is_err() {
        std::thread::sleep(LONGEST_RUN);
    }
}
