//! The memory of a handler: its message and its view, and nothing else.

use std::mem::offset_of;

use naam_abi::handler::{NaamMsg, NaamView1k};
use naam_abi::limits::{ARGS_BYTES, REPLY_BYTES, VIEW_LARGE};

/// What a handler may reach besides its stack.
///
/// All fields are plain words, so whatever bytes a handler leaves here are valid.
#[repr(C)]
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    pub message: NaamMsg,
    pub view: NaamView1k,
    /// rbpf's interpreter looks only at an access's first byte.
    guard: u64,
}

/// What r1 points to when a lowered handler begins.
#[repr(C)]
pub(crate) struct Context {
    pub message: *mut NaamMsg,
    pub view: *mut NaamView1k,
}

impl Arena {
    /// All zero.
    pub fn new() -> Box<Self> {
        Box::new(Self { message: NaamMsg::ZERO, view: NaamView1k { w: [0; VIEW_LARGE / 8] }, guard: 0 })
    }

    /// Pointers for a handler to work with.
    pub fn context(&mut self) -> Context {
        let arena: *mut Self = self;
        // Both from the one pointer, so that neither ends the other's right to be used.
        // SAFETY: fields of a live value; only addresses are taken.
        unsafe { Context { message: &raw mut (*arena).message, view: &raw mut (*arena).view } }
    }
}

/// The bytes of whole words, as they lie in memory: little-endian, as everywhere in NAAM.
pub(crate) fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: the words' own memory and length; bytes have no alignment and any value is one.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// The same to write.
pub(crate) fn bytes_of_mut(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: as in `bytes_of`; the borrow is exclusive, and any bytes are words.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

impl Arena {
    /// `len` bytes from byte `source` of arguments and reply, which lie one behind the other. The caller has checked
    /// that they have so many.
    pub fn source(&self, source: usize, len: usize) -> &[u8] {
        assert!(source + len <= ARGS_BYTES + REPLY_BYTES, "a WRITE's source is checked when it is asked for");
        let message: *const NaamMsg = &raw const self.message;
        // SAFETY: inside the message, by the assertion and the layout that `naam_abi::handler` asserts.
        unsafe { std::slice::from_raw_parts(message.cast::<u8>().add(offset_of!(NaamMsg, args) + source), len) }
    }
}

const _: () = {
    assert!(cfg!(target_endian = "little"));
    assert!(offset_of!(NaamMsg, reply) == offset_of!(NaamMsg, args) + ARGS_BYTES);
    assert!(offset_of!(Arena, view) == size_of::<NaamMsg>());
    assert!(offset_of!(Arena, guard) == size_of::<NaamMsg>() + VIEW_LARGE);
};
