//! What the entry found out about a datagram, for the handler program behind the tail call.

use crate::maps::VISIT;

/// One datagram's visit; one per CPU.
#[repr(C)]
pub struct Visit {
    /// Where the IP header starts in the frame.
    pub ip: u32,
    /// Where the NAAM datagram starts in the frame.
    pub datagram: u32,
    /// Its length in bytes.
    pub length: u32,
    /// 1 if the frame is IPv6.
    pub v6: u32,
    /// The app, below APPS_MAX.
    pub app: u32,
    /// The shard, below SHARDS_MAX.
    pub shard: u32,
    /// Messages, 1..=32.
    pub count: u32,
    /// The session's number.
    pub session: u32,
    /// The function called.
    pub function: u32,
    /// The handler version that was looked up.
    pub version: u32,
    /// The shard's placement word.
    pub placement: u64,
    /// The app's key.
    pub key: naam_abi::siphash::Key,
    /// The session's rights, a byte per region: raw ones for a built-in function, else those through handlers.
    pub rights: u64,
    /// The same for carried messages: what the session may do through handlers and by one-sided functions too.
    pub carried_rights: u64,
    /// Bytes that a walk over the datagram has still before it; see [`crate::words`].
    pub left: u64,
}

impl Visit {
    /// This CPU's visit.
    #[inline(always)]
    pub fn get() -> Option<&'static mut Self> {
        // SAFETY: a per-CPU value; programs on one CPU do not overlap.
        VISIT.get_ptr_mut(0).map(|visit| unsafe { &mut *visit })
    }
}
