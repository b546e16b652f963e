//! RDMA for NAAM: the third door to a region, for peers that read it without anybody's help.
//!
//! ```text
//!   Device ◀── Domain ◀── MemoryRegion ──▶ pages (a region's mapping, or a Buffer)
//!                 ▲              ▲
//!                 └── QueuePair ─┘ until a request that names it has completed
//! ```
//! An arrow is a counted reference: what a device may reach stays mapped and registered for as long as it may. A queue pair
//! is [made](QueuePair::new) unconnected, tells its [`Endpoint`], and is [connected](QueuePair::connect) to the peer's, which
//! came by some other way, such as the control plane. Memory that a device writes is never seen as a reference: words are
//! loaded and copied out.
//!
//! rdma-core is looked for when a [`Device`] is opened. Without it, or without a device, that is an [`Error`] that says how
//! to get one; nothing else of NAAM needs it.

mod channel;
mod device;
mod error;
mod event;
mod gid;
mod memory;
mod queue;

pub use self::{
    device::{Device, Domain, Local, Port},
    error::Error,
    event::Event,
    gid::{Gid, source_address},
    memory::{Access, Buffer, MemoryRegion, Pages, RemoteMemory},
    queue::{CHAIN, Connected, Endpoint, QueuePair, WorkId},
};
