//! `naam xsk`: the XDP program that hands replies to AF_XDP clients, set up by a privileged helper.
//!
//! On veth, where XDP_TX needs a program at the other end, it makes UDP clients work too.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use naam_abi::limits::PORT_BASE;
use naam_sys::pin;
use naam_transport::xsk::{Mode, PINNED, XskProgram};

use crate::failure::Failure;
use crate::objects;
use crate::output::Output;

/// Under it, a folder for each interface.
const PINS: &str = "/sys/fs/bpf/naam-xsk";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach the program to a client's interface and pin it; needs CAP_BPF and CAP_NET_ADMIN
    Attach {
        #[command(flatten)]
        place: Place,
        /// First UDP port of the host's block
        #[arg(long, default_value_t = PORT_BASE)]
        port_base: u16,
        /// Run it behind the driver
        #[arg(long)]
        generic: bool,
    },
    /// Detach it
    Detach {
        #[command(flatten)]
        place: Place,
    },
}

/// Interface and pins.
#[derive(Debug, Args)]
pub struct Place {
    /// The client's interface
    interface: String,
    /// Folder of the pins, in a bpffs [default: /sys/fs/bpf/naam-xsk/INTERFACE]
    #[arg(long, value_name = "DIR")]
    pins: Option<PathBuf>,
}

impl Place {
    fn pins(&self) -> PathBuf {
        self.pins.clone().unwrap_or_else(|| default_pins(&self.interface))
    }
}

/// bpffs reserves dots in names; interface names have no colons.
fn default_pins(interface: &str) -> PathBuf {
    Path::new(PINS).join(interface.replace('.', ":"))
}

/// Where `naam xsk attach` has pinned the program of an interface, if it has.
pub fn existing_pins(interface: &str) -> Option<PathBuf> {
    Some(default_pins(interface)).filter(|pins| pins.is_dir())
}

/// Removes the pins of a program whose interface is gone: it was made again, or has another name now.
fn remove_dead(pins: &Path) -> anyhow::Result<()> {
    let link = pins.join(PINNED[0]);
    if link.exists() && naam_sys::link::interface_of_pinned(&link)?.is_none() {
        for pin in PINNED.map(|name| pins.join(name)).iter().filter(|pin| pin.exists()) {
            pin::unpin(pin)?;
        }
    }
    Ok(())
}

impl Command {
    pub fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Attach { place, port_base, generic } => {
                let pins = place.pins();
                let root = pins.ancestors().find(|path| path.exists()).unwrap_or(&pins);
                pin::ensure_bpffs(root)?;
                remove_dead(&pins)?;
                let mode = if generic { Mode::Generic } else { Mode::Native };
                XskProgram::attach(objects::xsk(), &place.interface, port_base, mode)?.pin(&pins)?;
                output.done(&format!("AF_XDP clients may use {}: pinned in {}", place.interface, pins.display()))
            }
            Self::Detach { place } => {
                let pins = place.pins();
                std::fs::remove_dir_all(&pins).map_err(|error| {
                    Failure::new("remove", format!("the pins in {}", pins.display()), error)
                        .way_out("naam xsk attach makes them; --pins names another folder")
                })?;
                if pins.parent() == Some(Path::new(PINS)) {
                    // The folder of all of them stays as long as another interface has a folder in it.
                    let _ = std::fs::remove_dir(PINS);
                }
                output.done(&format!("{} is as before", place.interface))
            }
        }
    }
}
