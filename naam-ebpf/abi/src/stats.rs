//! Counters that the shell keeps, per CPU and app, and the reasons for which it drops.

use crate::wire::STATUS_COUNT;

/// Why a datagram that was ours left no reply. Each is counted by app and, [`Frame`](Self::Frame) excepted, has a test;
/// [`Magic`](Self::Magic) is reserved.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// Shorter than a datagram header.
    Short = 0,
    /// Reserved, never counted: what has another magic on one of our ports is another service's, and passes.
    Magic = 1,
    /// A wire version we do not speak.
    Version = 2,
    /// A kind that clients do not send.
    Kind = 3,
    /// The header's length is no multiple of 8, exceeds the UDP payload, or the limit.
    Length = 4,
    /// No message, more than 32, or more than the length has room for.
    Count = 5,
    /// The port does not belong to the header's app and shard.
    Port = 6,
    /// The tag does not match.
    Tag = 7,
    /// A message's lengths contradict each other, its room or the limits, the messages do not fill the
    /// datagram's length exactly, or a message has a flag that its kind of datagram does not allow.
    Message = 8,
    /// The handler's program is not in the program array, or its place holds another's: the function was unloaded while
    /// the datagram was on its way.
    Program = 9,
    /// The frame could not be made writable or read (TC: no memory). No test: the kernel would have to run out of it.
    Frame = 10,
}

/// Number of [`Drop`] reasons.
pub const DROP_COUNT: usize = 11;
/// Short names, in the order of [`Drop`], as they appear in summaries and metrics.
pub const DROP_NAMES: [&str; DROP_COUNT] =
    ["short", "magic", "version", "kind", "length", "count", "port", "tag", "message", "program", "frame"];

/// Counters of one app on one CPU: value of map `APP_STATS`. The entry after the last app is where numbers out of range
/// would be counted; every port tells an app, so it stays zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppStats {
    /// Datagrams that were parsed as ours, whatever became of them.
    pub datagrams: u64,
    /// Datagrams answered.
    pub replies: u64,
    /// UDP payload bytes of answered datagrams.
    pub bytes: u64,
    /// Messages run.
    pub messages: u64,
    /// Handler steps run.
    pub steps: u64,
    /// Messages answered from their slot's cached reply.
    pub duplicates: u64,
    /// Nanoseconds spent in handler programs; only counted while `AppEntry` asks for it.
    pub busy_ns: u64,
    /// Messages sent back for the client to go on with.
    pub pushbacks: u64,
    /// Drops by [`Drop`].
    pub drops: [u64; 16],
    /// Messages by [`crate::wire::Status`].
    pub statuses: [u64; 32],
}

impl AppStats {
    /// All zero.
    pub const ZERO: Self = Self {
        datagrams: 0,
        replies: 0,
        bytes: 0,
        messages: 0,
        steps: 0,
        duplicates: 0,
        busy_ns: 0,
        pushbacks: 0,
        drops: [0; 16],
        statuses: [0; 32],
    };
}

const _: () = {
    assert!(DROP_COUNT <= 16);
    assert!(STATUS_COUNT <= 32);
    assert!(core::mem::size_of::<AppStats>() == 64 + 128 + 256);
};
