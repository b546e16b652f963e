//! What the running kernel must offer.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{Finding, Step, is_root};
use crate::{process, workspace::Workspace};

const BPFFS: &str = "/sys/fs/bpf";
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// Before 6.1 the verifier lacks too much of what the shell is built on.
const MINIMUM: (u32, u32) = (6, 1);

/// Bits of `CapEff` that loading and attaching take.
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// Kernel version, BTF, bpffs, capabilities.
pub struct Kernel;

impl Step for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn check(&self, _: &Workspace) -> Result<Finding> {
        let release = read("/proc/sys/kernel/osrelease").context("is this Linux?")?;
        let version = parse_version(&release).with_context(|| format!("cannot read kernel version `{release}`"))?;
        if version < MINIMUM {
            let (major, minor) = MINIMUM;
            bail!("kernel {release} is too old\ncure: boot {major}.{minor} or newer (Debian 12 and 13 have it)");
        }
        if !Path::new(BTF).is_file() {
            bail!("kernel {release} has no BTF ({BTF})\ncure: boot a kernel built with CONFIG_DEBUG_INFO_BTF=y");
        }
        let has_bpffs = is_bpffs(&read("/proc/self/mounts")?);
        if !has_bpffs && is_root() {
            return Ok(Finding::Missing(format!("bpffs on {BPFFS} (mounting it)")));
        }
        let lacking = lacking_capabilities(&read("/proc/self/status")?);
        let jit = describe_jit();
        if !has_bpffs || !lacking.is_empty() {
            let lacking = if lacking.is_empty() { String::new() } else { format!(" lacking {}", lacking.join(", ")) };
            let bpffs = if has_bpffs { "" } else { ", bpffs not mounted" };
            return Ok(Finding::Notice(format!(
                "{release}, {jit}{bpffs}: builds work, programs cannot be loaded by this user{lacking}"
            )));
        }
        Ok(Finding::Ready(format!("{release}, BTF, bpffs, {jit}")))
    }

    fn install(&self, _: &Workspace) -> Result<()> {
        process::output(Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]))
            .with_context(|| format!("cannot mount bpffs\ncure: mount -t bpf bpf {BPFFS}"))?;
        Ok(())
    }
}

fn read(path: &str) -> Result<String> {
    Ok(fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?.trim_end().to_owned())
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether the topmost mount on the usual place is a bpffs; `ip netns exec` hides it under a fresh sysfs.
fn is_bpffs(mounts: &str) -> bool {
    let mut kinds = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        (fields.nth(1) == Some(BPFFS)).then(|| fields.next())?
    });
    kinds.next_back() == Some("bpf")
}

fn lacking_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    CAPABILITIES.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect()
}

fn describe_jit() -> &'static str {
    match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").as_deref().map(str::trim) {
        Ok("0") => "BPF JIT OFF (slow: sysctl net.core.bpf_jit_enable=1)",
        Ok("1" | "2") => "BPF JIT on",
        _ => "BPF JIT state not readable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(parse_version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(parse_version("6.1.0-40-amd64"), Some((6, 1)));
        assert_eq!(parse_version("6.1-rc3"), Some((6, 1)));
        assert_eq!(parse_version("linux"), None);
        assert!(parse_version("5.19.17").unwrap() < MINIMUM);
        assert!(parse_version("6.10.2").unwrap() > MINIMUM);
    }

    #[test]
    fn the_topmost_mount_counts() {
        assert!(is_bpffs("sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n"));
        assert!(!is_bpffs("bpf /sys/fs/bpf bpf rw 0 0\nsysfs /sys/fs/bpf sysfs rw 0 0\n"));
        assert!(!is_bpffs("sysfs /sys sysfs rw 0 0\n"));
    }

    #[test]
    fn capabilities_by_bit() {
        assert_eq!(lacking_capabilities("CapEff:\t000001fffeffffff\n"), [""; 0]);
        assert_eq!(lacking_capabilities("CapEff:\t0000008000001000\n"), ["CAP_PERFMON"]);
        assert_eq!(lacking_capabilities(""), ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
    }
}
