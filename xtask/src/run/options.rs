//! The command line of `cargo xtask run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What to run, where, and for how long.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Fill the store from this file: a key and a value a line, with a tab or a comma between
    #[arg(long, value_name = "FILE", conflicts_with = "records")]
    pub data: Option<PathBuf>,
    /// With --data: pass over faulty lines (no pair, too long a key or value) and count them
    #[arg(long, requires = "data")]
    pub skip_faulty: bool,
    /// Without --data: how many records YCSB generates
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub records: u64,
    /// The YCSB workload
    #[arg(long, default_value = "B", ignore_case = true)]
    pub workload: Workload,
    /// How long to run it
    #[arg(long, default_value_t = 5, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Where the host's kernel serves
    #[arg(long, default_value = "auto")]
    pub hook: Hook,
    /// How the client sends and receives
    #[arg(long, default_value = "auto")]
    pub transport: Transport,
    /// Also write the summary to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Leave everything running, and say how to use it and how to end it
    #[arg(long)]
    pub keep: bool,
    /// End what earlier runs with --keep left running, or only the run of this name, and do nothing else
    #[arg(long, exclusive = true, num_args = 0..=1, value_name = "RUN")]
    pub stop: Option<Option<String>>,
    /// Serve on this interface instead of making namespaces; until Ctrl-C
    #[arg(long, value_name = "IF", requires = "role", conflicts_with_all = ["data", "skip_faulty", "workload", "seconds", "transport", "json"])]
    pub iface: Option<String>,
    /// What this machine is on that interface
    #[arg(long, requires = "iface")]
    pub role: Option<Role>,
    /// Let clients on other machines open sessions at this address; neither encrypted nor authenticated
    #[arg(long, value_name = "ADDRESS:PORT", requires = "iface")]
    pub control: Option<std::net::SocketAddr>,
}

/// Where the entry program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Hook {
    /// The fastest that the interface has: native XDP, otherwise TC
    Auto,
    /// XDP: native, or generic where the driver has none
    Xdp,
    /// Traffic control's ingress
    Tc,
}

/// How datagrams leave and enter the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// AF_XDP where it can be had, otherwise UDP
    Auto,
    /// AF_XDP sockets
    AfXdp,
    /// A UDP socket, through io_uring or, where that is forbidden, by plain system calls
    Udp,
}

/// YCSB's core workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// 50 % reads, 50 % updates
    A,
    /// 95 % reads, 5 % updates
    B,
    /// Reads only
    C,
    /// 95 % reads of what is latest, 5 % inserts
    D,
    /// 95 % short scans, 5 % inserts
    E,
    /// 50 % reads, 50 % read-modify-writes
    F,
}

/// What a machine is to NAAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The host: its kernel serves
    Host,
}

/// A value as it is written on a command line and in the configuration.
pub fn name<T: ValueEnum>(value: T) -> String {
    value.to_possible_value().map(|value| value.get_name().to_uppercase()).unwrap_or_default().to_lowercase()
}
