//! What a run found, for people and programs.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::runner::RunResult;
use crate::target::Failure;
use crate::workload::OpKind;

/// Latency percentiles, microseconds; zero if nothing was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Mean.
    pub mean_us: f64,
    /// Largest.
    pub max_us: f64,
}

impl Latency {
    /// Of a histogram of nanoseconds.
    pub fn of_ns(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            mean_us: histogram.mean() / 1e3,
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

/// One kind of operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindSummary {
    /// Operations that went well.
    pub ok: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Latency from intended start to end of those that went well.
    #[serde(flatten)]
    pub latency: Latency,
}

/// A run's summary. Its JSON has at least `ops_total`, `ops_per_s`, `errors`, `lost`, `p50_us`, `p99_us`, `p999_us`,
/// `sites` and `drops`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// What was run.
    pub workload: String,
    /// Seconds that throughput is measured over.
    pub seconds: f64,
    /// Operations that ended, well or not; losses and warm-up are not in it.
    pub ops_total: u64,
    /// Operations a second.
    pub ops_per_s: f64,
    /// Operations that failed, wrong values included.
    pub errors: u64,
    /// The same by kind of failure; kinds that did not occur are left out.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// Values read that were never written.
    pub wrong: u64,
    /// Operations whose end was not seen in time.
    pub lost: u64,
    /// Ends of operations that had been counted as lost.
    pub late: u64,
    /// Open loop: arrivals that could not be begun, not even late.
    pub unsent: u64,
    /// Latency of all kinds together.
    #[serde(flatten)]
    pub latency: Latency,
    /// By kind of operation; kinds that did not occur are left out.
    pub kinds: BTreeMap<String, KindSummary>,
    /// Operations a second in each interval of the run, warm-up included.
    pub intervals_ops_per_s: Vec<f64>,
    /// Operations, or steps, by the site that ran them; for the caller to fill in.
    pub sites: BTreeMap<String, u64>,
    /// Dropped datagrams and messages by reason; for the caller to fill in.
    pub drops: BTreeMap<String, u64>,
}

impl Summary {
    /// Of a run of `workload`, with `sites` and `drops` empty.
    pub fn new(workload: &str, result: &RunResult) -> Self {
        let stats = &result.stats;
        let errors_by_kind =
            Failure::ALL.into_iter().map(|failure| (failure.name().to_owned(), stats.failures(failure)));
        let kinds = OpKind::ALL.into_iter().map(|kind| {
            let kind_stats = stats.kind(kind);
            let latency = Latency::of_ns(&kind_stats.latency_ns);
            (kind.name().to_owned(), KindSummary { ok: kind_stats.ok(), errors: kind_stats.failed(), latency })
        });
        Self {
            workload: workload.to_owned(),
            seconds: result.measured.as_secs_f64(),
            ops_total: stats.ok() + stats.failed(),
            ops_per_s: result.ops_per_s(),
            errors: stats.failed(),
            errors_by_kind: errors_by_kind.filter(|&(_, count)| count > 0).collect(),
            wrong: stats.failures(Failure::Wrong),
            lost: stats.lost,
            late: stats.late,
            unsent: stats.unsent,
            latency: Latency::of_ns(&stats.latency_ns()),
            kinds: kinds.filter(|(_, kind)| kind.ok + kind.errors > 0).collect(),
            intervals_ops_per_s: result.intervals.iter().map(|interval| interval.ops_per_s).collect(),
            sites: BTreeMap::new(),
            drops: BTreeMap::new(),
        }
    }

    /// Whether every operation ended well and in time.
    pub fn is_clean(&self) -> bool {
        self.errors + self.lost + self.unsent == 0
    }
}

impl fmt::Display for Summary {
    /// A table for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, seconds, ops_total, ops_per_s, errors, wrong, lost, late, unsent, .. } = self;
        writeln!(
            f,
            "workload {workload}: {} ops in {seconds:.2} s, {} ops/s",
            grouped(*ops_total),
            grouped(*ops_per_s as u64)
        )?;
        writeln!(f, "errors {errors} (wrong {wrong}), lost {lost}, late {late}, unsent {unsent}")?;
        writeln!(
            f,
            "{:<18} {:>13} {:>9} {:>10} {:>10} {:>10} {:>10}",
            "", "ok", "errors", "p50 us", "p99 us", "p99.9 us", "max us"
        )?;
        let mut row = |name: &str, ok: u64, errors: u64, latency: &Latency| {
            let Latency { p50_us, p99_us, p999_us, max_us, .. } = latency;
            let ok = grouped(ok);
            writeln!(f, "{name:<18} {ok:>13} {errors:>9} {p50_us:>10.1} {p99_us:>10.1} {p999_us:>10.1} {max_us:>10.1}")
        };
        for (name, kind) in &self.kinds {
            row(name, kind.ok, kind.errors, &kind.latency)?;
        }
        row("all", self.ops_total - self.errors, self.errors, &self.latency)?;
        for (title, counts) in [("errors", &self.errors_by_kind), ("sites", &self.sites), ("drops", &self.drops)] {
            if !counts.is_empty() {
                let counts: Vec<String> =
                    counts.iter().map(|(name, &count)| format!("{name} {}", grouped(count))).collect();
                writeln!(f, "{title}: {}", counts.join(", "))?;
            }
        }
        Ok(())
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::{Interval, Stats};
    use std::time::Duration;

    fn result() -> RunResult {
        let mut stats = Stats::new();
        for us in 1..=1_000 {
            stats.kinds[OpKind::Read as usize].latency_ns.record(us * 1_000).expect("in range");
        }
        stats.kinds[OpKind::Update as usize].failures[Failure::Refused as usize] = 3;
        stats.kinds[OpKind::Read as usize].failures[Failure::Wrong as usize] = 1;
        stats.lost = 2;
        stats.in_window = 1_004;
        let interval = Interval { end: Duration::from_secs(2), ops: 1_004, ops_per_s: 502.0 };
        RunResult { stats, measured: Duration::from_secs(2), intervals: vec![interval] }
    }

    #[test]
    fn json_has_the_promised_fields() {
        let mut summary = Summary::new("B", &result());
        summary.sites.insert("host".into(), 1_000);
        summary.drops.insert("bad-tag".into(), 4);
        let json = serde_json::to_value(&summary).expect("a summary is JSON");
        assert_eq!(json["ops_total"], 1_004);
        assert_eq!(json["ops_per_s"], 502.0);
        assert_eq!((&json["errors"], &json["wrong"], &json["lost"]), (&4.into(), &1.into(), &2.into()));
        assert_eq!(json["errors_by_kind"], serde_json::json!({"refused": 3, "wrong": 1}));
        for (field, expected) in [("p50_us", 500.0), ("p99_us", 990.0), ("p999_us", 999.0)] {
            let value = json[field].as_f64().expect("percentiles are numbers");
            assert!((value / expected - 1.0).abs() < 0.001, "{field}: {value}");
        }
        assert_eq!(json["sites"]["host"], 1_000);
        assert_eq!(json["drops"]["bad-tag"], 4);
        assert_eq!(json["kinds"]["read"]["ok"], 1_000);
        assert_eq!(json["kinds"]["update"]["p50_us"], 0.0);
        assert!(json["kinds"].get("scan").is_none());
        assert!(!summary.is_clean());
        let back: Summary = serde_json::from_value(json).expect("what was written is read");
        assert_eq!(back, summary);
    }

    #[test]
    fn the_table_names_every_kind_once() {
        let text = Summary::new("B", &result()).to_string();
        for word in ["1,004 ops", "502 ops/s", "read ", "update ", "all ", "p99.9 us", "refused 3", "lost 2"] {
            assert_eq!(text.matches(word).count(), 1, "{word:?} in\n{text}");
        }
    }

    #[test]
    fn an_empty_run_is_all_zero() {
        let result = RunResult { stats: Stats::new(), measured: Duration::ZERO, intervals: Vec::new() };
        let summary = Summary::new("C", &result);
        assert_eq!((summary.ops_total, summary.ops_per_s, summary.latency), (0, 0.0, Latency::default()));
    }

    #[test]
    fn thousands_are_apart() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (123_456, "123,456"), (1_234_567, "1,234,567")];
        assert!(cases.iter().all(|&(number, text)| grouped(number) == text));
    }
}
