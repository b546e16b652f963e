//! `naam steer`.

use clap::{Subcommand, ValueEnum};
use naam_control::Name;
use naam_control::protocol::admin::{self, Placement};
use naam_control::protocol::{AdminReply, AdminRequest};

use crate::control::{Daemon, expect_reply};
use crate::options::Global;
use crate::output::{Output, Table};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show where each shard of an app runs
    Show {
        /// The app
        app: Name,
    },
    /// Move shards to a site
    Set {
        /// The app
        app: Name,
        /// Where they shall run
        site: Site,
        /// The shards, 0 to 63 [default: all]
        #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u8).range(0..64), value_name = "N,N…")]
        shards: Vec<u8>,
        /// Milliseconds for which clients may rely on it, counted from each reply [default: 100]
        #[arg(long, value_name = "MS")]
        lease_ms: Option<u16>,
    },
}

/// Where messages run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Site {
    /// The kernel of the host that owns the memory
    Host,
    /// The kernel of a SmartNIC on the path; refused, none serves shards in this version
    Dpu,
    /// The client's engine
    Client,
}

impl From<Site> for admin::Site {
    fn from(site: Site) -> Self {
        match site {
            Site::Host => Self::Host,
            Site::Dpu => Self::Dpu,
            Site::Client => Self::Client,
        }
    }
}

impl Command {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let mut daemon = Daemon::connect(global)?;
        match self {
            Self::Show { app } => {
                let reply = daemon.ask(AdminRequest::SteerShow { app })?;
                let placements = expect_reply!(reply, AdminReply::Steering(placements) => placements);
                output.show(&placements, |placements| table(placements).or("no shards"))
            }
            Self::Set { app, site, shards, lease_ms } => {
                let what = if shards.is_empty() { "all shards".to_owned() } else { format!("{} shards", shards.len()) };
                let done = format!("{what} of app `{app}` run at site {}", name(site.into()));
                daemon.ask(AdminRequest::SteerSet { app, shards, site: site.into(), lease_ms })?;
                output.done(&done)
            }
        }
    }
}

fn name(site: admin::Site) -> &'static str {
    match site {
        admin::Site::Host => "host",
        admin::Site::Dpu => "dpu",
        admin::Site::Client => "client",
    }
}

/// A line for each run of shards that are placed alike.
fn table(placements: &[Placement]) -> Table {
    let mut table = Table::new(["shards", "site", "epoch", "lease_ms"]);
    let alike = |a: &Placement, b: &Placement| {
        (a.site, a.epoch, a.lease_ms) == (b.site, b.epoch, b.lease_ms) && a.shard + 1 == b.shard
    };
    for run in placements.chunk_by(alike) {
        let (first, last) = (run[0], run[run.len() - 1]);
        let shards = if run.len() == 1 { first.shard.to_string() } else { format!("{}-{}", first.shard, last.shard) };
        table.row([shards, name(first.site).to_owned(), first.epoch.to_string(), first.lease_ms.to_string()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_that_are_placed_alike_share_a_line() {
        let place = |shard, site, epoch| Placement { shard, site, epoch, lease_ms: 0 };
        let placements: Vec<_> = (0..64)
            .map(|shard| if shard == 7 { place(7, admin::Site::Dpu, 2) } else { place(shard, admin::Site::Host, 1) })
            .collect();
        let text = table(&placements).or("");
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[1..], [["0-6", "host", "1", "0"], ["7", "dpu", "2", "0"], ["8-63", "host", "1", "0"]]);
    }
}
