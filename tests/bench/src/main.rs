//! Benches of NAAM, each against a baseline in the same run: `cargo xtask bench [--json FILE] [NAME…]`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use naam_loadgen::report::bench::{self, Row};

mod cell;
mod meter;
mod mica;
mod network;
mod shell;
mod site;

/// Measures NAAM against baselines, in turns, in one process.
#[derive(Debug, Parser)]
struct Options {
    /// Writes the rows, one JSON object a line.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Runs of each bench and of its baseline.
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Only benches whose names begin so; all without.
    names: Vec<String>,
}

/// A group of benches.
type Group = fn(&dyn Fn(&str) -> bool, usize) -> Result<Vec<Row>>;

fn main() -> Result<()> {
    let options = Options::parse();
    let wanted = |name: &str| options.names.is_empty() || options.names.iter().any(|prefix| name.starts_with(prefix));
    let groups: [Group; 5] = [shell::benches, mica::benches, site::benches, cell::benches, network::benches];
    let mut rows = Vec::new();
    for group in groups {
        rows.extend(group(&wanted, options.runs)?);
    }
    if rows.is_empty() {
        bail!("no bench has a name that begins with {}", options.names.join(" or "));
    }
    println!("{}", bench::table(&rows));
    if let Some(path) = &options.json {
        let mut file = std::fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
        bench::write_json_lines(&rows, &mut file).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
