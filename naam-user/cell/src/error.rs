//! What can go wrong.

use naam_handlers::cell::{KEY_MAX, VALUE_MAX};
use naam_region::geometry::size_text;
use thiserror::Error;

/// Why a tree could not be made, opened or changed. Nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CellError {
    /// No free node is left.
    #[error(
        "the tree's region of {} is full: {keys} keys in {nodes} nodes; delete keys, or load them into a larger region",
        size_text(*.bytes)
    )]
    Full {
        /// Bytes of the region.
        bytes: u64,
        /// Keys in the tree.
        keys: u64,
        /// Nodes of the tree.
        nodes: u64,
    },
    /// Keys have 1 to 64 bytes.
    #[error("a key of {len} bytes cannot be stored: 1 to {KEY_MAX} are allowed")]
    Key {
        /// Its bytes.
        len: usize,
    },
    /// Values have up to 1,000 bytes.
    #[error("a value of {len} bytes cannot be stored: {VALUE_MAX} are the most")]
    Value {
        /// Its bytes.
        len: usize,
    },
    /// The region is not one that a tree can stand in.
    #[error("no tree can be made in {bytes} bytes: take a region of 2 MiB to 4 GiB")]
    RegionSize {
        /// Its bytes.
        bytes: u64,
    },
    /// The region holds no tree.
    #[error("the region holds no tree ({what}); format it first")]
    NoTree {
        /// What stands there instead.
        what: &'static str,
    },
    /// Something in the tree is not as its owner wrote it.
    #[error("the tree is damaged: {what} at offset {offset:#x}; restore the region from a snapshot, or format it")]
    Damaged {
        /// What does not fit.
        what: &'static str,
        /// Where.
        offset: u64,
    },
    /// The root word is not what this owner published last: the region was restored, or has a second owner.
    #[error(
        "cannot {operation}: the region was changed by another: its root is of publication {found}, this owner's last \
         was {known}; open the tree again, in one process only"
    )]
    ChangedByAnother {
        /// What was to be done.
        operation: &'static str,
        /// Generation of the region's root.
        found: u32,
        /// Generation of the owner's root.
        known: u32,
    },
    /// A bulk load wants an empty tree.
    #[error("keys cannot be loaded in bulk into a tree that has {keys} keys; insert them, or format the region")]
    NotEmpty {
        /// Keys in the tree.
        keys: u64,
    },
    /// A bulk load wants ascending keys.
    #[error("key number {number} of a bulk load is not above the one before it; sort the keys, and keep one of each")]
    Unsorted {
        /// Counted from 0.
        number: u64,
    },
}
