//! The way to the daemon.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use naam_control::protocol::{AdminReply, AdminRequest};
use naam_control::{ClientError, ControlClient};

use crate::options::Global;

/// A connection that administers.
pub struct Daemon {
    client: ControlClient,
}

impl Daemon {
    /// Connects to the instance's daemon.
    pub fn connect(global: &Global) -> Result<Self, ClientError> {
        Ok(Self { client: ControlClient::connect_unix(&global.socket())? })
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, request: AdminRequest) -> Result<AdminReply, ClientError> {
        self.client.admin(request, &mut |_, _| ())
    }

    /// Asks, and shows on a terminal how far the request has come; `what` names it.
    pub fn ask_with_progress(&mut self, request: AdminRequest, what: &str) -> Result<AdminReply, ClientError> {
        let bar = progress_bar(what);
        let reply = self.client.admin(request, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        reply
    }
}

/// A bar of bytes on standard error; hidden unless that is a terminal.
pub fn progress_bar(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}")
        .expect("a constant template");
    ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_message(what.to_owned())
}

/// The reply's variant, or that the daemon answered something else.
macro_rules! expect_reply {
    ($reply:expr, $pattern:pat => $value:expr) => {
        match $reply {
            $pattern => $value,
            other => anyhow::bail!("the daemon gave a reply to another request: {other:?}"),
        }
    };
}
pub(crate) use expect_reply;
