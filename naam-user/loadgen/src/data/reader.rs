//! Reads a data file pair by pair.
//!
//! A faulty record ends with the line on which the fault was found; the next line begins afresh.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use csv_core::ReadRecordResult;

use super::line::{Line, Lines};
use super::{DataError, LineFault};
use crate::records::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::table::KeyTable;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Faults kept with their line; the others are only counted.
const FAULTS_KEPT: usize = 100;
/// Bytes between two calls of the progress callback.
const PROGRESS_BYTES: u64 = 1 << 20;

/// What stands between key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separator {
    /// A tab. Nothing is quoted; a value may hold any byte but tab and LF.
    Tab,
    /// A comma. A field may stand in quotes; then it may hold commas, line ends, and `""` for a quote.
    Comma,
}

impl Separator {
    /// By a file name's extension: `.tsv` and `.tab`, or `.csv`; otherwise by the file's first lines: whichever
    /// parts more of them, a tab if neither does.
    pub fn of(path: &Path, head: &[u8]) -> Self {
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("tsv" | "tab") => return Self::Tab,
            Some("csv") => return Self::Comma,
            _ => {}
        }
        let parted = |separator| head.split(|&byte| byte == b'\n').filter(|line| line.contains(separator)).count();
        if parted(&b',') > parted(&b'\t') { Self::Comma } else { Self::Tab }
    }
}

/// What becomes of a faulty line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It is an error.
    Strict,
    /// It is counted and passed over.
    Skip,
}

/// One pair; valid until the next is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// Up to [`VALUE_BYTES_MAX`] bytes.
    pub value: &'a [u8],
    /// The line it begins on, from 1.
    pub line: u64,
}

/// What a reader met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pairs, repeated keys included.
    pub pairs: u64,
    /// Empty lines.
    pub blank: u64,
    /// Faulty lines, by [`LineFault`]'s number.
    pub faults: [u64; LineFault::ALL.len()],
    /// The first hundred of them: line and reason.
    pub first_faults: Vec<(u64, LineFault)>,
}

impl Counts {
    /// Faulty lines of all kinds.
    pub fn faulty(&self) -> u64 {
        self.faults.iter().sum()
    }
}

/// Called with the bytes read and the file's size (0 if unknown), once a mebibyte and at the end.
pub type Progress = Box<dyn FnMut(u64, u64) + Send>;

/// A data file being read. Its memory does not grow with the file or its lines.
pub struct DataReader<R> {
    lines: Lines<R>,
    path: PathBuf,
    bytes_total: u64,
    separator: Separator,
    policy: Policy,
    parser: csv_core::Reader,
    fields: Fields,
    counts: Counts,
    progress: Option<Progress>,
    progress_at: u64,
}

/// The fields of the record at hand: their bytes one after another, and where each ends.
struct Fields {
    /// Room for the longest pair, and for one byte more to tell that a field is too long.
    bytes: [u8; KEY_BYTES_MAX + VALUE_BYTES_MAX + 1],
    ends: [usize; 3],
    count: usize,
}

enum Parsed {
    Pair,
    Blank,
    Fault(LineFault),
    End,
}

impl DataReader<BufReader<File>> {
    /// Opens a file; the separator is told by its extension or its beginning.
    pub fn open(path: &Path, policy: Policy) -> Result<Self, DataError> {
        let open = || {
            let file = File::open(path)?;
            let bytes = file.metadata()?.len();
            Ok((BufReader::with_capacity(1 << 16, file), bytes))
        };
        let (file, bytes) = open().map_err(|source| DataError::Open { path: path.into(), source })?;
        Self::new(file, path, bytes, policy)
    }
}

impl<R: BufRead> DataReader<R> {
    /// Reads any input; `path` names it in errors and may tell the separator. `bytes_total` is for the progress
    /// callback.
    pub fn new(input: R, path: &Path, bytes_total: u64, policy: Policy) -> Result<Self, DataError> {
        let mut lines = Lines::new(input);
        let read = |source| DataError::Read { path: path.into(), line: 0, source };
        lines.skip_mark(BYTE_ORDER_MARK).map_err(read)?;
        let separator = Separator::of(path, lines.head().map_err(read)?);
        Ok(Self {
            lines,
            path: path.into(),
            bytes_total,
            separator,
            policy,
            parser: fresh_parser(),
            fields: Fields { bytes: [0; KEY_BYTES_MAX + VALUE_BYTES_MAX + 1], ends: [0; 3], count: 0 },
            counts: Counts::default(),
            progress: None,
            progress_at: PROGRESS_BYTES,
        })
    }

    /// Reports progress.
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// What stands between key and value.
    pub fn separator(&self) -> Separator {
        self.separator
    }

    /// What was met so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The next pair; `None` at the end.
    pub fn next_pair(&mut self) -> Result<Option<Pair<'_>>, DataError> {
        loop {
            let line = self.lines.count + 1;
            let parsed = self.parse_record();
            let parsed = parsed.map_err(|source| DataError::Read { path: self.path.clone(), line, source })?;
            self.report(matches!(parsed, Parsed::End));
            match parsed {
                Parsed::End => return Ok(None),
                Parsed::Blank => self.counts.blank += 1,
                Parsed::Fault(fault) => self.fault(line, fault)?,
                Parsed::Pair => {
                    self.counts.pairs += 1;
                    let [key_end, value_end, _] = self.fields.ends;
                    let (key, value) = self.fields.bytes[..value_end].split_at(key_end);
                    return Ok(Some(Pair { key, value, line }));
                }
            }
        }
    }

    /// Reads all that is left into a table, where the last of several pairs of a key wins.
    pub fn into_table(mut self) -> Result<(KeyTable, Counts), DataError> {
        let mut table = KeyTable::new();
        while let Some(pair) = self.next_pair()? {
            table.insert(pair.key, pair.value);
        }
        Ok((table, self.counts))
    }

    fn report(&mut self, ended: bool) {
        if let Some(progress) = &mut self.progress
            && (ended || self.lines.bytes >= self.progress_at)
        {
            progress(self.lines.bytes, self.bytes_total);
            self.progress_at = self.lines.bytes + PROGRESS_BYTES;
        }
    }

    fn fault(&mut self, line: u64, fault: LineFault) -> Result<(), DataError> {
        if self.policy == Policy::Strict {
            return Err(DataError::Line { path: self.path.clone(), line, fault });
        }
        self.counts.faults[fault as usize] += 1;
        if self.counts.first_faults.len() < FAULTS_KEPT {
            self.counts.first_faults.push((line, fault));
        }
        Ok(())
    }

    fn parse_record(&mut self) -> io::Result<Parsed> {
        let kind = self.lines.next()?;
        let parsed = match kind {
            Line::End => return Ok(Parsed::End),
            Line::Whole if matches!(self.lines.line(), b"\n" | b"\r\n") => return Ok(Parsed::Blank),
            _ => match self.separator {
                Separator::Tab => self.fields.split(self.lines.line(), kind),
                Separator::Comma => self.parse_quoted(kind)?,
            },
        };
        Ok(parsed.err().map_or(Parsed::Pair, Parsed::Fault))
    }

    /// Parses the record that begins with the line at hand and, if a quote is open there, ends on a later one.
    fn parse_quoted(&mut self, first: Line) -> io::Result<Result<(), LineFault>> {
        let Fields { bytes, ends, count } = &mut self.fields;
        *count = 0;
        let mut written = 0;
        let mut kind = first;
        loop {
            let line = self.lines.line();
            let (result, taken, wrote, ended) =
                self.parser.read_record(line, &mut bytes[written..], &mut ends[*count..]);
            written += wrote;
            *count += ended;
            let fault = match result {
                // The parser ends a record at a carriage return; what follows it on the line would be lost.
                ReadRecordResult::Record if !matches!(line[taken..], [] | [b'\n']) => LineFault::BareReturn,
                ReadRecordResult::Record => return Ok(self.fields.check()),
                ReadRecordResult::OutputEndsFull => LineFault::TooManyFields,
                ReadRecordResult::InputEmpty if kind == Line::Whole => {
                    kind = self.lines.next()?;
                    if kind != Line::End {
                        continue;
                    }
                    LineFault::QuoteOpen
                }
                _ => self.fields.too_long(),
            };
            self.parser = fresh_parser();
            return Ok(Err(fault));
        }
    }
}

/// A parser that does not take a byte order mark at the start of a later line for the file's: it has seen input.
fn fresh_parser() -> csv_core::Reader {
    let mut parser = csv_core::Reader::new();
    parser.read_record(b"\n", &mut [0], &mut [0]);
    parser
}

impl Fields {
    /// Splits an unquoted line.
    fn split(&mut self, line: &[u8], kind: Line) -> Result<(), LineFault> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut fields = line.split(|&byte| byte == b'\t');
        self.count = 0;
        let mut written = 0;
        for field in fields.by_ref().take(2) {
            let Some(room) = self.bytes.get_mut(written..written + field.len()) else { return Err(self.too_long()) };
            room.copy_from_slice(field);
            written += field.len();
            self.ends[self.count] = written;
            self.count += 1;
        }
        if fields.next().is_some() {
            return Err(LineFault::TooManyFields);
        }
        if kind == Line::Cut { Err(self.too_long()) } else { self.check() }
    }

    /// Whether the fields are a pair.
    fn check(&self) -> Result<(), LineFault> {
        let [key_end, value_end, _] = self.ends;
        match self.count {
            _ if key_end > KEY_BYTES_MAX => Err(LineFault::KeyTooLong),
            0 | 1 => Err(LineFault::NoValue),
            2 if key_end == 0 => Err(LineFault::KeyEmpty),
            2 if value_end - key_end > VALUE_BYTES_MAX => Err(LineFault::ValueTooLong),
            2 => Ok(()),
            _ => Err(LineFault::TooManyFields),
        }
    }

    /// Which field outgrew the room for both.
    fn too_long(&self) -> LineFault {
        if self.count == 0 || self.ends[0] > KEY_BYTES_MAX { LineFault::KeyTooLong } else { LineFault::ValueTooLong }
    }
}
