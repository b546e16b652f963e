//! The command line as a whole; each group's own options stand with its commands.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use naam_control::Name;

use crate::commands::{
    app, bench, call, cell, check, doctor, handler, inspect, interface, region, serve, status, steer, store, xsk,
};
use crate::failure::EXIT_CODES;

/// Network-accelerated active messages: portable functions, run by the kernel of the host
#[derive(Debug, Parser)]
#[command(name = "naam", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The instance: its pins are under /sys/fs/bpf/naam/NAME
    #[arg(long, global = true, env = "NAAM_INSTANCE", default_value = "host", value_name = "NAME")]
    pub instance: Name,
    /// The daemon's socket [default: /run/naam/INSTANCE.sock]
    #[arg(long, global = true, env = "NAAM_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more: -v informs, -vv debugs, -vvv traces; RUST_LOG overrides
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

impl Global {
    /// Where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| PathBuf::from(format!("/run/naam/{}.sock", self.instance)))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: datapath, control plane, regions, sessions
    Serve(serve::Serve),
    /// Serve an interface: attach the entry program to it
    Attach(interface::Attach),
    /// No longer serve an interface
    Detach(interface::Detach),
    /// Show the daemon, its interfaces and its apps
    Status,
    /// Show what the datapath counted: messages, statuses, drops by reason
    Stats(status::Stats),
    /// Apps: tenants with functions, regions, sessions and shards of their own
    #[command(subcommand)]
    App(app::Command),
    /// Handlers: the functions that clients call
    #[command(subcommand)]
    Handler(handler::Command),
    /// Say whether a handler object may run, and if not, why (the same as `handler check`)
    Check(check::Check),
    /// Regions: the memory that handlers work on
    #[command(subcommand)]
    Region(region::Command),
    /// Steering: where each shard's messages run
    #[command(subcommand)]
    Steer(steer::Command),
    /// Call a function once and show the reply
    Call(call::CallCommand),
    /// Call a function once and show what happened to the message: site, steps, hops, time
    Trace(call::Trace),
    /// A MICA key-value store, by hand
    #[command(subcommand)]
    Store(store::Command),
    /// A Cell B-tree, by hand: sorted keys in a region, changed by its owner, read by handlers
    #[command(subcommand)]
    Cell(cell::Command),
    /// Put load on an app and measure
    #[command(subcommand)]
    Bench(bench::Command),
    /// The XDP program of AF_XDP clients, set up by a privileged helper
    #[command(subcommand)]
    Xsk(xsk::Command),
    /// Show programs, maps and links as the kernel reports them, with the bpftool command for each
    Inspect(inspect::Inspect),
    /// Find out what this machine lacks, and how to mend it
    Doctor(doctor::Doctor),
    /// End the daemon; the pinned datapath goes on serving
    Shutdown,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_socket_follows_the_instance() {
        let socket = |line| parse(line).unwrap().global.socket();
        assert_eq!(socket("naam status"), PathBuf::from("/run/naam/host.sock"));
        assert_eq!(socket("naam status --instance lab"), PathBuf::from("/run/naam/lab.sock"));
        assert_eq!(socket("naam --instance lab --socket /tmp/s status"), PathBuf::from("/tmp/s"));
    }

    #[test]
    fn wrong_command_lines_are_refused_with_a_reason() {
        let cases = [
            ("naam status --instance Host!", "is not a name"),
            ("naam attach", "<INTERFACE>"),
            ("naam attach eth0 --hook ebpf", "possible values: auto, xdp, tc"),
            ("naam app add a-b", "is not a name"),
            ("naam handler load", "--app"),
            ("naam handler load --app kv", "--builtin"),
            ("naam handler load --app kv x.o --builtin echo", "cannot be used with"),
            ("naam region create kv store", "<SIZE>"),
            ("naam region create kv store 3MiB", "power of two"),
            ("naam call", "<FUNCTION>"),
            ("naam call echo --text a --u64 1", "cannot be used with"),
            ("naam call echo --shard 1 --key a", "cannot be used with"),
            ("naam bench ycsb --workload G", "name one of A, B, C, D, E, F"),
            ("naam bench ycsb --per-datagram 33", "33"),
            ("naam bench ycsb --value-bytes 1001", "1001"),
            ("naam bench cell --site here", "possible values: host, client, auto"),
            ("naam cell scan --after", "<FROM>"),
            ("naam cell scan --limit 0", "0 is not in"),
            ("naam cell get a --local --site host", "cannot be used with"),
            ("naam cell put a", "<VALUE>"),
            ("naam steer set kv", "<SITE>"),
            ("naam steer set kv host --shards 64", "64"),
        ];
        for (line, reason) in cases {
            let text = parse(line).expect_err(line).to_string();
            assert!(text.contains(reason), "{line}: {text}");
        }
    }
}
