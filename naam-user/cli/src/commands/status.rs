//! `naam status`, `naam stats`, `naam shutdown`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use naam_control::Name;
use naam_control::protocol::admin::{Counters, Status};
use naam_control::protocol::rdma::RdmaStatus;
use naam_control::protocol::{AdminReply, AdminRequest};

use super::{app, interface};
use crate::control::{Daemon, expect_reply};
use crate::options::Global;
use crate::output::Output;

/// Shows the daemon.
pub fn status(global: &Global, output: Output) -> anyhow::Result<()> {
    let reply = Daemon::connect(global)?.ask(AdminRequest::Status)?;
    let status = expect_reply!(reply, AdminReply::Status(status) => status);
    output.show(&*status, status_text)
}

fn status_text(status: &Status) -> String {
    let up = Duration::from_secs(status.uptime_ms / 1000);
    let adopted = if status.adopted { ", datapath adopted from an earlier daemon" } else { "" };
    format!(
        "instance     {}\nversion      {}\nprocess      {}, up {up:?}{adopted}\nUDP ports    from {}\ncapabilities {}\n{}\n{}{}\n\n{}",
        status.instance,
        status.version,
        status.pid,
        status.port_base,
        if status.capabilities.is_empty() { "none".to_owned() } else { status.capabilities.join(" ") },
        status.rdma.as_ref().map(rdma_text).unwrap_or_default(),
        interface::table(&status.attachments).or("no interface is served: naam attach INTERFACE").trim_end(),
        interface::unserved(&status.unserved),
        app::table(&status.apps).or("no apps: naam app add NAME"),
    )
}

fn rdma_text(rdma: &RdmaStatus) -> String {
    let gid = rdma.gid.map_or(String::new(), |gid| format!(", GID {gid}"));
    let away = rdma.away.as_ref().map_or(String::new(), |away| format!("; gone: {away}"));
    format!(
        "RDMA         {}, port {}{gid}{away}\n             {} queue pairs, {} KiB registered; {} connected since the start, {} refused, {} broken; device lost {} times\n",
        rdma.device,
        rdma.port,
        rdma.connections,
        rdma.registered_bytes >> 10,
        rdma.connected,
        rdma.refused,
        rdma.broken,
        rdma.lost,
    )
}

/// Ends the daemon.
pub fn shutdown(global: &Global, output: Output) -> anyhow::Result<()> {
    let mut daemon = Daemon::connect(global)?;
    let status = expect_reply!(daemon.ask(AdminRequest::Status)?, AdminReply::Status(status) => status);
    daemon.ask(AdminRequest::Shutdown)?;
    output.done(if status.detach_on_exit {
        "the daemon ends, and everything that it pinned with it (--detach-on-exit)"
    } else {
        "the daemon ends; what it pinned goes on serving"
    })
}

#[derive(Debug, Args)]
pub struct Stats {
    /// Of this app only
    #[arg(long)]
    app: Option<Name>,
    /// Show what was not counted once, too
    #[arg(long)]
    all: bool,
}

impl Stats {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let reply = Daemon::connect(global)?.ask(AdminRequest::Stats)?;
        let mut counters = expect_reply!(reply, AdminReply::Stats(counters) => counters);
        if let Some(app) = &self.app {
            counters.retain(|counters| counters.app.as_ref() == Some(app));
        }
        output.show(&counters, |counters| {
            let texts: Vec<_> = counters.iter().map(|counters| stats_text(counters, self.all)).collect();
            if texts.is_empty() { "no apps".to_owned() } else { texts.join("\n") }
        })
    }
}

fn stats_text(counters: &Counters, all: bool) -> String {
    let title = counters.app.as_ref().map_or("datagrams of no known app".to_owned(), |app| format!("app {app}"));
    let mut text = format!("{title}\n");
    let own = [
        ("datagrams", counters.datagrams),
        ("replies", counters.replies),
        ("bytes", counters.bytes),
        ("messages", counters.messages),
        ("steps", counters.steps),
        ("duplicates", counters.duplicates),
        ("pushbacks", counters.pushbacks),
        ("busy_ns", counters.busy_ns),
    ];
    for (name, count) in own {
        line(&mut text, "", name, count, all);
    }
    let mut group = |kind: &str, counts: &BTreeMap<String, u64>| {
        for (name, count) in counts {
            line(&mut text, kind, name, *count, all);
        }
    };
    group("status ", &counters.statuses);
    group("drop ", &counters.drops);
    if text.lines().count() == 1 {
        text.push_str("  nothing counted\n");
    }
    text
}

fn line(text: &mut String, kind: &str, name: &str, count: u64, all: bool) {
    if all || count > 0 {
        let name = format!("{kind}{name}");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<20} {count:>16}");
    }
}

#[cfg(test)]
mod tests {
    use naam_abi::stats::{AppStats, Drop};
    use naam_abi::wire;

    use super::*;

    #[test]
    fn zeros_are_left_out_unless_asked_for() {
        let mut stats = AppStats::ZERO;
        stats.messages = 12;
        stats.drops[Drop::Tag as usize] = 3;
        stats.statuses[wire::Status::NoFunction as usize] = 5;
        let counters = Counters::new(Some(Name::new("kv").unwrap()), &stats);
        let text = stats_text(&counters, false);
        assert_eq!(text.lines().count(), 4, "{text}");
        for part in ["app kv", "messages", "status no_function", "drop tag"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(stats_text(&counters, true).lines().count() > 30);
        assert!(stats_text(&Counters::new(None, &AppStats::ZERO), false).contains("nothing counted"));
    }
}
