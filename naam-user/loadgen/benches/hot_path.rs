//! What the load generator itself costs per operation: source, slots, histograms and accounts, against a target
//! that answers at once. `cargo bench -p naam-loadgen`. CPU time, not wall time: what else the machine runs is left
//! out as far as the kernel can tell.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use naam_loadgen::keyspace::KeySpace;
use naam_loadgen::records::{Records, ValueSize};
use naam_loadgen::report::bench::{Bench, table};
use naam_loadgen::runner::{Idle, Load, RunConfig, Stop, run};
use naam_loadgen::source::{Next, Source, WorkloadSource};
use naam_loadgen::target::{Busy, Op, Outcome, Target, TargetError};
use naam_loadgen::workload::Workload;
use rustix::time::{ClockId, clock_gettime};

const RECORDS: u64 = 1_000_000;
const OPS: u64 = 2_000_000;
const VALUE: ValueSize = ValueSize::Constant(100);

/// Answers everything at the next poll.
struct Instantly {
    tokens: Vec<u64>,
}

impl Target for Instantly {
    #[inline]
    fn submit(&mut self, op: &Op<'_>, token: u64) -> Result<(), Busy> {
        std::hint::black_box(op);
        self.tokens.push(token);
        Ok(())
    }

    #[inline]
    fn poll(&mut self, _now: Instant, done: &mut dyn FnMut(u64, Outcome<'_>)) -> Result<(), TargetError> {
        self.tokens.drain(..).for_each(|token| done(token, Outcome::Done));
        Ok(())
    }
}

/// CPU time of this process so far, nanoseconds.
fn cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn source(workload: &Workload) -> WorkloadSource {
    let space = Arc::new(KeySpace::new(RECORDS));
    WorkloadSource::new(workload, Records::Generated(VALUE), space, 1, 0).expect("the core workloads are valid")
}

/// Nanoseconds per operation of the source alone: kind, record, key, and the value of a write.
fn source_ns(workload: &Workload) -> f64 {
    let mut source = source(workload);
    let (mut key, mut value) = (Vec::with_capacity(64), Vec::with_capacity(1_024));
    let start = cpu_ns();
    for _ in 0..OPS {
        let Next::Op(request) = source.next() else { break };
        source.key(request.record, &mut key);
        if request.version > 0 {
            source.value(&request, &mut value);
        }
        std::hint::black_box((&key, &value));
        source.ended(&request);
    }
    (cpu_ns() - start) / OPS as f64
}

/// Nanoseconds per operation of a whole run with 32 operations in flight.
fn run_ns(workload: &Workload) -> f64 {
    let config = RunConfig {
        load: Load::Closed { window: 32 },
        stop: Stop::Ops(OPS),
        interval: Duration::from_secs(60),
        idle: Idle::Spin,
        ..RunConfig::default()
    };
    let build = |_| Ok((source(workload), Instantly { tokens: Vec::with_capacity(64) }));
    let start = cpu_ns();
    let result = run(&config, build, &mut |_| true).expect("the target does not break down");
    assert_eq!(result.stats.ok(), OPS);
    (cpu_ns() - start) / OPS as f64
}

fn main() {
    let mut rows = Vec::new();
    for workload in [Workload::a(), Workload::b(), Workload::c(), Workload::d(), Workload::f()] {
        let bench =
            Bench::new(&format!("loadgen.{}", workload.name.to_lowercase()), "run, against its source", "ns/op");
        let mut source = || Ok::<_, Infallible>(source_ns(&workload));
        let row = bench.paired(&mut source, &mut || Ok(run_ns(&workload)));
        rows.push(row.expect("the measurements do not fail"));
    }
    print!("{}", table(&rows));
}
