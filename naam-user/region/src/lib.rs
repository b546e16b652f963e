//! Regions: the memory of NAAM's apps.
//!
//! A region is a BPF array, made at run time and pinned, that kernel handlers read and write, that
//! its owner maps into its own memory, and that an RDMA device can register: one memory, three
//! doors. It lives as long as its pin, whatever becomes of the daemon.
//!
//! ```no_run
//! use naam_region::Regions;
//! let regions = Regions::new("/sys/fs/bpf/naam/host");
//! let region = regions.create("kv", "store", 64 << 20)?;
//! let memory = region.map()?;
//! memory.store(4096, 42)?;
//! region.save("store.naam".as_ref(), &mut |_| ())?;
//! # Ok::<(), naam_region::RegionError>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`geometry`] | how bytes are cut into map values, and which ranges handlers can name |
//! | [`store`] | create, open, list and remove pinned regions |
//! | [`memory`] | the owner's door: words and copies, never references |
//! | [`snapshot`] | save, restore, load of files, through io_uring |
//! | [`format`](mod@format) | the snapshot file, byte by byte |
//! | [`dump`] | hex view |

mod btf;
pub mod dump;
mod error;
mod file;
pub mod format;
pub mod geometry;
pub mod memory;
pub mod snapshot;
pub mod store;
mod uring;

pub use error::RegionError;
pub use geometry::{AccessError, Geometry, GeometryError};
pub use memory::Memory;
pub use snapshot::{OnProgress, Progress, Stage};
pub use store::{Ownership, Region, Regions};
