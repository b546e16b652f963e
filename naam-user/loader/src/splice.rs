//! Splice: a handler's instructions take the stub's place in a shell template.

use aya_obj::btf::{Btf, BtfType, Func, FuncLinkage};
use naam_admission::Admitted;
use naam_sys::Insn;
use naam_sys::program::{FuncInfo, LineInfo};

use crate::template::{Shell, Template};

const CALL: u8 = 0x85;
const LD_IMM64: u8 = 0x18;
/// `src` of a call to a function of the same program.
const PSEUDO_CALL: u8 = 1;
/// `src` of a ld_imm64 that takes a function's address.
const PSEUDO_FUNC: u8 = 4;

/// A program ready to be bound to its maps and loaded.
#[derive(Clone, Debug)]
pub struct Spliced {
    /// Instructions; map references hold places.
    pub insns: Vec<Insn>,
    /// Functions.
    pub functions: Vec<FuncInfo>,
    /// Lines.
    pub lines: Vec<LineInfo>,
    /// Raw BTF: the shell's, and the handler's functions by their own names.
    pub btf: Vec<u8>,
}

/// Puts `handler` in the stub's place.
///
/// The handler's entry keeps the stub's prototype, and global linkage: the verifier checks it on
/// its own, against exactly these types. Its local functions get static linkage: they are checked
/// where they are called.
///
/// # Panics
/// If the template does not hold the stub, which [`Shell::parse`] rules out.
pub fn splice(shell: &Shell, template: &Template, handler: &Admitted) -> Spliced {
    let mut starts = template.functions.iter().map(|function| function.insn_off).collect::<Vec<_>>();
    starts.sort_unstable();
    let stub = template.functions.iter().find(|function| function.type_id == shell.stub);
    let start = stub.expect("the template holds the stub").insn_off;
    let end = starts.iter().copied().find(|&at| at > start).unwrap_or(template.insns.len() as u32);
    let moved = |at: u32| if at >= end { at - (end - start) + handler.insns().len() as u32 } else { at };

    let mut insns = Vec::with_capacity(template.insns.len() + handler.insns().len());
    for (at, insn) in (0u32..).zip(&template.insns) {
        if at == start {
            insns.extend(handler.insns().iter().map(|insn| Insn::from_bytes(insn.to_bytes())));
        }
        if (start..end).contains(&at) {
            continue;
        }
        let mut insn = *insn;
        let relative =
            (insn.code == CALL && insn.src() == PSEUDO_CALL) || (insn.code == LD_IMM64 && insn.src() == PSEUDO_FUNC);
        if relative {
            let target = (i64::from(at) + 1 + i64::from(insn.imm)) as u32;
            insn.imm = (i64::from(moved(target)) - i64::from(moved(at)) - 1) as i32;
        }
        insns.push(insn);
    }

    let mut btf = shell.btf.clone();
    let mut functions = Vec::with_capacity(template.functions.len() + handler.functions().len());
    for function in &template.functions {
        if function.insn_off != start {
            functions.push(FuncInfo { insn_off: moved(function.insn_off), ..*function });
        }
    }
    for (number, function) in handler.functions().iter().enumerate() {
        let linkage = if number == 0 { FuncLinkage::Global } else { FuncLinkage::Static };
        let type_id = add_function(&mut btf, &function.name, shell.prototype, linkage);
        functions.push(FuncInfo { insn_off: start + function.first as u32, type_id });
    }
    functions.sort_by_key(|function| function.insn_off);

    let mut lines: Vec<LineInfo> = template
        .lines
        .iter()
        .filter(|line| !(start..end).contains(&line.insn_off))
        .map(|line| LineInfo { insn_off: moved(line.insn_off), ..*line })
        .collect();
    lines.extend(handler_lines(&mut btf, handler, start));
    lines.sort_by_key(|line| line.insn_off);
    lines.dedup_by_key(|line| line.insn_off);
    Spliced { insns, functions, lines, btf: btf.to_bytes() }
}

fn add_function(btf: &mut Btf, name: &str, prototype: u32, linkage: FuncLinkage) -> u32 {
    let name = btf.add_string(&identifier(name));
    btf.add_type(BtfType::Func(Func::new(name, prototype, linkage)))
}

/// The kernel wants C identifiers for function names.
fn identifier(name: &str) -> String {
    let mut identifier: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).take(127).collect();
    if !identifier.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        identifier.insert(0, '_');
    }
    identifier
}

/// The handler's lines, with one for the start of every function: the kernel demands those.
fn handler_lines(btf: &mut Btf, handler: &Admitted, start: u32) -> Vec<LineInfo> {
    const LINE_MAX: u32 = (1 << 22) - 1;
    const COLUMN_MAX: u32 = (1 << 10) - 1;
    // The kernel refuses control characters in strings of line info.
    let clean = |text: &str| text.chars().filter(|c| c.is_ascii() && !c.is_ascii_control()).collect::<String>();
    let mut lines: Vec<LineInfo> = handler
        .lines
        .iter()
        .map(|line| LineInfo {
            insn_off: start + line.insn as u32,
            file_name_off: btf.add_string(&clean(&line.source.file)),
            line_off: btf.add_string(&clean(&line.source.text)),
            line_col: line.source.line.min(LINE_MAX) << 10 | line.source.column.min(COLUMN_MAX),
        })
        .collect();
    for function in handler.functions() {
        if !handler.lines.iter().any(|line| line.insn == function.first) {
            let name = btf.add_string(&identifier(&function.name));
            let insn_off = start + function.first as u32;
            lines.push(LineInfo { insn_off, file_name_off: name, line_off: name, line_col: 0 });
        }
    }
    lines
}
