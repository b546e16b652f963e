//! Log: cold events, in words, to whoever reads the ring buffer (`naam serve` does).
//!
//! Records are aya-log's, read by its `EbpfLogger`. They are written here and not by the macros of
//! `aya-log-ebpf`, whose ring buffer has a legacy definition that libbpf and bpftool refuse. What a
//! record says is a constant but for one number, so writing one is a copy.

use aya_ebpf::{
    btf_maps::{PerCpuArray, RingBuf},
    helpers::generated::bpf_ktime_get_ns,
    macros::btf_map,
};
use aya_log_common::{ArgumentKind, Level, RecordFieldKind};

/// The ring buffer, under the name that aya-log looks for. A type for its values would contradict
/// their size, which is 0 for a ring buffer: libbpf refuses that.
#[btf_map]
pub static AYA_LOGS: RingBuf<(), { 64 << 10 }> = RingBuf::new();

/// When each [`Event`] was last logged on this CPU, in nanoseconds since boot.
#[btf_map]
pub static LOGGED: PerCpuArray<u64, { EVENTS.len() }> = PerCpuArray::new();

/// What is worth a word, as a number.
#[derive(Clone, Copy)]
pub enum Event {
    /// A tag does not match.
    Tag = 0,
    /// The function table names a program that is not there.
    Program = 1,
    /// A datagram for an app that is not served.
    App = 2,
}

/// The words, in the order of [`Event`]; before them stands `app N: `.
const EVENTS: [(Level, &str); 3] = [
    (Level::Warn, "datagram dropped, wrong tag (another key, or corruption)"),
    (Level::Warn, "datagram dropped, the function's program is not loaded"),
    (Level::Info, "datagram for an app that is not served"),
];

/// An event is logged once in this time on a CPU: a flood of bad datagrams is no flood of words.
const PAUSE_NS: u64 = 1_000_000_000;
/// Target of the records.
const TARGET: &str = "naam::entry";
/// Bytes before an argument's or field's value: kind and length.
const HEAD: usize = 3;
/// Where the app's number stands: behind length, target, level, module, file, line, number of
/// arguments, and the first argument.
const APP_AT: usize =
    2 + (HEAD + TARGET.len()) + (HEAD + 1) + HEAD + HEAD + (HEAD + 4) + (HEAD + 4) + (HEAD + 4) + HEAD;
/// Room for a record: `: ` and the words follow the number.
const RECORD_BYTES: usize = APP_AT + 4 + (HEAD + 2) + (HEAD + 60);

/// A record without its number. It may be shorter than its room.
const fn record(level: Level, words: &str) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    let mut at = field(&mut bytes, 2, RecordFieldKind::Target as u8, TARGET.as_bytes());
    at = field(&mut bytes, at, RecordFieldKind::Level as u8, &[level as u8]);
    at = field(&mut bytes, at, RecordFieldKind::Module as u8, &[]);
    at = field(&mut bytes, at, RecordFieldKind::File as u8, &[]);
    at = field(&mut bytes, at, RecordFieldKind::Line as u8, &0u32.to_ne_bytes());
    at = field(&mut bytes, at, RecordFieldKind::NumArgs as u8, &4u32.to_ne_bytes());
    at = field(&mut bytes, at, ArgumentKind::Str as u8, b"app ");
    assert!(at + HEAD == APP_AT);
    at = field(&mut bytes, at, ArgumentKind::U32 as u8, &[0; 4]);
    at = field(&mut bytes, at, ArgumentKind::Str as u8, b": ");
    at = field(&mut bytes, at, ArgumentKind::Str as u8, words.as_bytes());
    put(&mut bytes, 0, &(at as u16).to_ne_bytes());
    bytes
}

/// Writes kind, length and value; returns where the next field starts.
const fn field(bytes: &mut [u8; RECORD_BYTES], at: usize, kind: u8, value: &[u8]) -> usize {
    let at = put(bytes, at, &[kind]);
    let at = put(bytes, at, &(value.len() as u16).to_ne_bytes());
    put(bytes, at, value)
}

const fn put(bytes: &mut [u8; RECORD_BYTES], at: usize, value: &[u8]) -> usize {
    let mut i = 0;
    while i < value.len() {
        bytes[at + i] = value[i];
        i += 1;
    }
    at + value.len()
}

static RECORDS: [[u8; RECORD_BYTES]; EVENTS.len()] = {
    let mut records = [[0; RECORD_BYTES]; EVENTS.len()];
    let mut i = 0;
    while i < EVENTS.len() {
        records[i] = record(EVENTS[i].0, EVENTS[i].1);
        i += 1;
    }
    records
};

/// Logs an event of `app`, unless one like it was logged a moment ago on this CPU.
///
/// A function of its own, so that the ways that do not log stay as short as they were.
#[inline(never)]
pub fn log(event: Event, app: u32) {
    let Some(last) = LOGGED.get_ptr_mut(event as u32) else { return };
    // SAFETY: reads a clock.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a per-CPU value; programs on one CPU do not overlap.
    let recent = unsafe { now - *last < PAUSE_NS };
    if recent {
        return;
    }
    // SAFETY: as above.
    unsafe { *last = now };
    let Some(mut record) = AYA_LOGS.reserve_bytes(RECORD_BYTES, 0) else { return };
    record.copy_from_slice(&RECORDS[event as usize]);
    record[APP_AT..APP_AT + 4].copy_from_slice(&app.to_ne_bytes());
    record.submit(0);
}
