//! Both ends of an RDMA connection: `offer` registers a region's pages and waits; `read` connects and prints words of it.
//!
//! They tell each other their endpoints over TCP, a line each. The connection lasts as long as that one.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use naam_region::Regions;
use naam_verbs::{Access, Buffer, Connected, Device, Domain, Endpoint, MemoryRegion, QueuePair, RemoteMemory};
use serde::{Deserialize, Serialize};

const PORT: u8 = 1;
const DEPTH: u32 = 16;
const WAIT: Duration = Duration::from_secs(20);

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Registers a region and lets peers read it, one after another
    Offer { pins: String, app: String, region: String, listen: String },
    /// Reads words of the region that is offered at an address
    Read {
        address: String,
        offset: u64,
        words: usize,
        /// Names another key than the one that was told
        #[arg(long)]
        forge: bool,
        /// Writes instead, which nobody was allowed to
        #[arg(long)]
        write: bool,
    },
}

/// What one end tells the other.
#[derive(Serialize, Deserialize)]
struct Hello {
    endpoint: Endpoint,
    memory: Option<RemoteMemory>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Offer { pins, app, region, listen } => offer(&pins, &app, &region, &listen),
        Command::Read { address, offset, words, forge, write } => read(&address, offset, words, forge, write),
    }
}

fn offer(pins: &str, app: &str, region: &str, listen: &str) -> Result<()> {
    let domain = Domain::new(&Device::open(None)?)?;
    let memory = Regions::new(pins).open(app, region)?.map()?;
    let access = Access { read: true, ..Access::default() };
    let memory = MemoryRegion::register(&domain, Arc::new(memory), access)?;
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen at {listen}"))?;
    println!("offering {:?}", memory.remote());
    for peer in listener.incoming() {
        let mut peer = peer.context("cannot take a connection")?;
        let (pair, _) = greet(&mut peer, &domain, access, Some(memory.remote()))?;
        // It goes when the peer goes.
        _ = BufReader::new(peer).read_line(&mut String::new());
        drop(pair);
    }
    Ok(())
}

fn read(address: &str, offset: u64, words: usize, forge: bool, write: bool) -> Result<()> {
    let domain = Domain::new(&Device::open(None)?)?;
    let buffer = Arc::new(Buffer::new(words * 8)?);
    let local = MemoryRegion::register(&domain, Arc::clone(&buffer) as _, Access::default())?;
    let mut peer = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    let (mut pair, memory) = greet(&mut peer, &domain, Access::default(), None)?;
    let mut memory = memory.context("the peer offers no memory")?;
    if forge {
        memory.rkey ^= 0x100;
    }
    let len = u32::try_from(words * 8).context("so many words are no request")?;
    let posted = if write {
        pair.write((&local, 0), (&memory, offset), len)?
    } else {
        pair.read((&local, 0), (&memory, offset), len)?
    };
    let deadline = Instant::now() + WAIT;
    while pair.poll()?.is_none_or(|done| done != posted) {
        if Instant::now() > deadline {
            bail!("the request has not completed within {} s", WAIT.as_secs());
        }
    }
    let mut found = vec![0; words];
    buffer.copy_out(0, &mut found);
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}

fn greet(
    peer: &mut TcpStream,
    domain: &Arc<Domain>,
    access: Access,
    memory: Option<RemoteMemory>,
) -> Result<(Connected, Option<RemoteMemory>)> {
    peer.set_read_timeout(Some(WAIT)).context("cannot limit the time of a socket")?;
    let pair = QueuePair::new(domain, PORT, DEPTH, access)?;
    let hello = Hello { endpoint: pair.endpoint().clone(), memory };
    writeln!(peer, "{}", serde_json::to_string(&hello)?).context("cannot tell the peer")?;
    let mut line = String::new();
    BufReader::new(peer.try_clone().context("cannot copy a socket")?)
        .read_line(&mut line)
        .context("no word of the peer")?;
    let hello: Hello = serde_json::from_str(&line).context("the peer says something else")?;
    Ok((pair.connect(&hello.endpoint)?, hello.memory))
}
