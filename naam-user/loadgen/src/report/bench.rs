//! Paired benches: a candidate and its baseline measured in turns, in the same process, so that what else the
//! machine does hits both.

use std::io;

use serde::{Deserialize, Serialize};

/// One line of a bench report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured, such as "mica.get.hot".
    pub name: String,
    /// Which property, such as "time per message".
    pub metric: String,
    /// Median of the runs.
    pub value: f64,
    /// Unit of `value`, `min`, `max` and `baseline`.
    pub unit: String,
    /// Runs of the candidate (and of the baseline).
    pub runs: usize,
    /// Smallest run.
    pub min: f64,
    /// Largest run.
    pub max: f64,
    /// Median of the baseline's runs, if there is a baseline.
    pub baseline: Option<f64>,
    /// Median over the pairs of candidate to baseline: what slows both for a while does not move it.
    pub ratio: Option<f64>,
}

/// A bench: a name, a metric, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Bench {
    name: String,
    metric: String,
    unit: String,
    runs: usize,
}

/// Why a bench has no row.
#[derive(Debug, thiserror::Error)]
pub enum BenchError<E: std::error::Error> {
    /// A measurement failed.
    #[error("bench {name}, run {run} of {what}: {source}")]
    Measure {
        /// The bench.
        name: String,
        /// The run, from 1.
        run: usize,
        /// "candidate" or "baseline".
        what: &'static str,
        /// Why.
        source: E,
    },
    /// A measurement is not a number above zero.
    #[error("bench {name}, run {run} of {what}: measured {value}, not a number above 0")]
    Value {
        /// The bench.
        name: String,
        /// The run, from 1.
        run: usize,
        /// "candidate" or "baseline".
        what: &'static str,
        /// What was measured.
        value: f64,
    },
}

impl Bench {
    /// A bench of 5 runs.
    pub fn new(name: &str, metric: &str, unit: &str) -> Self {
        Self { name: name.into(), metric: metric.into(), unit: unit.into(), runs: 5 }
    }

    /// With this many runs, at least 1.
    pub fn runs(mut self, runs: usize) -> Self {
        self.runs = runs.max(1);
        self
    }

    /// Measures the candidate alone. The first run warms up and is thrown away.
    pub fn alone<E: std::error::Error>(
        &self,
        candidate: &mut dyn FnMut() -> Result<f64, E>,
    ) -> Result<Row, BenchError<E>> {
        self.measure(0, "candidate", candidate)?;
        let mut values = Vec::with_capacity(self.runs);
        for run in 1..=self.runs {
            values.push(self.measure(run, "candidate", candidate)?);
        }
        Ok(self.row(values, None))
    }

    /// Measures baseline and candidate in turns: A B A B. The first pair warms up and is thrown away.
    pub fn paired<E: std::error::Error>(
        &self,
        baseline: &mut dyn FnMut() -> Result<f64, E>,
        candidate: &mut dyn FnMut() -> Result<f64, E>,
    ) -> Result<Row, BenchError<E>> {
        let mut bases = Vec::with_capacity(self.runs);
        let mut values = Vec::with_capacity(self.runs);
        for run in 0..=self.runs {
            let base = self.measure(run, "baseline", baseline)?;
            let value = self.measure(run, "candidate", candidate)?;
            if run > 0 {
                bases.push(base);
                values.push(value);
            }
        }
        let ratios = values.iter().zip(&bases).map(|(value, base)| value / base).collect();
        Ok(self.row(values, Some((median(bases), median(ratios)))))
    }

    fn measure<E: std::error::Error>(
        &self,
        run: usize,
        what: &'static str,
        sample: &mut dyn FnMut() -> Result<f64, E>,
    ) -> Result<f64, BenchError<E>> {
        let name = || self.name.clone();
        let value = sample().map_err(|source| BenchError::Measure { name: name(), run, what, source })?;
        if value.is_finite() && value > 0.0 {
            Ok(value)
        } else {
            Err(BenchError::Value { name: name(), run, what, value })
        }
    }

    fn row(&self, values: Vec<f64>, baseline: Option<(f64, f64)>) -> Row {
        Row {
            name: self.name.clone(),
            metric: self.metric.clone(),
            unit: self.unit.clone(),
            runs: values.len(),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(0.0, f64::max),
            baseline: baseline.map(|(base, _)| base),
            ratio: baseline.map(|(_, ratio)| ratio),
            value: median(values),
        }
    }
}

/// The middle value, or the mean of the two middle ones.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Writes rows as JSON, one object a line.
pub fn write_json_lines(rows: &[Row], out: &mut impl io::Write) -> io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut *out, row)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// The rows as a table for a terminal.
pub fn table(rows: &[Row]) -> String {
    let mut lines =
        vec![["bench", "metric", "median", "unit", "runs", "min", "max", "baseline", "ratio"].map(String::from)];
    let number = |value: f64| if value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    let optional = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
    for row in rows {
        let Row { name, metric, value, unit, runs, min, max, baseline, ratio } = row.clone();
        let baseline = baseline.map_or("-".into(), number);
        lines.push([
            name,
            metric,
            number(value),
            unit,
            runs.to_string(),
            number(min),
            number(max),
            baseline,
            optional(ratio),
        ]);
    }
    let widths: [usize; 9] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0));
    let mut out = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            // Words to the left, numbers to the right.
            let cell = if matches!(column, 0 | 1 | 3) { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            out.push_str(&cell);
            out.push_str("  ");
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::convert::Infallible;

    #[test]
    fn pairs_are_interleaved_and_the_first_is_thrown_away() {
        let order = RefCell::new(String::new());
        let mut bases = [99.0, 10.0, 20.0, 40.0].into_iter();
        let mut values = [1.0, 20.0, 60.0, 80.0].into_iter();
        let row = Bench::new("a.b", "time per message", "ns").runs(3).paired::<Infallible>(
            &mut || {
                order.borrow_mut().push('A');
                Ok(bases.next().expect("one call a run"))
            },
            &mut || {
                order.borrow_mut().push('B');
                Ok(values.next().expect("one call a run"))
            },
        );
        let row = row.expect("the closures do not fail");
        assert_eq!(order.into_inner(), "ABABABAB");
        assert_eq!((row.value, row.min, row.max, row.runs), (60.0, 20.0, 80.0, 3));
        // Pair by pair 2, 3, 2: their median, not the ratio of the medians (3).
        assert_eq!((row.baseline, row.ratio), (Some(20.0), Some(2.0)));
    }

    #[test]
    fn failures_name_bench_run_and_side() {
        let bench = Bench::new("a.b", "rate", "1/s").runs(2);
        let mut calls = 0;
        let error = bench.alone(&mut || {
            calls += 1;
            if calls == 3 { Err(std::io::Error::other("gone")) } else { Ok(1.0) }
        });
        let error = error.expect_err("the third call fails");
        assert_eq!(error.to_string(), "bench a.b, run 2 of candidate: gone");
        let error = bench.paired::<Infallible>(&mut || Ok(0.0), &mut || Ok(1.0)).expect_err("zero is no baseline");
        assert_eq!(error.to_string(), "bench a.b, run 0 of baseline: measured 0, not a number above 0");
    }

    #[test]
    fn json_is_one_object_a_line_with_the_promised_fields() {
        let alone = Bench::new("x", "rate", "1/s").runs(4).alone::<Infallible>(&mut || Ok(2.5)).expect("no failure");
        let paired = Bench::new("y", "time", "ns")
            .runs(1)
            .paired::<Infallible>(&mut || Ok(2.0), &mut || Ok(3.0))
            .expect("no failure");
        let mut out = Vec::new();
        write_json_lines(&[alone, paired], &mut out).expect("writing to memory does not fail");
        let text = String::from_utf8(out).expect("JSON is UTF-8");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2);
        for line in &lines {
            let fields: Vec<&String> = line.as_object().expect("an object").keys().collect();
            let mut expected = ["name", "metric", "value", "unit", "runs", "min", "max", "baseline", "ratio"];
            expected.sort_unstable();
            let mut fields: Vec<&str> = fields.into_iter().map(String::as_str).collect();
            fields.sort_unstable();
            assert_eq!(fields, expected);
        }
        assert!(lines[0]["ratio"].is_null());
        assert_eq!((&lines[1]["ratio"], &lines[1]["baseline"]), (&1.5.into(), &2.0.into()));
    }

    #[test]
    fn the_table_is_aligned() {
        let row = Bench::new("mica.get.hot", "time per message", "ns")
            .runs(2)
            .paired::<Infallible>(&mut || Ok(31.0), &mut || Ok(93.0))
            .expect("no failure");
        let text = table(&[row]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), lines[1].len());
        assert!(lines[1].ends_with("31.00   3.00"), "{text}");
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
