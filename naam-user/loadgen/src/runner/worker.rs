//! One thread of a run: begin what is due, let the target work, account for what ended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::inflight::{Inflight, Token};
use super::schedule::Schedule;
use super::stats::Stats;
use super::{Idle, Stop};
use crate::source::{Next, Request, Source};
use crate::target::{Busy, Failure, Op, Outcome, Target, TargetError};
use crate::workload::OpKind;

/// Operations begun or ended between two looks at the clock, at most.
const CLOCK_EVERY: u32 = 8;
/// A wait at least this long is slept instead of polled, but for the timer's slack.
const SLEEP_NS_MIN: u64 = 200_000;
const SLEEP_SLACK_NS: u64 = 100_000;

/// What other threads may see of a worker while it runs.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    pub(super) ended: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) wrong: AtomicU64,
}

/// When a worker begins operations, and when it stops.
pub(super) struct Plan {
    /// Open loop: the intended times. Closed loop: none.
    pub(super) schedule: Option<Schedule>,
    pub(super) window: usize,
    pub(super) warmup: Duration,
    pub(super) stop: Stop,
    pub(super) op_timeout: Duration,
    pub(super) verify: bool,
    pub(super) idle: Idle,
}

/// The accounts of a worker: all that the end of an operation changes.
struct Ledger {
    inflight: Inflight,
    /// Operations with parts to submit.
    ready: VecDeque<Token>,
    stats: Stats,
    ended: u64,
    failed: u64,
    verify: bool,
    open: bool,
    warm_ns: u64,
    end_ns: u64,
}

impl Ledger {
    #[inline]
    fn part_ended<S: Source>(&mut self, source: &mut S, token: u64, outcome: Outcome<'_>, now_ns: u64) {
        let token = Token(token);
        let Some((index, slot)) = self.inflight.find(token).filter(|(_, slot)| token.part() < slot.parts_submitted)
        else {
            self.stats.late += 1;
            return;
        };
        let request = slot.request;
        let failure = match outcome {
            Outcome::Value(value) => {
                let record = request.record + if request.kind == OpKind::Scan { u64::from(token.part()) } else { 0 };
                (self.verify && !source.holds(record, value)).then_some(Failure::Wrong)
            }
            Outcome::Done => None,
            Outcome::Missing => Some(Failure::Missing),
            Outcome::Failed(failure) => Some(failure),
        };
        slot.failure = slot.failure.or(failure);
        slot.parts_left -= 1;
        if request.kind == OpKind::ReadModifyWrite && token.part() == 0 {
            if slot.failure.is_none() {
                slot.parts_ready = 2;
                self.ready.push_back(token);
                return;
            }
            slot.parts_left = 0;
        }
        if slot.parts_left == 0 {
            let (intended_ns, begun_ns, failure) = (slot.intended_ns, slot.begun_ns, slot.failure);
            self.inflight.end(index);
            source.ended(&request);
            self.account(request.kind, intended_ns, begun_ns, failure, now_ns);
        }
    }

    #[inline]
    fn account(&mut self, kind: OpKind, intended_ns: u64, begun_ns: u64, failure: Option<Failure>, now_ns: u64) {
        self.ended += 1;
        self.failed += u64::from(failure.is_some());
        let warm = intended_ns >= self.warm_ns;
        // A wrong value is a wrong value, during warm-up too.
        if !warm && failure != Some(Failure::Wrong) {
            return;
        }
        let stats = &mut self.stats.kinds[kind as usize];
        match failure {
            Some(failure) => stats.failures[failure as usize] += 1,
            None => {
                stats.latency_ns.saturating_record(now_ns.saturating_sub(intended_ns));
                if self.open {
                    stats.service_ns.saturating_record(now_ns.saturating_sub(begun_ns));
                }
            }
        }
        self.stats.last_end_ns = now_ns;
        self.stats.in_window += u64::from(now_ns <= self.end_ns);
    }

    /// Gives up operations that began before `before_ns`.
    fn give_up<S: Source>(&mut self, source: &mut S, before_ns: u64) {
        let mut from = 0;
        while let Some(index) = self.inflight.overdue(from, before_ns) {
            if let Some(slot) = self.inflight.get(index) {
                let (request, intended_ns) = (slot.request, slot.intended_ns);
                self.inflight.end(index);
                source.ended(&request);
                self.stats.lost += u64::from(intended_ns >= self.warm_ns);
            }
            from = index + 1;
        }
    }
}

/// One thread's state.
pub(super) struct Worker<'a, S, T> {
    source: S,
    target: T,
    plan: Plan,
    ledger: Ledger,
    gauge: &'a Gauge,
    halt: &'a AtomicBool,
    start: Instant,
    timeout_ns: u64,
    key: Vec<u8>,
    value: Vec<u8>,
    /// Operations still to begin after warm-up, when the run stops by count.
    left: u64,
    source_ended: bool,
}

impl<'a, S: Source, T: Target> Worker<'a, S, T> {
    pub(super) fn new(
        source: S,
        target: T,
        plan: Plan,
        gauge: &'a Gauge,
        halt: &'a AtomicBool,
        start: Instant,
    ) -> Self {
        let warm_ns = plan.warmup.as_nanos() as u64;
        let (end_ns, left) = match plan.stop {
            Stop::After(duration) => (warm_ns + duration.as_nanos() as u64, u64::MAX),
            Stop::Ops(ops) => (u64::MAX, ops),
            Stop::SourceEnd => (u64::MAX, u64::MAX),
        };
        let inflight = Inflight::new(plan.window);
        let ledger = Ledger {
            ready: VecDeque::with_capacity(plan.window),
            inflight,
            stats: Stats::new(),
            ended: 0,
            failed: 0,
            verify: plan.verify,
            open: plan.schedule.is_some(),
            warm_ns,
            end_ns,
        };
        Self {
            timeout_ns: plan.op_timeout.as_nanos() as u64,
            source,
            target,
            plan,
            ledger,
            gauge,
            halt,
            start,
            key: Vec::with_capacity(64),
            value: Vec::with_capacity(1_024),
            left,
            source_ended: false,
        }
    }

    /// Runs to the end: until no operation is to begin and all have ended or were given up.
    pub(super) fn run(mut self) -> Result<Stats, TargetError> {
        let sweep_ns = (self.timeout_ns / 8).clamp(1, 10_000_000);
        let mut next_sweep_ns = sweep_ns;
        loop {
            let now = Instant::now();
            let now_ns = self.ns(now);
            let begun = self.begin_due(now_ns);
            let ended = self.poll(now)?;
            if now_ns >= next_sweep_ns {
                self.ledger.give_up(&mut self.source, now_ns.saturating_sub(self.timeout_ns));
                next_sweep_ns = now_ns + sweep_ns;
            }
            self.publish();
            if self.ledger.inflight.len() == 0 && self.is_over(now_ns) {
                break;
            }
            if !begun && !ended {
                self.wait(now_ns);
            }
        }
        if let (Some(schedule), Stop::After(duration)) = (&mut self.plan.schedule, self.plan.stop)
            && !self.halt.load(Ordering::Relaxed)
            && !self.source_ended
        {
            self.ledger.stats.unsent = schedule.skip_until(self.plan.warmup + duration);
        }
        self.ledger.stats.exhausted = self.source_ended;
        Ok(self.ledger.stats)
    }

    fn ns(&self, now: Instant) -> u64 {
        now.duration_since(self.start).as_nanos() as u64
    }

    /// Whether no further operation is to begin. In open loop those that were meant to begin before the end still
    /// do, so that a target that is late at the end is seen to be; but not for longer than an operation may take.
    fn is_over(&self, now_ns: u64) -> bool {
        let ended = now_ns >= self.ledger.end_ns
            && self.plan.schedule.as_ref().is_none_or(|schedule| {
                schedule.peek_ns() >= self.ledger.end_ns || now_ns >= self.ledger.end_ns + self.timeout_ns
            });
        ended || self.source_ended || self.left == 0 || self.halt.load(Ordering::Relaxed)
    }

    /// Submits parts that wait, then begins what is due; says whether anything was submitted.
    fn begin_due(&mut self, mut now_ns: u64) -> bool {
        let mut any = false;
        while let Some(&token) = self.ledger.ready.front() {
            if self.submit_parts(token).is_err() {
                return any;
            }
            self.ledger.ready.pop_front();
            any = true;
        }
        let mut unclocked = 0;
        while !self.ledger.inflight.is_full() && !self.is_over(now_ns) {
            let intended_ns = match &self.plan.schedule {
                None => now_ns,
                Some(schedule) if schedule.peek_ns() <= now_ns.min(self.ledger.end_ns - 1) => schedule.peek_ns(),
                Some(_) => break,
            };
            let request = match self.source.next() {
                Next::Op(request) => request,
                Next::Wait => break,
                Next::End => {
                    self.source_ended = true;
                    break;
                }
            };
            if let Some(schedule) = &mut self.plan.schedule {
                schedule.advance();
            }
            any = true;
            if !self.begin(request, intended_ns, now_ns) {
                break;
            }
            unclocked += 1;
            if unclocked == CLOCK_EVERY {
                unclocked = 0;
                now_ns = self.ns(Instant::now());
            }
        }
        any
    }

    /// Begins one operation in a free slot; false if the target is busy.
    #[inline]
    fn begin(&mut self, request: Request, intended_ns: u64, now_ns: u64) -> bool {
        let parts = match request.kind {
            OpKind::Scan if !self.target.scans() => request.records.min(u16::from(u8::MAX)) as u8,
            OpKind::ReadModifyWrite => 2,
            _ => 1,
        };
        let Some(index) = self.ledger.inflight.begin(request, parts, intended_ns, now_ns) else { return false };
        if request.kind == OpKind::ReadModifyWrite
            && let Some(slot) = self.ledger.inflight.get(index)
        {
            slot.parts_ready = 1;
        }
        self.ledger.stats.begun += 1;
        if intended_ns >= self.ledger.warm_ns {
            self.left -= 1;
        }
        let token = self.ledger.inflight.token(index);
        let taken = self.submit_parts(token).is_ok();
        if !taken {
            self.ledger.ready.push_back(token);
        }
        taken
    }

    /// Submits the parts of an operation that may be; nothing if it is over.
    #[inline]
    fn submit_parts(&mut self, token: Token) -> Result<(), Busy> {
        let Self { source, target, ledger, key, value, .. } = self;
        let Some((_, slot)) = ledger.inflight.find(token) else { return Ok(()) };
        let request = slot.request;
        while slot.parts_submitted < slot.parts_ready {
            let part = slot.parts_submitted;
            let neighbour = if request.kind == OpKind::Scan { u64::from(part) } else { 0 };
            source.key(request.record + neighbour, key);
            let op = match (request.kind, part) {
                (OpKind::Read, _) | (OpKind::ReadModifyWrite, 0) => Op::Read { key },
                (OpKind::Scan, _) if target.scans() => Op::Scan { key, records: request.records },
                (OpKind::Scan, _) => Op::Read { key },
                (OpKind::Update | OpKind::ReadModifyWrite, _) => {
                    source.value(&request, value);
                    Op::Update { key, value }
                }
                (OpKind::Insert, _) => {
                    source.value(&request, value);
                    Op::Insert { key, value }
                }
            };
            target.submit(&op, token.with_part(part).0)?;
            slot.parts_submitted += 1;
        }
        Ok(())
    }

    /// Lets the target work; says whether anything ended.
    fn poll(&mut self, now: Instant) -> Result<bool, TargetError> {
        let Self { source, target, ledger, start, .. } = self;
        let mut any = false;
        // The clock is read when the first operation ends, not before the target received it.
        let mut now_ns = 0;
        let mut unclocked = CLOCK_EVERY;
        target.poll(now, &mut |token, outcome| {
            any = true;
            if unclocked == CLOCK_EVERY {
                unclocked = 0;
                now_ns = start.elapsed().as_nanos() as u64;
            }
            unclocked += 1;
            ledger.part_ended(source, token, outcome, now_ns);
        })?;
        Ok(any)
    }

    fn publish(&self) {
        let stats = &self.ledger.stats;
        let wrong = stats.failures(Failure::Wrong);
        self.gauge.ended.store(self.ledger.ended, Ordering::Relaxed);
        self.gauge.failed.store(self.ledger.failed, Ordering::Relaxed);
        self.gauge.lost.store(stats.lost, Ordering::Relaxed);
        self.gauge.wrong.store(wrong, Ordering::Relaxed);
    }

    fn wait(&self, now_ns: u64) {
        if let Some(schedule) = &self.plan.schedule
            && self.ledger.inflight.len() == 0
            && schedule.peek_ns() > now_ns + SLEEP_NS_MIN
        {
            let until_ns = schedule.peek_ns().min(self.ledger.end_ns);
            std::thread::sleep(Duration::from_nanos(until_ns.saturating_sub(now_ns + SLEEP_SLACK_NS)));
            return;
        }
        match self.plan.idle {
            Idle::Spin => std::hint::spin_loop(),
            Idle::Yield => std::thread::yield_now(),
        }
    }
}
