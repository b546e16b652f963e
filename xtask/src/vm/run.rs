//! `cargo xtask vm run`: a topology to look around in.

use std::{collections::BTreeMap, io, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use naam_vm::{Lab, Places, Topology};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::HOST;
use crate::workspace::Workspace;

/// How long a command of `--command` may take.
const COMMAND_TIME: Duration = Duration::from_secs(600);
/// How long a shell may stay open.
const SHELL_TIME: Duration = Duration::from_secs(24 * 3600);

/// Which machines.
#[derive(Args)]
pub struct Options {
    /// The topology
    #[arg(default_value = "pair")]
    topology: String,
    /// The machine with the shell [default: the last]
    #[arg(long)]
    vm: Option<String>,
    /// Instead of a shell: run this in the machine, show what it prints, and end
    #[arg(long)]
    command: Option<String>,
    /// Give the machine that is called `host` this kernel
    #[arg(long)]
    kernel: Option<String>,
}

/// Boots, starts what the topology says, and gives the user a shell.
///
/// # Errors
/// When an image cannot be built, a machine does not come up, or the command fails.
pub fn run(workspace: &Workspace, places: &Places, options: &Options) -> Result<()> {
    let topology = Topology::load(places, &options.topology)?;
    let vm = options.vm.clone().or_else(|| topology.vms().last().map(|vm| vm.name.clone()));
    let vm = vm.context("the topology has no machine")?;
    super::build(workspace, places, &super::images_of(&topology, options.kernel.as_deref()))?;
    let shell = options.command.is_none().then(|| vm.clone());
    let terminal = if shell.is_some() { Some(Terminal::keep()?) } else { None };

    let started = std::time::Instant::now();
    let kernels = options.kernel.iter().map(|kernel| (HOST.to_owned(), kernel.clone())).collect::<BTreeMap<_, _>>();
    let boot = naam_vm::Options { kernels, label: Some(format!("run-{}", topology.name())), shell, grace: None };
    let lab = topology.boot(&boot)?;
    let booted = started.elapsed();
    lab.start()?;
    // QEMU has set the terminal to pass every key on, and lines end with both characters there.
    let line = |text: String| eprint!("{text}\r\n");
    line(format!("{}: {}", topology.name(), topology.description()));
    for machine in lab.machines() {
        line(format!("  {:10} kernel {}", machine.name(), machine.kernel()));
    }
    let how = lab.accelerator();
    line(format!("  up in {:.1} s by {:?} ({})", booted.as_secs_f64(), how.accelerator, how.reason));
    let outcome = match &options.command {
        Some(command) => show(&lab, &vm, command),
        None => {
            line(format!("a shell in `{vm}`; `exit` ends the machines"));
            // The console's own shell, with job control. The outer one stays: it leads its group, who leads one cannot begin a
            // session, and setsid would leave that to a child that nobody waits for.
            let script = "setsid -c sh -i </dev/hvc0 >/dev/hvc0 2>&1; :";
            lab.machine(&vm)?.run("sh", &["-c", script], SHELL_TIME).map(drop).map_err(Into::into)
        }
    };
    let finished = lab.finish();
    drop(terminal);
    outcome?;
    Ok(finished?)
}

fn show(lab: &Lab, vm: &str, command: &str) -> Result<()> {
    let output = lab.machine(vm)?.run("sh", &["-c", command], COMMAND_TIME)?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    if !output.success() {
        bail!("`{command}` failed in machine {vm}: {:?}", output.end);
    }
    Ok(())
}

/// The terminal's settings, which a QEMU that was killed does not put back.
struct Terminal {
    settings: Termios,
}

impl Terminal {
    fn keep() -> Result<Self> {
        let settings = tcgetattr(io::stdin());
        let settings = settings.context("a shell takes a terminal\ncure: --command COMMAND runs one without")?;
        Ok(Self { settings })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that has gone needs no settings.
        _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.settings);
    }
}
