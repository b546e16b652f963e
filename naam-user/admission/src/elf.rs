//! The object file: sections, symbols, relocations. Every offset in it is an allegation.

use std::collections::HashSet;

use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, SectionHeader as _, Sym as _};

use crate::refusal::{Refusal, Rule};

/// Machine number of BPF.
const EM_BPF: u16 = 247;
/// Sections and symbols that an object may have: handlers have some dozens.
const ENTRIES_MAX: usize = 65_536;
/// Bytes of an object file.
const OBJECT_BYTES_MAX: usize = 4 << 20;
/// Longer names are cut: a file must not make much memory out of little.
const NAME_BYTES_MAX: usize = 512;

/// What a section holds, as far as admission cares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Holds {
    Code,
    Maps,
    Data,
    #[default]
    Other,
}

#[derive(Default)]
pub(crate) struct Section<'a> {
    pub name: String,
    pub holds: Holds,
    pub data: &'a [u8],
    /// Sorted by offset.
    pub relocations: Vec<Relocation>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Relocation {
    pub offset: u64,
    pub kind: u32,
    pub symbol: usize,
}

#[derive(Default)]
pub(crate) struct Symbol {
    pub name: String,
    /// The section that defines it.
    pub section: Option<usize>,
    pub value: u64,
    pub size: u64,
    pub function: bool,
    /// The symbol stands for its section.
    pub of_section: bool,
    /// Global and not hidden.
    pub exported: bool,
}

pub(crate) struct Object<'a> {
    pub sections: Vec<Section<'a>>,
    pub symbols: Vec<Symbol>,
}

impl<'a> Object<'a> {
    pub fn read(file: &'a [u8]) -> Result<Self, Refusal> {
        identify(file)?;
        let bad =
            |error: object::read::Error| Refusal::object(Rule::BadElf, format!("the ELF tables are bad: {error}"));
        let endian = LittleEndian;
        let header = FileHeader64::<LittleEndian>::parse(file).map_err(bad)?;
        let table = header.sections(endian, file).map_err(bad)?;
        if table.len() > ENTRIES_MAX {
            return Err(Refusal::object(Rule::BadElf, format!("the object has {} sections", table.len())));
        }

        let mut sections = Vec::new();
        sections.resize_with(table.len(), Section::default);
        for (index, header) in table.enumerate() {
            let name = table.section_name(endian, header).map_err(bad)?;
            let name = readable(name);
            let (start, size) = (header.sh_offset(endian), header.sh_size(endian));
            let occupies = header.sh_type(endian) != elf::SHT_NOBITS && header.sh_type(endian) != elf::SHT_NULL;
            if occupies && start.checked_add(size).is_none_or(|end| end > file.len() as u64) {
                return Err(Refusal::object(
                    Rule::TruncatedElf,
                    format!(
                        "section {name} reaches to byte {} of a file of {}",
                        start.saturating_add(size),
                        file.len()
                    ),
                ));
            }
            let data = if occupies { header.data(endian, file).map_err(bad)? } else { &[] };
            let holds = classify(&name, header.sh_type(endian), header.sh_flags(endian));
            sections[index.0] = Section { name, holds, data, relocations: Vec::new() };
        }

        let symbol_table = table.symbols(endian, file, elf::SHT_SYMTAB).map_err(bad)?;
        if symbol_table.len() > ENTRIES_MAX {
            return Err(Refusal::object(Rule::BadElf, format!("the object has {} symbols", symbol_table.len())));
        }
        let mut symbols = Vec::new();
        symbols.resize_with(symbol_table.len(), Symbol::default);
        for (at, symbol) in symbol_table.enumerate() {
            let name = symbol.name(endian, symbol_table.strings()).map_err(bad)?;
            let index = usize::from(symbol.st_shndx(endian));
            let visible = matches!(symbol.st_visibility(), elf::STV_DEFAULT | elf::STV_PROTECTED);
            symbols[at.0] = Symbol {
                name: readable(name),
                section: (index != 0 && index < sections.len()).then_some(index),
                value: symbol.st_value(endian),
                size: symbol.st_size(endian),
                function: symbol.st_type() == elf::STT_FUNC,
                of_section: symbol.st_type() == elf::STT_SECTION,
                exported: symbol.st_bind() != elf::STB_LOCAL && visible,
            };
        }

        for (_, header) in table.enumerate() {
            let target = header.sh_info(endian) as usize;
            let code = |target: usize| sections.get(target).is_some_and(|s| s.holds == Holds::Code);
            if header.sh_type(endian) == elf::SHT_RELA && code(target) {
                return Err(Refusal::object(Rule::BadRelocation, "code is relocated with explicit addends (SHT_RELA)"));
            }
            let Some((relocations, _)) = header.rel(endian, file).map_err(bad)? else { continue };
            if !code(target) {
                continue;
            }
            for relocation in relocations {
                sections[target].relocations.push(Relocation {
                    offset: relocation.r_offset.get(endian),
                    kind: relocation.r_type(endian),
                    symbol: relocation.r_sym(endian) as usize,
                });
            }
        }
        for section in &mut sections {
            section.relocations.sort_by_key(|relocation| relocation.offset);
        }
        Ok(Self { sections, symbols })
    }

    /// The names that are seen from outside.
    pub fn exports(&self) -> HashSet<&str> {
        let exported = self.symbols.iter().filter(|symbol| symbol.exported && symbol.section.is_some());
        exported.map(|symbol| symbol.name.as_str()).collect()
    }

    /// The only section of that name; `Err` holds how many there are.
    pub fn section(&self, name: &str) -> Result<&Section<'a>, usize> {
        let mut found = self.sections.iter().filter(|section| section.name == name);
        match (found.next(), found.count()) {
            (Some(section), 0) => Ok(section),
            (None, _) => Err(0),
            (Some(_), more) => Err(more + 1),
        }
    }
}

fn readable(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(NAME_BYTES_MAX)]).into_owned()
}

/// Refuses what is not a little-endian 64-bit relocatable BPF object, each by its own name.
fn identify(file: &[u8]) -> Result<(), Refusal> {
    let refuse = |rule, detail: String| Err(Refusal::object(rule, detail));
    if file.len() > OBJECT_BYTES_MAX {
        return refuse(Rule::TooLarge, format!("the file has {} bytes, the limit is {OBJECT_BYTES_MAX}", file.len()));
    }
    if file.get(..4) != Some(&elf::ELFMAG[..]) {
        return refuse(Rule::NotElf, "the file does not start with the ELF magic".into());
    }
    if file.len() < 64 {
        return refuse(Rule::TruncatedElf, format!("the file has {} bytes, an ELF header has 64", file.len()));
    }
    let half = |at: usize| u16::from_le_bytes([file[at], file[at + 1]]);
    if file[5] == elf::ELFDATA2MSB {
        return refuse(Rule::BigEndian, "the object is big-endian".into());
    }
    if file[4] != elf::ELFCLASS64 || file[5] != elf::ELFDATA2LSB || half(18) != EM_BPF {
        let detail = format!("the object is for ELF machine {}, class {}; BPF is {EM_BPF}, class 2", half(18), file[4]);
        return refuse(Rule::WrongArchitecture, detail);
    }
    if half(16) != elf::ET_REL {
        return refuse(
            Rule::BadElf,
            format!("the object's type is {}, a relocatable object has {}", half(16), elf::ET_REL),
        );
    }
    let table_at = u64::from_le_bytes(file[40..48].try_into().expect("eight bytes"));
    let table_len = u64::from(half(58)) * u64::from(half(60));
    if table_at == 0 || table_at.checked_add(table_len).is_none_or(|end| end > file.len() as u64) {
        return refuse(Rule::TruncatedElf, format!("the section table lies outside the file of {} bytes", file.len()));
    }
    Ok(())
}

fn classify(name: &str, kind: u32, flags: u64) -> Holds {
    if flags & u64::from(elf::SHF_EXECINSTR) != 0 && kind == elf::SHT_PROGBITS {
        Holds::Code
    } else if name == "maps" || name.starts_with(".maps") || name.starts_with("maps/") {
        Holds::Maps
    } else if flags & u64::from(elf::SHF_ALLOC) != 0 {
        Holds::Data
    } else {
        Holds::Other
    }
}
