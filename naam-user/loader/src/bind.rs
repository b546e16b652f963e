//! Bind: a spliced program gets its maps and constants, and goes to the kernel.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use naam_abi::tables::ProgramConfig;
use naam_sys::map::READ_ONLY_FOR_PROGRAMS;
use naam_sys::program::Log;
use naam_sys::{Btf, Insn, Loaded, Map, MapSpec, MapType, ProgramSpec, ProgramType, Update};

use crate::error::LoaderError;
use crate::hook::Hook;
use crate::splice::Spliced;
use crate::template::{RODATA, Shell};

const LD_IMM64: u8 = 0x18;
/// `src` of a ld_imm64 that takes a map.
const PSEUDO_MAP_FD: u8 = 1;
/// `src` of a ld_imm64 that takes an address in a map's only value.
const PSEUDO_MAP_VALUE: u8 = 2;

/// `enum bpf_attach_type`: XDP.
const BPF_XDP: u32 = 37;

/// Loads `spliced` with its maps. `maps` names every map of the shell but `.rodata`, which is made
/// here from `config` and frozen: the verifier then takes it for constants.
pub fn load(
    shell: &Shell,
    spliced: &Spliced,
    maps: &HashMap<&str, BorrowedFd<'_>>,
    config: &ProgramConfig,
    name: &str,
    hook: Hook,
    log: Log,
) -> Result<Loaded, LoaderError> {
    let constants = constants(shell, config)?;
    let mut insns = spliced.insns.clone();
    let mut at = 0;
    while at < insns.len() {
        let insn = insns[at];
        if insn.code != LD_IMM64 {
            at += 1;
            continue;
        }
        if matches!(insn.src(), PSEUDO_MAP_FD | PSEUDO_MAP_VALUE) {
            let place = insn.imm as usize;
            let map = shell.maps.get(place).map(|(name, _)| name.as_str()).unwrap_or_default();
            let fd = if map == RODATA { Some(constants.as_fd()) } else { maps.get(map).copied() };
            let fd = fd.ok_or_else(|| LoaderError::Missing { operation: "bind a handler", object: map.into() })?;
            insns[at].imm = fd.as_raw_fd();
        }
        at += 2;
    }
    let btf = Btf::load(&spliced.btf).map_err(|error| refused(name, hook, &error))?;
    // A program array takes programs of one type and one attach type: those of the entry, which aya
    // loads with BPF_XDP.
    let (program_type, expected_attach_type) = match hook {
        Hook::Xdp => (ProgramType::Xdp, BPF_XDP),
        Hook::Tc => (ProgramType::SchedCls, 0),
    };
    let kernel_name: String = format!("naam_{name}").chars().take(15).collect();
    let spec = ProgramSpec {
        btf: Some(&btf),
        func_info: &spliced.functions,
        line_info: &spliced.lines,
        expected_attach_type,
        log,
        ..ProgramSpec::new(program_type, &kernel_name, &insns)
    };
    naam_sys::Program::load(&spec).map_err(|error| refused(name, hook, &error))
}

fn refused(name: &str, hook: Hook, error: &naam_sys::LoadError) -> LoaderError {
    LoaderError::Verifier { name: name.into(), hook, cause: error.to_string(), log: error.log.clone() }
}

/// The program's own frozen `.rodata`.
fn constants(shell: &Shell, config: &ProgramConfig) -> Result<Map, LoaderError> {
    let mut bytes = shell.rodata.clone();
    let encoded = encode(config);
    bytes[shell.config_at..][..encoded.len()].copy_from_slice(&encoded);
    let map = Map::create(&MapSpec {
        name: "naam.rodata",
        map_type: MapType::Array,
        key_size: 4,
        value_size: bytes.len() as u32,
        max_entries: 1,
        flags: READ_ONLY_FOR_PROGRAMS,
        btf: None,
    })?;
    map.update(&0u32.to_ne_bytes(), &bytes, Update::Any)?;
    map.freeze()?;
    Ok(map)
}

/// The constants as they lie in memory.
fn encode(config: &ProgramConfig) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of::<ProgramConfig>());
    let words = [config.app, config.version, config.flags, config.regions, config.reply_max, config.steps_max];
    words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
    bytes.extend(config.time_budget_ns.to_ne_bytes());
    let words = [config.view_len, config.function, config.clock_mask, config.state_len];
    words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
    config.value_len.iter().for_each(|len| bytes.extend(len.to_ne_bytes()));
    config.value_shift.iter().for_each(|shift| bytes.extend(shift.to_ne_bytes()));
    config.values.iter().for_each(|values| bytes.extend(values.to_ne_bytes()));
    assert_eq!(bytes.len(), size_of::<ProgramConfig>());
    bytes
}

/// An instruction is what the kernel sees.
const _: () = assert!(size_of::<Insn>() == 8);
