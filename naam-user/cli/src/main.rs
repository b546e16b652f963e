//! `naam`: the command line of NAAM.
//!
//! | module | what |
//! |---|---|
//! | [`options`] | the command line |
//! | [`commands`] | what each command does, a file a group |
//! | [`control`] | the way to the daemon |
//! | [`client`], [`mica`] | the way to an app; the key-value store as its clients see it |
//! | [`cell`] | a B-tree as its owner has it |
//! | [`objects`] | the build's BPF objects, embedded |
//! | [`output`], [`failure`] | results, errors, exit codes |

mod cell;
mod client;
mod commands;
mod control;
mod failure;
mod mica;
mod objects;
mod options;
mod output;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use options::{Cli, Command, Global};

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    log_to_stderr(&global, matches!(command, Command::Serve(_)));
    match commands::run(command, &global) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, global.json),
    }
}

/// Logs go to standard error, which leaves standard output to results.
/// A daemon says more by itself than a tool.
fn log_to_stderr(global: &Global, is_daemon: bool) {
    let level = match global.verbose + u8::from(is_daemon) {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
}
