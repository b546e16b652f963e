//! Other key–value servers as targets, for comparison on the same path: real servers, driven the way that suits
//! them best (many requests in flight, pipelined over TCP).

pub mod memcached;
mod pipeline;
pub mod redis;
pub mod server;

pub use pipeline::{Decoded, Pipeline, Protocol};
