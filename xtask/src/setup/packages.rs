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

impl Need {
    fn is_met(&self) -> bool {
        match self.sign {
            Sign::Program(name) => process::find_program(name).is_some(),
            Sign::Header(name) => Path::new("/usr/include").join(name).is_file(),
        }
    }
}

/// Tools and headers from the distribution.
pub struct Packages;

impl Step for Packages {
    fn name(&self) -> &'static str {
        "packages"
    }

    fn check(&self, _: &Workspace) -> Result<Finding> {
        let missing = missing();
        Ok(if missing.is_empty() {
            Finding::Ready(NEEDS.map(|need| need.package).join(", "))
        } else {
            Finding::Missing(missing.join(", "))
        })
    }

    fn install(&self, workspace: &Workspace) -> Result<()> {
        let packages = missing();
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

fn missing() -> Vec<&'static str> {
    NEEDS.iter().filter(|need| !need.is_met()).map(|need| need.package).collect()
}
