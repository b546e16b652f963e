//! `naam call` and `naam trace`: one message, and what came of it.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use naam_abi::tables::Site;
use naam_abi::wire::{STATUS_NAMES, Status};
use naam_client::site::choice::Choice;
use naam_client::site::{Placement, SiteClient};
use naam_client::{Call, CallError, Client, ClientError, Options, OwnedReply, Shard};
use naam_handlers::mica::hash::hash;
use serde::Serialize;

use super::bytes;
use super::onesided::{Operation, Place};
use super::site::{self, SiteChoice};
use crate::client::{Connect, Connected};
use crate::failure::{Failure, Verdict};
use crate::options::Global;
use crate::output::Output;

/// What is called, where, and with what.
#[derive(Debug, Args)]
pub struct Request {
    /// The function; with --region read, write, cas or faa: a one-sided operation
    function: String,
    #[command(flatten)]
    arguments: Arguments,
    #[command(flatten)]
    place: Place,
    /// Send it to this shard [default: 0]
    #[arg(long, conflicts_with = "key", value_name = "N")]
    shard: Option<u16>,
    /// Send it to the shard of this key
    #[arg(long)]
    key: Option<String>,
    /// Bytes to leave for the reply [default: the function's longest]
    #[arg(long, value_name = "N")]
    reply: Option<u16>,
    /// Where it shall run: at the host, here as far as it only reads, or where the host says
    #[arg(long, default_value = "host")]
    site: SiteChoice,
    #[command(flatten)]
    connect: Connect,
}

/// The arguments: at most one kind.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Arguments {
    /// Arguments as hexadecimal digits, or @FILE for a file's bytes
    #[arg(long, value_name = "HEX|@FILE")]
    args: Option<String>,
    /// Arguments as 64-bit numbers, little-endian
    #[arg(long, value_name = "N", num_args = 1.., value_parser = number)]
    u64: Vec<u64>,
    /// Arguments as text
    #[arg(long)]
    text: Option<String>,
}

/// Decimal, or hexadecimal after 0x.
pub fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| error.to_string())
}

impl Arguments {
    /// Their bytes.
    pub fn bytes(&self) -> Result<Vec<u8>, Failure> {
        if let Some(text) = &self.text {
            return Ok(text.clone().into_bytes());
        }
        match &self.args {
            None => Ok(self.u64.iter().flat_map(|word| word.to_le_bytes()).collect()),
            Some(args) => match args.strip_prefix('@') {
                Some(path) => std::fs::read(Path::new(path))
                    .map_err(|error| Failure::new("read", format!("arguments from {path}"), error)),
                None => bytes::unhex(args).map_err(|cause| Failure::new("read", "arguments", cause)),
            },
        }
    }
}

/// What came of a call.
#[derive(Debug, PartialEq, Serialize)]
pub struct Called {
    function: String,
    shard: u16,
    /// Name of the wire status; `timeout` if no answer came.
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Whether the function may have had an effect.
    may_have_run: bool,
    code: u32,
    reply_len: usize,
    reply_hex: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_text: Option<String>,
    /// The reply's whole words.
    reply_u64: Vec<u64>,
    /// Answered from the request slot: the message had run before.
    from_slot: bool,
    steps: u8,
    hops: u8,
    /// Where it ran.
    site: &'static str,
    /// What the READs of functions that run here go by: `verbs` or `onesided`.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<&'static str>,
    /// Why, if that was found by trying.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_choice: Option<Choice>,
    /// READs of regions that were made for it from here.
    reads: u64,
    /// Where the host says that the shard's messages run.
    placement: &'static str,
    epoch: u32,
    lease_ms: u16,
    /// From packing to receipt, of the attempt that was answered.
    rtt_us: f64,
    /// From submission to completion, retries included.
    total_us: f64,
    attempts: u64,
    transport: &'static str,
    session: u32,
}

#[derive(Debug, Args)]
pub struct CallCommand {
    #[command(flatten)]
    request: Request,
}

#[derive(Debug, Args)]
pub struct Trace {
    #[command(flatten)]
    request: Request,
}

impl CallCommand {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let called = self.request.make(global)?;
        output.show(&called, short)?;
        called.verdict()
    }
}

impl Trace {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let called = self.request.make(global)?;
        output.show(&called, long)?;
        called.verdict()
    }
}

impl Request {
    fn make(&self, global: &Global) -> anyhow::Result<Called> {
        let mut args = self.arguments.bytes()?;
        let operation = self.place.operation(&self.function)?;
        let rights = operation.as_ref().map(Operation::rights).into_iter().collect();
        let Connected { client, lease, reason } = match self.site {
            SiteChoice::Host => self.connect.open_with(global, &Options::default(), rights)?,
            choice => site::open(&self.connect, global, &Options::default(), rights, choice == SiteChoice::Client)?,
        };
        tracing::info!(transport = client.transport_name(), reason, "connected");
        let mut reply_room = self.reply;
        if let Some(operation) = &operation {
            let region = client.region(operation.region().as_str()).expect("the daemon granted rights to it");
            (args, reply_room) = operation.arguments(region, &args)?;
        }
        let name = operation.as_ref().map_or(self.function.as_str(), |operation| operation.function());
        let function = client.function(name).ok_or_else(|| {
            let known: Vec<_> = client.core().session().functions.keys().cloned().collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let object = format!("function `{name}` of app `{}`", lease.grant().app);
            let way_out = match operation {
                Some(_) => "serve them: naam handler onesided".to_owned(),
                None => format!("there are: {known}"),
            };
            Failure::new("call", object, "there is no such function").way_out(way_out)
        })?;
        let shard = match &self.key {
            Some(key) => Shard::Hash(hash(key.as_bytes())),
            None => Shard::Number(self.shard.unwrap_or(0)),
        };
        let call = Call { function, shard, args: &args, reply_room, timeout: self.connect.timeout() };
        let mut site = match self.site {
            SiteChoice::Host => SiteClient::new(client, Placement::Host),
            choice => {
                let control = self.connect.control(global);
                site::learned(client, &lease, (&self.connect, &control), name, &call, choice)?
            }
        };
        let began = Instant::now();
        let (ran_at, outcome) = match site.call(&call) {
            Ok(answer) => (answer.site, answer.outcome.map_err(ClientError::Call)),
            Err(error) => (Site::Host, Err(error)),
        };
        let shard = shard.number(lease.grant().shards);
        let took = began.elapsed();
        let mut called = Called::new(name, shard, outcome, ran_at, site.client(), took)?;
        if self.site != SiteChoice::Host {
            let stats = site.stats();
            called.memory = Some(site.memory_name());
            called.memory_choice = site.choice().cloned();
            called.reads = stats.reads + stats.memory_reads;
        }
        Ok(called)
    }
}

impl Called {
    fn new(
        function: &str,
        shard: u16,
        outcome: Result<OwnedReply, ClientError>,
        ran_at: Site,
        client: &Client,
        took: Duration,
    ) -> Result<Self, ClientError> {
        let (status, error, may_have_run, reply) = match outcome {
            Ok(reply) => (name(Status::Ok), None, true, reply),
            Err(ClientError::Call(error)) => {
                let (status, code) = match error {
                    CallError::Failed { code } => (name(Status::Failed), code),
                    CallError::Refused { status, code, .. } => (name(status), code),
                    CallError::Timeout { .. } => ("timeout", 0),
                    CallError::Closed { .. } => ("closed", 0),
                };
                let none = OwnedReply { code, bytes: vec![], from_slot: false, steps: 0, hops: 0 };
                (status, Some(error.to_string()), error.may_have_run(), none)
            }
            Err(error) => return Err(error),
        };
        let placement = client.core().placement(shard).unwrap_or_default();
        let stats = client.stats();
        let words = reply.bytes.as_chunks::<8>().0;
        Ok(Self {
            function: function.to_owned(),
            shard,
            status: status.to_owned(),
            error,
            may_have_run,
            code: reply.code,
            reply_len: reply.bytes.len(),
            reply_hex: bytes::hex(&reply.bytes),
            reply_text: bytes::text(&reply.bytes).filter(|text| !text.is_empty()).map(str::to_owned),
            reply_u64: words.iter().map(|word| u64::from_le_bytes(*word)).collect(),
            from_slot: reply.from_slot,
            steps: reply.steps,
            hops: reply.hops,
            site: site_name(ran_at),
            memory: None,
            memory_choice: None,
            reads: 0,
            placement: site_name(placement.site),
            epoch: placement.epoch,
            lease_ms: placement.lease_ms,
            rtt_us: stats.rtt_ns as f64 / 1e3,
            total_us: took.as_nanos() as f64 / 1e3,
            attempts: stats.messages,
            transport: client.transport_name(),
            session: client.core().session().session,
        })
    }

    fn verdict(&self) -> anyhow::Result<()> {
        if self.error.is_none() { Ok(()) } else { Err(Verdict::NotServed.into()) }
    }
}

fn site_name(site: Site) -> &'static str {
    match site {
        Site::Host => "host",
        Site::Dpu => "dpu",
        Site::Client => "client",
    }
}

fn name(status: Status) -> &'static str {
    STATUS_NAMES[status as usize]
}

fn short(called: &Called) -> String {
    let mut text = format!("status {}, code {}, reply of {} bytes", called.status, called.code, called.reply_len);
    if let Some(error) = &called.error {
        text += &format!("\n{error}");
    }
    if called.reply_len > 0 {
        text += &format!("\nhex  {}", called.reply_hex);
        if let Some(reply) = &called.reply_text {
            text += &format!("\ntext {reply}");
        }
        if !called.reply_u64.is_empty() {
            let words: Vec<_> = called.reply_u64.iter().map(u64::to_string).collect();
            text += &format!("\nu64  {}", words.join(" "));
        }
    }
    text
}

fn long(called: &Called) -> String {
    let Called { function, shard, steps, hops, site, placement, epoch, lease_ms, rtt_us, total_us, attempts, .. } =
        called;
    let from_slot = if called.from_slot { ", answered from its request slot: it had run before" } else { "" };
    let why = called.memory_choice.as_ref().map_or(String::new(), |choice| format!("; {choice}"));
    let reads = called.memory.map_or(String::new(), |memory| format!("\nREADs      {} by {memory}{why}", called.reads));
    format!(
        "{}\n\nfunction   {function}, shard {shard}, session {}\nran at     {site} (placed at {placement}, epoch {epoch}, lease {lease_ms} ms){reads}\n\
         steps      {steps}{from_slot}\nhops       {hops}\nround trip {rtt_us:.1} us by {}\n\
         in all     {total_us:.1} us, {attempts} attempts",
        short(called),
        called.session,
        called.transport,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(args: Option<&str>, u64: &[u64], text: Option<&str>) -> Arguments {
        Arguments { args: args.map(str::to_owned), u64: u64.to_vec(), text: text.map(str::to_owned) }
    }

    #[test]
    fn arguments_come_in_three_kinds() {
        assert_eq!(arguments(Some("0x0a0b"), &[], None).bytes(), Ok(vec![10, 11]));
        assert_eq!(arguments(None, &[1, u64::MAX], None).bytes().unwrap()[..9], [1, 0, 0, 0, 0, 0, 0, 0, 255]);
        assert_eq!(arguments(None, &[], Some("hi")).bytes(), Ok(b"hi".to_vec()));
        assert_eq!(arguments(None, &[], None).bytes(), Ok(vec![]));
        assert!(arguments(Some("xyz1"), &[], None).bytes().unwrap_err().to_string().contains("cannot read arguments"));
        assert!(arguments(Some("@/nowhere"), &[], None).bytes().unwrap_err().to_string().contains("/nowhere"));
        assert_eq!((number("0xff"), number("255")), (Ok(255), Ok(255)));
        assert!(number("-1").is_err());
    }

    fn called() -> Called {
        Called {
            function: "echo".into(),
            shard: 3,
            status: "ok".into(),
            error: None,
            may_have_run: true,
            code: 0,
            reply_len: 5,
            reply_hex: "68656c6c6f".into(),
            reply_text: Some("hello".into()),
            reply_u64: vec![],
            from_slot: false,
            steps: 1,
            hops: 1,
            site: "host",
            memory: None,
            memory_choice: None,
            reads: 0,
            placement: "host",
            epoch: 1,
            lease_ms: 0,
            rtt_us: 12.5,
            total_us: 20.0,
            attempts: 1,
            transport: "udp",
            session: 1025,
        }
    }

    #[test]
    fn replies_are_shown_in_every_form_they_have() {
        assert_eq!(short(&called()), "status ok, code 0, reply of 5 bytes\nhex  68656c6c6f\ntext hello");
        let words = Called { reply_u64: vec![7, 9], reply_text: None, ..called() };
        assert!(short(&words).ends_with("u64  7 9"));
        let text = long(&called());
        for part in ["shard 3", "ran at     host", "steps      1", "12.5 us by udp", "1 attempts"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn only_served_calls_end_well() {
        assert!(called().verdict().is_ok());
        let failed = Called { error: Some("no answer in time".into()), ..called() };
        assert!(failed.verdict().is_err() && short(&failed).contains("no answer in time"));
    }
}
