//! Maps that only handler programs use.
//!
//! `REGION_0..7` and `SCRATCH` are placeholders: each handler program is loaded with its own app's
//! regions and scratch in their place, and so holds no path to another app's memory.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use naam_abi::{
    limits::{SESSIONS_MAX, SLOTS_MAX},
    tables::SlotEntry,
};

use naam_shell::maps::MMAPABLE;

use crate::scratch::Scratch;

/// Request slots by session and slot number.
#[btf_map]
pub static SLOTS: Array<SlotEntry, { SESSIONS_MAX * SLOTS_MAX }, MMAPABLE> = Array::new();

/// Messages at work, by CPU. A plain array, because a per-CPU value is limited to 32 KiB; the
/// loader makes it as long as the machine has CPUs.
#[btf_map]
pub static SCRATCH: Array<Scratch, 1> = Array::new();

/// A region's place; the bound map has other sizes.
pub type Region = Array<[u64; 512], 1>;

macro_rules! regions {
    ($($name:ident)*) => { $(
        /// An app's region, bound when a handler is loaded.
        #[btf_map]
        pub static $name: Region = Array::new();
    )* };
}
regions!(REGION_0 REGION_1 REGION_2 REGION_3 REGION_4 REGION_5 REGION_6 REGION_7);
