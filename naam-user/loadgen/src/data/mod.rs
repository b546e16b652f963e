//! Data files: key–value lines, tab- or comma-separated.

mod line;
mod reader;
mod source;

use std::path::PathBuf;

pub use reader::{Counts, DataReader, Pair, Policy, Progress, Separator};
pub use source::FileSource;

/// What is wrong with one line of a data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum LineFault {
    /// Nothing before the separator.
    #[error("the key is empty")]
    KeyEmpty,
    /// A key above [`crate::records::KEY_BYTES_MAX`].
    #[error("the key is longer than 64 bytes")]
    KeyTooLong,
    /// A value above [`crate::records::VALUE_BYTES_MAX`].
    #[error("the value is longer than 1,000 bytes")]
    ValueTooLong,
    /// No separator.
    #[error("there is no value: the separator is missing")]
    NoValue,
    /// A second separator.
    #[error("there are more than two fields")]
    TooManyFields,
    /// The file ends inside a quoted field.
    #[error("a quoted field is not closed")]
    QuoteOpen,
    /// A carriage return that no line feed follows, in a comma-separated file outside quotes.
    #[error("a carriage return stands inside an unquoted field: quote the field, or end lines with LF or CRLF")]
    BareReturn,
}

impl LineFault {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::KeyEmpty,
        Self::KeyTooLong,
        Self::ValueTooLong,
        Self::NoValue,
        Self::TooManyFields,
        Self::QuoteOpen,
        Self::BareReturn,
    ];
}

/// Why a data file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be opened.
    #[error("opening data file {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Reading failed.
    #[error("reading data file {path} after line {line}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Lines read.
        line: u64,
        /// Why.
        source: std::io::Error,
    },
    /// A faulty line, and the policy is [`Policy::Strict`].
    #[error("data file {path}, line {line}: {fault}; mend it, or skip such lines (--skip-faulty)")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        fault: LineFault,
    },
}
