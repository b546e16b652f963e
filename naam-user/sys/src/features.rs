//! What this kernel can do, found out by asking it.

use std::fmt;

use crate::{Insn, Program, ProgramSpec, ProgramType};

/// A kernel release's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// 6 of 6.18.44.
    pub major: u32,
    /// 18 of 6.18.44.
    pub minor: u32,
    /// 44 of 6.18.44; 0 where the release names none.
    pub patch: u32,
}

impl KernelVersion {
    /// A version to compare with.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Reads the numbers at the start of a release such as `6.1.0-18-amd64`.
    pub fn parse(release: &str) -> Option<Self> {
        let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
        let mut numbers = release[..end].split('.').filter(|part| !part.is_empty()).map(str::parse::<u32>);
        let major = numbers.next()?.ok()?;
        let minor = numbers.next()?.ok()?;
        let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
        Some(Self { major, minor, patch })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The running kernel's version, as `uname` gives it; `None` if it has no numbers.
///
/// Distributions backport: ask for a feature itself where a probe for it exists.
pub fn kernel_version() -> Option<KernelVersion> {
    KernelVersion::parse(&rustix::system::uname().release().to_string_lossy())
}

const BPF_MOV64_IMM: u8 = 0xb7;
const BPF_JCOND: u8 = 0xe5;
const BPF_JA: u8 = 0x05;
const BPF_EXIT: u8 = 0x95;

/// Whether the verifier knows `may_goto` (kernel 6.9 on x86-64; later on some architectures):
/// loads a loop of four instructions that is endless without it. False also where this process
/// may not load XDP programs at all.
pub fn may_goto() -> bool {
    let insns = [
        Insn::new(BPF_MOV64_IMM, 0, 0, 0, 0),
        Insn::new(BPF_JCOND, 0, 0, 1, 0),
        Insn::new(BPF_JA, 0, 0, -2, 0),
        Insn::new(BPF_EXIT, 0, 0, 0, 0),
    ];
    Program::load(&ProgramSpec::new(ProgramType::Xdp, "naam_may_goto", &insns)).is_ok()
}

/// Whether the verifier finds out which registers are live before it walks through a program (kernel 6.15, by its
/// number: nothing shows it from outside). Older ones learn it while they walk; they then meet the head of a `may_goto`
/// loop as large as the shell's in more states than they are ready to follow.
pub fn live_registers() -> bool {
    const FIRST: KernelVersion = KernelVersion::new(6, 15, 0);
    kernel_version().is_some_and(|version| version >= FIRST)
}

/// Whether this is a PREEMPT_RT kernel: `/sys/kernel/realtime` is 1, or `uname -v` says so where that file is missing.
/// Softirqs are threads on such a one, and one may be put off in favour of another on the same CPU.
pub fn is_realtime() -> bool {
    std::fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1")
        || rustix::system::uname().version().to_string_lossy().contains("PREEMPT_RT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_parse() {
        let cases = [
            ("6.18.44-fc-v669", Some((6, 18, 44))),
            ("6.1.0-18-amd64", Some((6, 1, 0))),
            ("7.3-rc2", Some((7, 3, 0))),
            ("5.15.167.4-microsoft-standard", Some((5, 15, 167))),
            ("6.12.9+deb13-cloud-arm64", Some((6, 12, 9))),
            ("six", None),
            ("6", None),
        ];
        for (release, expected) in cases {
            let expected = expected.map(|(major, minor, patch)| KernelVersion::new(major, minor, patch));
            assert_eq!(KernelVersion::parse(release), expected, "{release}");
        }
    }

    #[test]
    fn versions_order() {
        assert!(KernelVersion::new(6, 9, 0) > KernelVersion::new(6, 8, 99));
        assert!(KernelVersion::new(7, 0, 0) > KernelVersion::new(6, 99, 0));
    }
}
