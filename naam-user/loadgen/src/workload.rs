//! YCSB's core workloads, by their definitions: which operations in which proportion on which records.

use std::fmt;
use std::str::FromStr;

/// Kinds of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OpKind {
    /// Read one record.
    Read,
    /// Write a new version of an existing record.
    Update,
    /// Write a record that did not exist.
    Insert,
    /// Read up to 100 neighbouring records.
    Scan,
    /// Read a record, then write a new version of it; one operation, one latency.
    ReadModifyWrite,
}

impl OpKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Read, Self::Update, Self::Insert, Self::Scan, Self::ReadModifyWrite];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::ReadModifyWrite => "read-modify-write",
        }
    }
}

/// How records are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// All loaded records alike.
    Uniform,
    /// Zipf's law with constant 0.99, the popular records scattered over all (YCSB's scrambled zipfian).
    Zipfian,
    /// Zipf's law with constant 0.99, the newest record the most popular.
    Latest,
}

impl FromStr for Distribution {
    type Err = WorkloadError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "uniform" => Ok(Self::Uniform),
            "zipfian" => Ok(Self::Zipfian),
            "latest" => Ok(Self::Latest),
            _ => Err(WorkloadError::Distribution(text.into())),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => "uniform",
            Self::Zipfian => "zipfian",
            Self::Latest => "latest",
        })
    }
}

/// What cannot be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WorkloadError {
    /// No such workload.
    #[error("workload {0:?} is unknown: name one of A, B, C, D, E, F")]
    Name(String),
    /// No such distribution.
    #[error("request distribution {0:?} is unknown: name one of uniform, zipfian, latest")]
    Distribution(String),
    /// The mix's shares do not add up to 1.
    #[error("the shares of workload {name} add up to {sum}, not to 1")]
    Shares {
        /// The workload.
        name: String,
        /// What they add up to.
        sum: f64,
    },
    /// Reads need something to read.
    #[error("workload {0} needs at least one loaded record")]
    NoRecords(String),
    /// Scan lengths begin at 1 and parts of an operation are numbered in 8 bits.
    #[error("workload {name}: scan lengths of 1 to {max} are not possible, the largest allowed is 255")]
    ScanLength {
        /// The workload.
        name: String,
        /// The length asked for.
        max: u16,
    },
}

/// A workload: shares of the kinds, and where they go.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Name in reports.
    pub name: String,
    /// Share of each kind, in the order of [`OpKind::ALL`]; they add up to 1.
    pub shares: [f64; OpKind::ALL.len()],
    /// How records are chosen.
    pub distribution: Distribution,
    /// Scan lengths are uniform from 1 to this.
    pub scan_max: u16,
    /// Inserts that the zipfian distribution makes room for: popular records stay the same while the set grows, as
    /// records that do not exist yet are drawn and then drawn again. `None`: a tenth of the records loaded, if the
    /// workload inserts.
    pub inserts_expected: Option<u64>,
}

impl Workload {
    /// A: update heavy, 50 % reads and 50 % updates, zipfian.
    pub fn a() -> Self {
        Self::new("A", [0.5, 0.5, 0.0, 0.0, 0.0], Distribution::Zipfian)
    }

    /// B: read mostly, 95 % reads and 5 % updates, zipfian.
    pub fn b() -> Self {
        Self::new("B", [0.95, 0.05, 0.0, 0.0, 0.0], Distribution::Zipfian)
    }

    /// C: read only, zipfian.
    pub fn c() -> Self {
        Self::new("C", [1.0, 0.0, 0.0, 0.0, 0.0], Distribution::Zipfian)
    }

    /// D: read latest, 95 % reads and 5 % inserts.
    pub fn d() -> Self {
        Self::new("D", [0.95, 0.0, 0.05, 0.0, 0.0], Distribution::Latest)
    }

    /// E: short ranges, 95 % scans of 1 to 100 records and 5 % inserts, zipfian starts.
    pub fn e() -> Self {
        Self::new("E", [0.0, 0.0, 0.05, 0.95, 0.0], Distribution::Zipfian)
    }

    /// F: 50 % reads and 50 % read-modify-writes, zipfian.
    pub fn f() -> Self {
        Self::new("F", [0.5, 0.0, 0.0, 0.0, 0.5], Distribution::Zipfian)
    }

    fn new(name: &str, shares: [f64; OpKind::ALL.len()], distribution: Distribution) -> Self {
        Self { name: name.into(), shares, distribution, scan_max: 100, inserts_expected: None }
    }

    /// Share of one kind.
    pub fn share(&self, kind: OpKind) -> f64 {
        self.shares[kind as usize]
    }

    /// Checks that the workload can run on `loaded` records.
    pub fn validate(&self, loaded: u64) -> Result<(), WorkloadError> {
        let sum: f64 = self.shares.iter().sum();
        let proper = self.shares.iter().all(|share| (0.0..=1.0).contains(share));
        if !proper || (sum - 1.0).abs() > 1e-9 {
            return Err(WorkloadError::Shares { name: self.name.clone(), sum });
        }
        if loaded == 0 {
            return Err(WorkloadError::NoRecords(self.name.clone()));
        }
        if !(1..=255).contains(&self.scan_max) {
            return Err(WorkloadError::ScanLength { name: self.name.clone(), max: self.scan_max });
        }
        Ok(())
    }

    /// Records over which zipfian draws are scrambled.
    pub fn scrambled_over(&self, loaded: u64) -> u64 {
        let inserts = self.share(OpKind::Insert) > 0.0;
        loaded + self.inserts_expected.unwrap_or(if inserts { loaded / 10 } else { 0 })
    }
}

impl FromStr for Workload {
    type Err = WorkloadError;

    /// "A" to "F" in either case, with or without "ycsb-" or "ycsb" before it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let letter = lower.strip_prefix("ycsb").unwrap_or(&lower);
        match letter.strip_prefix('-').unwrap_or(letter) {
            "a" => Ok(Self::a()),
            "b" => Ok(Self::b()),
            "c" => Ok(Self::c()),
            "d" => Ok(Self::d()),
            "e" => Ok(Self::e()),
            "f" => Ok(Self::f()),
            _ => Err(WorkloadError::Name(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        for text in ["b", "B", "ycsb-b", "YCSB-B", "ycsbb"] {
            assert_eq!(text.parse(), Ok(Workload::b()), "{text}");
        }
        assert_eq!("g".parse::<Workload>(), Err(WorkloadError::Name("g".into())));
        assert_eq!("Latest".parse(), Ok(Distribution::Latest));
        assert!("pareto".parse::<Distribution>().is_err());
    }

    #[test]
    fn impossible_workloads_are_refused() {
        let mut bad = Workload::a();
        bad.shares[0] = 0.6;
        assert!(matches!(bad.validate(1), Err(WorkloadError::Shares { .. })));
        bad.shares = [1.5, -0.5, 0.0, 0.0, 0.0];
        assert!(matches!(bad.validate(1), Err(WorkloadError::Shares { .. })));
        assert_eq!(Workload::c().validate(0), Err(WorkloadError::NoRecords("C".into())));
        let mut long = Workload::e();
        long.scan_max = 256;
        assert!(matches!(long.validate(1), Err(WorkloadError::ScanLength { max: 256, .. })));
        for workload in "abcdef".chars() {
            let workload: Workload = workload.to_string().parse().expect("a letter from A to F");
            assert_eq!(workload.validate(1), Ok(()), "{}", workload.name);
        }
    }
}
