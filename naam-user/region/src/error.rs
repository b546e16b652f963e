//! What can go wrong with a region.

use std::io;
use std::path::PathBuf;

use naam_sys::{LoadError, SysError};
use thiserror::Error;

use crate::geometry::{AccessError, GeometryError, size_text};

/// A failed operation on a region.
#[derive(Debug, Error)]
pub enum RegionError {
    /// No region has this size.
    #[error(transparent)]
    Size(#[from] GeometryError),
    /// Not a name.
    #[error(
        "{what} name {name:?} is not allowed: 1 to {} lower-case letters, digits and _, beginning with a letter",
        naam_abi::limits::NAME_BYTES_MAX
    )]
    Name {
        /// `app` or `region`.
        what: &'static str,
        /// As given.
        name: String,
    },
    /// The app has a region of this name.
    #[error("{path} exists; open or remove that region, or choose another name")]
    Exists {
        /// The pin.
        path: PathBuf,
    },
    /// The machine has not enough free memory: a region's pages are taken at once and never swapped.
    #[error(
        "cannot create region `{region}` of {}: {} of memory are available; choose a smaller region or free memory",
        size_text(*.bytes), size_text(*.available)
    )]
    Memory {
        /// The region.
        region: String,
        /// Its size.
        bytes: u64,
        /// `MemAvailable` of /proc/meminfo.
        available: u64,
    },
    /// The region's directory in bpffs could not be made or read.
    #[error("cannot {operation} {path}: {source}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// What is there is no regular file: a device, a pipe, a directory, or a link where a file would be replaced.
    #[error("{path} is no regular file; name one, or a new one")]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// Another process is the owner.
    #[error("region `{app}/{region}` has an owner, another process that changes it; wait for its end, or end it")]
    Owned {
        /// The app.
        app: String,
        /// The region.
        region: String,
    },
    /// The kernel refused.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The kernel refused the region's BTF.
    #[error(transparent)]
    Btf(#[from] LoadError),
    /// What is pinned there is not a region.
    #[error("{path} is not a region: {reason}")]
    NotARegion {
        /// The pin.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// A range that is not an object of the region.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The file is not a snapshot that this version reads.
    #[error("{path} is not a usable snapshot: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The snapshot belongs to a region of another size.
    #[error(
        "{path} holds a region of {}, but region `{region}` has {}; create a region of the snapshot's size",
        size_text(*.snapshot_bytes), size_text(*.region_bytes)
    )]
    SizeMismatch {
        /// The file.
        path: PathBuf,
        /// Bytes of the region that was saved.
        snapshot_bytes: u64,
        /// The region to restore into.
        region: String,
        /// Its bytes.
        region_bytes: u64,
    },
    /// A chunk's bytes are not those that were saved. The region was not touched.
    #[error("{path}: chunk {chunk} of {chunks} is corrupt (checksum); the region was not touched; use another copy")]
    CorruptChunk {
        /// The file.
        path: PathBuf,
        /// Number of the 1 MiB chunk in the region, from 0.
        chunk: u64,
        /// Chunks of the region.
        chunks: u64,
    },
    /// The file changed between its verification and the copy: the region holds a mixture.
    #[error("{path} changed at chunk {chunk} while it was restored; the region is unusable until restored again")]
    ChangedWhileRestored {
        /// The file.
        path: PathBuf,
        /// Number of the chunk.
        chunk: u64,
    },
    /// A plain file does not fit.
    #[error("{path} has {len} bytes, which do not fit at offset {offset:#x} of region `{region}` of {}", size_text(*.bytes))]
    DoesNotFit {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
        /// Where it should go.
        offset: u64,
        /// The region.
        region: String,
        /// Its bytes.
        bytes: u64,
    },
    /// io_uring cannot be used.
    #[error("cannot set up io_uring: {source} ({cure})")]
    Uring {
        /// The kernel's answer.
        source: io::Error,
        /// What to do.
        cure: &'static str,
    },
}

impl RegionError {
    /// Builds [`Self::File`], for `map_err`.
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }
}
