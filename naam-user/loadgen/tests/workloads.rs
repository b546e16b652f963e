//! The workloads against YCSB's definitions, by their statistics.

use std::collections::HashMap;
use std::sync::Arc;

use naam_loadgen::keyspace::KeySpace;
use naam_loadgen::records::{Records, ValueSize};
use naam_loadgen::source::{Next, Request, Source, WorkloadSource};
use naam_loadgen::workload::{Distribution, OpKind, Workload};
use naam_loadgen::zipf::{SCRAMBLED_ZETA, THETA, fnv64, zeta};

const DRAWS: u64 = 200_000;

fn source(workload: &Workload, loaded: u64, seed: u64, thread: usize) -> WorkloadSource {
    let records = Records::Generated(ValueSize::Constant(100));
    WorkloadSource::new(workload, records, Arc::new(KeySpace::new(loaded)), seed, thread).expect("a core workload")
}

/// Draws with every insert acknowledged at once.
fn draw(source: &mut WorkloadSource, count: u64) -> Vec<Request> {
    let draws = (0..count).map(|_| match source.next() {
        Next::Op(request) => {
            source.ended(&request);
            request
        }
        other => panic!("a workload has no end and nothing to wait for: {other:?}"),
    });
    draws.collect()
}

fn counts(requests: &[Request]) -> HashMap<u64, u64> {
    let mut counts = HashMap::new();
    requests.iter().for_each(|request| *counts.entry(request.record).or_default() += 1);
    counts
}

/// Whether `count` of `draws` fits a probability, within five standard deviations.
fn fits(count: u64, draws: u64, p: f64) -> bool {
    (count as f64 - draws as f64 * p).abs() <= 5.0 * (draws as f64 * p * (1.0 - p)).sqrt() + 1e-9
}

/// Proportions and distributions as in YCSB's files workloada to workloadf.
#[test]
fn kinds_come_in_the_proportions_of_the_definition() {
    let zipfian = Distribution::Zipfian;
    let definitions = [
        ("A", [0.5, 0.5, 0.0, 0.0, 0.0], zipfian),
        ("B", [0.95, 0.05, 0.0, 0.0, 0.0], zipfian),
        ("C", [1.0, 0.0, 0.0, 0.0, 0.0], zipfian),
        ("D", [0.95, 0.0, 0.05, 0.0, 0.0], Distribution::Latest),
        ("E", [0.0, 0.0, 0.05, 0.95, 0.0], zipfian),
        ("F", [0.5, 0.0, 0.0, 0.0, 0.5], zipfian),
    ];
    for (name, shares, distribution) in definitions {
        let workload: Workload = name.parse().expect("a letter from A to F");
        assert_eq!(workload.distribution, distribution, "workload {name}");
        let requests = draw(&mut source(&workload, 10_000, 1, 0), DRAWS);
        for (kind, share) in OpKind::ALL.into_iter().zip(shares) {
            let count = requests.iter().filter(|request| request.kind == kind).count() as u64;
            assert!(fits(count, DRAWS, share), "workload {name}: {count} of {DRAWS} are {}", kind.name());
        }
    }
}

/// The hottest records are those whose ranks are 0 and 1, where FNV scatters them, as often as Zipf's law over 10^10
/// items says.
#[test]
fn zipfian_heads_are_where_and_as_often_as_in_ycsb() {
    let loaded = 1_000_000;
    let requests = draw(&mut source(&Workload::c(), loaded, 3, 0), DRAWS);
    let counts = counts(&requests);
    for rank in 0..2u64 {
        let record = fnv64(rank) % loaded;
        let p = ((rank + 1) as f64).powf(-THETA) / SCRAMBLED_ZETA;
        assert!(fits(counts[&record], DRAWS, p), "rank {rank}: {} of {DRAWS}, law {p}", counts[&record]);
    }
    let mut most: Vec<(u64, u64)> = counts.into_iter().map(|(record, count)| (count, record)).collect();
    most.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!((most[0].1, most[1].1), (fnv64(0) % loaded, fnv64(1) % loaded));
    // Scattered: the hundred hottest lie in all tenths of the records.
    let mut tenths = [0; 10];
    most[..100].iter().for_each(|&(_, record)| tenths[(record * 10 / loaded) as usize] += 1);
    assert!(tenths.iter().all(|&count| count > 0), "{tenths:?}");
}

#[test]
fn uniform_reaches_all_records_alike() {
    let workload = Workload { distribution: Distribution::Uniform, ..Workload::c() };
    let counts = counts(&draw(&mut source(&workload, 100, 5, 0), DRAWS));
    let expected = DRAWS as f64 / 100.0;
    let chi2: f64 = (0..100).map(|record| (counts[&record] as f64 - expected).powi(2) / expected).sum();
    assert!(chi2 < 148.2, "chi-square with 99 degrees of freedom, p = 0.001: {chi2}");
}

/// D: the newest record is the hottest, and newness is counted from the inserts.
#[test]
fn latest_follows_the_inserts() {
    let loaded = 1_000;
    let requests = draw(&mut source(&Workload::d(), loaded, 7, 0), DRAWS);
    let mut exist = loaded;
    let mut by_age = [0u64; 3];
    for request in &requests {
        if request.kind == OpKind::Insert {
            assert_eq!(request.record, exist, "records are inserted in order");
            exist += 1;
            continue;
        }
        assert!(request.record < exist, "only records that exist are read");
        if let Some(count) = by_age.get_mut((exist - 1 - request.record) as usize) {
            *count += 1;
        }
    }
    assert!(exist > loaded + DRAWS / 25, "{exist} records at the end");
    // The set grew, and zeta with it: the shares lie between the law's at the end and at the beginning.
    let reads = (requests.len() as u64 - (exist - loaded)) as f64;
    for (age, weight) in [1.0, 2f64.powf(-THETA)].into_iter().enumerate() {
        let share = by_age[age] as f64 / reads;
        let (end, beginning) = (weight / zeta(exist, THETA), weight / zeta(loaded, THETA));
        assert!((end * 0.97..=beginning * 1.03).contains(&share), "age {age}: {share}, law {end} to {beginning}");
    }
    assert!(by_age[0] > by_age[1] && by_age[1] > by_age[2]);
}

#[test]
fn scan_lengths_are_uniform_from_1_to_100() {
    let requests = draw(&mut source(&Workload::e(), 1_000_000, 9, 0), DRAWS);
    let lengths: Vec<u16> =
        requests.iter().filter(|request| request.kind == OpKind::Scan).map(|request| request.records).collect();
    assert!(lengths.iter().all(|length| (1..=100).contains(length)));
    for length in 1..=100 {
        let count = lengths.iter().filter(|&&other| other == length).count() as u64;
        assert!(fits(count, lengths.len() as u64, 0.01), "{count} scans of {length} records");
    }
}

#[test]
fn scans_end_with_the_last_record() {
    let requests =
        draw(&mut source(&Workload { shares: [0.0, 0.0, 0.0, 1.0, 0.0], ..Workload::e() }, 50, 9, 0), 10_000);
    assert!(requests.iter().all(|request| request.record + u64::from(request.records) <= 50));
}

/// E draws over more records than exist; those that do not are drawn again, and the hot ones stay hot as they grow.
#[test]
fn zipfian_with_inserts_reads_only_what_exists() {
    let workload = Workload { inserts_expected: Some(2_000), ..Workload::e() };
    let mut exist = 1_000;
    for request in draw(&mut source(&workload, 1_000, 13, 0), 20_000) {
        match request.kind {
            OpKind::Insert => exist += 1,
            _ => assert!(request.record < exist),
        }
    }
    assert!(exist > 1_800);
}

#[test]
fn streams_are_repeatable_and_threads_differ() {
    for name in ["A", "B", "C", "D", "E", "F"] {
        let workload: Workload = name.parse().expect("a letter from A to F");
        let run = |seed, thread| draw(&mut source(&workload, 5_000, seed, thread), 2_000);
        assert_eq!(run(1, 0), run(1, 0), "workload {name}");
        assert_ne!(run(1, 0), run(2, 0), "workload {name}, another seed");
        let records = |requests: Vec<Request>| requests.into_iter().map(|request| request.record).collect::<Vec<_>>();
        assert_ne!(records(run(1, 0)), records(run(1, 1)), "workload {name}, another thread");
    }
}

#[test]
fn no_version_is_written_twice() {
    let mut versions: Vec<u64> = (0..4)
        .flat_map(|thread| draw(&mut source(&Workload::a(), 1_000, 1, thread), 10_000))
        .filter(|request| request.kind == OpKind::Update)
        .map(|request| request.version)
        .collect();
    let all = versions.len();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), all);
    assert!(!versions.contains(&0), "version 0 is the one loaded");
}
