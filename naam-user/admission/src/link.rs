//! Linking: the handler's function and every function it reaches, in one stream of instructions.

use std::collections::{BTreeMap, HashMap, VecDeque};

use naam_abi::limits::HANDLER_INSNS_MAX;

use crate::btf::Btf;
use crate::btf_ext::{BtfExt, FuncRecord, LineRecord};
use crate::elf::{Holds, Object, Symbol};
use crate::insn::Insn;
use crate::refusal::{Fault, Refusal, Rule, Source};

/// Functions that compilers call by themselves; tool chains leave them global in the object.
pub(crate) const COMPILER_MADE: [&str; 5] = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];

/// BPF relocation of a 64-bit immediate load.
const R_BPF_64_64: u32 = 1;
/// BPF relocation of a call.
const R_BPF_64_32: u32 = 10;

/// One function of an admitted program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Func {
    /// The function's ELF symbol.
    pub name: String,
    /// Index of its first instruction.
    pub first: usize,
    /// Number of its instruction slots.
    pub count: usize,
    /// Bytes of its stack frame, as the kernel reckons them: a callee's frame begins below.
    pub frame: usize,
}

/// The source line from which instructions were made, until the next [`Line`] of the function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Index of the first such instruction.
    pub insn: usize,
    /// The line.
    pub source: Source,
}

/// Linked instructions, entry function first.
pub(crate) struct Program {
    pub insns: Vec<Insn>,
    pub functions: Vec<Func>,
    pub lines: Vec<Line>,
}

impl Program {
    /// The function that holds an instruction.
    pub fn function_at(&self, insn: usize) -> usize {
        self.functions.partition_point(|func| func.first <= insn).saturating_sub(1)
    }

    /// Puts a fault into the author's terms.
    pub fn refusal(&self, fault: Fault) -> Refusal {
        let func = self.functions.get(self.function_at(fault.insn));
        let source = self.lines[..self.lines.partition_point(|line| line.insn <= fault.insn)]
            .last()
            .filter(|line| func.is_some_and(|func| line.insn >= func.first))
            .map(|line| line.source.clone().into());
        Refusal {
            rule: fault.rule,
            function: func.map(|func| func.name.clone()),
            insn: Some(fault.insn),
            source,
            detail: fault.detail,
        }
    }
}

/// Where a function starts in the object: section and byte offset.
type Place = (usize, u64);

struct Linker<'a> {
    object: &'a Object<'a>,
    btf: &'a Btf<'a>,
    ext: &'a BtfExt,
    functions: BTreeMap<Place, &'a Symbol>,
}

/// Links the entry function and all it reaches. `entry_type` is its BTF function.
pub(crate) fn link(
    object: &Object<'_>,
    btf: &Btf<'_>,
    ext: &BtfExt,
    entry: &str,
    entry_type: u32,
) -> Result<Program, Refusal> {
    let mut functions = BTreeMap::new();
    for symbol in object.symbols.iter().filter(|symbol| symbol.function) {
        let Some(section) = symbol.section.filter(|section| object.sections[*section].holds == Holds::Code) else {
            continue;
        };
        let slot = functions.entry((section, symbol.value)).or_insert(symbol);
        if symbol.name == entry {
            *slot = symbol;
        }
    }
    let linker = Linker { object, btf, ext, functions };
    let start = linker.entry(entry, entry_type)?;
    linker.collect(start)
}

impl Linker<'_> {
    fn entry(&self, name: &str, func: u32) -> Result<Place, Refusal> {
        let mut places = self.functions.iter().filter(|(_, symbol)| symbol.name == name && symbol.exported);
        let (Some((place, _)), None) = (places.next(), places.next()) else {
            let detail = format!("the object does not have exactly one exported function symbol {name} in code");
            return Err(Refusal::object(Rule::EntryMissing, detail));
        };
        let section = &self.object.sections[place.0].name;
        let offset = u32::try_from(place.1).unwrap_or(u32::MAX);
        if !self.ext.has_func(section, FuncRecord { offset, func }) {
            let detail = format!("the function information of .BTF.ext does not place {name} where its symbol does");
            return Err(Refusal::object(Rule::BtfInvalid, detail));
        }
        Ok(*place)
    }

    fn collect(&self, start: Place) -> Result<Program, Refusal> {
        let mut program = Program { insns: Vec::new(), functions: Vec::new(), lines: Vec::new() };
        let mut firsts = HashMap::new();
        let mut calls = Vec::new();
        let mut queue = VecDeque::from([start]);
        while let Some(place) = queue.pop_front() {
            if firsts.contains_key(&place) {
                continue;
            }
            let symbol = self.functions[&place];
            let insns = self.body(place, symbol)?;
            let first = program.insns.len();
            if first + insns.len() > HANDLER_INSNS_MAX {
                let detail = format!("the linked program has more than {HANDLER_INSNS_MAX} instructions");
                return Err(Refusal::object(Rule::TooLarge, detail));
            }
            firsts.insert(place, first);
            for (at, insn) in insns.iter().enumerate() {
                if let Some(target) = self.callee(place, at, *insn)? {
                    calls.push((first + at, target));
                    queue.push_back(target);
                }
            }
            for line in self.lines(place, symbol.size) {
                let insn = first + (u64::from(line.offset) - place.1) as usize / 8;
                program.lines.push(Line { insn, source: line.source(self.btf) });
            }
            // The audit finds out what it uses of the stack.
            program.functions.push(Func { name: symbol.name.clone(), first, count: insns.len(), frame: 0 });
            program.insns.extend(insns);
        }
        for (at, target) in calls {
            let distance = firsts[&target] as i64 - (at as i64 + 1);
            program.insns[at] = program.insns[at].with_imm(distance as i32);
        }
        Ok(program)
    }

    /// A function's instructions; its relocations may only be calls.
    fn body(&self, (section, offset): Place, symbol: &Symbol) -> Result<Vec<Insn>, Refusal> {
        let data = &self.object.sections[section].data;
        let end = offset.checked_add(symbol.size).filter(|end| *end <= data.len() as u64);
        let (Some(end), true) = (end, symbol.size > 0 && symbol.size.is_multiple_of(8) && offset.is_multiple_of(8))
        else {
            let detail = format!("symbol {} does not span whole instructions of its section", symbol.name);
            return Err(Refusal::object(Rule::BadElf, detail));
        };
        let bytes = &data[offset as usize..end as usize];
        Ok(bytes.chunks_exact(8).map(|b| Insn::from_bytes(b.try_into().expect("eight bytes"))).collect())
    }

    /// The function that the instruction calls, if it is a call of one of the object's own.
    fn callee(&self, place: Place, at: usize, insn: Insn) -> Result<Option<Place>, Refusal> {
        let offset = place.1 + at as u64 * 8;
        let refuse = |rule, detail| Err(self.refusal(place, at, rule, detail));
        let relocations = &self.object.sections[place.0].relocations;
        let from = relocations.partition_point(|relocation| relocation.offset < offset);
        let to = relocations.partition_point(|relocation| relocation.offset < offset + 8);
        let target = match relocations[from..to] {
            [] if insn.is_local_call() => Some((place.0, offset as i64 + 8 + i64::from(insn.imm()) * 8)),
            [] => return Ok(None),
            [relocation] => {
                let Some(symbol) = self.object.symbols.get(relocation.symbol) else {
                    return refuse(Rule::BadRelocation, format!("uses the unknown symbol {}", relocation.symbol));
                };
                self.relocatable(place, at, insn, relocation.offset == offset, relocation.kind, symbol)?;
                let base = symbol.value as i64;
                symbol.section.map(|section| (section, base.wrapping_add((i64::from(insn.imm()) + 1) * 8)))
            }
            _ => return refuse(Rule::BadRelocation, "is relocated more than once".into()),
        };
        let target = target.and_then(|(section, offset)| Some((section, u64::try_from(offset).ok()?)));
        match target.filter(|target| self.functions.contains_key(target)) {
            Some(target) => Ok(Some(target)),
            None => refuse(Rule::CallTarget, "calls what is not the start of a function of the object".into()),
        }
    }

    /// Refuses every relocation but that of a call of a function in the object.
    fn relocatable(
        &self,
        place: Place,
        at: usize,
        insn: Insn,
        aligned: bool,
        kind: u32,
        symbol: &Symbol,
    ) -> Result<(), Refusal> {
        let refuse = |rule, detail| Err(self.refusal(place, at, rule, detail));
        let Some(section) = symbol.section else {
            return refuse(Rule::UndefinedSymbol, format!("uses {}, which the object does not define", symbol.name));
        };
        let section = &self.object.sections[section];
        let named = if symbol.of_section { &section.name } else { &symbol.name };
        match section.holds {
            Holds::Maps => refuse(Rule::MapReference, format!("uses the map {named}")),
            Holds::Data | Holds::Other => {
                refuse(Rule::DataReference, format!("uses {named} in section {}", section.name))
            }
            Holds::Code if kind == R_BPF_64_64 || insn.is_wide() => {
                refuse(Rule::FunctionAddress, format!("takes the address of {named}"))
            }
            Holds::Code if kind != R_BPF_64_32 || !aligned || !insn.is_local_call() => {
                refuse(Rule::BadRelocation, format!("has a relocation of type {kind} to {named}"))
            }
            Holds::Code => Ok(()),
        }
    }

    fn lines(&self, (section, offset): Place, size: u64) -> &[LineRecord] {
        self.ext.lines(&self.object.sections[section].name, offset, offset + size)
    }

    fn refusal(&self, place: Place, at: usize, rule: Rule, detail: String) -> Refusal {
        let symbol = self.functions[&place];
        let source = self.lines(place, at as u64 * 8 + 1).last().map(|line| line.source(self.btf).into());
        Refusal { rule, function: Some(symbol.name.clone()), insn: Some(at), source, detail }
    }
}
