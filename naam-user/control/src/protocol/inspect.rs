//! What `naam inspect` and `naam doctor` show.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything of this instance that the kernel holds, as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inspection {
    /// Programs.
    pub programs: Vec<ProgramEntry>,
    /// Maps.
    pub maps: Vec<MapEntry>,
    /// Links.
    pub links: Vec<LinkEntry>,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramEntry {
    /// Kernel number.
    pub id: u32,
    /// Name.
    pub name: String,
    /// What it is in NAAM: `entry (xdp)`, `kv/mica_get v2 (xdp)`.
    pub role: String,
    /// Hash of its instructions.
    pub tag: String,
    /// Bytes of machine code.
    pub jited_bytes: u32,
    /// Instructions that the verifier walked through.
    pub verified_insns: u32,
    /// Runs, while the kernel counts them.
    pub runs: u64,
    /// Nanoseconds of those runs.
    pub run_time_ns: u64,
    /// Kernel numbers of its maps.
    pub map_ids: Vec<u32>,
    /// Its place in bpffs, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<PathBuf>,
    /// A command that shows it.
    pub bpftool: String,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapEntry {
    /// Kernel number.
    pub id: u32,
    /// Name.
    pub name: String,
    /// What it is in NAAM.
    pub role: String,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Elements at most.
    pub max_entries: u32,
    /// Whether it carries BTF.
    pub btf: bool,
    /// Its place in bpffs, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<PathBuf>,
    /// A command that shows it.
    pub bpftool: String,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEntry {
    /// Kernel number; 0 for a filter at TC, which is no link.
    pub id: u32,
    /// What it is in NAAM: `xdp on eth0`.
    pub role: String,
    /// Kernel number of its program.
    pub program_id: u32,
    /// Its place in bpffs, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<PathBuf>,
    /// A command that shows it.
    pub bpftool: String,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_out: Option<String>,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, less well than it could.
    Warning,
    /// It does not work.
    Bad,
}
