//! Wire format, version 1. All fields little-endian; a datagram is a whole number of 8-byte words.
//!
//! ```text
//! datagram header, 48 bytes
//!  0 u32 magic      "NAAM"
//!  4 u8  version    1
//!  5 u8  kind       Kind
//!  6 u8  flags      0; nobody looks at it in this version
//!  7 u8  count      messages, 1..=32
//!  8 u16 app
//! 10 u16 function
//! 12 u16 handler    handler version the sender knows; 0 = whichever serves, in Requests; Continues: that of every
//!                   state in it; replies: the one that ran
//! 14 u16 shard      = UDP destination port - base - app * 64
//! 16 u32 session
//! 20 u16 length     of the whole datagram, header included
//! 22 u16 status     Status of an error datagram, else 0
//! 24 u32 epoch      steering epoch the sender knows; replies: the shard's
//! 28 u8  key        which key made the tag; with public keys nobody looks at it
//! 29 u8  placement  replies: Site that serves the shard
//! 30 u16 lease      replies: milliseconds for which the placement holds
//! 32 u64 nonce      grows with every datagram that a session's client sends, retries too; replies: the request's
//! 40 u64 tag        SipHash-2-4 of bytes 0..40 and 48..length; under integrity = off nobody looks at it, and it
//!                   comes back as it was
//!
//! message, 32 bytes and its room
//!  0 u32 request    the client's number, echoed
//!  4 u32 code       replies: the handler's result code
//!  8 u32 sequence   writing functions: number within the slot, growing by one
//! 12 u16 slot       writing functions: request slot, 0..64
//! 14 u16 status     replies: Status; requests: 0
//! 16 u8  step       carried messages: the pending Step
//! 17 u8  flags      MESSAGE_*
//! 18 u8  steps      steps run so far, at all sites
//! 19 u8  hops       sites passed
//! 20 u16 arg_len    bytes of arguments
//! 22 u16 reply_len  replies: bytes of reply; carried messages: bytes of reply so far
//! 24 u16 room       bytes that follow this header, a multiple of 8
//! 26 u8  state_len  carried messages: 8-byte words of state
//! 27 u8  reply_max  carried messages: 8-byte words of the longest reply; fresh messages of a Continue: the same, or 0
//!                   if the room alone bounds it; else 0
//! 28 u32 sent       the client's send stamp, echoed
//! 32 .. 32 + room   requests: arguments; replies: reply;
//!                   carried: arguments (padded to 8) | op (40 bytes) | state | reply (padded to 8), see Carried
//! ```
//!
//! | kind | way | its messages |
//! |---|---|---|
//! | Request | client → site | flags 0: arguments |
//! | Reply | site → client | SERVED: a reply |
//! | Continue | client → home | flags 0: fresh, as in a Request; CARRIED: taken in where they were cut |
//! | Pushback | home → client | SERVED: a reply; CARRIED: cut here before it had any effect, the client goes on with it |
//! | Error | site → client | as they came; none was run |
//!
//! Home believes nothing of a carried message: it is taken for arguments that the client made up. Its ops are checked
//! against what the session may do *both* through handlers and by one-sided functions, so nobody gains by inventing a
//! state. A message that has had an effect never leaves home. A Continue of a writing function claims its slot and
//! sequence as its Request would have; whichever copy comes first runs.
//!
//! The sender makes `room` the larger of what it sends and what it expects back: a reply has
//! exactly the length of its request, so no site ever grows a frame and no spoofed source gains
//! by amplification. A carried message's room holds its longest reply, too (byte 27 times 8).
//!
//! # What a client of one's own has to know
//! - **Transport.** UDP in one packet: IPv4 without options or IPv6 without extension headers, at most one VLAN tag, and no
//!   fragments, so a datagram has to fit the path. Other packets go to the host's network stack. The host may be 31 hops
//!   away: a reply starts with the TTL or hop limit that its request had left.
//! - **What is answered.** A malformed datagram is dropped and counted ([`Drop`](crate::stats::Drop)), and nothing in it
//!   has run: lengths or counts that lie, a wrong tag, an app or shard that is not the port's. What is well-formed is answered:
//!   as a whole by an Error datagram (no such app, function, version, session), or message by message.
//! - **Retries.** A client that hears nothing sends the message again, alone or with others, under the same `request`. Functions
//!   that only read may run more than once. Of those that write, each message claims `slot` of its session under `sequence`,
//!   in whatever function of the app it is called: the same pair again gets the first one's end (`DUPLICATE`), without running
//!   ([`Status::Running`] while it still does). A slot takes a new sequence once its last message has ended; any that is
//!   ahead of it by less than 2^31, the first any at all. So a message that the client has given up may still run until
//!   its slot is used again; an older sequence is [`Status::Stale`].
//! - **Sessions** are opened over the control plane: `naam_control::protocol`.

use crate::limits::{ARGS_BYTES, DATAGRAM_BYTES, MESSAGES_MAX};
use crate::siphash::{Key, SipHash};

mod carried;
pub use carried::{CARRIED_BYTES_MAX, CARRIED_BYTES_PLAIN, Carried, Op};

/// First four bytes of every datagram.
pub const MAGIC: u32 = u32::from_le_bytes(*b"NAAM");
/// Wire version.
pub const VERSION: u8 = 1;
/// Bytes of the datagram header.
pub const HEADER_BYTES: usize = 48;
/// Bytes of a message without its room.
pub const MESSAGE_BYTES: usize = 32;
/// Bytes of the op in a carried message.
pub const OP_BYTES: usize = 40;
/// Offset of the tag in the datagram header.
pub const TAG_OFFSET: usize = 40;

/// [`Message::flags`]: the message has been served; sites on the way leave it alone.
pub const MESSAGE_SERVED: u8 = 1;
/// [`Message::flags`]: the room holds a [`Carried`] message.
pub const MESSAGE_CARRIED: u8 = 2;
/// [`Message::flags`]: the reply comes from the slot's cache; the message had run before.
pub const MESSAGE_DUPLICATE: u8 = 4;

/// What a datagram is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Client to site: messages to run.
    Request = 1,
    /// Site to client: every message answered.
    Reply = 2,
    /// Client to home: messages to run, some of them [`Carried`].
    Continue = 3,
    /// Home to client: messages answered, some of them [`Carried`], for the client to go on with.
    Pushback = 4,
    /// Site to client: nothing was run; `status` of the header says why.
    Error = 5,
    /// Between daemon and agents.
    Control = 6,
}

impl Kind {
    /// The kind that `byte` names, if any.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Request,
            2 => Self::Reply,
            3 => Self::Continue,
            4 => Self::Pushback,
            5 => Self::Error,
            6 => Self::Control,
            _ => return None,
        })
    }
}

/// What became of a message, or of a whole datagram.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Served; `code` is the handler's.
    Ok = 0,
    /// The handler answered FAIL; `code` is its reason.
    Failed = 1,
    /// No such app here. Not run.
    NoApp = 2,
    /// The app has no such function. Not run.
    NoFunction = 3,
    /// The named handler version no longer, or not yet, serves. Not run; the header names the one that does.
    Version = 4,
    /// The shard's messages run at a SmartNIC; the header says so. Not run.
    Elsewhere = 5,
    /// No such session, or one of another app. Not run.
    Session = 6,
    /// The session has no right for the op. Effects before this op remain.
    Denied = 7,
    /// The op lies outside its region, or straddles two map values.
    Bounds = 8,
    /// The handler named a region that is not bound.
    NoRegion = 9,
    /// The handler answered with no valid step, or an op with a bad length or alignment.
    BadStep = 10,
    /// The message used up its steps or its time.
    Budget = 11,
    /// The message left too little room for its reply, or its handler's reply is too long.
    Room = 12,
    /// The slot is running a message, this one or another: on another CPU, or in the same datagram. Ask again.
    Running = 13,
    /// The slot has seen a newer message; this one is a late copy. Not run.
    Stale = 14,
    /// The slot number is out of range. Not run.
    NoSlot = 15,
    /// The message passed too many sites.
    Hops = 16,
    /// The handler is read-only by its own description, but asked for a writing op.
    ReadOnly = 17,
    /// A carried message's state or reply is longer than the function has. Not run. Lengths beyond those of every function
    /// make the datagram malformed.
    TooLong = 18,
}

/// Number of [`Status`] values.
pub const STATUS_COUNT: usize = 19;
/// Short names in the order of [`Status`].
pub const STATUS_NAMES: [&str; STATUS_COUNT] = [
    "ok",
    "failed",
    "no_app",
    "no_function",
    "version",
    "elsewhere",
    "session",
    "denied",
    "bounds",
    "no_region",
    "bad_step",
    "budget",
    "room",
    "running",
    "stale",
    "no_slot",
    "hops",
    "read_only",
    "too_long",
];

impl Status {
    /// The status that `code` names, if any.
    pub const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            0 => Self::Ok,
            1 => Self::Failed,
            2 => Self::NoApp,
            3 => Self::NoFunction,
            4 => Self::Version,
            5 => Self::Elsewhere,
            6 => Self::Session,
            7 => Self::Denied,
            8 => Self::Bounds,
            9 => Self::NoRegion,
            10 => Self::BadStep,
            11 => Self::Budget,
            12 => Self::Room,
            13 => Self::Running,
            14 => Self::Stale,
            15 => Self::NoSlot,
            16 => Self::Hops,
            17 => Self::ReadOnly,
            18 => Self::TooLong,
            _ => return None,
        })
    }

    /// Whether a message with this status certainly had no effect.
    pub const fn never_ran(self) -> bool {
        matches!(
            self,
            Self::NoApp
                | Self::NoFunction
                | Self::Version
                | Self::Elsewhere
                | Self::Session
                | Self::NoSlot
                | Self::TooLong
        )
    }
}

/// A datagram header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the module's table documents every field")]
pub struct Header {
    pub kind: Kind,
    pub flags: u8,
    pub count: u8,
    pub app: u16,
    pub function: u16,
    pub handler: u16,
    pub shard: u16,
    pub session: u32,
    pub length: u16,
    pub status: u16,
    pub epoch: u32,
    pub key: u8,
    pub placement: u8,
    pub lease: u16,
    pub nonce: u64,
    pub tag: u64,
}

/// A message header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the module's table documents every field")]
pub struct Message {
    pub request: u32,
    pub code: u32,
    pub sequence: u32,
    pub slot: u16,
    pub status: u16,
    pub step: u8,
    pub flags: u8,
    pub steps: u8,
    pub hops: u8,
    pub arg_len: u16,
    pub reply_len: u16,
    pub room: u16,
    pub state_len: u8,
    pub reply_max: u8,
    pub sent: u32,
}

/// Why bytes are no datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than a header, or than the header's length.
    Short,
    /// Another magic.
    Magic,
    /// Another version.
    Version,
    /// An unknown kind.
    Kind,
    /// A length that is no multiple of 8, or above the limit.
    Length,
    /// A count of 0 or above 32, or messages that do not fill the length exactly.
    Count,
    /// A message whose lengths contradict its room.
    Message,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl Header {
    /// Writes the header over the first 48 bytes of `out`.
    ///
    /// # Panics
    /// If `out` is shorter.
    pub fn encode(&self, out: &mut [u8]) {
        // One check of the length instead of one a field.
        let out = &mut out[..HEADER_BYTES];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4] = VERSION;
        out[5] = self.kind as u8;
        out[6] = self.flags;
        out[7] = self.count;
        out[8..10].copy_from_slice(&self.app.to_le_bytes());
        out[10..12].copy_from_slice(&self.function.to_le_bytes());
        out[12..14].copy_from_slice(&self.handler.to_le_bytes());
        out[14..16].copy_from_slice(&self.shard.to_le_bytes());
        out[16..20].copy_from_slice(&self.session.to_le_bytes());
        out[20..22].copy_from_slice(&self.length.to_le_bytes());
        out[22..24].copy_from_slice(&self.status.to_le_bytes());
        out[24..28].copy_from_slice(&self.epoch.to_le_bytes());
        out[28] = self.key;
        out[29] = self.placement;
        out[30..32].copy_from_slice(&self.lease.to_le_bytes());
        out[32..40].copy_from_slice(&self.nonce.to_le_bytes());
        out[40..48].copy_from_slice(&self.tag.to_le_bytes());
    }

    /// Reads the header of a received datagram; trailing bytes behind its length are allowed
    /// (Ethernet pads short frames).
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < HEADER_BYTES {
            return Err(Malformed::Short);
        }
        if u32_at(bytes, 0) != MAGIC {
            return Err(Malformed::Magic);
        }
        if bytes[4] != VERSION {
            return Err(Malformed::Version);
        }
        let kind = Kind::from_byte(bytes[5]).ok_or(Malformed::Kind)?;
        let header = Self {
            kind,
            flags: bytes[6],
            count: bytes[7],
            app: u16_at(bytes, 8),
            function: u16_at(bytes, 10),
            handler: u16_at(bytes, 12),
            shard: u16_at(bytes, 14),
            session: u32_at(bytes, 16),
            length: u16_at(bytes, 20),
            status: u16_at(bytes, 22),
            epoch: u32_at(bytes, 24),
            key: bytes[28],
            placement: bytes[29],
            lease: u16_at(bytes, 30),
            nonce: u64_at(bytes, 32),
            tag: u64_at(bytes, 40),
        };
        let length = usize::from(header.length);
        if !length.is_multiple_of(8) || !(HEADER_BYTES..=DATAGRAM_BYTES).contains(&length) {
            return Err(Malformed::Length);
        }
        if length > bytes.len() {
            return Err(Malformed::Short);
        }
        if header.count == 0 || usize::from(header.count) > MESSAGES_MAX {
            return Err(Malformed::Count);
        }
        Ok(header)
    }
}

impl Message {
    /// Writes the header over the first 32 bytes of `out`.
    ///
    /// # Panics
    /// If `out` is shorter.
    pub fn encode(&self, out: &mut [u8]) {
        // One check of the length instead of one a field.
        let out = &mut out[..MESSAGE_BYTES];
        out[0..4].copy_from_slice(&self.request.to_le_bytes());
        out[4..8].copy_from_slice(&self.code.to_le_bytes());
        out[8..12].copy_from_slice(&self.sequence.to_le_bytes());
        out[12..14].copy_from_slice(&self.slot.to_le_bytes());
        out[14..16].copy_from_slice(&self.status.to_le_bytes());
        out[16] = self.step;
        out[17] = self.flags;
        out[18] = self.steps;
        out[19] = self.hops;
        out[20..22].copy_from_slice(&self.arg_len.to_le_bytes());
        out[22..24].copy_from_slice(&self.reply_len.to_le_bytes());
        out[24..26].copy_from_slice(&self.room.to_le_bytes());
        out[26] = self.state_len;
        out[27] = self.reply_max;
        out[28..32].copy_from_slice(&self.sent.to_le_bytes());
    }

    /// Reads a message header and checks that its lengths fit its room and the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < MESSAGE_BYTES {
            return Err(Malformed::Count);
        }
        let message = Self {
            request: u32_at(bytes, 0),
            code: u32_at(bytes, 4),
            sequence: u32_at(bytes, 8),
            slot: u16_at(bytes, 12),
            status: u16_at(bytes, 14),
            step: bytes[16],
            flags: bytes[17],
            steps: bytes[18],
            hops: bytes[19],
            arg_len: u16_at(bytes, 20),
            reply_len: u16_at(bytes, 22),
            room: u16_at(bytes, 24),
            state_len: bytes[26],
            reply_max: bytes[27],
            sent: u32_at(bytes, 28),
        };
        let room = usize::from(message.room);
        if !room.is_multiple_of(8) || room > bytes.len() - MESSAGE_BYTES {
            return Err(Malformed::Count);
        }
        let (args, reply) = (usize::from(message.arg_len), usize::from(message.reply_len));
        if args > ARGS_BYTES || reply > room {
            return Err(Malformed::Message);
        }
        if message.flags & MESSAGE_SERVED == 0 && args > room {
            return Err(Malformed::Message);
        }
        Ok(message)
    }
}

/// The messages of a datagram, each with its room.
///
/// ```
/// use naam_abi::wire::{self, Header, Kind, Message};
/// let mut bytes = [0; 48 + 32 + 8];
/// Header { kind: Kind::Request, flags: 0, count: 1, app: 1, function: 16, handler: 0, shard: 0, session: 1,
///     length: 88, status: 0, epoch: 0, key: 0, placement: 0, lease: 0, nonce: 1, tag: 0 }.encode(&mut bytes);
/// Message { request: 7, arg_len: 3, room: 8, ..Default::default() }.encode(&mut bytes[48..]);
/// bytes[80..83].copy_from_slice(b"abc");
/// let (header, messages) = wire::parse(&bytes).unwrap();
/// assert_eq!(header.app, 1);
/// let (message, room) = messages.last().unwrap().unwrap();
/// assert_eq!((message.request, &room[..3]), (7, &b"abc"[..]));
/// ```
pub fn parse(bytes: &[u8]) -> Result<(Header, Messages<'_>), Malformed> {
    let header = Header::decode(bytes)?;
    let rest = &bytes[HEADER_BYTES..usize::from(header.length)];
    Ok((header, Messages { rest, left: header.count }))
}

/// Iterator of [`parse`]; ends after the first error.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    left: u8,
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<(Message, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.rest.is_empty() {
                return None;
            }
            self.rest = &[];
            return Some(Err(Malformed::Count));
        }
        match Message::decode(self.rest) {
            Ok(message) => {
                let (room, rest) = self.rest[MESSAGE_BYTES..].split_at(usize::from(message.room));
                self.rest = rest;
                self.left -= 1;
                Some(Ok((message, room)))
            }
            Err(error) => {
                self.left = 0;
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// The tag of the datagram in `bytes`, whose header says its length.
///
/// # Panics
/// If `bytes` is shorter than a header or no multiple of 8 long.
pub fn tag(key: Key, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    assert!(words.len() >= HEADER_BYTES / 8 && rest.is_empty());
    let add = |hash: SipHash, word: &[u8; 8]| hash.word(u64::from_le_bytes(*word));
    let hash = words[..TAG_OFFSET / 8].iter().fold(SipHash::new(key), add);
    words[HEADER_BYTES / 8..].iter().fold(hash, add).finish(bytes.len() - 8)
}

/// `bytes` rounded up to whole words.
pub const fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}
