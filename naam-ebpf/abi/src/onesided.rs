//! Built-in one-sided functions: single memory ops, and short chains of them, by number.
//!
//! They are ordinary handlers of ours (`naam-ebpf/handlers/src/onesided.rs`), loaded for an app like any other, except
//! that their numbers are below [`BUILTIN_FUNCTIONS`] and their ops are checked against the session's *raw* rights,
//! which are zero unless granted. Reading ones may run more than once; writing ones run exactly once, by slots.
//! Offsets and lengths are multiples of 8, and no op straddles two map values of a region.
//!
//! ```text
//! function      arguments                                                     reply
//! 0 naam_read    0 u32 region   4 u32 len, 8..=1024    8 u64 offset           len bytes
//! 1 naam_write   0 u32 region   4 u32 len, 8..=1000    8 u64 offset           nothing
//!               16 len bytes
//! 2 naam_cas     0 u32 region   4 u32 0                8 u64 offset           0 u64 the word found
//!               16 u64 expected 24 u64 new                                    code OTHER_WORD: not exchanged
//! 3 naam_faa     0 u32 region   4 u32 0                8 u64 offset           0 u64 the word before
//!               16 u64 addend
//! 4 naam_chain   0 u32 ops, 1..=4    4 u32 0                                  0 u64 ops that were done
//!                8 the ops, 32 bytes each                                     8 the results, op by op
//!                  anywhere behind them: bytes to write
//!
//! an op of a chain                                                            its result
//! READ    0 u32 1   4 u32 region   8 u64 offset   16 u64 len       24 u64 0         len bytes
//! WRITE   0 u32 2   4 u32 region   8 u64 offset   16 u64 len       24 u64 source    nothing
//! CAS     0 u32 3   4 u32 region   8 u64 offset   16 u64 expected  24 u64 new       u64 the word found
//! FAA     0 u32 4   4 u32 region   8 u64 offset   16 u64 addend    24 u64 0         u64 the word before
//! ```
//!
//! `source` is the byte of the arguments at which the bytes to write begin. A chain performs its ops in order and stops
//! at the first that fails. A CAS that finds another word ends it with code [`OTHER_WORD`]: the reply has that word as
//! its last result, and does not count the op. An op outside of its region, or one that the session has no raw right
//! for, ends it with that status, and the code is the number of ops done. All else is checked before the first op: a
//! chain with malformed arguments, or whose reply would be longer than [`CHAIN_REPLY_BYTES`], fails with
//! [`BAD_ARGUMENTS`] and has done nothing. (The slot of a writing function keeps its reply for retries; a plain READ
//! writes nothing, so its reply may have 1,024 bytes.)

use crate::limits::{ARGS_BYTES, BUILTIN_FUNCTIONS, SLOT_REPLY_BYTES, VIEW_LARGE};

/// Function number: READ.
pub const READ: u16 = 0;
/// Function number: WRITE.
pub const WRITE: u16 = 1;
/// Function number: CAS.
pub const CAS: u16 = 2;
/// Function number: FAA.
pub const FAA: u16 = 3;
/// Function number: a chain.
pub const CHAIN: u16 = 4;
/// Number of built-in functions that exist.
pub const COUNT: usize = 5;
/// Their names, which are those of their handlers, by number.
pub const NAMES: [&str; COUNT] = ["naam_read", "naam_write", "naam_cas", "naam_faa", "naam_chain"];

/// Most bytes of a READ.
pub const READ_BYTES_MAX: usize = VIEW_LARGE;
/// Most bytes of a WRITE.
pub const WRITE_BYTES_MAX: usize = 1000;
/// Bytes of arguments before those that a WRITE writes; of a READ, all.
pub const HEAD_BYTES: usize = 16;
/// Most ops of a chain.
pub const CHAIN_OPS_MAX: usize = 4;
/// Bytes of a chain's arguments before its ops.
pub const CHAIN_HEAD_BYTES: usize = 8;
/// Bytes of an op of a chain.
pub const CHAIN_OP_BYTES: usize = 32;
/// Most bytes of a chain's reply: the count, and all results.
pub const CHAIN_REPLY_BYTES: usize = SLOT_REPLY_BYTES;

/// Code: a CAS found another word than it expected. Its reply is the word.
pub const OTHER_WORD: u32 = 1;
/// Code of a message that failed because its arguments are malformed. It has done nothing.
pub const BAD_ARGUMENTS: u32 = 2;

/// Whether `function` is one of the runtime's own, for which raw rights count.
pub const fn is_builtin(function: u32) -> bool {
    function < BUILTIN_FUNCTIONS as u32
}

/// An op of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the module's table documents every field")]
pub enum Op<'a> {
    Read { region: u32, offset: u64, len: u32 },
    Write { region: u32, offset: u64, bytes: &'a [u8] },
    Cas { region: u32, offset: u64, expect: u64, new: u64 },
    Faa { region: u32, offset: u64, addend: u64 },
}

/// Arguments of a READ.
pub fn read_args(region: u32, offset: u64, len: u32) -> [u8; HEAD_BYTES] {
    head(region, len, offset)
}

/// Arguments of a CAS.
pub fn cas_args(region: u32, offset: u64, expect: u64, new: u64) -> [u8; HEAD_BYTES + 16] {
    let mut args = [0; HEAD_BYTES + 16];
    args[..16].copy_from_slice(&head(region, 0, offset));
    args[16..24].copy_from_slice(&expect.to_le_bytes());
    args[24..].copy_from_slice(&new.to_le_bytes());
    args
}

/// Arguments of a FAA.
pub fn faa_args(region: u32, offset: u64, addend: u64) -> [u8; HEAD_BYTES + 8] {
    let mut args = [0; HEAD_BYTES + 8];
    args[..16].copy_from_slice(&head(region, 0, offset));
    args[16..].copy_from_slice(&addend.to_le_bytes());
    args
}

/// Arguments of a WRITE, put into `out`; how many bytes they have. `None` if they do not fit, or `bytes` is longer than
/// [`WRITE_BYTES_MAX`].
pub fn write_args(region: u32, offset: u64, bytes: &[u8], out: &mut [u8]) -> Option<usize> {
    let len = HEAD_BYTES + bytes.len();
    let args = out.get_mut(..len).filter(|_| bytes.len() <= WRITE_BYTES_MAX)?;
    args[..HEAD_BYTES].copy_from_slice(&head(region, bytes.len() as u32, offset));
    args[HEAD_BYTES..].copy_from_slice(bytes);
    Some(len)
}

/// Arguments of a chain, put into `out`; how many bytes they have. `None` if they do not fit, there is no op or more
/// than [`CHAIN_OPS_MAX`], or the reply would be longer than [`CHAIN_REPLY_BYTES`].
pub fn chain_args(ops: &[Op<'_>], out: &mut [u8]) -> Option<usize> {
    let mut source = CHAIN_HEAD_BYTES + ops.len() * CHAIN_OP_BYTES;
    if ops.is_empty() || ops.len() > CHAIN_OPS_MAX || chain_reply_len(ops) > CHAIN_REPLY_BYTES {
        return None;
    }
    out.get_mut(..CHAIN_HEAD_BYTES)?.copy_from_slice(&(ops.len() as u64).to_le_bytes());
    for (i, op) in ops.iter().enumerate() {
        let (kind, region, offset, a, b) = match *op {
            Op::Read { region, offset, len } => (READ, region, offset, u64::from(len), 0),
            Op::Write { region, offset, bytes } => {
                let at = source;
                source += bytes.len();
                out.get_mut(at..source)?.copy_from_slice(bytes);
                (WRITE, region, offset, bytes.len() as u64, at as u64)
            }
            Op::Cas { region, offset, expect, new } => (CAS, region, offset, expect, new),
            Op::Faa { region, offset, addend } => (FAA, region, offset, addend, 0),
        };
        let at = CHAIN_HEAD_BYTES + i * CHAIN_OP_BYTES;
        let words = [(u64::from(kind) + 1) | u64::from(region) << 32, offset, a, b];
        for (to, word) in out.get_mut(at..at + CHAIN_OP_BYTES)?.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
    }
    Some(source)
}

/// Bytes of a chain's reply if all of its ops are done.
pub fn chain_reply_len(ops: &[Op<'_>]) -> usize {
    let results = ops.iter().map(|op| match *op {
        Op::Read { len, .. } => len as usize,
        Op::Write { .. } => 0,
        Op::Cas { .. } | Op::Faa { .. } => 8,
    });
    results.fold(8, usize::saturating_add)
}

fn head(region: u32, len: u32, offset: u64) -> [u8; HEAD_BYTES] {
    let mut args = [0; HEAD_BYTES];
    args[..4].copy_from_slice(&region.to_le_bytes());
    args[4..8].copy_from_slice(&len.to_le_bytes());
    args[8..].copy_from_slice(&offset.to_le_bytes());
    args
}

const _: () = {
    assert!(COUNT <= BUILTIN_FUNCTIONS as usize);
    assert!(HEAD_BYTES + WRITE_BYTES_MAX <= ARGS_BYTES);
    assert!(CHAIN_HEAD_BYTES + CHAIN_OPS_MAX * CHAIN_OP_BYTES <= ARGS_BYTES);
    // A chain's ops name themselves as steps do.
    assert!(READ + 1 == crate::handler::Step::Read as u16 && WRITE + 1 == crate::handler::Step::Write as u16);
    assert!(CAS + 1 == crate::handler::Step::Cas as u16 && FAA + 1 == crate::handler::Step::Faa as u16);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_lie_as_the_table_has_them() {
        assert_eq!(read_args(1, 0x0203, 16), [1, 0, 0, 0, 16, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(cas_args(7, 8, 9, 10)[..8], [7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((cas_args(7, 8, 9, 10)[16], cas_args(7, 8, 9, 10)[24]), (9, 10));
        assert_eq!(faa_args(7, 8, 11)[8..], [8, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0]);
        let mut out = [0; ARGS_BYTES];
        assert_eq!(write_args(2, 8, b"12345678", &mut out), Some(24));
        assert_eq!((&out[..16], &out[16..24]), (&b"\x02\0\0\0\x08\0\0\0\x08\0\0\0\0\0\0\0"[..], &b"12345678"[..]));
        assert_eq!(write_args(2, 8, &[0; 1001], &mut out), None);
        assert_eq!(write_args(2, 8, &[0; 8], &mut [0; 23]), None);
    }

    #[test]
    fn chains_lie_as_the_table_has_them() {
        let mut out = [0; ARGS_BYTES];
        let ops = [
            Op::Cas { region: 1, offset: 2, expect: 3, new: 4 },
            Op::Write { region: 5, offset: 6, bytes: b"abcdefgh" },
            Op::Read { region: 7, offset: 8, len: 24 },
        ];
        let len = chain_args(&ops, &mut out).unwrap();
        assert_eq!((len, chain_reply_len(&ops)), (8 + 3 * 32 + 8, 8 + 8 + 24));
        let words: [u64; 14] = core::array::from_fn(|i| u64::from_le_bytes(out[i * 8..i * 8 + 8].try_into().unwrap()));
        let first = [3, 3 | 1 << 32, 2, 3, 4];
        let rest = [2 | 5 << 32, 6, 8, 104, 1 | 7 << 32, 8, 24, 0];
        assert_eq!((&words[..5], &words[5..13], words[13].to_le_bytes()), (&first[..], &rest[..], *b"abcdefgh"));
        let read = |len| Op::Read { region: 0, offset: 0, len };
        assert!(chain_args(&[read(232)], &mut out).is_some() && chain_args(&[read(240)], &mut out).is_none());
        assert!(chain_args(&[], &mut out).is_none() && chain_args(&[read(8); 5], &mut out).is_none());
        assert!(chain_args(&[read(u32::MAX); 4], &mut out).is_none());
        let long = Op::Write { region: 0, offset: 0, bytes: &[0; 944] };
        assert!(chain_args(&[long], &mut out).is_some() && chain_args(&[long, long], &mut out).is_none());
    }
}
