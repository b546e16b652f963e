//! QEMU's command line.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
};

use command_fds::{CommandFdExt as _, FdMapping};
use naam_vm_agent::PORT;

use crate::{Accelerator, Error, describe::Architecture, image::Image};

/// Descriptors of ours begin here in QEMU.
const FIRST_FD: i32 = 3;

/// A network card.
pub(crate) struct Card {
    /// The end of its wire: a datagram is a frame.
    pub(crate) wire: OwnedFd,
    /// Its address.
    pub(crate) mac: String,
}

/// What to start.
pub(crate) struct Spec<'a> {
    pub(crate) name: &'a str,
    pub(crate) image: &'a Image,
    pub(crate) accelerator: Accelerator,
    pub(crate) cards: Vec<Card>,
    /// The agent's end of the way to it.
    pub(crate) agent: OwnedFd,
    /// File for what the kernel writes to its serial console.
    pub(crate) console: &'a Path,
    /// File for QEMU's own messages.
    pub(crate) messages: &'a Path,
    /// Joins the machine's hvc0 with our standard input and output.
    pub(crate) shell: bool,
}

/// Starts QEMU. It dies with the thread that calls this, whatever ends that.
pub(crate) fn start(spec: Spec<'_>) -> Result<Child, Error> {
    let manifest = spec.image.manifest();
    let (program, machine, console) = match manifest.architecture {
        Architecture::Amd64 => ("qemu-system-x86_64", "q35", "ttyS0"),
        Architecture::Arm64 => ("qemu-system-aarch64", "virt", "ttyAMA0"),
    };
    let cpu = match (spec.accelerator, manifest.architecture) {
        (Accelerator::Kvm, _) => "host",
        (Accelerator::Tcg, Architecture::Amd64) => "max",
        // Has LSE atomics, and none of the pointer authentication that emulation is slow at.
        (Accelerator::Tcg, Architecture::Arm64) => "neoverse-n1",
    };
    // Its random numbers come from the processor: an emulated machine has little else to wait for.
    let append = format!("console={console} panic=-1 loglevel=5 random.trust_cpu=on no_timer_check cryptomgr.notests");

    // The kernel itself kills QEMU when we are gone. `exec` keeps the process: our child is QEMU.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command.args(["-name", spec.name, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    command.args(["-M", machine, "-cpu", cpu, "-accel", spec.accelerator.argument()]);
    command.args(["-smp", &manifest.cpus.to_string(), "-m", &format!("{}M", manifest.memory_mib)]);
    command.arg("-kernel").arg(spec.image.kernel()).arg("-initrd").arg(spec.image.initrd());
    command.args(["-append", &append, "-serial", &format!("file:{}", escape(spec.console))]);
    command.args(["-device", "virtio-serial-pci", "-chardev", &format!("socket,id=agent,fd={FIRST_FD}")]);
    command.args(["-device", &format!("virtserialport,chardev=agent,name={PORT}")]);
    if spec.shell {
        command.args(["-chardev", "stdio,id=shell,signal=off", "-device", "virtconsole,chardev=shell"]);
    } else {
        command.stdin(Stdio::null()).stdout(Stdio::null());
    }
    let mut descriptors = vec![FdMapping { parent_fd: spec.agent, child_fd: FIRST_FD }];
    for (number, card) in spec.cards.into_iter().enumerate() {
        let child_fd = FIRST_FD + descriptors.len() as i32;
        command.args(["-netdev", &format!("dgram,id=net{number},local.type=fd,local.str={child_fd}")]);
        command.args(["-device", &format!("virtio-net-pci,netdev=net{number},mac={},romfile=", card.mac)]);
        descriptors.push(FdMapping { parent_fd: card.wire, child_fd });
    }
    let messages = File::create(spec.messages);
    let messages =
        messages.map_err(|source| Error::File { action: "create", path: spec.messages.to_owned(), source })?;
    command.stderr(messages);
    let failed = |source| Error::Start { program: program.to_owned(), source };
    command.fd_mappings(descriptors).map_err(|error| failed(std::io::Error::other(error)))?;
    command.spawn().map_err(failed)
}

/// A comma ends an option's value for QEMU, two are one.
fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
