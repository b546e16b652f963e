//! What the commands do.

pub mod app;
pub mod bench;
mod bytes;
pub mod call;
pub mod cell;
pub mod check;
pub mod doctor;
pub mod handler;
pub mod inspect;
pub mod interface;
mod onesided;
pub mod region;
pub mod serve;
mod site;
pub mod status;
pub mod steer;
pub mod step;
pub mod store;
pub mod xsk;

use crate::options::{Command, Global};
use crate::output::Output;

/// Runs the command.
pub fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let output = Output::new(global.json);
    match command {
        Command::Serve(command) => command.run(global),
        Command::Attach(command) => command.run(global, output),
        Command::Detach(command) => command.run(global, output),
        Command::Status => status::status(global, output),
        Command::Stats(command) => command.run(global, output),
        Command::App(command) => command.run(global, output),
        Command::Handler(command) => command.run(global, output),
        Command::Check(command) => command.run(output),
        Command::Region(command) => command.run(global, output),
        Command::Steer(command) => command.run(global, output),
        Command::Call(command) => command.run(global, output),
        Command::Trace(command) => command.run(global, output),
        Command::Store(command) => command.run(global, output),
        Command::Cell(command) => command.run(global, output),
        Command::Bench(command) => command.run(global, output),
        Command::Xsk(command) => command.run(output),
        Command::Inspect(command) => command.run(global, output),
        Command::Doctor(command) => command.run(global, output),
        Command::Shutdown => status::shutdown(global, output),
    }
}
