//! Process 1 of a test machine.
//!
//! Mounts what a Linux system has mounted, loads the image's modules, says that it is ready, and does what the host
//! asks for. When the host goes away, however it does, the machine switches itself off: nobody would do it later.

use std::{fs, process::ExitCode};

use rustix::system::{RebootCommand, reboot};

mod boot;
mod kernel_log;
mod run;
mod serve;

fn main() -> ExitCode {
    if !rustix::process::getpid().is_init() {
        eprintln!("error: this is process 1 of a test machine, started by its kernel\ncure: cargo xtask vm run");
        return ExitCode::FAILURE;
    }
    if let Err(error) = boot::run().and_then(|(port, warnings)| serve::run(port, warnings)) {
        // Process 1 has no one to report to but the console, which the host keeps.
        let text = format!("naam-vm-agent: error: {error:#}\n");
        if fs::write("/dev/console", &text).is_err() {
            eprint!("{text}");
        }
    }
    // Only a kernel that refuses brings us back; the panic that follows our end stands on the console, where the host looks.
    _ = reboot(RebootCommand::PowerOff);
    ExitCode::FAILURE
}
