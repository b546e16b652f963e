//! The classic text format of HdrHistogram's percentile distributions (`.hgrm`), as its Java library prints it and
//! its plotter reads it.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// Reporting points per halving of the distance to 100 %, the Java library's default.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Prints a histogram's percentile distribution, its values divided by `unit` (1,000 turns nanoseconds into
/// microseconds).
pub fn hgrm(histogram: &Histogram<u64>, unit: f64) -> String {
    let digits = usize::from(histogram.sigfig());
    let mut out = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    // Writing to a String does not fail.
    for Row { value, percent, total } in rows(histogram) {
        let _ = write!(out, "{:12.digits$} {:14.12} {total:10}", value as f64 / unit, percent / 100.0);
        let _ = if percent < 100.0 { writeln!(out, " {:14.2}", 1.0 / (1.0 - percent / 100.0)) } else { writeln!(out) };
    }
    let (mean, deviation) = (histogram.mean() / unit, histogram.stdev() / unit);
    let _ = writeln!(out, "#[Mean    = {mean:12.digits$}, StdDeviation   = {deviation:12.digits$}]");
    let (max, count) = (histogram.max() as f64 / unit, histogram.len());
    let _ = writeln!(out, "#[Max     = {max:12.digits$}, Total count    = {count:12}]");
    let _ = writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), sub_buckets(histogram));
    out
}

struct Row {
    /// Largest value of the histogram's step.
    value: u64,
    percent: f64,
    /// Values up to this one.
    total: u64,
}

/// Percentiles in steps that halve with the distance to 100 %. Counted in percent as the Java library does, not in
/// fractions: the rounding, and with it a row at a boundary, would differ.
fn rows(histogram: &Histogram<u64>) -> Vec<Row> {
    let mut rows = Vec::new();
    let (mut percent, mut total) = (0.0, 0);
    for step in histogram.iter_recorded() {
        total += step.count_since_last_iteration();
        let value = step.value_iterated_to();
        while 100.0 * total as f64 / histogram.len() as f64 >= percent {
            rows.push(Row { value, percent, total });
            if total == histogram.len() {
                rows.push(Row { value, percent: 100.0, total });
                break;
            }
            let halvings = (100.0 / (100.0 - percent)).log2().trunc();
            percent += 100.0 / (f64::from(TICKS_PER_HALF_DISTANCE) * (halvings + 1.0).exp2());
        }
    }
    rows
}

/// Equal steps per bucket: the power of two that tells values apart to one unit up to 2 * 10^digits.
fn sub_buckets(histogram: &Histogram<u64>) -> u64 {
    (2 * 10u64.pow(u32::from(histogram.sigfig()))).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(max: u64, values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, max, 3).expect("bounds are in range");
        values.iter().for_each(|&value| histogram.record(value).expect("the values are in range"));
        histogram
    }

    /// The JavaScript port's own expectation for three values, range up to 2^53 - 1.
    #[test]
    fn prints_what_the_other_libraries_print() {
        let expected = "       Value     Percentile TotalCount 1/(1-Percentile)

      25.000 0.000000000000          1           1.00
      25.000 0.100000000000          1           1.11
      25.000 0.200000000000          1           1.25
      25.000 0.300000000000          1           1.43
      50.000 0.400000000000          2           1.67
      50.000 0.500000000000          2           2.00
      50.000 0.550000000000          2           2.22
      50.000 0.600000000000          2           2.50
      50.000 0.650000000000          2           2.86
      75.000 0.700000000000          3           3.33
      75.000 1.000000000000          3
#[Mean    =       50.000, StdDeviation   =       20.412]
#[Max     =       75.000, Total count    =            3]
#[Buckets =           43, SubBuckets     =         2048]
";
        assert_eq!(hgrm(&of((1 << 53) - 1, &[25, 50, 75]), 1.0), expected);
    }

    /// The same of the Vala port, range up to an hour in nanoseconds.
    #[test]
    fn prints_several_counts_alike() {
        let text = hgrm(&of(3_600_000_000_000, &[100, 200, 250, 600]), 1.0);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(rows.len(), 16, "{text}");
        assert_eq!(rows[0], "     100.000 0.000000000000          1           1.00");
        assert_eq!(rows[3], "     200.000 0.300000000000          2           1.43");
        assert_eq!(rows[10], "     250.000 0.750000000000          3           4.00");
        assert_eq!(rows[11], "     600.000 0.775000000000          4           4.44");
        assert_eq!(rows[12], "     600.000 1.000000000000          4");
        assert_eq!(rows[13], "#[Mean    =      287.500, StdDeviation   =      188.331]");
        assert_eq!(rows[14], "#[Max     =      600.000, Total count    =            4]");
        assert_eq!(rows[15], "#[Buckets =           32, SubBuckets     =         2048]");
    }

    #[test]
    fn values_are_scaled() {
        let text = hgrm(&of(60_000_000_000, &[1_500, 2_000_000]), 1_000.0);
        let values: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(values[1], "1.500");
        assert!(text.contains("#[Max     =     2000.895, Total count    =            2]"), "{text}");
    }

    #[test]
    fn counts_and_percentiles_grow_to_the_end() {
        let values: Vec<u64> = (1..=10_000).map(|i| i * i).collect();
        let text = hgrm(&of(60_000_000_000, &values), 1.0);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().expect("a number")).collect())
            .collect();
        assert!(rows.len() > 30);
        for pair in rows.windows(2) {
            assert!(pair[0].iter().zip(&pair[1]).all(|(before, after)| before <= after), "{pair:?}");
        }
        let last = rows.last().expect("there are rows");
        assert_eq!(last[1..], [1.0, 10_000.0]);
        assert!(rows[..rows.len() - 1].iter().all(|row| (row[3] - 1.0 / (1.0 - row[1])).abs() < 0.01 * row[3]));
    }

    #[test]
    fn an_empty_histogram_has_no_rows() {
        let text = hgrm(&of(1_000_000, &[]), 1.0);
        assert!(text.contains("Total count    =            0]"), "{text}");
        assert_eq!(text.lines().count(), 5);
    }
}
