//! `naam bench`: load on a store, measured.

mod cell;
mod phases;
mod report;
mod target;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use naam_abi::limits::MESSAGES_MAX;
use naam_loadgen::records::VALUE_BYTES_MAX;
use naam_loadgen::runner::{Arrivals, Load};
use naam_loadgen::workload::Workload;

use super::site::SiteChoice;
use crate::client::{Connect, Way};
use crate::failure::{Failure, Verdict};
use crate::options::Global;
use crate::output::Output;
use phases::Bench;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fill a MICA store and run a YCSB workload on it
    Ycsb(Ycsb),
    /// Fill a Cell B-tree as its owner, on its host, as root, and run YCSB C or E on it over the network
    Cell(cell::Cell),
}

impl Command {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Ycsb(ycsb) => ycsb.run(global, output),
            Self::Cell(cell) => cell.run(global, output),
        }
    }
}

#[derive(Debug, Args)]
pub struct Ycsb {
    /// A (50 % updates), B (5 % updates), C (reads), D (latest), E (scans), F (read-modify-write)
    #[arg(long, default_value = "B")]
    workload: Workload,
    /// Records to generate
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Bytes of generated values
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(0..=VALUE_BYTES_MAX as i64))]
    value_bytes: u16,
    /// Fill the store with a file's pairs (TSV or CSV, key and value) instead, and read every value back
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Pass over faulty lines of the data file and count them
    #[arg(long, requires = "data")]
    skip_faulty: bool,
    /// The store holds the records already: do not fill it
    #[arg(long)]
    skip_load: bool,
    /// Seconds to run the workload; 0 only fills and reads back
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// Seconds before these that are not counted
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    warmup: f64,
    /// Operations in flight per thread
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: u32,
    /// Messages of a datagram, at most
    #[arg(long, default_value_t = MESSAGES_MAX as u16, value_parser = clap::value_parser!(u16).range(1..=MESSAGES_MAX as i64))]
    per_datagram: u16,
    /// Microseconds that a message may wait for others to share its datagram
    #[arg(long, default_value_t = 0, value_name = "US")]
    linger_us: u64,
    /// Open loop: operations a second, all threads together [default: closed loop]
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// Open loop: how operations arrive
    #[arg(long, default_value = "constant", requires = "rate")]
    arrivals: ArrivalLaw,
    /// Threads, each with a client of its own; more than one takes UDP
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Check every value that the workload reads; read all values back before and after it
    #[arg(long)]
    verify: bool,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The store's buckets, as a power of two [default: ask the daemon]
    #[arg(long, value_name = "N")]
    log2_buckets: Option<u32>,
    /// Write the latencies' percentile distribution, in microseconds
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// With --json: where to write it [default: standard output]
    #[arg(value_name = "FILE")]
    json_file: Option<PathBuf>,
    /// Where reads run: at the host, here, or where the host says; writes run at the host
    #[arg(long, default_value = "host")]
    site: SiteChoice,
    #[command(flatten)]
    connect: Connect,
}

/// How operations of an open loop arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ArrivalLaw {
    /// Equally spaced
    Constant,
    /// As independent users come
    Poisson,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("not between 0 and 86400".to_owned()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if rate > 0.0 && rate.is_finite() { Ok(rate) } else { Err("not above 0".to_owned()) }
}

impl Ycsb {
    fn run(mut self, global: &Global, output: Output) -> anyhow::Result<()> {
        if self.threads > 1 {
            match self.connect.transport {
                Way::AfXdp => {
                    let cause = "AF_XDP serves one thread of an interface";
                    let failure = Failure::new("run", format!("{} threads", self.threads), cause);
                    return Err(failure.way_out("--threads 1, or --transport udp").into());
                }
                Way::Auto => {
                    tracing::info!("several threads: UDP, because AF_XDP serves one thread of an interface");
                    self.connect.transport = Way::Udp;
                }
                Way::Udp => {}
            }
        }
        let report = Bench::new(&self, global)?.run()?;
        if let Some(path) = &self.hgrm {
            report::write(path, &report.hgrm)?;
        }
        match &self.json_file {
            Some(path) => {
                report::write(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
                Output::new(false).show(&report, report::text)?;
            }
            None => output.show(&report, report::text)?,
        }
        if report.is_clean() { Ok(()) } else { Err(Verdict::Bad.into()) }
    }

    fn load(&self) -> Load {
        let window = self.window as usize;
        let arrivals = match self.arrivals {
            ArrivalLaw::Constant => Arrivals::Constant,
            ArrivalLaw::Poisson => Arrivals::Poisson,
        };
        match self.rate {
            None => Load::Closed { window },
            Some(ops_per_s) => Load::Open { ops_per_s, arrivals, window },
        }
    }

    fn client_options(&self) -> naam_client::Options {
        naam_client::Options {
            window: self.window as usize,
            linger: Duration::from_micros(self.linger_us),
            messages_max: self.per_datagram.into(),
            seed: self.seed,
            ..naam_client::Options::default()
        }
    }
}
