//! The contract between NAAM's kernel programs and its userspace.
//!
//! `no_std`, no `unsafe`, no dependencies: the same source is compiled for the BPF target and for
//! the host. Whatever crosses a boundary is defined here and nowhere else:
//!
//! | module | boundary |
//! |---|---|
//! | [`wire`] | client ↔ site: datagrams and messages, byte by byte |
//! | [`handler`] | shell or engine ↔ handler: message, views, steps, self-description |
//! | [`tables`] | daemon ↔ shell: values of the pinned maps |
//! | [`stats`] | shell → daemon: counters, drop reasons |
//! | [`onesided`] | client ↔ built-in functions: their numbers and arguments |
//! | [`limits`] | every bound, in one place, with their relations asserted |
//! | [`siphash`] | the tag's function |
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod handler;
pub mod limits;
pub mod onesided;
pub mod siphash;
pub mod stats;
pub mod tables;
pub mod wire;
