//! What any client may do: look keys up, and read them in order.

use clap::Args;
use naam_handlers::cell::{Code, GET_REPLY_MAX, SCAN_KEYS_MAX, SCAN_REPLY_MAX, args};
use serde::Serialize;

use super::reader::{Answer, GET, Reader, SCAN, Way};
use super::{field, key};
use crate::commands::bytes;
use crate::failure::Verdict;
use crate::options::Global;
use crate::output::Output;

#[derive(Debug, Args)]
pub struct Get {
    /// The key, 1 to 64 bytes
    key: String,
    /// The key is hexadecimal digits
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    way: Way,
}

#[derive(Debug, Serialize)]
struct Found {
    key: String,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    site: &'static str,
    steps: u32,
}

impl Get {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let key = key(&self.key, self.hex)?;
        let Answer { code, bytes, site, steps } = get(&mut self.way.open(global)?, &key)?;
        let value = (code == Code::Ok).then_some(&bytes[..]);
        let found = Found {
            key: self.key,
            result: code.name(),
            value_hex: value.map(bytes::hex),
            value: value.and_then(bytes::text).map(str::to_owned),
            site,
            steps,
        };
        output.show(&found, |found| match (&found.value, &found.value_hex) {
            (Some(value), _) => value.clone(),
            (None, Some(hex)) => format!("0x{hex}"),
            (None, None) => found.result.to_owned(),
        })?;
        if code == Code::Ok { Ok(()) } else { Err(Verdict::Bad.into()) }
    }
}

fn get(reader: &mut Reader, key: &[u8]) -> anyhow::Result<Answer> {
    reader.ask(GET, args::get(&mut [0; args::ARGS_MAX], key), GET_REPLY_MAX)
}

#[derive(Debug, Args)]
pub struct Scan {
    /// Where to begin, up to 64 bytes [default: the first key]
    from: Option<String>,
    /// The key is hexadecimal digits
    #[arg(long)]
    hex: bool,
    /// Begin behind the key, not at it
    #[arg(long, requires = "from")]
    after: bool,
    /// Keys to show, at most
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Show no values
    #[arg(long)]
    keys_only: bool,
    #[command(flatten)]
    way: Way,
}

#[derive(Debug, Serialize)]
struct Pair {
    key: String,
    key_hex: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

#[derive(Debug, Serialize)]
struct Scanned {
    pairs: Vec<Pair>,
    /// Whether there may be keys behind the last one.
    more: bool,
    /// Messages that it took. What one of them brings is one state of the tree.
    messages: u64,
    site: &'static str,
}

impl Scan {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let mut from = match &self.from {
            None => vec![],
            Some(text) => key(text, self.hex)?,
        };
        let mut reader = self.way.open(global)?;
        let only = if self.keys_only { args::KEYS_ONLY } else { 0 };
        let mut flags = only | if self.after { args::EXCLUSIVE } else { 0 };
        let mut scanned = Scanned { pairs: Vec::new(), more: true, messages: 0, site: "" };
        // Keys whose values are too long to come with a scan and were gone when they were asked for do not count.
        let mut left = self.limit;
        while scanned.more && left > 0 {
            let mut buffer = [0; args::ARGS_MAX];
            let asked = args::scan(&mut buffer, &from, flags, left.min(SCAN_KEYS_MAX));
            let answer = reader.ask(SCAN, asked, SCAN_REPLY_MAX)?;
            let entries = args::Scanned::new(&answer.bytes).filter(|_| answer.code == Code::Ok);
            let Some(entries) = entries else { anyhow::bail!("{SCAN} answered {}", answer.code.name()) };
            scanned.messages += 1;
            (scanned.more, scanned.site) = (entries.has_more, answer.site);
            let before = scanned.pairs.len();
            let mut last = None;
            for entry in entries {
                last = Some(entry.key.to_vec());
                let value = match entry.value {
                    Some(value) => Some(value.to_vec()),
                    None if self.keys_only => None,
                    None => match get(&mut reader, entry.key)? {
                        Answer { code: Code::Ok, bytes, .. } => Some(bytes),
                        _ => continue,
                    },
                };
                scanned.pairs.push(Pair::new(entry.key, value.as_deref()));
            }
            left -= (scanned.pairs.len() - before) as u64;
            let Some(last) = last else { break };
            (from, flags) = (last, only | args::EXCLUSIVE);
        }
        output.show(&scanned, text)
    }
}

impl Pair {
    fn new(key: &[u8], value: Option<&[u8]>) -> Self {
        Self { key: field(key), key_hex: bytes::hex(key), value: value.map(field), value_hex: value.map(bytes::hex) }
    }
}

/// A line a key, with a tab before its value.
fn text(scanned: &Scanned) -> String {
    let line = |pair: &Pair| match &pair.value {
        Some(value) => format!("{}\t{value}", pair.key),
        None => pair.key.clone(),
    };
    scanned.pairs.iter().map(line).collect::<Vec<_>>().join("\n")
}
