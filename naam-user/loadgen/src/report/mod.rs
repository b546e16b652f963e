//! What is said about a run: summary, percentile files, bench rows.

pub mod bench;
mod hgrm;
mod summary;

pub use hgrm::hgrm;
pub use summary::{KindSummary, Latency, Summary};
