//! `cargo xtask`: everything a developer or CI does with NAAM, from a bare machine on.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod data;
mod lint;
mod process;
mod run;
mod setup;
mod test;
mod toolchain;
mod vm;
mod workspace;

/// Set up, build, check and test NAAM.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing on this machine: packages, bpf-linker, the standard library's source
    Setup,
    /// Build the BPF objects into target/bpf/ and the userspace programs
    Build,
    /// Run NAAM from nothing: tools, build, namespaces, a served and filled store, a workload, a summary
    Run(run::Options),
    /// Write real data for `run --data`: Debian's packages, more than 100,000 pairs
    Data {
        /// The file: a key, a tab and a value on each line
        file: std::path::PathBuf,
    },
    /// Check format, clippy (host and BPF), documentation, and the repository's own rules
    Lint,
    /// Run the tiers of tests and count them
    Test(test::Options),
    /// Generate the bindings to libibverbs again and compare them with those in the repository
    VerbsSys {
        /// Write them instead
        #[arg(long)]
        write: bool,
    },
    /// Virtual machines: build their images, look around in them, run the tests that take them
    #[command(subcommand)]
    Vm(vm::Action),
    /// Measure NAAM against baselines in the same run; arguments go to the bench program (try --help)
    #[command(disable_help_flag = true)]
    Bench {
        /// [--json FILE] [--runs N] [NAME…]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {}", process::explain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let workspace = workspace::Workspace::locate()?;
    match &cli.command {
        Command::Setup => setup::run(&workspace),
        Command::Build => build::run(&workspace),
        Command::Run(options) => run::run(&workspace, options),
        Command::Data { file } => data::write(file),
        Command::Lint => {
            setup::ensure(&workspace)?;
            // naam-cli embeds them, so it compiles only once they are there.
            build::objects(&workspace)?;
            lint::run(&workspace)
        }
        Command::Test(options) => test::run(&workspace, options),
        Command::VerbsSys { write } => vm::verbs_sys::run(&workspace, *write),
        Command::Vm(action) => vm::run(&workspace, action),
        Command::Bench { arguments } => bench::run(&workspace, arguments),
    }
}
