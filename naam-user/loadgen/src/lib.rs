//! NAAM's load generator.
//!
//! A run has a [`source::Source`] of operations for each thread ([`workload::Workload`] A–F by YCSB's definitions,
//! or each record once), a [`target::Target`] for each thread that performs them (the NAAM client; memcached and
//! redis in [`rivals`]; [`mock::Mock`] in tests), and the [`runner`], which keeps the schedule, measures latency
//! from the intended time of each operation, and checks every value read.
//!
//! After warm-up no operation allocates.

pub mod data;
pub mod keyspace;
pub mod mock;
pub mod records;
pub mod report;
pub mod rivals;
pub mod runner;
pub mod source;
pub mod stream_rng;
pub mod table;
pub mod target;
pub mod workload;
pub mod zipf;
