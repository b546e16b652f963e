//! `naam doctor`: what this machine lacks, and how to mend it; with `--app`, how its functions would read regions from here.

pub mod interface;
mod kernel;
mod memory;
mod process;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use clap::Args;
use naam_control::protocol::inspect::{Finding, Verdict};
use naam_control::protocol::{AdminReply, AdminRequest};
use naam_control::{ClientError, ControlClient};

use crate::client::Connect;
use crate::failure;
use crate::options::Global;
use crate::output::Output;

#[derive(Debug, Args)]
pub struct Doctor {
    /// Look at these interfaces too
    #[arg(value_name = "INTERFACE")]
    interfaces: Vec<String>,
    #[command(flatten)]
    connect: Connect,
}

impl Doctor {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let mut findings = kernel::findings();
        findings.extend(process::findings());
        for name in &self.interfaces {
            findings.extend(interface::findings(name));
        }
        findings.extend(ask_daemon(global));
        findings.extend(memory::finding(&self.connect, global));
        output.show(&findings, |findings| text(findings))?;
        let bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
        if bad { Err(failure::Verdict::Bad.into()) } else { Ok(()) }
    }
}

/// What the daemon finds from where it runs; without one, that is no fault of the machine.
fn ask_daemon(global: &Global) -> Vec<Finding> {
    let check = "daemon";
    let asked = ControlClient::connect_unix(&global.socket())
        .and_then(|mut client| client.admin(AdminRequest::Doctor, &mut |_, _| ()));
    match asked {
        Ok(AdminReply::Findings(findings)) => {
            let named = |finding: Finding| Finding { check: format!("{check}: {}", finding.check), ..finding };
            findings.into_iter().map(named).chain(replies(global)).collect()
        }
        Ok(_) => vec![bad(check, "it answers another request", "restart it: it may be of another version")],
        // It is there: a socket that nobody listens on refuses the connection.
        Err(ClientError::Connect { address, source }) if source.kind() == io::ErrorKind::PermissionDenied => {
            vec![warning(check, format!("{address} is there, but not for you: {source}"), access(&global.socket()))]
        }
        Err(ClientError::Connect { address, source }) => {
            vec![warning(check, format!("nobody answers at {address}: {source}"), "start it: naam serve")]
        }
        Err(error) => vec![bad(check, error.to_string(), "restart it, or ask as a user who may administer")],
    }
}

/// Whether the replies of interfaces served arrive, as far as that can be seen from here.
fn replies(global: &Global) -> Vec<Finding> {
    let status = ControlClient::connect_unix(&global.socket())
        .and_then(|mut client| client.admin(AdminRequest::Status, &mut |_, _| ()));
    match status {
        Ok(AdminReply::Status(status)) => status.attachments.iter().filter_map(interface::replies).collect(),
        _ => Vec::new(),
    }
}

/// Who may use a socket that is not for everybody.
fn access(socket: &Path) -> String {
    let group = fs::metadata(socket).map(|meta| meta.gid());
    let name = group.as_ref().ok().and_then(|gid| {
        let groups = fs::read_to_string("/etc/group").ok()?;
        let mut fields = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
        Some(fields.find(|fields| fields.get(2) == Some(&gid.to_string().as_str()))?[0].to_owned())
    });
    match (name, group) {
        (Some(name), _) => format!("ask as root, or as a member of group {name} (`control.group`)"),
        (None, Ok(gid)) => format!("ask as root, or as a member of group {gid} (`control.group`)"),
        (None, Err(_)) => "ask as root, or as a member of the group that `control.group` names".to_owned(),
    }
}

/// As it should be.
fn good(check: impl Into<String>, detail: impl Into<String>) -> Finding {
    Finding { check: check.into(), verdict: Verdict::Good, detail: detail.into(), way_out: None }
}

/// It works, less well than it could.
fn warning(check: impl Into<String>, detail: impl Into<String>, way_out: impl Into<String>) -> Finding {
    let way_out = Some(way_out.into());
    Finding { check: check.into(), verdict: Verdict::Warning, detail: detail.into(), way_out }
}

/// It does not work.
fn bad(check: impl Into<String>, detail: impl Into<String>, way_out: impl Into<String>) -> Finding {
    Finding { check: check.into(), verdict: Verdict::Bad, detail: detail.into(), way_out: Some(way_out.into()) }
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let word = match finding.verdict {
            Verdict::Good => "ok  ",
            Verdict::Warning => "warn",
            Verdict::Bad => "FAIL",
        };
        text += &format!("{word}  {:<width$}  {}\n", finding.check, finding.detail);
        if let Some(way_out) = &finding.way_out {
            text += &format!("      {:<width$}  -> {way_out}\n", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_has_a_line_and_every_fault_a_cure() {
        let findings = [good("a", "fine"), warning("long name", "slow", "do this"), bad("c", "broken", "do that")];
        let text = text(&findings);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "ok    a          fine");
        assert_eq!(lines[2], "                 -> do this");
        assert!(lines[3].starts_with("FAIL  c") && lines[4].ends_with("-> do that"));
    }

    #[test]
    fn who_may_ask_is_named_by_the_sockets_group() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        assert!(access(&socket).contains("that `control.group` names"));
        fs::write(&socket, "").unwrap();
        let gid = fs::metadata(&socket).unwrap().gid();
        let words = access(&socket);
        assert!(words.contains(&format!("group {gid} ")) || (gid == 0 && words.contains("group root ")), "{words}");
    }

    #[test]
    fn this_machine_is_examined() {
        let findings: Vec<_> =
            kernel::findings().into_iter().chain(process::findings()).chain(interface::findings("lo")).collect();
        for finding in &findings {
            assert!(!finding.detail.is_empty(), "{finding:?}");
            assert_eq!(finding.way_out.is_none(), finding.verdict == Verdict::Good, "{finding:?}");
        }
        let version = findings.iter().find(|finding| finding.check == "kernel").unwrap();
        assert!(version.detail.starts_with(|c: char| c.is_ascii_digit()), "{version:?}");
        let missing = interface::findings("no-such-device");
        assert_eq!((missing.len(), missing[0].verdict), (1, Verdict::Bad));
    }
}
