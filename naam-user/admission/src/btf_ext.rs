//! `.BTF.ext`: which function and which source line stands at an instruction.

use crate::btf::{Btf, Words};
use crate::refusal::{Refusal, Rule, Source};

const MAGIC: u16 = 0xeb9f;

/// A BTF function at a byte offset of a section.
#[derive(Clone, Debug)]
pub(crate) struct FuncRecord {
    pub section: String,
    pub offset: u32,
    pub func: u32,
}

/// A source line that starts at a byte offset of a section.
#[derive(Clone, Debug)]
pub(crate) struct LineRecord {
    pub section: String,
    pub offset: u32,
    pub source: Source,
}

pub(crate) struct BtfExt {
    pub funcs: Vec<FuncRecord>,
    /// Sorted by section and offset.
    pub lines: Vec<LineRecord>,
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

        let mut funcs = Vec::new();
        records(func_data, 8, btf, |section, record| {
            funcs.push(FuncRecord { section: section.into(), offset: record[0], func: record[1] });
        })?;
        let mut lines = Vec::new();
        records(line_data, 16, btf, |section, record| {
            let source = Source {
                file: btf.string(record[1]),
                line: record[3] >> 10,
                column: record[3] & 0x3ff,
                text: btf.string(record[2]).trim().to_owned(),
            };
            lines.push(LineRecord { section: section.into(), offset: record[0], source });
        })?;
        lines.sort_by(|a, b| (&a.section, a.offset).cmp(&(&b.section, b.offset)));
        let mut core_relocations = 0;
        records(core_data, 16, btf, |_, _| core_relocations += 1)?;
        Some(Self { funcs, lines, core_relocations })
    }
}

/// Calls `each` with the section's name and the record's first words.
fn records(data: &[u8], bytes_min: usize, btf: &Btf<'_>, mut each: impl FnMut(&str, &[u32])) -> Option<()> {
    if data.is_empty() {
        return Some(());
    }
    let mut words = Words::new(data);
    let bytes = words.word()? as usize;
    if bytes < bytes_min || !bytes.is_multiple_of(4) {
        return None;
    }
    while !words.is_empty() {
        let section = btf.string(words.word()?);
        for _ in 0..words.word()? {
            let mut record = Words::new(words.bytes(bytes)?);
            let fields: Vec<u32> = (0..bytes_min / 4).map_while(|_| record.word()).collect();
            each(&section, &fields);
        }
    }
    Some(())
}
