//! `.BTF.ext`: which function and which source line stands at an instruction.

use crate::btf::{Btf, Words};
use crate::refusal::{Refusal, Rule, Source};

const MAGIC: u16 = 0xeb9f;
/// Sections with information of one kind: one for each code section.
const SECTIONS_MAX: usize = 1024;

/// A BTF function at a byte offset of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FuncRecord {
    pub offset: u32,
    pub func: u32,
}

/// A source line that starts at a byte offset of a section. Strings are still offsets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineRecord {
    pub offset: u32,
    file: u32,
    text: u32,
    place: u32,
}

impl LineRecord {
    /// The line in words.
    pub fn source(&self, btf: &Btf<'_>) -> Source {
        Source {
            file: btf.string(self.file),
            line: self.place >> 10,
            column: self.place & 0x3ff,
            text: btf.string(self.text).trim().to_owned(),
        }
    }
}

/// What is known of one code section.
pub(crate) struct Records<T> {
    section: String,
    records: Vec<T>,
}

pub(crate) struct BtfExt {
    funcs: Vec<Records<FuncRecord>>,
    lines: Vec<Records<LineRecord>>,
    /// Number of CO-RE relocations.
    pub core_relocations: usize,
}

impl BtfExt {
    pub fn read(data: &[u8], btf: &Btf<'_>) -> Result<Self, Refusal> {
        Self::parse(data, btf).ok_or_else(|| Refusal::object(Rule::BtfInvalid, "section .BTF.ext is malformed"))
    }

    fn parse(data: &[u8], btf: &Btf<'_>) -> Option<Self> {
        let mut words = Words::new(data);
        let lead = words.word()?;
        if lead as u16 != MAGIC || (lead >> 16) as u8 != 1 {
            return None;
        }
        let header = words.word()? as usize;
        let mut span = || -> Option<&[u8]> {
            let (start, len) = (words.word()? as usize, words.word()? as usize);
            let start = header.checked_add(start)?;
            data.get(start..start.checked_add(len)?)
        };
        let (func_data, line_data) = (span()?, span()?);
        let core_data = if header >= 32 { span()? } else { &[] };

        let funcs = records(func_data, btf, |[offset, func]| FuncRecord { offset, func })?;
        let line = |[offset, file, text, place]: [u32; 4]| LineRecord { offset, file, text, place };
        let mut lines = records(line_data, btf, line)?;
        for of_section in &mut lines {
            // The sort is stable: of several lines at one place the first is kept.
            of_section.records.sort_by_key(|line| line.offset);
            of_section.records.dedup_by_key(|line| line.offset);
        }
        let core = records(core_data, btf, |[_, _, _, _]| ())?;
        let core_relocations = core.iter().map(|of_section| of_section.records.len()).sum();
        Some(Self { funcs, lines, core_relocations })
    }

    /// Whether that BTF function stands at that byte offset of the section.
    pub fn has_func(&self, section: &str, record: FuncRecord) -> bool {
        self.funcs.iter().any(|of| of.section == section && of.records.contains(&record))
    }

    /// The lines that start at `from..to` bytes of the section, in order.
    pub fn lines(&self, section: &str, from: u64, to: u64) -> &[LineRecord] {
        let Some(of_section) = self.lines.iter().find(|of| of.section == section) else { return &[] };
        let position = |at: u64| of_section.records.partition_point(|line| u64::from(line.offset) < at);
        &of_section.records[position(from)..position(to)]
    }
}

/// Reads records by section, each from its first `N` words.
fn records<T, const N: usize>(data: &[u8], btf: &Btf<'_>, read: impl Fn([u32; N]) -> T) -> Option<Vec<Records<T>>> {
    let mut found: Vec<Records<T>> = Vec::new();
    if data.is_empty() {
        return Some(found);
    }
    let mut words = Words::new(data);
    let bytes = words.word()? as usize;
    if bytes < N * 4 || !bytes.is_multiple_of(4) {
        return None;
    }
    while !words.is_empty() {
        let section = btf.string(words.word()?);
        let mut records = Vec::new();
        for _ in 0..words.word()? {
            let mut record = Words::new(words.bytes(bytes)?);
            let mut fields = [0; N];
            for field in &mut fields {
                *field = record.word()?;
            }
            records.push(read(fields));
        }
        if found.len() == SECTIONS_MAX {
            return None;
        }
        match found.iter_mut().find(|of| of.section == section) {
            Some(known) => known.records.append(&mut records),
            None => found.push(Records { section, records }),
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRINGS: &[u8] = b"\0.text\0a.c\0  return 1;\0";

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn btf() -> Vec<u8> {
        let mut data = words(&[0x0001_eb9f, 24, 0, 0, 0, STRINGS.len() as u32]);
        data.extend_from_slice(STRINGS);
        data
    }

    /// One function, and lines out of order with one twice.
    fn ext() -> Vec<u8> {
        let mut data = words(&[0x0001_eb9f, 24, 0, 20, 20, 60]);
        data.extend(words(&[8, 1, 1, 0, 5]));
        data.extend(words(&[16, 1, 3, 8, 7, 11, 4 << 10 | 2, 0, 7, 11, 3 << 10, 8, 7, 0, 9 << 10]));
        data
    }

    #[test]
    fn lines_are_sorted_and_resolved() {
        let (btf, ext) = (btf(), ext());
        let btf = Btf::read(&btf).unwrap();
        let ext = BtfExt::read(&ext, &btf).unwrap();
        assert!(ext.has_func(".text", FuncRecord { offset: 0, func: 5 }));
        assert!(!ext.has_func(".data", FuncRecord { offset: 0, func: 5 }));
        let lines: Vec<_> = ext.lines(".text", 0, 16).iter().map(|line| line.source(&btf)).collect();
        assert_eq!(lines.len(), 2);
        let expected = Source { file: "a.c".into(), line: 4, column: 2, text: "return 1;".into() };
        assert_eq!(lines[1], expected);
        assert_eq!(ext.lines(".text", 1, 16).len(), 1);
    }

    #[test]
    fn every_truncation_is_refused() {
        let (btf, ext) = (btf(), ext());
        let btf = Btf::read(&btf).unwrap();
        for len in 0..ext.len() {
            assert!(BtfExt::read(&ext[..len], &btf).is_err(), "{len}");
        }
    }
}
