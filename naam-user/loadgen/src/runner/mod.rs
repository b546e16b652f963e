//! Runs a workload against targets: closed loop (a window of operations always in flight) or open loop (operations
//! begin on a schedule, whatever the target does).
//!
//! Latency runs from the *intended* start of an operation to its end. In open loop an operation that could not
//! begin in time, because the target stalled, has waited all the same: coordinated omission does not hide it.

mod inflight;
mod schedule;
mod stats;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

pub use inflight::WINDOW_MAX;
pub use schedule::{Arrivals, Schedule};
pub use stats::{KindStats, LATENCY_DIGITS, LATENCY_NS_MAX, Stats, latency_histogram};

use crate::source::Source;
use crate::target::{Target, TargetError};
use worker::{Gauge, Plan, Worker};

/// When operations begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// Each thread keeps `window` operations in flight: the end of one begins the next.
    Closed {
        /// Operations in flight per thread, 1 to [`WINDOW_MAX`].
        window: usize,
    },
    /// Operations begin on a schedule.
    Open {
        /// Operations a second, all threads together.
        ops_per_s: f64,
        /// Law of the arrivals.
        arrivals: Arrivals,
        /// Operations in flight per thread, at most; those beyond wait, with their intended time kept.
        window: usize,
    },
}

/// When no further operation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// So long after warm-up.
    After(Duration),
    /// After so many operations, all threads together, warm-up not counted.
    Ops(u64),
    /// When the sources have no more.
    SourceEnd,
}

/// What a thread does when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Polls again at once: for a core of its own.
    Spin,
    /// Lets other threads of the core run first.
    Yield,
}

/// How to run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunConfig {
    /// Threads, each with its own source and target.
    pub threads: usize,
    /// When operations begin.
    pub load: Load,
    /// Operations that are meant to begin before this are not counted (a wrong value is).
    pub warmup: Duration,
    /// When no further operation begins.
    pub stop: Stop,
    /// An operation whose end is not seen for so long is lost.
    pub op_timeout: Duration,
    /// Time between two calls of the progress callback, and length of the intervals of throughput.
    pub interval: Duration,
    /// Whether every value read is checked.
    pub verify: bool,
    /// What a thread does when there is nothing to do.
    pub idle: Idle,
    /// Seed of the arrivals.
    pub seed: u64,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            threads: 1,
            load: Load::Closed { window: 32 },
            warmup: Duration::ZERO,
            stop: Stop::SourceEnd,
            op_timeout: Duration::from_secs(2),
            interval: Duration::from_secs(1),
            verify: true,
            idle: Idle::Yield,
            seed: 1,
        }
    }
}

impl RunConfig {
    fn validate(&self) -> Result<(), RunError> {
        let refuse = |what: String| Err(RunError::Config(what));
        let window = match self.load {
            Load::Closed { window } => window,
            Load::Open { ops_per_s, window, .. } => {
                if !(ops_per_s.is_finite() && ops_per_s > 0.0) {
                    return refuse(format!("a rate of {ops_per_s} operations a second: give a number above 0"));
                }
                window
            }
        };
        if !(1..=WINDOW_MAX).contains(&window) {
            return refuse(format!("a window of {window} operations: give 1 to {WINDOW_MAX}"));
        }
        if self.threads == 0 {
            return refuse("no threads: give at least 1".into());
        }
        if self.op_timeout.is_zero() || self.interval.is_zero() {
            return refuse("an operation timeout or interval of zero: give at least a millisecond".into());
        }
        Ok(())
    }

    fn plan(&self, thread: usize) -> Plan {
        let (schedule, window) = match self.load {
            Load::Closed { window } => (None, window),
            Load::Open { ops_per_s, arrivals, window } => {
                (Some(Schedule::new(arrivals, ops_per_s, thread, self.threads, self.seed)), window)
            }
        };
        let stop = match self.stop {
            Stop::Ops(ops) => {
                let (threads, thread) = (self.threads as u64, thread as u64);
                Stop::Ops(ops / threads + u64::from(thread < ops % threads))
            }
            other => other,
        };
        Plan {
            schedule,
            window,
            warmup: self.warmup,
            stop,
            op_timeout: self.op_timeout,
            verify: self.verify,
            idle: self.idle,
        }
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be run.
    #[error("the run cannot begin with {0}")]
    Config(String),
    /// A thread's source or target could not be made.
    #[error("setting up load thread {thread} failed: {source}")]
    Setup {
        /// The thread.
        thread: usize,
        /// Why.
        source: TargetError,
    },
    /// A target broke down; the run was ended.
    #[error("the target of load thread {thread} broke down: {source}")]
    Target {
        /// The thread.
        thread: usize,
        /// Why.
        source: TargetError,
    },
}

/// How a run is going.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Time since the run began.
    pub elapsed: Duration,
    /// Whether warm-up is over.
    pub warm: bool,
    /// Operations ended, warm-up included.
    pub ended: u64,
    /// Operations that ended since the last call, a second.
    pub ops_per_s: f64,
    /// Operations that failed.
    pub failed: u64,
    /// Operations that were lost.
    pub lost: u64,
    /// Values read that were wrong.
    pub wrong: u64,
}

/// Throughput of one interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its end, since the run began.
    pub end: Duration,
    /// Operations that ended in it.
    pub ops: u64,
    /// The same a second.
    pub ops_per_s: f64,
}

/// What a run found.
#[derive(Debug, Clone)]
pub struct RunResult {
    /// Counts of all threads.
    pub stats: Stats,
    /// Time that throughput is measured over: from the end of warm-up until the run's end, or the end of the last
    /// operation if the run stopped by count.
    pub measured: Duration,
    /// Throughput over time, warm-up included.
    pub intervals: Vec<Interval>,
}

impl RunResult {
    /// Operations a second, failed ones included.
    pub fn ops_per_s(&self) -> f64 {
        if self.measured.is_zero() { 0.0 } else { self.stats.in_window as f64 / self.measured.as_secs_f64() }
    }
}

/// Runs. `build` makes the source and target of a thread, in that thread; `progress` is called every
/// [`RunConfig::interval`] in the calling thread and ends the run early by returning false.
pub fn run<S, T>(
    config: &RunConfig,
    build: impl Fn(usize) -> Result<(S, T), TargetError> + Sync,
    progress: &mut dyn FnMut(&Progress) -> bool,
) -> Result<RunResult, RunError>
where
    S: Source,
    T: Target,
{
    config.validate()?;
    let gauges: Vec<Gauge> = (0..config.threads).map(|_| Gauge::default()).collect();
    let halt = AtomicBool::new(false);
    let ready = Barrier::new(config.threads + 1);
    let go = Barrier::new(config.threads + 1);
    let start = OnceLock::new();
    let (sender, receiver) = mpsc::channel();

    std::thread::scope(|scope| {
        for (thread, gauge) in gauges.iter().enumerate() {
            let (build, ready, go, start, halt) = (&build, &ready, &go, &start, &halt);
            let sender = sender.clone();
            scope.spawn(move || {
                // Whatever `build` does, this thread reaches both barriers, or the others would wait for ever.
                let built = build(thread).map_err(|source| RunError::Setup { thread, source });
                if built.is_err() {
                    halt.store(true, Ordering::Relaxed);
                }
                ready.wait();
                go.wait();
                let start = *start.get_or_init(Instant::now);
                let result = built.and_then(|(source, target)| {
                    Worker::new(source, target, config.plan(thread), gauge, halt, start)
                        .run()
                        .map_err(|source| RunError::Target { thread, source })
                });
                if result.is_err() {
                    halt.store(true, Ordering::Relaxed);
                }
                // The receiver lives until all threads have sent.
                let _ = sender.send(result);
            });
        }
        drop(sender);
        ready.wait();
        let start = *start.get_or_init(Instant::now);
        go.wait();
        collect(config, start, &gauges, &halt, &receiver, progress)
    })
}

/// Waits for the workers, reporting meanwhile.
fn collect(
    config: &RunConfig,
    start: Instant,
    gauges: &[Gauge],
    halt: &AtomicBool,
    results: &mpsc::Receiver<Result<Stats, RunError>>,
    progress: &mut dyn FnMut(&Progress) -> bool,
) -> Result<RunResult, RunError> {
    let mut stats = Stats::new();
    let mut failure = None;
    let mut intervals: Vec<Interval> = Vec::new();
    let mut next = start + config.interval;
    let mut halted = false;
    loop {
        match results.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Ok(part)) => stats.add(&part),
            // The first failure is the cause; others may follow from it.
            Ok(Err(error)) => failure = failure.or(Some(error)),
            Err(RecvTimeoutError::Timeout) => {
                let now = measure(config, start, gauges, &mut intervals);
                next += config.interval;
                if !progress(&now) {
                    halted = true;
                    halt.store(true, Ordering::Relaxed);
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    measure(config, start, gauges, &mut intervals);
    let last_end = Duration::from_nanos(stats.last_end_ns).saturating_sub(config.warmup);
    let measured = match config.stop {
        Stop::After(duration) if !halted && !stats.exhausted => duration,
        _ => last_end,
    };
    Ok(RunResult { stats, measured, intervals })
}

/// Closes an interval.
fn measure(config: &RunConfig, start: Instant, gauges: &[Gauge], intervals: &mut Vec<Interval>) -> Progress {
    let sum = |field: fn(&Gauge) -> &std::sync::atomic::AtomicU64| {
        gauges.iter().map(|gauge| field(gauge).load(Ordering::Relaxed)).sum::<u64>()
    };
    let elapsed = start.elapsed();
    let ended = sum(|gauge| &gauge.ended);
    let ops = ended - intervals.iter().map(|interval| interval.ops).sum::<u64>();
    let length = elapsed.saturating_sub(intervals.last().map_or(Duration::ZERO, |interval| interval.end));
    let ops_per_s = ops as f64 / length.as_secs_f64().max(1e-9);
    intervals.push(Interval { end: elapsed, ops, ops_per_s });
    Progress {
        elapsed,
        warm: elapsed >= config.warmup,
        ended,
        ops_per_s,
        failed: sum(|gauge| &gauge.failed),
        lost: sum(|gauge| &gauge.lost),
        wrong: sum(|gauge| &gauge.wrong),
    }
}
