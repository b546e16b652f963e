//! Maps of the shell. BTF definitions only, so that libbpf, bpftool and veristat read them.
//! The maps of this module are shared by entry and handler programs, pinned, and adopted by a
//! restarted daemon.

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray, ProgramArray},
    macros::btf_map,
};
use naam_abi::{
    limits::{APPS_MAX, FUNCTIONS_MAX, INTERFACES_MAX, PROGRAMS_MAX, SESSIONS_MAX, SHARDS_MAX},
    stats::AppStats,
    tables::{AppEntry, FunctionEntry, SessionEntry},
};

use crate::visit::Visit;

/// `BPF_F_MMAPABLE`: the daemon writes these tables through its own mapping, word by word, so that a
/// program never sees half a word.
pub const MMAPABLE: usize = 1 << 10;

/// Apps by number.
#[btf_map]
pub static APPS: Array<AppEntry, APPS_MAX, MMAPABLE> = Array::new();

/// Functions by `app * FUNCTIONS_MAX + function`.
#[btf_map]
pub static FUNCTIONS: Array<FunctionEntry, { APPS_MAX * FUNCTIONS_MAX }, MMAPABLE> = Array::new();

/// Placement words by `app * SHARDS_MAX + shard`.
#[btf_map]
pub static STEER: Array<u64, { APPS_MAX * SHARDS_MAX }, MMAPABLE> = Array::new();

/// Sessions by their low bits.
#[btf_map]
pub static SESSIONS: Array<SessionEntry, SESSIONS_MAX, MMAPABLE> = Array::new();

/// Addresses of the interfaces that XDP serves, by [`naam_abi::tables::InterfaceWord::place`].
#[btf_map]
pub static INTERFACES: Array<u64, INTERFACES_MAX, MMAPABLE> = Array::new();

/// Handler programs for XDP.
#[btf_map]
pub static PROGRAMS: ProgramArray<PROGRAMS_MAX> = ProgramArray::new();

/// Handler programs for TC.
#[btf_map]
pub static PROGRAMS_TC: ProgramArray<PROGRAMS_MAX> = ProgramArray::new();

/// Counters by app; the last entry is where numbers out of range would be counted. Every port tells an app, so it stays
/// zero.
#[btf_map]
pub static APP_STATS: PerCpuArray<AppStats, { APPS_MAX + 1 }> = PerCpuArray::new();

/// What the entry tells the handler program about the datagram at hand.
#[btf_map]
pub static VISIT: PerCpuArray<Visit, 1> = PerCpuArray::new();
