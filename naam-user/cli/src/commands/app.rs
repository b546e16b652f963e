//! `naam app`.

use clap::{Subcommand, ValueEnum};
use naam_control::Name;
use naam_control::protocol::admin::AppInfo;
use naam_control::protocol::{AdminReply, AdminRequest};

use crate::control::{Daemon, expect_reply};
use crate::options::Global;
use crate::output::{Output, Table};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an app
    Add {
        /// Its name
        app: Name,
        /// Its number in datagrams, 0 to 63 [default: the lowest free one]
        #[arg(long)]
        id: Option<u16>,
        /// Whether its datagrams are tagged; without tags nobody notices corruption
        #[arg(long, default_value = "on")]
        integrity: Integrity,
    },
    /// Remove an app with its functions and sessions; its regions stay until removed
    Rm {
        /// The app
        app: Name,
    },
    /// List the apps
    Ls,
}

/// Whether datagrams are tagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Integrity {
    On,
    Off,
}

impl Command {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let mut daemon = Daemon::connect(global)?;
        match self {
            Self::Add { app, id, integrity } => {
                let integrity = integrity == Integrity::On;
                daemon.ask(AdminRequest::AppCreate { app: app.clone(), id, integrity })?;
                output.done(&format!("app `{app}` is there"))
            }
            Self::Rm { app } => {
                daemon.ask(AdminRequest::AppRemove { app: app.clone() })?;
                output.done(&format!("app `{app}` is gone"))
            }
            Self::Ls => {
                let apps = expect_reply!(daemon.ask(AdminRequest::AppList)?, AdminReply::Apps(apps) => apps);
                output.show(&apps, |apps| table(apps).or("no apps"))
            }
        }
    }
}

/// A line for each app.
pub fn table(apps: &[AppInfo]) -> Table {
    let mut table = Table::new(["app", "id", "integrity", "sessions", "functions", "regions"]);
    for app in apps {
        let functions: Vec<_> = app.functions.iter().map(|name| name.as_str()).collect();
        let regions: Vec<_> = app.regions.iter().map(Name::as_str).collect();
        table.row([
            app.name.to_string(),
            app.id.to_string(),
            if app.integrity { "on" } else { "off" }.to_owned(),
            app.sessions.to_string(),
            list(&functions),
            list(&regions),
        ]);
    }
    table
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "-".to_owned() } else { names.join(" ") }
}
