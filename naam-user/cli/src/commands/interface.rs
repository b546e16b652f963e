//! `naam attach`, `naam detach`.

use clap::{Args, ValueEnum};
use naam_control::protocol::admin::{self, Attachment, Unserved};
use naam_control::protocol::{AdminReply, AdminRequest};

use super::doctor;
use crate::control::{Daemon, expect_reply};
use crate::options::Global;
use crate::output::{Output, Table};

/// Where the entry program may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Hook {
    /// The fastest that the interface has: native XDP, then TC
    Auto,
    /// XDP, native or generic
    Xdp,
    /// TC ingress
    Tc,
}

impl From<Hook> for admin::Hook {
    fn from(hook: Hook) -> Self {
        match hook {
            Hook::Auto => Self::Auto,
            Hook::Xdp => Self::Xdp,
            Hook::Tc => Self::Tc,
        }
    }
}

#[derive(Debug, Args)]
pub struct Attach {
    /// The interface, in the daemon's network namespace
    interface: String,
    /// Where to attach
    #[arg(long, default_value = "auto")]
    hook: Hook,
}

impl Attach {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let request = AdminRequest::Attach { interface: self.interface, hook: self.hook.into() };
        let reply = Daemon::connect(global)?.ask(request)?;
        let attachment = expect_reply!(reply, AdminReply::Attached(attachment) => attachment);
        let hint = doctor::interface::replies(&attachment)
            .and_then(|finding| Some(format!("hint: {}: {} ({})\n", finding.check, finding.detail, finding.way_out?)));
        output.show(&attachment, |attachment| {
            table(std::slice::from_ref(attachment)).or("") + hint.as_deref().unwrap_or_default()
        })
    }
}

#[derive(Debug, Args)]
pub struct Detach {
    /// The interface
    interface: String,
}

impl Detach {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let done = format!("{} is no longer served", self.interface);
        Daemon::connect(global)?.ask(AdminRequest::Detach { interface: self.interface })?;
        output.done(&done)
    }
}

/// A line for each interface.
pub fn table(attachments: &[Attachment]) -> Table {
    let mut table = Table::new(["interface", "ifindex", "hook", "program", "why"]);
    for attachment in attachments {
        table.row([
            attachment.interface.clone(),
            attachment.ifindex.to_string(),
            attachment.hook.name().to_owned(),
            attachment.program_id.to_string(),
            attachment.reason.clone(),
        ]);
    }
    table
}

/// A line for each interface that is to be served and is not.
pub fn unserved(unserved: &[Unserved]) -> String {
    let lines = unserved.iter().map(|unserved| format!("\nNOT SERVED   {}: {}", unserved.interface, unserved.cause));
    lines.collect()
}
