//! The distribution's packages.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::{Finding, Step, apt, is_root};
use crate::{process, workspace::Workspace};

/// How to see that a package's content is there, whatever installed it.
#[derive(Clone, Copy)]
enum Sign {
    Program(&'static str),
    Header(&'static str),
}

#[derive(Clone, Copy)]
struct Need {
    /// Debian's name.
    package: &'static str,
    sign: Sign,
}

const fn program(package: &'static str, program: &'static str) -> Need {
    Need { package, sign: Sign::Program(program) }
}

const fn header(package: &'static str, header: &'static str) -> Need {
    Need { package, sign: Sign::Header(header) }
}

/// What building, tests and demos take.
const NEEDS: [Need; 9] = [
    program("iproute2", "ip"),           // namespaces and veth of tests and demo
    program("ethtool", "ethtool"),       // queues and offloads of those
    program("bpftool", "bpftool"),       // what the kernel says of programs and maps
    program("clang", "clang"),           // handlers in C
    program("gcc", "gcc"),               // libbpf-sys builds libbpf
    program("make", "make"),             // the same
    program("pkg-config", "pkg-config"), // the same
    header("libelf-dev", "libelf.h"),
    header("zlib1g-dev", "zlib.h"),
];

/// What virtual machines take.
const VM_NEEDS: [Need; 3] = [
    program("qemu-system-x86", "qemu-system-x86_64"),
    program("qemu-system-arm", "qemu-system-aarch64"),
    program("util-linux", "setpriv"), // QEMU dies with us
];

/// What building for the machines of another architecture takes.
const CROSS_NEEDS: [Need; 2] = [
    program("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc"),
    Need { package: "libc6-dev-arm64-cross", sign: Sign::Header("../aarch64-linux-gnu/include/stdio.h") },
];

impl Need {
    fn is_met(&self) -> bool {
        match self.sign {
            Sign::Program(name) => process::find_program(name).is_some(),
            Sign::Header(name) => Path::new("/usr/include").join(name).is_file(),
        }
    }
}

/// Tools and headers from the distribution.
pub struct Packages {
    name: &'static str,
    needs: Vec<Need>,
}

impl Packages {
    /// For building, tests and demos.
    pub fn for_builds() -> Self {
        Self { name: "packages", needs: NEEDS.into() }
    }

    /// For virtual machines; with `cross`, for building what runs in those of another architecture.
    pub fn for_vms(cross: bool) -> Self {
        let cross: &[Need] = if cross { &CROSS_NEEDS } else { &[] };
        Self { name: "virtual machines", needs: [&VM_NEEDS, cross].concat() }
    }

    fn missing(&self) -> Vec<&'static str> {
        self.needs.iter().filter(|need| !need.is_met()).map(|need| need.package).collect()
    }
}

impl Step for Packages {
    fn name(&self) -> &'static str {
        self.name
    }

    fn check(&self, _: &Workspace) -> Result<Finding> {
        let missing = self.missing();
        Ok(if missing.is_empty() {
            Finding::Ready(self.needs.iter().map(|need| need.package).collect::<Vec<_>>().join(", "))
        } else {
            Finding::Missing(missing.join(", "))
        })
    }

    fn install(&self, workspace: &Workspace) -> Result<()> {
        let packages = self.missing();
        let by_hand = packages.join(" ");
        if !apt::is_available() {
            bail!(
                "this system has no apt-get, so these cannot be installed here: {by_hand}\n\
                 cure: install your distribution's packages of these programs and headers, then run set-up again"
            );
        }
        if !is_root() {
            bail!("installing packages takes root\ncure: run set-up as root, or: sudo apt-get install {by_hand}");
        }
        apt::install(workspace, &packages).with_context(|| {
            format!("apt cannot install {by_hand}\ncure: put right what apt says below, then run set-up again")
        })
    }
}
