//! A B-tree after Cell, in region 0: sorted keys of 1 to 64 bytes, values of up to 1,000.
//!
//! | function | arguments | codes | reply |
//! |---|---|---|---|
//! | [`get`] | [`args::get`] | [`Code::Ok`], [`Code::NotFound`] | the value |
//! | [`scan`] | [`args::scan`] | [`Code::Ok`], [`Code::NoRoom`] | [`args::Scanned`] |
//!
//! Each may also answer [`Code::Retry`]: the tree changed faster than the message could read it.
//!
//! Handlers only read. The region's owner, one process, changes the tree (crate `naam-cell`).
//!
//! # How readers and the writer stay out of each other's way
//!
//! A published node never changes. The owner copies what it changes, from the leaf to the root, and
//! publishes by one store to the [root word](layout::Root). A reader goes on in the tree that it began
//! in: what one message sees is one state of the tree, even over a scan.
//!
//! The owner uses frames again, some time after they left the tree. A reader that is still there must
//! notice: a pointer holds a generation, and every line that the reader's answer depends on is
//! checked against it, see [`layout::line_check`]. If a check fails the message begins again, as
//! often as its steps allow.

pub mod args;
pub mod layout;

mod get;
mod node;
mod scan;

pub use get::step as get;
pub use node::{STATE_LEN, restarts};
pub use scan::step as scan;

/// Longest key in bytes.
pub const KEY_MAX: usize = 64;
/// Longest value in bytes.
pub const VALUE_MAX: usize = 1000;
/// Longest reply of [`get`]: a value.
pub const GET_REPLY_MAX: usize = VALUE_MAX;
/// Longest reply of [`scan`].
pub const SCAN_REPLY_MAX: usize = naam_abi::limits::REPLY_BYTES;
/// Most keys of one scan.
pub const SCAN_KEYS_MAX: u64 = 32;

/// What became of a message: [`NaamMsg::code`](naam_handler::NaamMsg::code).
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Found; or the scan's keys are in the reply.
    Ok = 0,
    /// The key is not in the tree.
    NotFound = 1,
    /// The tree changed too often while the message read it. Ask again.
    Retry = 2,
    /// The scan's first key and value do not fit the reply's room.
    NoRoom = 3,
    /// The arguments are not what the function takes. The message fails.
    BadArguments = 4,
    /// Region 0 holds no tree of this layout's version. The message fails.
    NoTree = 5,
}

impl Code {
    /// The result that `code` names, if any does.
    pub const fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::Ok,
            1 => Self::NotFound,
            2 => Self::Retry,
            3 => Self::NoRoom,
            4 => Self::BadArguments,
            5 => Self::NoTree,
            _ => return None,
        })
    }

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::Retry => "retry",
            Self::NoRoom => "no_room",
            Self::BadArguments => "bad_arguments",
            Self::NoTree => "no_tree",
        }
    }
}
