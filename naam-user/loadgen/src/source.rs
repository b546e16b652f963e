//! Where a thread's operations come from: a workload's random stream, or each record once for loading and reading
//! back.

use std::sync::Arc;

use crate::keyspace::KeySpace;
use crate::records::{Records, VERSION_LOADED};
use crate::stream_rng::{Purpose, StreamRng};
use crate::workload::{Distribution, OpKind, Workload, WorkloadError};
use crate::zipf::{THETA, Zipfian, fnv64};

/// One operation to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub kind: OpKind,
    /// With which record (a scan's first).
    pub record: u64,
    /// Version that a write writes.
    pub version: u64,
    /// Records that a scan reads; 1 for the other kinds.
    pub records: u16,
}

/// Answer of [`Source::next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run this.
    Op(Request),
    /// Nothing just now; ask again after some operations ended.
    Wait,
    /// Nothing any more.
    End,
}

/// Gives a thread its operations. All buffers are the caller's: no call allocates once they have grown.
pub trait Source {
    /// The next operation.
    fn next(&mut self) -> Next;
    /// Replaces `out` by a record's key.
    fn key(&mut self, record: u64, out: &mut Vec<u8>);
    /// Replaces `out` by the value that `request` writes.
    fn value(&mut self, request: &Request, out: &mut Vec<u8>);
    /// Whether `value`, read from `record`, may be its value.
    fn holds(&self, record: u64, value: &[u8]) -> bool;
    /// Says that an operation ended, well or not.
    fn ended(&mut self, _request: &Request) {}
}

/// Number of bits of a version below the thread that wrote it.
const VERSION_THREAD_SHIFT: u32 = 40;

enum Chooser {
    Uniform { loaded: u64 },
    Scrambled { zipf: Zipfian, over: u64 },
    Latest { zipf: Zipfian },
}

/// A workload's operations for one thread.
///
/// Kinds, scan lengths and random draws depend on seed and thread alone. So do the records, except where the
/// workload inserts (D, E): there, as in YCSB, the set of records that exist is shared between the threads.
pub struct WorkloadSource {
    /// Upper ends of the kinds' shares of the 64-bit numbers.
    thresholds: [u64; OpKind::ALL.len()],
    scan_max: u16,
    chooser: Chooser,
    kinds: StreamRng,
    choices: StreamRng,
    scans: StreamRng,
    records: Records,
    space: Arc<KeySpace>,
    version: u64,
    /// An insert that found the window full.
    waiting: bool,
}

impl WorkloadSource {
    /// The stream of `thread`. `space` says which records exist; all threads of a run share one.
    pub fn new(
        workload: &Workload,
        records: Records,
        space: Arc<KeySpace>,
        seed: u64,
        thread: usize,
    ) -> Result<Self, WorkloadError> {
        let loaded = space.records();
        workload.validate(loaded)?;
        let mut sum = 0.0;
        let thresholds = workload.shares.map(|share| {
            sum += share;
            // The last share in use must reach the top despite rounding.
            if sum > 1.0 - 1e-9 { u64::MAX } else { (sum * 2f64.powi(64)) as u64 }
        });
        let chooser = match workload.distribution {
            Distribution::Uniform => Chooser::Uniform { loaded },
            Distribution::Zipfian => {
                Chooser::Scrambled { zipf: Zipfian::ycsb(), over: workload.scrambled_over(loaded) }
            }
            Distribution::Latest => Chooser::Latest { zipf: Zipfian::new(loaded, THETA) },
        };
        Ok(Self {
            thresholds,
            scan_max: workload.scan_max,
            chooser,
            kinds: StreamRng::new(seed, thread, Purpose::Kind),
            choices: StreamRng::new(seed, thread, Purpose::Record),
            scans: StreamRng::new(seed, thread, Purpose::Scan),
            records,
            space,
            version: (thread as u64 + 1) << VERSION_THREAD_SHIFT,
            waiting: false,
        })
    }

    #[inline]
    fn kind(&mut self) -> OpKind {
        if self.waiting {
            return OpKind::Insert;
        }
        let draw = self.kinds.bits();
        let kind = OpKind::ALL.into_iter().zip(self.thresholds).find(|&(_, top)| draw < top || top == u64::MAX);
        kind.map_or(OpKind::Read, |(kind, _)| kind)
    }

    /// A record that exists.
    #[inline]
    fn choose(&mut self) -> u64 {
        match &mut self.chooser {
            Chooser::Uniform { loaded } => self.choices.below(*loaded),
            Chooser::Scrambled { zipf, over } => loop {
                let record = fnv64(zipf.rank(&mut self.choices)) % *over;
                if record < self.space.records() {
                    return record;
                }
            },
            Chooser::Latest { zipf } => {
                let records = self.space.records();
                zipf.grow(records);
                records - 1 - zipf.rank(&mut self.choices)
            }
        }
    }
}

impl Source for WorkloadSource {
    #[inline]
    fn next(&mut self) -> Next {
        let kind = self.kind();
        let mut request = Request { kind, record: 0, version: VERSION_LOADED, records: 1 };
        match kind {
            OpKind::Insert => {
                let claimed = self.space.claim();
                self.waiting = claimed.is_none();
                let Some(record) = claimed else { return Next::Wait };
                request.record = record;
            }
            OpKind::Read => request.record = self.choose(),
            OpKind::Update | OpKind::ReadModifyWrite => {
                request.record = self.choose();
                self.version += 1;
                request.version = self.version;
            }
            OpKind::Scan => {
                request.record = self.choose();
                let length = 1 + self.scans.below(u64::from(self.scan_max));
                // As in YCSB, a scan that begins near the end of the records is shorter.
                request.records = length.min(self.space.records() - request.record) as u16;
            }
        }
        Next::Op(request)
    }

    #[inline]
    fn key(&mut self, record: u64, out: &mut Vec<u8>) {
        self.records.key(record, out);
    }

    #[inline]
    fn value(&mut self, request: &Request, out: &mut Vec<u8>) {
        self.records.value(request.record, request.version, out);
    }

    #[inline]
    fn holds(&self, record: u64, value: &[u8]) -> bool {
        self.records.holds(record, value)
    }

    #[inline]
    fn ended(&mut self, request: &Request) {
        if request.kind == OpKind::Insert {
            self.space.acknowledge(request.record);
        }
    }
}

/// Each record of a range once: inserted as loaded, or read.
pub struct SweepSource {
    kind: OpKind,
    records: Records,
    next: u64,
    end: u64,
}

impl SweepSource {
    /// Inserts thread `thread`'s part of the generated records 0..count (of `threads` equal parts).
    pub fn load(records: Records, count: u64, thread: usize, threads: usize) -> Self {
        Self::part(OpKind::Insert, records, count, thread, threads)
    }

    /// Reads thread `thread`'s part of the records 0..count; whether the values are right is for the runner's
    /// verification to say.
    pub fn read_back(records: Records, count: u64, thread: usize, threads: usize) -> Self {
        Self::part(OpKind::Read, records, count, thread, threads)
    }

    fn part(kind: OpKind, records: Records, count: u64, thread: usize, threads: usize) -> Self {
        let end = |part: usize| (u128::from(count) * part as u128 / threads.max(1) as u128) as u64;
        Self { kind, records, next: end(thread), end: end(thread + 1) }
    }
}

impl Source for SweepSource {
    fn next(&mut self) -> Next {
        if self.next >= self.end {
            return Next::End;
        }
        self.next += 1;
        Next::Op(Request { kind: self.kind, record: self.next - 1, version: VERSION_LOADED, records: 1 })
    }

    fn key(&mut self, record: u64, out: &mut Vec<u8>) {
        self.records.key(record, out);
    }

    fn value(&mut self, request: &Request, out: &mut Vec<u8>) {
        self.records.value(request.record, request.version, out);
    }

    fn holds(&self, record: u64, value: &[u8]) -> bool {
        self.records.holds(record, value)
    }
}
