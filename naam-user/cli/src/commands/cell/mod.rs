//! `naam cell`: a B-tree, by hand.

mod change;
mod look;
mod reader;

use clap::{Args, Subcommand};
use naam_control::Name;
use naam_handlers::cell::{KEY_MAX, VALUE_MAX};

use super::bytes;
use crate::cell::Place;
use crate::client;
use crate::failure::Failure;
use crate::options::Global;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an app's first region an empty tree; as the region's owner, on its host, as root
    Format(change::Format),
    /// Store a file's pairs: into an empty tree in bulk, else all at once or none; as format
    Load(change::Load),
    /// Give a key a value; as format. Reads and checks the whole tree first
    Put(change::Put),
    /// Remove a key; as put
    Delete(change::Delete),
    /// Check the whole tree, and show what it holds; as put
    Stats(change::Stats),
    /// Show a key's value
    Get(look::Get),
    /// Show keys in order, with their values
    Scan(look::Scan),
}

impl Command {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Format(command) => command.run(global, output),
            Self::Load(command) => command.run(global, output),
            Self::Put(command) => command.run(global, output),
            Self::Delete(command) => command.run(global, output),
            Self::Stats(command) => command.run(global, output),
            Self::Get(command) => command.run(global, output),
            Self::Scan(command) => command.run(global, output),
        }
    }
}

/// Whose tree.
#[derive(Debug, Args)]
struct Owner {
    /// The app [default: the only one]
    #[arg(long)]
    app: Option<Name>,
}

impl Owner {
    fn place(&self, global: &Global) -> anyhow::Result<Place> {
        let app = match &self.app {
            Some(app) => app.clone(),
            None => client::only_app(global)?,
        };
        Place::find(global, &app)
    }
}

/// A key of the command line.
fn key(text: &str, hex: bool) -> Result<Vec<u8>, Failure> {
    let key = of_text(text, hex)?;
    if key.is_empty() || key.len() > KEY_MAX {
        let cause = format!("it has {} bytes, 1 to {KEY_MAX} are allowed", key.len());
        return Err(Failure::new("use", format!("key {text:?}"), cause));
    }
    Ok(key)
}

/// A value of the command line.
fn value(text: &str, hex: bool) -> Result<Vec<u8>, Failure> {
    let value = of_text(text, hex)?;
    if value.len() > VALUE_MAX {
        let cause = format!("it has {} bytes, {VALUE_MAX} are the most", value.len());
        return Err(Failure::new("store", "the value", cause));
    }
    Ok(value)
}

fn of_text(text: &str, hex: bool) -> Result<Vec<u8>, Failure> {
    if !hex {
        return Ok(text.as_bytes().to_vec());
    }
    bytes::unhex(text).map_err(|cause| Failure::new("read", format!("{text:?}"), cause))
}

/// Bytes as a field of a line: text, or `0x` and digits.
fn field(bytes: &[u8]) -> String {
    match bytes::text(bytes).filter(|text| !text.contains(['\t', '\n'])) {
        Some(text) => text.to_owned(),
        None => format!("0x{}", bytes::hex(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_have_limits() {
        assert_eq!(key("0x0a ff", true), Ok(vec![10, 255]));
        assert_eq!((key("k", false), value("", false)), (Ok(vec![b'k']), Ok(vec![])));
        for (text, hex) in [("", false), (&"k".repeat(65)[..], false), ("0x", true), ("abc", true)] {
            assert!(key(text, hex).is_err(), "{text}");
        }
        assert!(value(&"v".repeat(VALUE_MAX), false).is_ok() && value(&"v".repeat(VALUE_MAX + 1), false).is_err());
    }

    #[test]
    fn fields_hold_no_separators() {
        assert_eq!((field(b"a b"), field(b"a\tb"), field(b"\xff")), ("a b".into(), "0x610962".into(), "0xff".into()));
    }
}
