//! A topology that runs.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::{
    Accelerator, Error, Machine, Places, Topology,
    accelerator::Choice,
    describe::{Kernel, Start, Vm},
    image::Image,
    machine::{COMMAND_TIME, GRACE},
    qemu::Card,
};

/// How long a machine may take to come up, with several of them emulated on few busy processors.
const BOOT_TIME: Duration = Duration::from_secs(120);
/// How often a topology is booted, if a machine does not even get to its first program.
const BOOT_ATTEMPTS: u32 = 3;
/// The machine that NAAM_VM_KERNEL gives another kernel.
const HOST: &str = "host";

/// Boots a topology for a test, with the kernel that NAAM_VM_KERNEL names in the machine called `host`.
///
/// # Panics
/// When it does not come up: with all that is known about it.
pub fn boot(topology: &str) -> Lab {
    try_boot(topology).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn try_boot(topology: &str) -> Result<Lab, Error> {
    let kernels = other_kernel().map(|kernel| (HOST.to_owned(), kernel)).into_iter().collect();
    Topology::load(&Places::locate(), topology)?.boot(&Options { kernels, ..Options::default() })
}

/// The kernel of the machine called `host` in a test's topology: its name in `vm-images/kernels`, and what is known of it.
///
/// # Panics
/// When it is not described.
pub fn host_kernel(topology: &str) -> (String, Kernel) {
    let places = Places::locate();
    let described = || -> Result<(String, Kernel), Error> {
        let topology = Topology::load(&places, topology)?;
        let host = topology.vms().iter().find(|vm| vm.name == HOST);
        let name = other_kernel().or_else(|| host.map(|vm| vm.kernel.clone())).unwrap_or_default();
        let kernel = Kernel::load(&places, &name)?;
        Ok((name, kernel))
    };
    described().unwrap_or_else(|error| panic!("{error}"))
}

fn other_kernel() -> Option<String> {
    std::env::var("NAAM_VM_KERNEL").ok()
}

/// How to boot.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Other kernels than the topology's, by machine.
    pub kernels: BTreeMap<String, String>,
    /// Names the logs' folder; the process's number, otherwise.
    pub label: Option<String>,
    /// The machine whose hvc0 is to be our terminal.
    pub shell: Option<String>,
    /// How much longer than its time limit a command's end is waited for; otherwise 20 s, for emulated machines.
    pub grace: Option<Duration>,
}

/// Machines that run, joined as their topology says. They end when this is dropped.
#[derive(Debug)]
pub struct Lab {
    topology: Topology,
    machines: Vec<Machine>,
    choice: Choice,
}

impl Topology {
    /// Boots it, all machines at once, and gives their cards their addresses.
    ///
    /// # Errors
    /// When an image is missing, or a machine does not come up whole in time.
    pub fn boot(&self, options: &Options) -> Result<Lab, Error> {
        let mut attempt = 1;
        loop {
            match self.boot_once(options) {
                // Emulated processors that change code beside each other lose a kernel now and then, or never find each other,
                // before it has run anything of ours. What happens later counts, and what real processors do.
                Err(error) if error.is_early() && attempt < BOOT_ATTEMPTS && self.is_emulated(options)? => {
                    attempt += 1;
                    // `cargo xtask test` tells of such lines.
                    println!("REPEATED boot of {}: {error}", self.name());
                }
                outcome => return outcome,
            }
        }
    }

    fn boot_once(&self, options: &Options) -> Result<Lab, Error> {
        let places = self.places();
        let images = self.images(options)?;
        let logs = places.logs(&label(self, options));
        fs::create_dir_all(&logs).map_err(|source| Error::File { action: "create", path: logs.clone(), source })?;
        let mut cards = self.wires()?;
        let grace = options.grace.unwrap_or(GRACE);
        let mut machines = Vec::new();
        let mut choice = None;
        for (vm, image) in self.vms().iter().zip(&images) {
            let accelerator = Accelerator::choose(places, image);
            let cards = cards.remove(&vm.name).unwrap_or_default();
            let shell = options.shell.as_ref() == Some(&vm.name);
            machines.push(Machine::start(&vm.name, image, accelerator.accelerator, cards, &logs, shell, grace)?);
            choice.get_or_insert(accelerator);
        }
        for (machine, vm) in machines.iter_mut().zip(self.vms()) {
            machine.wait_until_ready(BOOT_TIME)?;
            machine.sh(&network_script(vm))?;
        }
        let choice = choice.expect("a topology has a machine: checked when it was read");
        Ok(Lab { topology: self.clone(), machines, choice })
    }

    fn images(&self, options: &Options) -> Result<Vec<Image>, Error> {
        let kernel = |vm: &Vm| options.kernels.get(&vm.name).unwrap_or(&vm.kernel).clone();
        self.vms().iter().map(|vm| Image::open(self.places(), &Image::name(&vm.role, &kernel(vm)))).collect()
    }

    fn is_emulated(&self, options: &Options) -> Result<bool, Error> {
        let images = self.images(options)?;
        Ok(images.iter().any(|image| Accelerator::choose(self.places(), image).accelerator == Accelerator::Tcg))
    }

    /// The ends of all wires, by machine, in the order of its cards.
    fn wires(&self) -> Result<BTreeMap<String, Vec<Card>>, Error> {
        let mut ends = BTreeMap::<(usize, usize), OwnedFd>::new();
        for (network, cards) in self.networks() {
            let pair = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
            let (one, other) = pair.map_err(|error| Error::Io {
                vm: format!("of network {network}"),
                action: "make a wire",
                source: error.into(),
            })?;
            ends.extend(cards.into_iter().zip([one, other]));
        }
        let mut cards = BTreeMap::<String, Vec<Card>>::new();
        for ((vm, card), wire) in ends {
            let mac = mac(vm, card);
            cards.entry(self.vms()[vm].name.clone()).or_default().push(Card { wire, mac });
        }
        Ok(cards)
    }
}

impl Lab {
    /// The topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Who executes the machines' instructions, and why.
    pub fn accelerator(&self) -> &Choice {
        &self.choice
    }

    /// All machines, in the topology's order.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// A machine by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn machine(&self, name: &str) -> Result<&Machine, Error> {
        self.machines.iter().find(|machine| machine.name() == name).ok_or_else(|| Error::NoMachine {
            topology: self.topology.name().to_owned(),
            vm: name.to_owned(),
            known: self.machines.iter().map(Machine::name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Has the machines do what their topology says they do at the start.
    ///
    /// # Errors
    /// When a command fails, or a service does not serve in time.
    pub fn start(&self) -> Result<(), Error> {
        for (machine, vm) in self.machines.iter().zip(self.topology.vms()) {
            for Start { command, until } in &vm.start {
                match until {
                    None => drop(machine.sh(command)?),
                    // It runs until the machine ends.
                    Some(until) => machine.serve(command, until)?.leave(),
                }
            }
        }
        Ok(())
    }

    /// Ends the machines in order.
    ///
    /// # Errors
    /// When one of their kernels has complained meanwhile, or does not switch off.
    pub fn finish(self) -> Result<(), Error> {
        for machine in &self.machines {
            machine.check_kernel_log()?;
        }
        self.machines.into_iter().try_for_each(|machine| machine.power_off(COMMAND_TIME))
    }
}

fn label(topology: &Topology, options: &Options) -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    options.label.clone().unwrap_or_else(|| {
        format!("{}-{}-{}", topology.name(), std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed))
    })
}

/// Locally administered; machine and card are its last bytes.
fn mac(vm: usize, card: usize) -> String {
    format!("02:6e:61:6d:{:02x}:{card:02x}", vm + 1)
}

fn network_script(vm: &Vm) -> String {
    // Addresses are at hand at once: nobody else could have them.
    let mut script = String::from("set -e; echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad; ip link set lo up\n");
    for (number, nic) in vm.nic.iter().enumerate() {
        let device = format!("eth{number}");
        script += &format!("echo 0 > /proc/sys/net/ipv6/conf/{device}/accept_dad; ip link set {device} up\n");
        for address in &nic.addresses {
            script += &format!("ip addr add {address} dev {device}\n");
        }
    }
    script
}
