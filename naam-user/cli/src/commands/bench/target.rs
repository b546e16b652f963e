//! The store as the load generator's target.

use std::time::{Duration, Instant};

use naam_client::connect::Lease;
use naam_client::site::{SiteClient, SiteCompletion, SiteStats};
use naam_client::{Call, CallError, ClientStats, Function, Reply, Shard, SubmitError};
use naam_handlers::mica::layout::Geometry;
use naam_handlers::mica::{Code, WRITE_REPLY_MAX, args, hash::hash};
use naam_loadgen::target::{Busy, Failure, Op, Outcome, Target, TargetError};

/// How operations become calls.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Reads.
    pub get: Function,
    /// Writes.
    pub set: Function,
    /// The store's.
    pub geometry: Geometry,
    /// Longest value that a read may find: bytes left for the reply.
    pub value_max: usize,
    /// Time to try.
    pub timeout: Duration,
}

/// An operation in flight.
#[derive(Debug, Default)]
struct Pending {
    token: u64,
    is_read: bool,
    hash: u64,
    /// When it is given up.
    deadline: Option<Instant>,
    args: Vec<u8>,
}

/// What a target counted besides the runner.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub client: ClientStats,
    pub site: SiteStats,
    /// Operations asked again because others were in their way.
    pub retries: u64,
}

/// One thread's client of the store.
pub struct StoreTarget {
    site: SiteClient,
    /// The session; the last to go.
    _lease: Lease,
    plan: Plan,
    /// By the index of their ticket.
    pending: Box<[Pending]>,
    /// Operations to be asked again; they have left `pending`.
    again: Vec<Pending>,
    /// Buffers that no operation uses.
    spare: Vec<Pending>,
    retries: u64,
    report: Box<dyn Fn(Totals) + Send>,
}

impl StoreTarget {
    /// `report` is told the totals in the end.
    pub fn new(site: SiteClient, lease: Lease, plan: Plan, report: Box<dyn Fn(Totals) + Send>) -> Self {
        let window = site.client().core().window();
        let pending = || Pending { args: Vec::with_capacity(args::WRITE_ARGS_MAX), ..Pending::default() };
        Self {
            site,
            _lease: lease,
            plan,
            pending: (0..window).map(|_| Pending::default()).collect(),
            again: Vec::with_capacity(window),
            // One for each place of the window and one for the operation that is being submitted.
            spare: (0..=window).map(|_| pending()).collect(),
            retries: 0,
            report,
        }
    }

    /// Gives an operation to the client, or back.
    fn send(&mut self, operation: Pending) -> Result<(), Pending> {
        let Plan { get, set, value_max, timeout, .. } = self.plan;
        let timeout = operation.deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
        let (function, room) = if operation.is_read { (get, 8 + value_max) } else { (set, WRITE_REPLY_MAX) };
        let shard = Shard::Hash(operation.hash);
        let call = Call { function, shard, args: &operation.args, reply_room: Some(room as u16), timeout };
        match self.site.submit(&call) {
            Ok(ticket) => {
                self.pending[ticket.index()] = operation;
                Ok(())
            }
            Err(SubmitError::Busy { .. } | SubmitError::NoSlot { .. }) => Err(operation),
            Err(error) => unreachable!("keys and values of the load generator fit: {error}"),
        }
    }
}

impl Target for StoreTarget {
    fn submit(&mut self, op: &Op<'_>, token: u64) -> Result<(), Busy> {
        let Some(mut operation) = self.spare.pop() else { return Err(Busy) };
        operation.token = token;
        operation.deadline = None;
        operation.args.resize(args::WRITE_ARGS_MAX, 0);
        let (key, len) = match *op {
            Op::Read { key } | Op::Scan { key, .. } => {
                operation.is_read = true;
                (key, args::get(&mut operation.args, self.plan.geometry, key).len())
            }
            Op::Update { key, value } | Op::Insert { key, value } => {
                operation.is_read = false;
                (key, args::set(&mut operation.args, key, value).len())
            }
        };
        operation.args.truncate(len);
        operation.hash = hash(key);
        self.send(operation).map_err(|operation| {
            self.spare.push(operation);
            Busy
        })
    }

    fn poll(&mut self, now: Instant, done: &mut dyn FnMut(u64, Outcome<'_>)) -> Result<(), TargetError> {
        // Those that could not be sent again stand at the end and are tried at the next poll.
        while let Some(operation) = self.again.pop() {
            if let Err(operation) = self.send(operation) {
                self.again.push(operation);
                break;
            }
        }
        let Self { site, plan, pending, again, spare, retries, .. } = self;
        site.poll(|completion: SiteCompletion<'_>| {
            let mut operation = std::mem::take(&mut pending[completion.ticket.index()]);
            match judge(operation.is_read, completion.outcome) {
                // Many that write one key are in each other's way; each round one of them succeeds.
                None if now < *operation.deadline.get_or_insert(now + plan.timeout) => {
                    *retries += 1;
                    again.push(operation);
                }
                outcome => {
                    done(operation.token, outcome.unwrap_or(Outcome::Failed(Failure::Overloaded)));
                    spare.push(operation);
                }
            }
        })?;
        Ok(())
    }
}

/// What an answer means; none if the operation is to be asked again.
fn judge(is_read: bool, outcome: Result<Reply<'_>, CallError>) -> Option<Outcome<'_>> {
    let reply = match outcome {
        Ok(reply) => reply,
        Err(CallError::Timeout { .. }) => return Some(Outcome::Failed(Failure::Timeout)),
        Err(CallError::Failed { .. } | CallError::Refused { .. }) => return Some(Outcome::Failed(Failure::Refused)),
        Err(CallError::Closed { .. }) => return Some(Outcome::Failed(Failure::Protocol)),
    };
    Some(match Code::from_code(reply.code) {
        Some(Code::Ok) if is_read => {
            args::found(reply.bytes).map_or(Outcome::Failed(Failure::Protocol), |(_, value)| Outcome::Value(value))
        }
        Some(Code::Ok) => Outcome::Done,
        Some(Code::NotFound) if is_read => Outcome::Missing,
        Some(Code::StoreFull | Code::ChainFull) => Outcome::Failed(Failure::NoSpace),
        Some(Code::Retry) => return None,
        _ => Outcome::Failed(Failure::Protocol),
    })
}

impl Drop for StoreTarget {
    fn drop(&mut self) {
        let Self { site, retries, .. } = self;
        (self.report)(Totals { client: site.client().stats(), site: site.stats(), retries: *retries });
    }
}

#[cfg(test)]
mod tests {
    use naam_abi::wire::Status;

    use super::*;

    fn judged(is_read: bool, outcome: Result<(Code, &'static [u8]), CallError>) -> Option<Outcome<'static>> {
        let reply = |(code, bytes)| Reply { code: code as u32, bytes, from_slot: false, steps: 1, hops: 1 };
        judge(is_read, outcome.map(reply))
    }

    #[test]
    fn answers_have_their_meaning() {
        let versioned = b"\x01\0\0\0\0\0\0\0value";
        assert_eq!(judged(true, Ok((Code::Ok, versioned))), Some(Outcome::Value(b"value")));
        assert_eq!(judged(true, Ok((Code::Ok, b"short"))), Some(Outcome::Failed(Failure::Protocol)));
        assert_eq!(judged(true, Ok((Code::NotFound, b""))), Some(Outcome::Missing));
        assert_eq!(judged(false, Ok((Code::Ok, b"\0\0\0\0\0\0\0\0"))), Some(Outcome::Done));
        assert_eq!(judged(false, Ok((Code::StoreFull, b""))), Some(Outcome::Failed(Failure::NoSpace)));
        assert_eq!(judged(false, Ok((Code::NotFound, b""))), Some(Outcome::Failed(Failure::Protocol)));
        assert_eq!(judged(true, Ok((Code::Retry, b""))), None);
        let refused = CallError::Refused { status: Status::NoFunction, code: 0, may_have_run: false };
        assert_eq!(judged(true, Err(refused)), Some(Outcome::Failed(Failure::Refused)));
        let timeout = CallError::Timeout { attempts: 3, may_have_run: true };
        assert_eq!(judged(false, Err(timeout)), Some(Outcome::Failed(Failure::Timeout)));
    }
}
