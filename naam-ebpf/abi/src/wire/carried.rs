//! Carried messages: what goes on with a message that is cut between two steps.
//!
//! A message may be cut after any step that asks for a memory op. The op has not been performed then; whoever takes
//! the message in performs it and runs the next step. What travels, in the message's room:
//!
//! ```text
//! 0                                  arg_len bytes of arguments, as the handler left them
//! padded(arg_len)                    40 bytes: the op, the first 40 bytes of NaamMsg
//! padded(arg_len) + 40               state_len words of state
//! padded(arg_len) + 40 + state_len*8 reply_len bytes of reply, as the handler left them
//! ```
//!
//! Padding is zero. The header says the pending step, the steps run so far, `code`, and `reply_max`, which is the same
//! at every site. So for handlers: what is to survive a step lies in the state, in arguments below `arg_len`, in the
//! reply below `reply_len`, or in `code`, and so do the bytes that a pending WRITE takes. Nothing else travels.

use super::{MESSAGE_CARRIED, Malformed, Message, OP_BYTES, padded, u32_at, u64_at};
use crate::handler::{NaamMsg, Step};
use crate::limits::{ARGS_BYTES, REPLY_BYTES, STATE_BYTES, STEPS_TOTAL_MAX};

/// Most bytes that a carried message's parts take in its room. With the headers that fits a datagram, though none
/// of 1,472 bytes (a 1,500-byte path): there [`CARRIED_BYTES_PLAIN`] bytes are left for arguments, state and reply.
pub const CARRIED_BYTES_MAX: usize = ARGS_BYTES + OP_BYTES + STATE_BYTES + REPLY_BYTES;

/// Bytes of arguments, state and reply together that a carried message may have where datagrams have up to 1,472
/// bytes. A message that has more is not cut: it ends with [`Status::Budget`](super::Status::Budget).
pub const CARRIED_BYTES_PLAIN: usize = 1472 - super::HEADER_BYTES - super::MESSAGE_BYTES - OP_BYTES;

/// The memory op of a message: the first 40 bytes of [`NaamMsg`], whose documentation its fields have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "NaamMsg documents every field")]
pub struct Op {
    pub offset: u64,
    pub value: u64,
    pub expect: u64,
    pub region: u32,
    pub len: u32,
    pub source: u32,
    pub done: u32,
}

impl Op {
    /// The op that stands in `message`.
    pub const fn of(message: &NaamMsg) -> Self {
        Self {
            offset: message.op_offset,
            value: message.op_value,
            expect: message.op_expect,
            region: message.op_region,
            len: message.op_len,
            source: message.op_source,
            done: message.op_done,
        }
    }

    /// Its bytes on the wire.
    pub fn to_bytes(self) -> [u8; OP_BYTES] {
        let mut bytes = [0; OP_BYTES];
        bytes[0..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.value.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.expect.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.region.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.len.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.source.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.done.to_le_bytes());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub fn from_bytes(bytes: &[u8; OP_BYTES]) -> Self {
        Self {
            offset: u64_at(bytes, 0),
            value: u64_at(bytes, 8),
            expect: u64_at(bytes, 16),
            region: u32_at(bytes, 24),
            len: u32_at(bytes, 28),
            source: u32_at(bytes, 32),
            done: u32_at(bytes, 36),
        }
    }
}

/// A carried message: its parts lie in one piece of memory, in the order in which they travel. Its lengths have been
/// checked against the limits and each other; what the parts hold is the sender's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried<'a> {
    step: Step,
    steps: u8,
    code: u32,
    arg_len: u16,
    reply_len: u16,
    state_len: u8,
    reply_max: u8,
    body: &'a [u8],
}

impl<'a> Carried<'a> {
    /// Bytes that parts of these lengths take: arguments and reply in bytes, state in words.
    pub const fn bytes(arg_len: usize, state_len: usize, reply_len: usize) -> usize {
        padded(arg_len) + OP_BYTES + state_len * 8 + padded(reply_len)
    }

    /// Reads a received message that has [`MESSAGE_CARRIED`] set, and its room.
    ///
    /// # Errors
    /// [`Malformed::Message`] if the message is not carried, is pending at no memory op, or has lengths that exceed the
    /// limits, `reply_max` or the room.
    pub fn decode(message: &Message, room: &'a [u8]) -> Result<Self, Malformed> {
        let &Message { step, flags, steps, code, arg_len, reply_len, state_len, reply_max, .. } = message;
        let step = Step::from_code(u32::from(step)).filter(|step| step.is_op());
        let step = step.ok_or(Malformed::Message)?;
        let carried = Self { step, steps, code, arg_len, reply_len, state_len, reply_max, body: &[] };
        let len = carried.checked_len().ok_or(Malformed::Message)?;
        if flags & MESSAGE_CARRIED == 0 || carried.room() > room.len() {
            return Err(Malformed::Message);
        }
        Ok(Self { body: &room[..len], ..carried })
    }

    /// Cuts a message that waits for `step` after having run `steps` steps, with the first `state_len` words of its
    /// state. The parts go to `buffer`; [`CARRIED_BYTES_MAX`] bytes are enough.
    ///
    /// `None` if the message cannot be carried: `step` is no memory op, a length that the handler left is above its limit,
    /// it has run [`STEPS_TOTAL_MAX`] steps, or `buffer` is too short.
    pub fn cut(message: &NaamMsg, step: Step, steps: u32, state_len: usize, buffer: &'a mut [u8]) -> Option<Self> {
        if !step.is_op() || steps > STEPS_TOTAL_MAX {
            return None;
        }
        let carried = Self {
            step,
            steps: u8::try_from(steps).ok()?,
            code: message.code,
            arg_len: u16::try_from(message.arg_len).ok()?,
            reply_len: u16::try_from(message.reply_len).ok()?,
            state_len: u8::try_from(state_len).ok()?,
            reply_max: u8::try_from(message.reply_max / 8).ok()?,
            body: &[],
        };
        let len = carried.checked_len()?;
        let body = buffer.get_mut(..len)?;
        let (args, rest) = body.split_at_mut(padded(usize::from(carried.arg_len)));
        let (op, rest) = rest.split_at_mut(OP_BYTES);
        let (state, reply) = rest.split_at_mut(state_len * 8);
        put(&message.args, usize::from(carried.arg_len), args);
        op.copy_from_slice(&Op { done: 1, ..Op::of(message) }.to_bytes());
        put(&message.state, state_len * 8, state);
        put(&message.reply, usize::from(carried.reply_len), reply);
        Some(Self { body, ..carried })
    }

    /// Writes the header's part: flag, pending step, counts and lengths. The room is raised to [`room`](Self::room) if
    /// it is smaller. Identity (request, slot, sequence), hops and stamp are the caller's.
    pub fn fill(&self, message: &mut Message) {
        message.flags |= MESSAGE_CARRIED;
        message.step = self.step as u8;
        message.steps = self.steps;
        message.code = self.code;
        message.arg_len = self.arg_len;
        message.reply_len = self.reply_len;
        message.state_len = self.state_len;
        message.reply_max = self.reply_max;
        message.room = message.room.max(self.room() as u16);
    }

    /// Puts the message back as its handler left it, for its next step to go on with. What did not travel is zero
    /// (state, reply) or unspecified (arguments behind `arg_len`). `shard` is the datagram's.
    pub fn restore(&self, shard: u16, message: &mut NaamMsg) {
        let op = self.op();
        message.op_offset = op.offset;
        message.op_value = op.value;
        message.op_expect = op.expect;
        message.op_region = op.region;
        message.op_len = op.len;
        message.op_source = op.source;
        // Of the pending op, which has not been performed: whoever does sets it for CAS.
        message.op_done = 1;
        message.step = u32::from(self.steps);
        message.code = self.code;
        message.arg_len = u32::from(self.arg_len);
        message.reply_len = u32::from(self.reply_len);
        message.reply_max = u32::from(self.reply_max) * 8;
        message.shard = u32::from(shard);
        message.state = [0; STATE_BYTES / 8];
        message.reply = [0; REPLY_BYTES / 8];
        take(self.state(), &mut message.state);
        take(self.padded_args(), &mut message.args);
        let reply = self.split().3;
        take(reply, &mut message.reply);
    }

    /// The pending step: one that asks for a memory op.
    pub const fn step(&self) -> Step {
        self.step
    }

    /// Steps run so far, at all sites.
    pub const fn steps(&self) -> u8 {
        self.steps
    }

    /// The result code as the handler left it.
    pub const fn code(&self) -> u32 {
        self.code
    }

    /// Longest reply in bytes, as at the first step.
    pub const fn reply_max(&self) -> usize {
        self.reply_max as usize * 8
    }

    /// The arguments.
    pub fn args(&self) -> &'a [u8] {
        &self.padded_args()[..usize::from(self.arg_len)]
    }

    /// The pending op.
    pub fn op(&self) -> Op {
        Op::from_bytes(self.split().1)
    }

    /// The state: whole words.
    pub fn state(&self) -> &'a [u8] {
        self.split().2
    }

    /// The reply so far.
    pub fn reply(&self) -> &'a [u8] {
        &self.split().3[..usize::from(self.reply_len)]
    }

    /// All parts as they travel.
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Bytes of room that the message needs: for its parts, and for its reply in the end.
    pub const fn room(&self) -> usize {
        let parts = Self::bytes(self.arg_len as usize, self.state_len as usize, self.reply_len as usize);
        if parts > self.reply_max() { parts } else { self.reply_max() }
    }

    fn padded_args(&self) -> &'a [u8] {
        self.split().0
    }

    /// Arguments, op, state, reply; arguments and reply with their padding.
    fn split(&self) -> (&'a [u8], &'a [u8; OP_BYTES], &'a [u8], &'a [u8]) {
        let (args, rest) = self.body.split_at(padded(usize::from(self.arg_len)));
        let (op, rest) = rest.split_first_chunk().expect("the length was checked");
        let (state, reply) = rest.split_at(usize::from(self.state_len) * 8);
        (args, op, state, reply)
    }

    /// Bytes of the parts, if no length is above its limit.
    const fn checked_len(&self) -> Option<usize> {
        let (arg_len, reply_len) = (self.arg_len as usize, self.reply_len as usize);
        let state_len = self.state_len as usize;
        let fits = arg_len <= ARGS_BYTES
            && state_len * 8 <= STATE_BYTES
            && self.reply_max() <= REPLY_BYTES
            && reply_len <= self.reply_max();
        if fits { Some(Self::bytes(arg_len, state_len, reply_len)) } else { None }
    }
}

/// Copies the first `len` bytes of `words` to `out`; what is left of `out` becomes zero.
fn put(words: &[u64], len: usize, out: &mut [u8]) {
    for (to, word) in out.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    out[len..].fill(0);
}

/// Copies whole words of `bytes` to the start of `words`.
fn take(bytes: &[u8], words: &mut [u64]) {
    for (word, from) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64_at(from, 0);
    }
}

const _: () = {
    use super::{HEADER_BYTES, MESSAGE_BYTES};
    use crate::limits::DATAGRAM_BYTES;
    use core::mem::offset_of;
    assert!(offset_of!(NaamMsg, step) == OP_BYTES);
    assert!(HEADER_BYTES + MESSAGE_BYTES + CARRIED_BYTES_MAX <= DATAGRAM_BYTES);
    assert!(STEPS_TOTAL_MAX <= u8::MAX as u32 && REPLY_BYTES / 8 <= u8::MAX as usize);
    assert!(CARRIED_BYTES_MAX <= u16::MAX as usize);
};
