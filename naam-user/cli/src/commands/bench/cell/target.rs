//! A tree as the load generator's target.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use naam_client::connect::Lease;
use naam_client::site::{SiteClient, SiteCompletion};
use naam_client::{Call, CallError, Function, Reply, Shard, SubmitError};
use naam_handlers::cell::{Code, SCAN_REPLY_MAX, args};
use naam_handlers::mica::hash::hash;
use naam_loadgen::target::{Busy, Failure, Op, Outcome, Target, TargetError};

use super::super::target::Totals as Base;
use crate::cell::Owned;

/// How operations become calls.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Reads.
    pub get: Function,
    /// Scans.
    pub scan: Function,
    /// Longest value.
    pub value_max: usize,
    /// Time to try.
    pub timeout: Duration,
}

/// What a target counted besides the runner.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// As every target.
    pub base: Base,
    /// Keys that scans brought.
    pub scanned: u64,
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

/// Reads by messages, writes by the owner's hand.
pub struct CellTarget {
    site: SiteClient,
    /// The session; the last to go.
    _lease: Lease,
    plan: Plan,
    owned: Arc<Mutex<Owned>>,
    /// By the index of their ticket.
    pending: Box<[Option<Pending>]>,
    /// To be sent at the next poll.
    again: Vec<Pending>,
    /// Writes that are done, to be told at the next poll.
    written: Vec<(u64, bool)>,
    retries: u64,
    scanned: u64,
    report: Box<dyn Fn(Totals) + Send>,
}

impl CellTarget {
    /// `report` is told the totals in the end.
    pub fn new(
        site: SiteClient,
        lease: Lease,
        plan: Plan,
        owned: Arc<Mutex<Owned>>,
        report: Box<dyn Fn(Totals) + Send>,
    ) -> Self {
        let window = site.client().core().window();
        Self {
            site,
            _lease: lease,
            plan,
            owned,
            pending: (0..window).map(|_| None).collect(),
            again: Vec::new(),
            written: Vec::new(),
            retries: 0,
            scanned: 0,
            report,
        }
    }

    /// Gives a message to the client, or back.
    fn send(&mut self, operation: Pending) -> Result<(), Pending> {
        let Plan { get, scan, value_max, .. } = self.plan;
        let entry = 8 + 24 + value_max.next_multiple_of(8);
        let (function, room) = match operation.left {
            None => (get, value_max),
            Some(left) => (scan, SCAN_REPLY_MAX.min(8 + left as usize * entry)),
        };
        let timeout = operation.deadline.saturating_duration_since(Instant::now());
        let shard = Shard::Hash(operation.hash);
        let call = Call { function, shard, args: &operation.args, reply_room: Some(room as u16), timeout };
        match self.site.submit(&call) {
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
                let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
                self.written.push((token, owned.tree.insert(key, value).is_ok()));
                return Ok(());
            }
        };
        let deadline = Instant::now() + self.plan.timeout;
        let operation = Pending { token, left, hash: hash(key), deadline, args: message(key, left, 0) };
        self.send(operation).map_err(|_| Busy)
    }

    fn poll(&mut self, now: Instant, done: &mut dyn FnMut(u64, Outcome<'_>)) -> Result<(), TargetError> {
        for (token, is_written) in self.written.drain(..) {
            done(token, if is_written { Outcome::Done } else { Outcome::Failed(Failure::NoSpace) });
        }
        while let Some(operation) = self.again.pop() {
            if let Err(operation) = self.send(operation) {
                self.again.push(operation);
                break;
            }
        }
        let Self { site, pending, again, retries, scanned, .. } = self;
        site.poll(|completion: SiteCompletion<'_>| {
            let Some(operation) = pending[completion.ticket.index()].take() else { return };
            let token = operation.token;
            match judge(operation, completion.outcome) {
                Judged::Ended(outcome, keys) => {
                    *scanned += keys;
                    done(token, outcome);
                }
                Judged::GoesOn(operation, keys) => {
                    *scanned += keys;
                    again.push(operation);
                }
                Judged::Again(operation) if now < operation.deadline => {
                    *retries += 1;
                    again.push(operation);
                }
                Judged::Again(_) => done(token, Outcome::Failed(Failure::Overloaded)),
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

fn judge(operation: Pending, outcome: Result<Reply<'_>, CallError>) -> Judged<'_> {
    let failed = |failure| Judged::Ended(Outcome::Failed(failure), 0);
    let reply = match outcome {
        Ok(reply) => reply,
        Err(CallError::Timeout { .. }) => return failed(Failure::Timeout),
        Err(CallError::Failed { .. } | CallError::Refused { .. }) => return failed(Failure::Refused),
        Err(CallError::Closed { .. }) => return failed(Failure::Protocol),
    };
    match (Code::from_code(reply.code), operation.left) {
        (Some(Code::Ok), None) => Judged::Ended(Outcome::Value(reply.bytes), 0),
        (Some(Code::NotFound), None) => Judged::Ended(Outcome::Missing, 0),
        (Some(Code::Retry), _) => Judged::Again(operation),
        (Some(Code::Ok), Some(left)) => {
            let Some(scanned) = args::Scanned::new(reply.bytes) else { return failed(Failure::Protocol) };
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
        _ => failed(Failure::Protocol),
    }
}

impl Drop for CellTarget {
    fn drop(&mut self) {
        let Self { site, retries, scanned, .. } = self;
        let base = Base { client: site.client().stats(), site: site.stats(), retries: *retries };
        (self.report)(Totals { base, scanned: *scanned });
    }
}
