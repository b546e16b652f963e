//! A key-value store after MICA, in region 0: keys of 1 to 64 bytes, values of up to 1,000.
//!
//! | function | arguments | codes | reply |
//! |---|---|---|---|
//! | [`get`] | [`args::get`] | [`Code::Ok`], [`Code::NotFound`] | `u64` version, value |
//! | [`set`] | [`args::set`] | [`Code::Ok`], [`Code::StoreFull`], [`Code::ChainFull`] | `u64` version |
//! | [`cas`] | [`args::cas`] | as [`set`]; [`Code::NotFound`], [`Code::VersionDiffers`] | `u64` version |
//! | [`delete`] | [`args::delete`] | [`Code::Ok`], [`Code::NotFound`] | none |
//!
//! Each may also answer [`Code::Retry`]: too much went on around the message, nothing was changed.
//!
//! # How it stays consistent without locks
//!
//! A message may stop between any two steps, so nothing ever waits for another message. A key's
//! value changes by exchanging one word, the [`Entry`](layout::Entry) in its bucket:
//!
//! - An item is written to a block that nobody refers to, then the entry is exchanged, then the old
//!   block is freed. Block and generation in the entry make an exchange fail if anything happened.
//! - A new key is entered in two phases, as in FASTER: the entry is placed in an empty slot marked
//!   *tentative*, which hides it from readers; then the chain is read again; then the mark is
//!   removed. Of two messages entering one key, the later to place its entry sees the other's. A
//!   committed one wins; of tentative ones the earlier in the chain removes the later, and the
//!   later yields, but not twice: the other may be dead.
//! - A read takes the item as it was when the entry was read: the item's generation must be the
//!   entry's, and a checksum tells a torn copy. A mismatch is believed only if the entry, read
//!   again, is still the same.
//!
//! A store refuses what does not fit. One made with [`Geometry::cache`](layout::Geometry::cache) takes
//! everything, and forgets what is oldest: a GET may then miss a key that was stored, for good. A
//! CAS or DELETE may still find a key that GETs miss already, until its place is used.
//!
//! A bucket's chain is never unlinked, an entry never moves: a key that is there throughout a scan
//! is seen by the scan.

pub mod args;
pub mod hash;
pub mod layout;

mod block;
mod get;
mod scan;
mod write;

pub use get::{STATE_LEN as GET_STATE_LEN, step as get};
pub use write::{STATE_LEN as WRITE_STATE_LEN, cas, delete, set};

/// Longest key in bytes.
pub const KEY_MAX: usize = 64;
/// Longest value in bytes.
pub const VALUE_MAX: usize = 1000;
/// Longest reply of [`get`]: version and value.
pub const GET_REPLY_MAX: usize = 8 + VALUE_MAX;
/// Longest reply of the functions that write: a version.
pub const WRITE_REPLY_MAX: usize = 8;

/// What became of a message: [`NaamMsg::code`](naam_handler::NaamMsg::code).
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Found, stored, exchanged or deleted.
    Ok = 0,
    /// The key is not in the store.
    NotFound = 1,
    /// CAS: the item has another version, which is in the reply.
    VersionDiffers = 2,
    /// No free block of the item's size is left. Nothing was changed.
    StoreFull = 3,
    /// The key's chain of buckets is full: the table is too small for its keys. Nothing was changed.
    ChainFull = 4,
    /// Others changed the same words too often for one visit. Nothing was changed; ask again.
    Retry = 5,
    /// The arguments are not what the function takes. The message fails.
    BadArguments = 6,
    /// Region 0 holds no store, or one that is damaged. The message fails.
    NoStore = 7,
}

impl Code {
    /// The result that `code` names, if any does.
    pub const fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::Ok,
            1 => Self::NotFound,
            2 => Self::VersionDiffers,
            3 => Self::StoreFull,
            4 => Self::ChainFull,
            5 => Self::Retry,
            6 => Self::BadArguments,
            7 => Self::NoStore,
            _ => return None,
        })
    }

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::VersionDiffers => "version_differs",
            Self::StoreFull => "store_full",
            Self::ChainFull => "chain_full",
            Self::Retry => "retry",
            Self::BadArguments => "bad_arguments",
            Self::NoStore => "no_store",
        }
    }
}
