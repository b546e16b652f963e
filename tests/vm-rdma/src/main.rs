//! A peer of a daemon with RDMA: opens a session, connects a queue pair, and reads and writes regions by the keys that it got.
//!
//! It asks for what it may not have, too: `--forge` names another key or address than the one that was told.

mod compare;
mod figures;
mod lend;
mod reader;
mod session;

use std::{
    net::IpAddr,
    process::Command as Process,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use caps::{CapSet, Capability};
use clap::{Parser, Subcommand, ValueEnum};
use naam_control::protocol::session::RegionRights;
use naam_verbs::{Connected, RemoteMemory, WorkId};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{
    reader::Structure,
    session::{Local, Peer, rights},
};

const WAIT: Duration = Duration::from_secs(20);
/// Time between two READs of a connection that is kept.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Parser)]
struct Cli {
    /// Where the daemon is
    #[arg(long, default_value = "10.77.0.2:7626")]
    control: String,
    #[arg(long, default_value = "demo")]
    app: String,
    /// The device here [default: the first]
    #[arg(long)]
    device: Option<String>,
    /// The address here that the queue pair names [default: the one that the daemon sees]
    #[arg(long)]
    from: Option<IpAddr>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints words of a region
    Read {
        /// REGION or REGION=RIGHT,RIGHT
        #[arg(value_parser = rights)]
        region: RegionRights,
        offset: u64,
        words: usize,
        #[arg(long)]
        forge: Option<Forge>,
        /// Name this key and address, `RKEY:ADDRESS`, as another session got them
        #[arg(long)]
        as_told: Option<String>,
    },
    /// Writes a word to a region, without asking whether that is allowed
    Write {
        #[arg(value_parser = rights)]
        region: RegionRights,
        offset: u64,
        value: u64,
    },
    /// Reads a word of a region again and again until that fails, and prints why
    Keep {
        #[arg(value_parser = rights)]
        region: RegionRights,
    },
    /// Prints what the session got, `RKEY:ADDRESS`, and keeps it
    Hold {
        #[arg(value_parser = rights)]
        region: RegionRights,
    },
    /// Reads keys by RDMA and at home in turn, while they change, and compares
    Compare { structure: Structure, seconds: u64 },
    /// At home: owns the tree and changes its keys without end
    Own,
    /// Times READs and GETs by each way in turn
    Figures { turns: usize },
    /// Runs a program that reads and writes a region by itself
    Lend {
        #[arg(value_parser = rights)]
        region: RegionRights,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<String>,
    },
    /// Runs a program that may lock so many KiB of memory, whoever runs it
    Limit {
        kib: u64,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<String>,
    },
}

/// What is named instead of what was told.
#[derive(Clone, Copy, ValueEnum)]
enum Forge {
    Key,
    Address,
}

fn main() -> Result<()> {
    let Cli { control, app, device, from, command } = Cli::parse();
    let connect = |region: &RegionRights| Peer::connect(&control, &app, device.as_deref(), from, region.clone());
    match command {
        Command::Read { region, offset, words, forge, as_told } => {
            let mut peer = connect(&region)?;
            match forge {
                None => {}
                Some(Forge::Key) => peer.memory.rkey ^= 0x100,
                Some(Forge::Address) => peer.memory.address += peer.memory.bytes,
            }
            if let Some(told) = as_told {
                let (rkey, address) = told.split_once(':').context("RKEY:ADDRESS")?;
                (peer.memory.rkey, peer.memory.address) = (rkey.parse()?, address.parse()?);
            }
            let local = peer.buffer(words * 8)?;
            let found = read(&mut peer, &local, offset, words)?;
            println!("{}", serde_json::to_string(&found)?);
            Ok(())
        }
        Command::Write { region, offset, value } => {
            let mut peer = connect(&region)?;
            let local = peer.buffer(8)?;
            local.buffer.copy_in(0, &[value]);
            let posted = peer.pair.write((&local.registered, 0), (&peer.memory, offset), 8)?;
            complete(&mut peer.pair, posted)
        }
        Command::Keep { region } => {
            let mut peer = connect(&region)?;
            let local = peer.buffer(8)?;
            println!("reading");
            loop {
                match read(&mut peer, &local, 0, 1) {
                    Ok(_) => sleep(PAUSE),
                    Err(error) => {
                        println!("{error:#}");
                        return Ok(());
                    }
                }
            }
        }
        Command::Hold { region } => {
            let peer = connect(&region)?;
            let RemoteMemory { rkey, address, .. } = peer.memory;
            println!("{rkey}:{address}");
            loop {
                sleep(WAIT);
            }
        }
        Command::Compare { structure, seconds } => compare::compare(&control, structure, Duration::from_secs(seconds)),
        Command::Own => compare::own(),
        Command::Figures { turns } => figures::print(&control, turns),
        Command::Lend { region, program } => lend::lend(&control, &app, region, &program),
        Command::Limit { kib, program } => limit(kib, &program),
    }
}

/// READs words by a buffer that is registered already.
fn read(peer: &mut Peer, local: &Local, offset: u64, words: usize) -> Result<Vec<u64>> {
    let len = u32::try_from(words * 8).context("so many words are no request")?;
    let posted = peer.pair.read((&local.registered, 0), (&peer.memory, offset), len)?;
    complete(&mut peer.pair, posted)?;
    let mut found = vec![0; words];
    local.buffer.copy_out(0, &mut found);
    Ok(found)
}

fn complete(pair: &mut Connected, posted: WorkId) -> Result<()> {
    let deadline = Instant::now() + WAIT;
    while pair.poll()?.is_none_or(|done| done != posted) {
        if Instant::now() > deadline {
            bail!("the request has not completed within {} s", WAIT.as_secs());
        }
    }
    Ok(())
}

/// Becomes the program, which can neither lock more nor raise the limit.
fn limit(kib: u64, program: &[String]) -> Result<()> {
    let (name, arguments) = program.split_first().context("no program")?;
    let most = Some(kib << 10);
    setrlimit(Resource::Memlock, Rlimit { current: most, maximum: most }).context("cannot set the limit")?;
    for capability in [Capability::CAP_SYS_RESOURCE, Capability::CAP_IPC_LOCK] {
        caps::drop(None, CapSet::Bounding, capability).context("cannot give a capability up")?;
    }
    Err(std::os::unix::process::CommandExt::exec(Process::new(name).args(arguments)).into())
}
