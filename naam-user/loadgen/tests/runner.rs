//! The runner against the mock: accounting, latency from intended times, faults.

use std::sync::Arc;
use std::time::{Duration, Instant};

use naam_loadgen::keyspace::KeySpace;
use naam_loadgen::mock::{Faults, Mock, Store};
use naam_loadgen::records::{Records, ValueSize};
use naam_loadgen::runner::{Arrivals, Idle, Load, RunConfig, RunError, RunResult, Stop, run};
use naam_loadgen::source::{SweepSource, WorkloadSource};
use naam_loadgen::target::Failure;
use naam_loadgen::workload::{OpKind, Workload};

const RECORDS: u64 = 1_000;
const NO_LATENCY: Duration = Duration::ZERO;

fn records() -> Records {
    Records::Generated(ValueSize::Constant(64))
}

fn loaded_store() -> Store {
    let store = Store::default();
    let config = RunConfig { load: Load::Closed { window: 16 }, ..RunConfig::default() };
    let build = |_| Ok((SweepSource::load(records(), RECORDS, 0, 1), Mock::new(store.clone(), NO_LATENCY)));
    let result = run(&config, build, &mut |_| true).expect("the mock takes every record");
    assert_eq!(result.stats.kind(OpKind::Insert).ok(), RECORDS);
    assert_eq!(store.lock().expect("no thread panicked").len() as u64, RECORDS);
    store
}

fn drive(config: &RunConfig, workload: &Workload, store: &Store, mock: impl Fn(Store) -> Mock + Sync) -> RunResult {
    let space = Arc::new(KeySpace::new(RECORDS));
    let build = |thread| {
        let source = WorkloadSource::new(workload, records(), space.clone(), 7, thread)?;
        Ok((source, mock(store.clone())))
    };
    run(config, build, &mut |_| true).expect("the mock does not break down")
}

fn count(ops: u64) -> RunConfig {
    RunConfig { stop: Stop::Ops(ops), ..RunConfig::default() }
}

fn faulty(store: Store, faults: Faults) -> Mock {
    Mock::new(store, NO_LATENCY).with_faults(faults)
}

#[test]
fn all_workloads_run_without_a_failure() {
    let store = loaded_store();
    for letter in ["A", "B", "C", "D", "E", "F"] {
        let workload: Workload = letter.parse().expect("a letter from A to F");
        let config = RunConfig { threads: 2, ..count(5_001) };
        let result = drive(&config, &workload, &store, |store| Mock::new(store, NO_LATENCY));
        let stats = &result.stats;
        assert_eq!((stats.ok(), stats.failed(), stats.lost, stats.late), (5_001, 0, 0, 0), "workload {letter}");
        assert_eq!(stats.begun, 5_001);
        for kind in OpKind::ALL {
            let share = stats.kind(kind).ok() as f64 / 5_001.0;
            assert!((share - workload.share(kind)).abs() < 0.03, "workload {letter}, {}: {share}", kind.name());
        }
    }
}

#[test]
fn every_record_is_read_back_by_threads() {
    let store = loaded_store();
    let config = RunConfig { threads: 3, ..RunConfig::default() };
    let build =
        |thread| Ok((SweepSource::read_back(records(), RECORDS, thread, 3), Mock::new(store.clone(), NO_LATENCY)));
    let result = run(&config, build, &mut |_| true).expect("the mock does not break down");
    assert_eq!((result.stats.kind(OpKind::Read).ok(), result.stats.failed()), (RECORDS, 0));

    let (key, _) =
        store.lock().expect("no thread panicked").iter().next().map(|(k, v)| (k.clone(), v.clone())).unwrap();
    store.lock().expect("no thread panicked").remove(&key);
    let result = run(&config, build, &mut |_| true).expect("the mock does not break down");
    assert_eq!(result.stats.failures(Failure::Missing), 1);
    assert_eq!(result.stats.ok(), RECORDS - 1);
}

/// One thread, window 8, latency 5 ms: 8 operations every 5 ms are 1,600 a second.
#[test]
fn closed_loop_throughput_is_window_over_latency() {
    let store = loaded_store();
    let config = RunConfig {
        load: Load::Closed { window: 8 },
        warmup: Duration::from_millis(50),
        stop: Stop::After(Duration::from_millis(500)),
        interval: Duration::from_millis(100),
        ..RunConfig::default()
    };
    let result = drive(&config, &Workload::b(), &store, |store| Mock::new(store, Duration::from_millis(5)));
    assert_eq!(result.measured, Duration::from_millis(500));
    let rate = result.ops_per_s();
    assert!((400.0..=1_700.0).contains(&rate), "{rate} operations a second");
    let p50_ms = result.stats.latency_ns().value_at_quantile(0.5) as f64 / 1e6;
    assert!((4.9..20.0).contains(&p50_ms), "p50 {p50_ms} ms");
    assert!(result.intervals.len() >= 5);
    let in_intervals: u64 = result.intervals.iter().map(|interval| interval.ops).sum();
    assert_eq!(in_intervals, result.stats.begun);
}

#[test]
fn warm_up_is_left_out() {
    let store = loaded_store();
    let config = RunConfig {
        load: Load::Open { ops_per_s: 2_000.0, arrivals: Arrivals::Constant, window: 1_000 },
        warmup: Duration::from_millis(200),
        stop: Stop::After(Duration::from_millis(300)),
        ..RunConfig::default()
    };
    let result = drive(&config, &Workload::c(), &store, |store| Mock::new(store, NO_LATENCY));
    assert_eq!(result.stats.begun, 1_000, "0.5 s at 2,000 a second");
    assert_eq!(result.stats.ok(), 600, "0.3 s of them are counted");
    assert_eq!(result.stats.unsent, 0);
}

fn stalled(load: Load) -> RunResult {
    let store = loaded_store();
    let faults = Faults { stall: Some((Duration::from_millis(200), Duration::from_millis(100))), ..Faults::default() };
    let config = RunConfig { load, stop: Stop::After(Duration::from_secs(1)), ..RunConfig::default() };
    drive(&config, &Workload::c(), &store, |store| faulty(store, faults))
}

/// 100 ms of stall in one second at a constant rate: a tenth of the arrivals meet it and wait 50 ms in the mean.
/// The operations that were never begun because the window was full count as well.
#[test]
fn a_stall_shows_in_open_loop() {
    let result = stalled(Load::Open { ops_per_s: 2_000.0, arrivals: Arrivals::Constant, window: 4 });
    let latency = result.stats.latency_ns();
    assert_eq!(latency.len(), 2_000, "every arrival was performed");
    let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1e6;
    // Lower bounds hold however busy the machine is; the median says that it was the stall.
    assert!(ms(0.999) >= 95.0, "p99.9 {} ms", ms(0.999));
    assert!(ms(0.95) >= 30.0, "p95 {} ms", ms(0.95));
    assert!(ms(0.5) < 30.0, "p50 {} ms", ms(0.5));
    // Measured from the true start only the window's four would have seen it: the omission that is avoided.
    let service = &result.stats.kind(OpKind::Read).service_ns;
    assert_eq!(service.len(), 2_000);
    assert!(service.value_at_quantile(0.99) < 80_000_000);
}

#[test]
fn closed_loop_hides_the_same_stall() {
    let result = stalled(Load::Closed { window: 4 });
    let p999_ms = result.stats.latency_ns().value_at_quantile(0.999) as f64 / 1e6;
    assert!(p999_ms < 90.0, "p99.9 {p999_ms} ms");
    assert!(result.stats.latency_ns().max() >= 10_000_000, "the four that were in flight did meet it");
}

#[test]
fn swallowed_operations_are_lost_and_nothing_else() {
    let store = loaded_store();
    let config = RunConfig { op_timeout: Duration::from_millis(50), ..count(1_000) };
    let faults = Faults { swallow_every: Some(100), ..Faults::default() };
    let result = drive(&config, &Workload::a(), &store, |store| faulty(store, faults));
    assert_eq!((result.stats.lost, result.stats.ok(), result.stats.late), (10, 990, 0));
}

/// An answer after the timeout belongs to no operation: the slot's next one is not ended by it.
#[test]
fn answers_to_lost_operations_are_late() {
    let store = loaded_store();
    let config = RunConfig {
        load: Load::Closed { window: 2 },
        op_timeout: Duration::from_millis(20),
        stop: Stop::After(Duration::from_millis(300)),
        ..RunConfig::default()
    };
    let result = drive(&config, &Workload::c(), &store, |store| Mock::new(store, Duration::from_millis(60)));
    assert_eq!(result.stats.ok(), 0);
    assert!(result.stats.lost >= 10, "{} lost", result.stats.lost);
    assert!(result.stats.late > 0 && result.stats.late < result.stats.lost, "{} late", result.stats.late);
}

#[test]
fn repeated_answers_are_late_not_counted() {
    let store = loaded_store();
    let faults = Faults { repeat_every: Some(10), ..Faults::default() };
    let result = drive(&count(1_000), &Workload::c(), &store, |store| faulty(store, faults));
    assert_eq!((result.stats.ok(), result.stats.late), (1_000, 100));
}

#[test]
fn failures_are_counted_by_kind() {
    let store = loaded_store();
    let faults = Faults { refuse_every: Some(10), corrupt_every: Some(7), ..Faults::default() };
    let result = drive(&count(700), &Workload::c(), &store, |store| faulty(store, faults));
    // Every 70th is refused, and so has no value to corrupt.
    assert_eq!(result.stats.failures(Failure::Refused), 70);
    assert_eq!(result.stats.failures(Failure::Wrong), 90);
    assert_eq!(result.stats.ok(), 540);
    assert_eq!(result.stats.failed(), 160);

    let unverified = RunConfig { verify: false, ..count(700) };
    let result = drive(&unverified, &Workload::c(), &store, |store| faulty(store, faults));
    assert_eq!((result.stats.failures(Failure::Wrong), result.stats.ok()), (0, 630));
}

#[test]
fn a_busy_target_gets_every_operation_once() {
    let store = loaded_store();
    let config = RunConfig { load: Load::Closed { window: 64 }, idle: Idle::Spin, ..count(3_000) };
    for workload in [Workload::a(), Workload::e(), Workload::f()] {
        let result = drive(&config, &workload, &store, |store| Mock::new(store, NO_LATENCY).with_capacity(3));
        assert_eq!((result.stats.ok(), result.stats.failed(), result.stats.late), (3_000, 0, 0), "{}", workload.name);
    }
}

/// Two in flight, 100 ms each: of some 300 arrivals in 300 ms a handful begins, four of them after the end.
#[test]
fn arrivals_that_never_begin_are_unsent() {
    let store = loaded_store();
    let config = RunConfig {
        load: Load::Open { ops_per_s: 1_000.0, arrivals: Arrivals::Poisson, window: 2 },
        stop: Stop::After(Duration::from_millis(300)),
        op_timeout: Duration::from_millis(200),
        ..RunConfig::default()
    };
    let result = drive(&config, &Workload::c(), &store, |store| Mock::new(store, Duration::from_millis(100)));
    let stats = &result.stats;
    assert!((1..=12).contains(&stats.begun), "{} begun", stats.begun);
    assert!((200..400).contains(&(stats.unsent + stats.begun)), "{} unsent", stats.unsent);
    assert_eq!(stats.ok() + stats.lost, stats.begun);
}

#[test]
fn the_callback_sees_progress_and_may_end_the_run() {
    let store = loaded_store();
    let config = RunConfig {
        stop: Stop::After(Duration::from_secs(60)),
        interval: Duration::from_millis(50),
        ..RunConfig::default()
    };
    let space = Arc::new(KeySpace::new(RECORDS));
    let build = |thread| {
        let source = WorkloadSource::new(&Workload::b(), records(), space.clone(), 7, thread)?;
        Ok((source, Mock::new(store.clone(), Duration::from_millis(1))))
    };
    let began = Instant::now();
    let mut ended = Vec::new();
    let result = run(&config, build, &mut |progress| {
        ended.push(progress.ended);
        ended.len() < 4
    });
    let result = result.expect("the mock does not break down");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(ended.windows(2).all(|pair| pair[0] < pair[1]), "{ended:?}");
    assert_eq!(result.stats.ok(), result.stats.begun);
    assert!(result.measured < Duration::from_secs(10) && result.ops_per_s() > 0.0);
}

#[test]
fn breakdowns_and_failed_setups_end_the_run() {
    let store = loaded_store();
    let config = RunConfig { threads: 2, stop: Stop::After(Duration::from_secs(60)), ..RunConfig::default() };
    let space = Arc::new(KeySpace::new(RECORDS));
    let source = |thread| WorkloadSource::new(&Workload::b(), records(), space.clone(), 7, thread);
    let result = run(
        &config,
        |thread| {
            let break_after = (thread == 1).then_some(100);
            Ok((source(thread)?, faulty(store.clone(), Faults { break_after, ..Faults::default() })))
        },
        &mut |_| true,
    );
    assert!(matches!(result, Err(RunError::Target { thread: 1, .. })), "{result:?}");

    let result = run(
        &config,
        |thread| {
            let source = source(thread)?;
            if thread == 0 { Err("no such server".into()) } else { Ok((source, Mock::new(store.clone(), NO_LATENCY))) }
        },
        &mut |_| true,
    );
    let error = result.expect_err("thread 0 has no target");
    assert_eq!(error.to_string(), "setting up load thread 0 failed: no such server");
}

#[test]
fn impossible_configurations_are_refused() {
    let bad = [
        RunConfig { threads: 0, ..count(1) },
        RunConfig { load: Load::Closed { window: 0 }, ..count(1) },
        RunConfig { load: Load::Open { ops_per_s: 0.0, arrivals: Arrivals::Poisson, window: 1 }, ..count(1) },
        RunConfig { op_timeout: Duration::ZERO, ..count(1) },
    ];
    for config in bad {
        let build = |_| Ok((SweepSource::load(records(), 1, 0, 1), Mock::new(Store::default(), NO_LATENCY)));
        let result = run(&config, build, &mut |_| true);
        assert!(matches!(result, Err(RunError::Config(_))), "{config:?}");
    }
}
