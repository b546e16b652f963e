//! What is constant in one handler program.
//!
//! The loader writes [`CONFIG`] into the program's frozen `.rodata`. The verifier reads it there, so
//! branches that the handler does not need vanish from its program.

use naam_abi::{
    limits::{REGIONS_MAX, REPLY_BYTES, STATE_BYTES, STEPS_MAX, TIME_BUDGET_NS, VIEW_LARGE},
    tables::ProgramConfig,
};

/// Replaced by the loader.
#[unsafe(no_mangle)]
pub static CONFIG: ProgramConfig = ProgramConfig {
    app: 0,
    version: 1,
    flags: 0,
    regions: 0,
    reply_max: REPLY_BYTES as u32,
    steps_max: STEPS_MAX,
    time_budget_ns: TIME_BUDGET_NS,
    view_len: VIEW_LARGE as u32,
    function: 0,
    clock_mask: 0,
    state_len: STATE_BYTES as u32,
    value_len: [0; REGIONS_MAX],
    value_shift: [0; REGIONS_MAX],
    values: [0; REGIONS_MAX],
};

/// Reads one field; volatile, because the loader replaces the value that LLVM sees.
macro_rules! constant {
    ($($field:tt)+) => {
        // SAFETY: a static of this object.
        unsafe { (&raw const $crate::config::CONFIG.$($field)+).read_volatile() }
    };
}
pub(crate) use constant;

/// Whether all bits of `flag` are set.
#[inline(always)]
pub fn has(flag: u32) -> bool {
    constant!(flags) & flag != 0
}
