//! What a handler sees: its message, its view, and the steps it may answer with.
//!
//! C authors get the same declarations from `naam.h`; a test keeps the two equal.

use crate::limits::{ARGS_BYTES, REPLY_BYTES, STATE_BYTES, VIEW_LARGE, VIEW_SMALL};

/// A message as its handler sees it: `struct naam_msg`.
///
/// A handler may read and write all of it. The runtime believes nothing of what it finds
/// afterwards: the op fields and `reply_len` are checked at every step, the rest is the handler's.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct NaamMsg {
    /// Byte offset of the op in its region; a multiple of 8.
    pub op_offset: u64,
    /// CAS: the new word. FAA: the addend. After either: the word found in memory.
    pub op_value: u64,
    /// CAS: the word that must be there.
    pub op_expect: u64,
    /// Which of the app's regions, in the order they were bound.
    pub op_region: u32,
    /// READ, WRITE: bytes, a multiple of 8. At most the view's size, at most [`ARGS_BYTES`].
    pub op_len: u32,
    /// WRITE: where the bytes stand, counted from the first byte of `args`; a multiple of 8.
    /// Offsets from [`ARGS_BYTES`] on lie in `reply`.
    pub op_source: u32,
    /// After CAS: 1 if the word was exchanged, 0 if another was found. 1 after every other op.
    pub op_done: u32,
    /// Steps this message has run before this one.
    pub step: u32,
    /// The handler's own result code, handed to the client as it is.
    pub code: u32,
    /// Bytes of `args` that the client sent; what lies behind is unspecified.
    pub arg_len: u32,
    /// Bytes of `reply` to send; set by the handler, zero at the start.
    pub reply_len: u32,
    /// The longest reply the client left room for.
    pub reply_max: u32,
    /// The shard the message was sent to.
    pub shard: u32,
    /// The handler's own state; zero at the first step, and it travels with the message.
    pub state: [u64; STATE_BYTES / 8],
    /// The arguments.
    pub args: [u64; ARGS_BYTES / 8],
    /// The reply; zero up to `reply_max` at the first step.
    pub reply: [u64; REPLY_BYTES / 8],
}

impl NaamMsg {
    /// All zero.
    pub const ZERO: Self = Self {
        op_offset: 0,
        op_value: 0,
        op_expect: 0,
        op_region: 0,
        op_len: 0,
        op_source: 0,
        op_done: 0,
        step: 0,
        code: 0,
        arg_len: 0,
        reply_len: 0,
        reply_max: 0,
        shard: 0,
        state: [0; STATE_BYTES / 8],
        args: [0; ARGS_BYTES / 8],
        reply: [0; REPLY_BYTES / 8],
    };
}

/// What a READ gave: `struct naam_view64`. Zero before the first READ. Read-only.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct NaamView64 {
    /// Words as they stood in the region; a word is never torn, the whole may be.
    pub w: [u64; VIEW_SMALL / 8],
}

/// The large view: `struct naam_view1k`. Bytes behind the READ's length are unspecified.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct NaamView1k {
    /// Words as they stood in the region; a word is never torn, the whole may be.
    pub w: [u64; VIEW_LARGE / 8],
}

/// A handler's answer, as the number it returns.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The message is served; `code`, `reply` and `reply_len` are the result.
    Done = 0,
    /// Give me `op_len` bytes at (`op_region`, `op_offset`) in the view.
    Read = 1,
    /// Put `op_len` bytes from `op_source` to (`op_region`, `op_offset`).
    Write = 2,
    /// Exchange the word at (`op_region`, `op_offset`) if it is `op_expect`.
    Cas = 3,
    /// Add `op_value` to the word at (`op_region`, `op_offset`).
    Faa = 4,
    /// The message cannot be served; `code` says why.
    Fail = 5,
}

impl Step {
    /// The step that `code` names, if any does.
    pub const fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::Done,
            1 => Self::Read,
            2 => Self::Write,
            3 => Self::Cas,
            4 => Self::Faa,
            5 => Self::Fail,
            _ => return None,
        })
    }

    /// Whether the step asks for a memory op, rather than ending the message.
    pub const fn is_op(self) -> bool {
        !matches!(self, Self::Done | Self::Fail)
    }

    /// Whether the step changes memory.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Cas | Self::Faa)
    }
}

/// ELF section that holds a handler object's [`Meta`].
pub const META_SECTION: &str = ".naam";
/// First word of [`Meta`]: `NAAMHDL1`.
pub const META_MAGIC: u64 = u64::from_le_bytes(*b"NAAMHDL1");
/// [`Meta::flags`]: the handler may WRITE, CAS or FAA. Without it the runtime refuses those steps.
pub const META_WRITES: u32 = 1;

/// A handler object's description of itself, in section [`META_SECTION`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// [`META_MAGIC`].
    pub magic: u64,
    /// [`META_WRITES`].
    pub flags: u32,
    /// Longest reply in bytes, at most [`REPLY_BYTES`]; a multiple of 8.
    pub reply_max: u32,
    /// Bytes of `state` in use at step ends, a multiple of 8: what a carried message must bring.
    pub state_len: u32,
    /// Zero.
    pub reserved: u32,
    /// The handler's name, padded with zeros; also the name of its global function.
    pub name: [u8; 32],
}

/// Bytes of [`Meta`].
pub const META_BYTES: usize = 56;

impl Meta {
    /// Describes a handler; for use in constants.
    ///
    /// # Panics
    /// At compile time, if the name is longer than 31 bytes or a length is out of range.
    pub const fn new(name: &str, flags: u32, reply_max: u32, state_len: u32) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() < 32, "handler names have 1 to 31 bytes");
        assert!(reply_max as usize <= REPLY_BYTES && reply_max.is_multiple_of(8));
        assert!(state_len as usize <= STATE_BYTES && state_len.is_multiple_of(8));
        let mut padded = [0; 32];
        let mut i = 0;
        while i < bytes.len() {
            padded[i] = bytes[i];
            i += 1;
        }
        Self { magic: META_MAGIC, flags, reply_max, state_len, reserved: 0, name: padded }
    }
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<NaamMsg>() == 2304);
    assert!(offset_of!(NaamMsg, op_region) == 24);
    assert!(offset_of!(NaamMsg, step) == 40);
    assert!(offset_of!(NaamMsg, arg_len) == 48);
    assert!(offset_of!(NaamMsg, state) == 64);
    assert!(offset_of!(NaamMsg, args) == 192);
    assert!(offset_of!(NaamMsg, reply) == 192 + ARGS_BYTES);
    assert!(size_of::<NaamView64>() == VIEW_SMALL);
    assert!(size_of::<NaamView1k>() == VIEW_LARGE);
    assert!(size_of::<Meta>() == META_BYTES);
};
