//! `naam bench cell`: YCSB on a B-tree that this process owns and handlers read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use naam_abi::limits::MESSAGES_MAX;
use naam_cell::{Options, Tree};
use naam_client::{Call, CallError, Completion, Function, Shard, SubmitError};
use naam_handlers::cell::layout::{INLINE_MAX, MAGIC};
use naam_handlers::cell::{Code, SCAN_REPLY_MAX, args};
use naam_handlers::mica::hash::hash;
use naam_loader::Options as Instance;
use naam_loadgen::keyspace::KeySpace;
use naam_loadgen::records::{Records, ValueSize};
use naam_loadgen::report::Summary;
use naam_loadgen::runner::{self, Load, RunConfig, Stop};
use naam_loadgen::source::WorkloadSource;
use naam_loadgen::target::{Busy, Failure as OpFailure, Op, Outcome, Target, TargetError};
use naam_loadgen::workload::Workload;
use naam_region::{Memory, Regions};
use serde::Serialize;

use super::phases::{line, live};
use crate::client::{Connect, Connected};
use crate::control::Daemon;
use crate::failure::{Failure, Verdict};
use crate::mica::{self, require};
use crate::options::Global;
use crate::output::Output;

#[derive(Debug, Args)]
pub struct Cell {
    /// C (reads) or E (95 % scans of up to 100 records, 5 % inserts, which the owner does); any other works too
    #[arg(long, default_value = "C")]
    workload: Workload,
    /// Records to load
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Bytes of values
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(0..=INLINE_MAX as i64))]
    value_bytes: u16,
    /// Seconds to run the workload
    #[arg(long, default_value_t = 10.0, value_parser = super::seconds)]
    seconds: f64,
    /// Seconds before these that are not counted
    #[arg(long, default_value_t = 1.0, value_parser = super::seconds)]
    warmup: f64,
    /// Operations in flight
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: u32,
    /// Messages of a datagram, at most
    #[arg(long, default_value_t = MESSAGES_MAX as u16, value_parser = clap::value_parser!(u16).range(1..=MESSAGES_MAX as i64))]
    per_datagram: u16,
    /// Check every value that the workload reads
    #[arg(long)]
    verify: bool,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Make a tree even of a region that holds something else; that is lost
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connect: Connect,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    summary: Summary,
    app: String,
    records: u64,
    load_seconds: f64,
    /// Levels of the tree.
    height: u32,
    /// Nodes of the tree, in the end.
    nodes: u64,
    transport: String,
    /// Messages asked again because the tree changed under them.
    retries: u64,
    /// Keys that scans brought.
    scanned: u64,
}

impl Cell {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let app = self.connect.app(global)?;
        let name = mica::region(&mut Daemon::connect(global)?, &app)?;
        let pins = Instance::instance(global.instance.as_str()).pins;
        let memory = Regions::new(pins).open(app.as_str(), name.as_str())?.map()?;
        if !self.force && ![0, MAGIC].contains(&memory.load(0)?) {
            let failure = Failure::new("make a tree in", format!("region `{app}/{name}`"), "it holds something else");
            return Err(failure.way_out("--force makes a tree of it").into());
        }
        let records = Records::Generated(ValueSize::Constant(self.value_bytes));
        let begin = Instant::now();
        let tree = self.fill(memory, &records)?;
        let load_seconds = begin.elapsed().as_secs_f64();
        let tree = Arc::new(Mutex::new(tree));
        let totals = Arc::new(Mutex::new(Totals::default()));
        let config = RunConfig {
            threads: 1,
            load: Load::Closed { window: self.window as usize },
            stop: Stop::After(Duration::from_secs_f64(self.seconds)),
            warmup: Duration::from_secs_f64(self.warmup),
            op_timeout: self.connect.timeout() * 4,
            verify: self.verify,
            seed: self.seed,
            ..RunConfig::default()
        };
        let space = Arc::new(KeySpace::new(self.records));
        let what = format!("workload {}", self.workload.name);
        let bar = live(&what);
        let build = |thread| -> Result<(WorkloadSource, CellTarget), TargetError> {
            let source = WorkloadSource::new(&self.workload, records.clone(), space.clone(), self.seed, thread)?;
            Ok((source, self.target(global, tree.clone(), totals.clone())?))
        };
        let result = runner::run(&config, build, &mut |progress| {
            bar.set_message(line(&what, progress));
            bar.tick();
            true
        });
        bar.finish_and_clear();
        let result = result?;
        let tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
        let Totals { transport, retries, scanned } =
            std::mem::take(&mut *totals.lock().unwrap_or_else(PoisonError::into_inner));
        let report = Report {
            summary: Summary::new(&self.workload.name, &result),
            app: app.to_string(),
            records: self.records,
            load_seconds,
            height: tree.height(),
            nodes: tree.nodes(),
            transport,
            retries,
            scanned,
        };
        output.show(&report, text)?;
        let is_clean = result.stats.failed() + result.stats.lost == 0;
        if is_clean { Ok(()) } else { Err(Verdict::Bad.into()) }
    }

    /// A tree with all records.
    fn fill(&self, memory: Memory, records: &Records) -> anyhow::Result<Tree<Memory>> {
        let mut pairs: Vec<(Vec<u8>, u64)> = (0..self.records)
            .map(|record| {
                let mut key = Vec::new();
                records.key(record, &mut key);
                (key, record)
            })
            .collect();
        pairs.sort_unstable();
        let mut tree = Tree::format(memory, Options::default())?;
        tree.load(pairs.into_iter().map(|(key, record)| {
            let mut value = Vec::new();
            records.value(record, 0, &mut value);
            (key, value)
        }))?;
        Ok(tree)
    }

    fn target(
        &self,
        global: &Global,
        tree: Arc<Mutex<Tree<Memory>>>,
        totals: Arc<Mutex<Totals>>,
    ) -> anyhow::Result<CellTarget> {
        let options = naam_client::Options {
            window: self.window as usize,
            messages_max: self.per_datagram.into(),
            seed: self.seed,
            ..naam_client::Options::default()
        };
        let connected = self.connect.open(global, &options)?;
        let app = connected.app();
        let get = require(connected.client.function("cell_get"), "cell_get", &app)?;
        let scan = require(connected.client.function("cell_scan"), "cell_scan", &app)?;
        let window = connected.client.core().window();
        totals.lock().unwrap_or_else(PoisonError::into_inner).transport = connected.client.transport_name().to_owned();
        Ok(CellTarget {
            connected,
            get,
            scan,
            value_max: self.value_bytes.into(),
            timeout: self.connect.timeout(),
            tree,
            pending: (0..window).map(|_| None).collect(),
            again: Vec::new(),
            written: Vec::new(),
            totals,
        })
    }
}

/// A message, or the next one of a scan.
#[derive(Debug)]
struct Pending {
    token: u64,
    /// Records that a scan still wants; none: a read.
    left: Option<u64>,
    hash: u64,
    deadline: Instant,
    args: Vec<u8>,
}

#[derive(Debug, Default)]
struct Totals {
    transport: String,
    retries: u64,
    scanned: u64,
}

/// Reads by messages, writes by the owner's hand.
struct CellTarget {
    connected: Connected,
    get: Function,
    scan: Function,
    value_max: usize,
    timeout: Duration,
    tree: Arc<Mutex<Tree<Memory>>>,
    /// By the index of their ticket.
    pending: Box<[Option<Pending>]>,
    /// To be sent at the next poll.
    again: Vec<Pending>,
    /// Writes that are done, to be told at the next poll.
    written: Vec<(u64, bool)>,
    totals: Arc<Mutex<Totals>>,
}

impl CellTarget {
    /// Gives a message to the client, or back.
    fn send(&mut self, operation: Pending) -> Result<(), Pending> {
        let entry = 8 + 24 + self.value_max.next_multiple_of(8);
        let (function, room) = match operation.left {
            None => (self.get, self.value_max),
            Some(left) => (self.scan, SCAN_REPLY_MAX.min(8 + left as usize * entry)),
        };
        let timeout = operation.deadline.saturating_duration_since(Instant::now());
        let shard = Shard::Hash(operation.hash);
        let call = Call { function, shard, args: &operation.args, reply_room: Some(room as u16), timeout };
        match self.connected.client.submit(&call) {
            Ok(ticket) => {
                self.pending[ticket.index()] = Some(operation);
                Ok(())
            }
            Err(SubmitError::Busy { .. } | SubmitError::NoSlot { .. }) => Err(operation),
            Err(error) => unreachable!("keys and values of the load generator fit: {error}"),
        }
    }
}

fn message(key: &[u8], left: Option<u64>, flags: u64) -> Vec<u8> {
    let mut buffer = [0; args::ARGS_MAX];
    match left {
        None => args::get(&mut buffer, key).to_vec(),
        Some(left) => args::scan(&mut buffer, key, flags, left).to_vec(),
    }
}

impl Target for CellTarget {
    fn submit(&mut self, op: &Op<'_>, token: u64) -> Result<(), Busy> {
        let (key, left) = match *op {
            Op::Read { key } => (key, None),
            Op::Scan { key, records } => (key, Some(u64::from(records))),
            Op::Update { key, value } | Op::Insert { key, value } => {
                let mut tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
                self.written.push((token, tree.insert(key, value).is_ok()));
                return Ok(());
            }
        };
        let deadline = Instant::now() + self.timeout;
        let operation = Pending { token, left, hash: hash(key), deadline, args: message(key, left, 0) };
        self.send(operation).map_err(|_| Busy)
    }

    fn poll(&mut self, now: Instant, done: &mut dyn FnMut(u64, Outcome<'_>)) -> Result<(), TargetError> {
        for (token, is_written) in self.written.drain(..) {
            done(token, if is_written { Outcome::Done } else { Outcome::Failed(OpFailure::NoSpace) });
        }
        while let Some(operation) = self.again.pop() {
            if let Err(operation) = self.send(operation) {
                self.again.push(operation);
                break;
            }
        }
        let Self { connected, pending, again, totals, .. } = self;
        connected.client.poll(|completion: Completion<'_>| {
            let Some(operation) = pending[completion.ticket.index()].take() else { return };
            let token = operation.token;
            match judge(operation, &completion) {
                Judged::Ended(outcome, keys) => {
                    totals.lock().unwrap_or_else(PoisonError::into_inner).scanned += keys;
                    done(token, outcome);
                }
                Judged::GoesOn(operation, keys) => {
                    totals.lock().unwrap_or_else(PoisonError::into_inner).scanned += keys;
                    again.push(operation);
                }
                Judged::Again(operation) if now < operation.deadline => {
                    totals.lock().unwrap_or_else(PoisonError::into_inner).retries += 1;
                    again.push(operation);
                }
                Judged::Again(_) => done(token, Outcome::Failed(OpFailure::Overloaded)),
            }
        })?;
        Ok(())
    }

    fn scans(&self) -> bool {
        true
    }
}

/// What an answer means.
#[derive(Debug)]
enum Judged<'a> {
    /// The operation is over; so many keys came.
    Ended(Outcome<'a>, u64),
    /// A scan wants more: its next message.
    GoesOn(Pending, u64),
    /// The tree changed under it.
    Again(Pending),
}

fn judge<'a>(operation: Pending, completion: &Completion<'a>) -> Judged<'a> {
    let failed = |failure| Judged::Ended(Outcome::Failed(failure), 0);
    let reply = match completion.outcome {
        Ok(reply) => reply,
        Err(CallError::Timeout { .. }) => return failed(OpFailure::Timeout),
        Err(CallError::Failed { .. } | CallError::Refused { .. }) => return failed(OpFailure::Refused),
        Err(CallError::Closed { .. }) => return failed(OpFailure::Protocol),
    };
    match (Code::from_code(reply.code), operation.left) {
        (Some(Code::Ok), None) => Judged::Ended(Outcome::Value(reply.bytes), 0),
        (Some(Code::NotFound), None) => Judged::Ended(Outcome::Missing, 0),
        (Some(Code::Retry), _) => Judged::Again(operation),
        (Some(Code::Ok), Some(left)) => {
            let Some(scanned) = args::Scanned::new(reply.bytes) else { return failed(OpFailure::Protocol) };
            let has_more = scanned.has_more;
            let (keys, last) = scanned.fold((0, None), |(keys, _), entry| (keys + 1, Some(entry.key)));
            match last.filter(|_| has_more && keys < left) {
                Some(last) => {
                    let left = left - keys;
                    let args = message(last, Some(left), args::EXCLUSIVE);
                    Judged::GoesOn(Pending { left: Some(left), args, ..operation }, keys)
                }
                None => Judged::Ended(Outcome::Done, keys),
            }
        }
        _ => failed(OpFailure::Protocol),
    }
}

fn text(report: &Report) -> String {
    let Report { records, load_seconds, height, nodes, transport, retries, scanned, .. } = report;
    format!(
        "{records} records loaded in {load_seconds:.2} s: {nodes} nodes, {height} levels\n\
         {}\n{scanned} keys scanned, {retries} messages asked again, over {transport}",
        report.summary
    )
}
