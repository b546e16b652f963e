//! The author's side of a message.

use core::ops::{Deref, DerefMut};

use naam_abi::handler::{NaamMsg, Step};
use naam_abi::limits::{ARGS_BYTES, REPLY_BYTES};

use crate::opaque::{bounded, opaque};

/// A message. Its fields are those of [`NaamMsg`]; the methods below build the answers.
///
/// Constant indices into `args`, `state` and `reply` are checked by the compiler:
///
/// ```compile_fail
/// fn step(m: &mut naam_handler::Msg) -> u64 {
///     m.state[16]
/// }
/// ```
#[repr(transparent)]
#[derive(Clone, Debug)]
pub struct Msg(NaamMsg);

impl Deref for Msg {
    type Target = NaamMsg;

    #[inline(always)]
    fn deref(&self) -> &NaamMsg {
        &self.0
    }
}

impl DerefMut for Msg {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut NaamMsg {
        &mut self.0
    }
}

impl From<NaamMsg> for Msg {
    #[inline(always)]
    fn from(message: NaamMsg) -> Self {
        Self(message)
    }
}

impl Msg {
    /// The argument word `index`; 0 behind the last.
    #[inline(always)]
    pub fn arg(&self, index: u64) -> u64 {
        match bounded::<{ ARGS_BYTES / 8 }>(index) {
            Some(index) => self.args[index],
            None => 0,
        }
    }

    /// Sets reply word `index`; does nothing behind the last.
    #[inline(always)]
    pub fn set_reply(&mut self, index: u64, word: u64) {
        if let Some(index) = bounded::<{ REPLY_BYTES / 8 }>(index) {
            self.reply[index] = word;
        }
    }

    /// Copies the first `words` of `source` to the start of the reply; the shortest of `words`,
    /// `source` and the reply counts.
    #[inline(always)]
    pub fn reply_from<const N: usize>(&mut self, source: &[u64; N], words: u64) {
        let mut i = 0;
        while i < N && i < REPLY_BYTES / 8 && (i as u64) < words {
            self.reply[i] = opaque(source[i]);
            i += 1;
        }
    }

    /// Copies the first `words` argument words to the start of the reply.
    #[inline(always)]
    pub fn reply_from_args(&mut self, words: u64) {
        let mut i = 0;
        while i < REPLY_BYTES / 8 && (i as u64) < words {
            self.reply[i] = opaque(self.args[i]);
            i += 1;
        }
    }

    /// Asks for `len` bytes at `offset`; they stand in the view at the next step.
    #[inline(always)]
    pub fn read(&mut self, region: u32, offset: u64, len: u32) -> Step {
        self.op_region = region;
        self.op_offset = offset;
        self.op_len = len;
        Step::Read
    }

    /// Asks for `len` bytes of the arguments, from byte `source` on, to be put at `offset`.
    #[inline(always)]
    pub fn write(&mut self, region: u32, offset: u64, source: u32, len: u32) -> Step {
        self.op_region = region;
        self.op_offset = offset;
        self.op_source = source;
        self.op_len = len;
        Step::Write
    }

    /// Asks for `len` bytes of the reply, from byte `source` on, to be put at `offset`.
    #[inline(always)]
    pub fn write_reply(&mut self, region: u32, offset: u64, source: u32, len: u32) -> Step {
        self.write(region, offset, ARGS_BYTES as u32 + source, len)
    }

    /// Asks for the word at `offset` to become `new` if it is `expect`; see [`Msg::exchanged`].
    #[inline(always)]
    pub fn cas(&mut self, region: u32, offset: u64, expect: u64, new: u64) -> Step {
        self.op_region = region;
        self.op_offset = offset;
        self.op_expect = expect;
        self.op_value = new;
        Step::Cas
    }

    /// Asks for `addend` to be added to the word at `offset`; see [`Msg::found`].
    #[inline(always)]
    pub fn faa(&mut self, region: u32, offset: u64, addend: u64) -> Step {
        self.op_region = region;
        self.op_offset = offset;
        self.op_value = addend;
        Step::Faa
    }

    /// The word that a CAS or FAA found, at the step after it.
    #[inline(always)]
    pub fn found(&self) -> u64 {
        self.op_value
    }

    /// Whether the CAS exchanged its word, at the step after it.
    #[inline(always)]
    pub fn exchanged(&self) -> bool {
        self.op_done != 0
    }

    /// Ends the message: the client gets `code` and the first `reply_len` bytes of the reply.
    #[inline(always)]
    pub fn done(&mut self, code: u32, reply_len: u32) -> Step {
        self.code = code;
        self.reply_len = reply_len;
        Step::Done
    }

    /// Ends the message as failed; the client gets `code`.
    #[inline(always)]
    pub fn fail(&mut self, code: u32) -> Step {
        self.code = code;
        self.reply_len = 0;
        Step::Fail
    }
}
