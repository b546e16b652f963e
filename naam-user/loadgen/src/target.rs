//! What the runner drives: the NAAM client, a rival, or the mock.

use std::time::Instant;

/// One operation as a target sees it; bytes are valid during the call only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    /// Read a record: ends with [`Outcome::Value`] or [`Outcome::Missing`].
    Read {
        /// Its key.
        key: &'a [u8],
    },
    /// Write an existing record: ends with [`Outcome::Done`].
    Update {
        /// Its key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Write a new record: ends with [`Outcome::Done`].
    Insert {
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// Read up to `records` records in key order: ends with [`Outcome::Done`]. Only for targets that say
    /// [`Target::scans`].
    Scan {
        /// First key.
        key: &'a [u8],
        /// Records to read.
        records: u16,
    },
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// A read found this value.
    Value(&'a [u8]),
    /// A write or scan is done.
    Done,
    /// A read found nothing.
    Missing,
    /// It failed.
    Failed(Failure),
}

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// The target gave up waiting; the operation may have run.
    Timeout,
    /// The server refused it: rights, unknown function, bad argument.
    Refused,
    /// The server has no room for it.
    NoSpace,
    /// The server or a quota asked to slow down.
    Overloaded,
    /// The reply could not be understood.
    Protocol,
    /// The target cannot do this.
    Unsupported,
    /// A read found nothing although the record exists ([`Outcome::Missing`]).
    Missing,
    /// The value read is not one that was written (verification).
    Wrong,
}

impl Failure {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Timeout,
        Self::Refused,
        Self::NoSpace,
        Self::Overloaded,
        Self::Protocol,
        Self::Unsupported,
        Self::Missing,
        Self::Wrong,
    ];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::NoSpace => "no-space",
            Self::Overloaded => "overloaded",
            Self::Protocol => "protocol",
            Self::Unsupported => "unsupported",
            Self::Missing => "missing",
            Self::Wrong => "wrong",
        }
    }
}

/// The target cannot take an operation just now; the runner polls and offers it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// Why a target cannot go on at all: connection closed, interface gone.
pub type TargetError = Box<dyn std::error::Error + Send + Sync>;

/// Something that runs operations; driven by one thread, never blocking.
pub trait Target {
    /// Takes an operation. It need not be sent before the next [`Target::poll`], so that a target can pack those
    /// submitted in between into one datagram or one write.
    fn submit(&mut self, op: &Op<'_>, token: u64) -> Result<(), Busy>;

    /// Sends what was submitted, receives what is there, and calls `done` once for each operation that ended.
    fn poll(&mut self, now: Instant, done: &mut dyn FnMut(u64, Outcome<'_>)) -> Result<(), TargetError>;

    /// Whether [`Op::Scan`] is understood. If not, the runner reads the records of a scan one by one, and the scan
    /// ends with the last of them.
    fn scans(&self) -> bool {
        false
    }
}

impl<T: Target + ?Sized> Target for Box<T> {
    fn submit(&mut self, op: &Op<'_>, token: u64) -> Result<(), Busy> {
        (**self).submit(op, token)
    }

    fn poll(&mut self, now: Instant, done: &mut dyn FnMut(u64, Outcome<'_>)) -> Result<(), TargetError> {
        (**self).poll(now, done)
    }

    fn scans(&self) -> bool {
        (**self).scans()
    }
}
