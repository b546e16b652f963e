//! The shell object, taken apart once into templates that handlers are spliced into.

use std::collections::{HashMap, HashSet};
use std::os::fd::RawFd;

use aya_obj::btf::{Btf, BtfFeatures, BtfKind};
use aya_obj::{Map, Object};
use naam_sys::program::{FuncInfo, LineInfo};
use naam_sys::{Insn, ProgramType};

use crate::hook::Hook;

/// Name of the function that a handler replaces.
pub const STUB: &str = "naam_handler";
/// Name of the constants in `.rodata`.
const CONFIG: &str = "CONFIG";
/// Map that stands for `.rodata`.
pub const RODATA: &str = ".rodata";

/// Why the shell object cannot be used. It is part of the build, so each of these is a broken build.
#[derive(Debug, thiserror::Error)]
#[error("read the shell object: {0}; rebuild it with `cargo xtask build`")]
pub struct BadShell(String);

fn bad<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> BadShell + '_ {
    move |error| BadShell(format!("{what}: {error}"))
}

/// A map's definition in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// Bytes of a value.
    pub value_size: u32,
    /// Elements.
    pub max_entries: u32,
}

impl std::fmt::Display for MapShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} entries of {} bytes", self.max_entries, self.value_size)
    }
}

/// The shapes of an object's maps, by name.
pub fn shapes(elf: &[u8]) -> Result<HashMap<String, MapShape>, BadShell> {
    let object = Object::parse(elf).map_err(bad("parse"))?;
    let shape = |map: &Map| MapShape { value_size: map.value_size(), max_entries: map.max_entries() };
    Ok(object.maps.iter().map(|(name, map)| (name.clone(), shape(map))).collect())
}

/// A shell program with its calls linked and its maps still open.
#[derive(Clone, Debug)]
pub struct Template {
    /// The program's name.
    pub name: String,
    /// What it is loaded as.
    pub program_type: ProgramType,
    /// Instructions; map references hold places in [`Shell::maps`] instead of descriptors.
    pub insns: Vec<Insn>,
    /// Functions, ascending.
    pub functions: Vec<FuncInfo>,
    /// Lines, ascending, one per instruction at most.
    pub lines: Vec<LineInfo>,
}

/// The shell object.
#[derive(Debug)]
pub struct Shell {
    /// Types of all templates.
    pub btf: Btf,
    /// BTF number of the stub.
    pub stub: u32,
    /// BTF number of the stub's prototype.
    pub prototype: u32,
    /// Maps by place: what a template's references mean.
    pub maps: Vec<(String, MapShape)>,
    /// The object's `.rodata`.
    pub rodata: Vec<u8>,
    /// Where the constants stand in it.
    pub config_at: usize,
    templates: HashMap<String, Template>,
}

impl Shell {
    /// Takes the object apart.
    pub fn parse(elf: &[u8]) -> Result<Self, BadShell> {
        let mut object = Object::parse(elf).map_err(bad("parse"))?;
        let all = BtfFeatures::new(true, true, true, true, true, true, true, true);
        object.fixup_and_sanitize_btf(&all).map_err(bad("BTF"))?;
        let btf = object.btf.clone().ok_or_else(|| BadShell("no BTF".into()))?;
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let mut maps: Vec<(String, Map)> = std::mem::take(&mut object.maps).into_iter().collect();
        maps.sort_by(|a, b| a.0.cmp(&b.0));
        let numbered = maps.iter().enumerate().map(|(place, (name, map))| (name.as_str(), place as RawFd, map));
        object.relocate_maps(numbered, &text).map_err(bad("map references"))?;
        object.relocate_calls(&text).map_err(bad("calls"))?;
        let stub = btf.id_by_type_name_kind(STUB, BtfKind::Func).map_err(bad("stub"))?;
        let prototype =
            function_prototype(&btf.to_bytes(), stub).ok_or_else(|| BadShell("stub without type".into()))?;
        let rodata = maps.iter().find(|(name, _)| name == RODATA).map(|(_, map)| map.data().to_vec());
        let rodata = rodata.ok_or_else(|| BadShell("no .rodata".into()))?;
        let config_at = symbol_offset(elf, CONFIG)?;
        let size = size_of::<naam_abi::tables::ProgramConfig>();
        if config_at + size > rodata.len() {
            return Err(BadShell(format!("{CONFIG} does not lie in {RODATA}")));
        }
        let mut templates = HashMap::new();
        for (name, program) in &object.programs {
            let function = object
                .functions
                .get(&program.function_key())
                .ok_or_else(|| BadShell(format!("program {name} without function")))?;
            let program_type = match program.section {
                aya_obj::ProgramSection::Xdp { .. } => ProgramType::Xdp,
                _ => ProgramType::SchedCls,
            };
            let insns = function.instructions.iter().map(insn).collect();
            let functions = function.func_info.func_info.iter();
            let functions = functions.map(|f| FuncInfo { insn_off: f.insn_off, type_id: f.type_id }).collect();
            let mut lines: Vec<LineInfo> = function
                .line_info
                .line_info
                .iter()
                .map(|l| LineInfo {
                    insn_off: l.insn_off,
                    file_name_off: l.file_name_off,
                    line_off: l.line_off,
                    line_col: l.line_col,
                })
                .collect();
            lines.sort_by_key(|line| line.insn_off);
            lines.dedup_by_key(|line| line.insn_off);
            templates.insert(name.clone(), Template { name: name.clone(), program_type, insns, functions, lines });
        }
        let maps = maps
            .into_iter()
            .map(|(name, map)| {
                let shape = MapShape { value_size: map.value_size(), max_entries: map.max_entries() };
                (name, shape)
            })
            .collect();
        Ok(Self { btf, stub, prototype, maps, rodata, config_at, templates })
    }

    /// The template of programs for Continues.
    pub fn continue_template(&self, hook: Hook) -> Result<&Template, BadShell> {
        let name = match hook {
            Hook::Xdp => "naam_shell_xdp_continue",
            Hook::Tc => "naam_shell_tc_continue",
        };
        self.templates.get(name).ok_or_else(|| BadShell(format!("no program {name}")))
    }

    /// The template for a hook and loop variant.
    pub fn template(&self, hook: Hook, may_goto: bool) -> Result<&Template, BadShell> {
        let name = match (hook, may_goto) {
            (Hook::Xdp, true) => "naam_shell_xdp",
            (Hook::Xdp, false) => "naam_shell_xdp_loop",
            (Hook::Tc, true) => "naam_shell_tc",
            (Hook::Tc, false) => "naam_shell_tc_loop",
        };
        self.templates.get(name).ok_or_else(|| BadShell(format!("no program {name}")))
    }

    /// A map's definition.
    pub fn map(&self, name: &str) -> Result<MapShape, BadShell> {
        let found = self.maps.iter().find(|(candidate, _)| candidate == name);
        found.map(|(_, shape)| *shape).ok_or_else(|| BadShell(format!("no map {name}")))
    }
}

fn insn(insn: &aya_obj::generated::bpf_insn) -> Insn {
    Insn::new(insn.code, insn.dst_reg(), insn.src_reg(), insn.off, insn.imm)
}

/// Offset of a data symbol in its section.
fn symbol_offset(elf: &[u8], name: &str) -> Result<usize, BadShell> {
    use object::{Object as _, ObjectSymbol as _};
    let file = object::File::parse(elf).map_err(bad("ELF"))?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name));
    symbol.map(|symbol| symbol.address() as usize).ok_or_else(|| BadShell(format!("no symbol {name}")))
}

/// Number of the prototype of FUNC `id` in raw BTF.
fn function_prototype(btf: &[u8], id: u32) -> Option<u32> {
    const KIND_FUNC: u32 = 12;
    let word = |at: usize| Some(u32::from_le_bytes(btf.get(at..at + 4)?.try_into().ok()?));
    let header = word(4)? as usize;
    let mut at = header + word(8)? as usize;
    let end = at + word(12)? as usize;
    let mut current = 1;
    while at < end {
        let info = word(at + 4)?;
        let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if current == id {
            return (kind == KIND_FUNC).then(|| word(at + 8)).flatten();
        }
        at += 12 + type_tail(kind, members);
        current += 1;
    }
    None
}

/// Bytes behind the 12-byte head of a BTF type.
fn type_tail(kind: u32, members: usize) -> usize {
    match kind {
        1 | 14 | 17 => 4,                // INT, VAR, DECL_TAG
        3 => 12,                         // ARRAY
        4 | 5 | 15 | 19 => members * 12, // STRUCT, UNION, DATASEC, ENUM64
        6 | 13 => members * 8,           // ENUM, FUNC_PROTO
        _ => 0,
    }
}
