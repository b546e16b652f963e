//! What the kernel can do.

use std::fs;
use std::path::Path;

use naam_control::protocol::inspect::Finding;
use naam_sys::features::{self, KernelVersion};
use naam_sys::{Insn, Program, ProgramSpec, ProgramType, pin};

use super::{bad, good, warning};

/// The oldest kernel that runs the datapath.
const OLDEST: KernelVersion = KernelVersion::new(6, 1, 0);
/// The first whose verifier gets through the shell with `may_goto` loops.
const FAST_LOOPS: KernelVersion = KernelVersion::new(6, 15, 0);

const MOV64_IMM: u8 = 0xb7;
const EXIT: u8 = 0x95;

pub fn findings() -> Vec<Finding> {
    let mut findings = vec![version(), preemption(), btf(), bpffs()];
    match trivial_program() {
        Ok(jited) => {
            findings.push(good("bpf()", "this process may load XDP programs"));
            findings.push(loops());
            findings.push(jit(jited));
        }
        Err(reason) => {
            findings.push(bad("bpf()", reason, "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"))
        }
    }
    findings.extend(hardening());
    findings
}

fn version() -> Finding {
    let check = "kernel";
    match features::kernel_version() {
        None => warning(check, "its release names no version", "the other lines tell what it can do"),
        Some(version) if version < OLDEST => bad(check, version.to_string(), format!("{OLDEST} or newer is needed")),
        Some(version) => good(check, version.to_string()),
    }
}

/// `naam serve` refuses what this finds bad.
fn preemption() -> Finding {
    let check = "preemption";
    if features::is_realtime() {
        let detail = "PREEMPT_RT: softirqs of one CPU do not exclude each other, and naam serve refuses to start";
        bad(check, detail, "boot a kernel without PREEMPT_RT")
    } else {
        good(check, "no PREEMPT_RT: a CPU runs one datagram at a time")
    }
}

fn btf() -> Finding {
    let (check, path) = ("BTF", "/sys/kernel/btf/vmlinux");
    match fs::metadata(path) {
        Ok(file) => good(check, format!("{path}, {} KiB", file.len() >> 10)),
        Err(error) => bad(check, format!("{path}: {error}"), "use a kernel built with CONFIG_DEBUG_INFO_BTF"),
    }
}

fn bpffs() -> Finding {
    let check = "bpffs";
    if pin::is_bpffs(Path::new(pin::BPFFS)) {
        good(check, format!("mounted at {}", pin::BPFFS))
    } else {
        let detail = format!("{} is no bpffs: nothing can be pinned", pin::BPFFS);
        warning(check, detail, "naam serve mounts it as root; or: mount -t bpf bpf /sys/fs/bpf")
    }
}

/// Loads `return XDP_PASS`; tells whether it was compiled.
fn trivial_program() -> Result<bool, String> {
    let insns = [Insn::new(MOV64_IMM, 0, 0, 0, 2), Insn::new(EXIT, 0, 0, 0, 0)];
    let loaded =
        Program::load(&ProgramSpec::new(ProgramType::Xdp, "naam_doctor", &insns)).map_err(|e| e.error.to_string())?;
    let info = loaded.program.info().map_err(|error| error.to_string())?;
    Ok(info.jited_bytes > 0)
}

fn loops() -> Finding {
    let check = "may_goto";
    if features::live_registers() && features::may_goto() {
        good(check, "the datapath's loops run at full speed")
    } else {
        let detail =
            "the verifier does not know it, or not well enough: loops run by bpf_loop, at about half the speed";
        warning(check, detail, format!("use kernel {FAST_LOOPS} or newer"))
    }
}

fn jit(jited: bool) -> Finding {
    let check = "JIT";
    if jited {
        good(check, "programs are compiled")
    } else {
        bad(check, "programs are interpreted", "sysctl net.core.bpf_jit_enable=1")
    }
}

/// Only the first network namespace shows the setting.
fn hardening() -> Option<Finding> {
    let (check, path) = ("JIT hardening", "/proc/sys/net/core/bpf_jit_harden");
    Some(match fs::read_to_string(path).ok()?.trim() {
        "2" => warning(check, "constants are blinded for root's programs too", "sysctl net.core.bpf_jit_harden=1"),
        value => good(check, format!("{path} is {value}")),
    })
}
