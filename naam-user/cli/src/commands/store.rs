//! `naam store`: a MICA store, by hand.

use std::time::Instant;

use clap::{Args, Subcommand};
use naam_client::{Call, CallError, ClientError, Function, Options, OwnedReply, Shard};
use naam_handlers::mica::layout::Geometry;
use naam_handlers::mica::{Code, GET_REPLY_MAX, KEY_MAX, VALUE_MAX, WRITE_REPLY_MAX, args, hash::hash};
use naam_loader::Options as Instance;
use naam_region::Regions;
use serde::Serialize;

use super::bytes;
use crate::client::{Connect, Connected};
use crate::control::{Daemon, progress_bar};
use crate::failure::{Failure, Verdict};
use crate::mica::{self, Functions, require};
use crate::options::Global;
use crate::output::{Output, size};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an app's first region an empty store; as the region's owner, on its host, as root
    Format(Format),
    /// Show a key's value
    Get {
        /// The key, 1 to 64 bytes
        key: String,
        /// The store's buckets, as a power of two [default: ask the daemon]
        #[arg(long, value_name = "N")]
        log2_buckets: Option<u32>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Give a key a value
    Set {
        /// The key, 1 to 64 bytes
        key: String,
        /// The value, up to 1,000 bytes
        value: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Give a key a value if its version is still the one that GET told
    Cas {
        /// The key, 1 to 64 bytes
        key: String,
        /// The version that its value must have, as `store get --json` tells it
        version: u64,
        /// The new value, up to 1,000 bytes
        value: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Remove a key
    Del {
        /// The key, 1 to 64 bytes
        key: String,
        #[command(flatten)]
        connect: Connect,
    },
}

#[derive(Debug, Args)]
pub struct Format {
    /// The app [default: the only one]
    #[command(flatten)]
    connect: Connect,
    /// Bytes of the keys to expect
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=KEY_MAX as u64))]
    key_bytes: u64,
    /// Bytes of the values to expect
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=VALUE_MAX as u64))]
    value_bytes: u64,
    /// Buckets, as a power of two [default: what suits keys and values of those sizes]
    #[arg(long, value_name = "N")]
    log2_buckets: Option<u32>,
    /// Make a new store even where there is one; everything in it is lost
    #[arg(long)]
    force: bool,
}

impl Format {
    fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let app = self.connect.app(global)?;
        let name = mica::region(&mut Daemon::connect(global)?, &app)?;
        let object = format!("region `{app}/{name}`");
        let pins = Instance::instance(global.instance.as_str()).pins;
        let region = Regions::new(pins).open(app.as_str(), name.as_str())?;
        let geometry = match self.log2_buckets {
            Some(log2_buckets) => Geometry::new(region.bytes(), log2_buckets),
            None => Geometry::plan(region.bytes(), self.key_bytes, self.value_bytes),
        };
        let geometry = geometry.map_err(|error| Failure::new("make a store in", object.clone(), error))?;
        let memory = region.map()?;
        if !self.force && Geometry(memory.load(0)?).is_valid() {
            let failure = Failure::new("make a store in", object, "there is one already");
            return Err(failure.way_out("--force makes an empty one of it").into());
        }
        let bar = progress_bar("formatting");
        bar.set_length(geometry.heap_start());
        for (number, (at, word)) in geometry.words().enumerate() {
            memory.store(at, word)?;
            if number.is_multiple_of(1 << 16) {
                bar.set_position(number as u64 * 8);
            }
        }
        bar.finish_and_clear();
        let done = serde_json::json!({
            "app": app, "region": name, "bytes": region.bytes(), "log2_buckets": geometry.log2_buckets(),
            "heap_bytes": geometry.heap_end() - geometry.heap_start(),
        });
        output.show(&done, |_| {
            let (buckets, heap) = (1u64 << geometry.log2_buckets(), geometry.heap_end() - geometry.heap_start());
            format!("{object} is an empty store of {}: {buckets} buckets, {heap} bytes for items", size(region.bytes()))
        })
    }
}

/// What came of an operation.
#[derive(Debug, Serialize)]
struct Answer {
    key: String,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

impl Command {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let mut buffer = [0; args::WRITE_ARGS_MAX];
        match self {
            Self::Format(format) => format.run(global, output),
            Self::Get { key, log2_buckets, connect } => {
                check(&key, "")?;
                let geometry = mica::geometry(global, &connect, log2_buckets)?;
                let mut connected = connect.open(global, &Options::default())?;
                let function = require(Functions::of(&connected.client).get, "mica_get", &connected.app())?;
                let args = args::get(&mut buffer, geometry, key.as_bytes());
                let reply = ask(&mut connected, &connect, function, &key, args, GET_REPLY_MAX)?;
                let found = args::found(&reply.bytes).filter(|_| reply.code == Code::Ok as u32);
                answer(output, key, &reply, found.map(|(_, value)| value))
            }
            Self::Set { key, value, connect } => {
                check(&key, &value)?;
                let mut connected = connect.open(global, &Options::default())?;
                let function = require(Functions::of(&connected.client).set, "mica_set", &connected.app())?;
                let args = args::set(&mut buffer, key.as_bytes(), value.as_bytes());
                let reply = ask(&mut connected, &connect, function, &key, args, WRITE_REPLY_MAX)?;
                answer(output, key, &reply, None)
            }
            Self::Cas { key, version, value, connect } => {
                check(&key, &value)?;
                let mut connected = connect.open(global, &Options::default())?;
                let function = require(Functions::of(&connected.client).cas, "mica_cas", &connected.app())?;
                let args = args::cas(&mut buffer, key.as_bytes(), version, value.as_bytes());
                let reply = ask(&mut connected, &connect, function, &key, args, WRITE_REPLY_MAX)?;
                answer(output, key, &reply, None)
            }
            Self::Del { key, connect } => {
                check(&key, "")?;
                let mut connected = connect.open(global, &Options::default())?;
                let function = require(Functions::of(&connected.client).delete, "mica_delete", &connected.app())?;
                let args = args::delete(&mut buffer, key.as_bytes());
                let reply = ask(&mut connected, &connect, function, &key, args, WRITE_REPLY_MAX)?;
                answer(output, key, &reply, None)
            }
        }
    }
}

fn check(key: &str, value: &str) -> Result<(), Failure> {
    if key.is_empty() || key.len() > KEY_MAX {
        let cause = format!("it has {} bytes, 1 to {KEY_MAX} are allowed", key.len());
        return Err(Failure::new("use", format!("key {key:?}"), cause));
    }
    if value.len() > VALUE_MAX {
        let cause = format!("it has {} bytes, {VALUE_MAX} are the most", value.len());
        return Err(Failure::new("store", format!("the value of key {key:?}"), cause));
    }
    Ok(())
}

/// Calls, and calls again while others are in the way.
fn ask(
    connected: &mut Connected,
    connect: &Connect,
    function: Function,
    key: &str,
    args: &[u8],
    reply_room: usize,
) -> anyhow::Result<OwnedReply> {
    let shard = Shard::Hash(hash(key.as_bytes()));
    let reply_room = Some(reply_room as u16);
    let deadline = Instant::now() + connect.timeout();
    loop {
        let timeout = deadline.saturating_duration_since(Instant::now());
        if timeout.is_zero() {
            let failure = Failure::new("change", format!("key {key:?}"), "others change it all the time");
            return Err(failure.way_out("ask again, or take a longer --timeout-ms").into());
        }
        match connected.client.call(&Call { function, shard, args, reply_room, timeout }) {
            Ok(reply) if reply.code == Code::Retry as u32 => {}
            Err(ClientError::Call(CallError::Failed { code })) => {
                let cause = Code::from_code(code).map_or(format!("code {code}"), |code| code.name().to_owned());
                let failure = Failure::new("ask", format!("store of app `{}`", connected.app()), cause);
                return Err(failure.way_out("is the region formatted? naam store format").into());
            }
            answered => return Ok(answered?),
        }
    }
}

fn answer(output: Output, key: String, reply: &OwnedReply, value: Option<&[u8]>) -> anyhow::Result<()> {
    let code = Code::from_code(reply.code);
    let result = code.map_or("unknown_code", Code::name);
    let answer = Answer {
        key,
        result,
        version: args::version(&reply.bytes),
        value_hex: value.map(bytes::hex),
        value: value.and_then(bytes::text).map(str::to_owned),
    };
    output.show(&answer, |answer| match (&answer.value, &answer.value_hex) {
        (Some(value), _) => value.clone(),
        (None, Some(hex)) => format!("0x{hex}"),
        (None, None) => answer.result.to_owned(),
    })?;
    if code == Some(Code::Ok) { Ok(()) } else { Err(Verdict::Bad.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_have_limits() {
        assert!(check("k", &"v".repeat(VALUE_MAX)).is_ok());
        for (key, value) in [("", String::new()), (&"k".repeat(65)[..], String::new()), ("k", "v".repeat(1001))] {
            assert!(check(key, &value).is_err());
        }
    }
}
