//! NAAM's trusted kernel programs.
//!
//! The way of a message, one module a verb:
//!
//! ```text
//! bin/entry:  parse ─▶ steer ─▶ tail call      one program per hook, loaded by aya
//! bin/shell:  run ⇄ resolve ─▶ reply           two programs per handler and hook, for Requests
//!                                              and for Continues: spliced
//! ```
//!
//! This library holds what both share: [`frame`] hides the difference between XDP and TC,
//! [`visit`] carries what the entry found out across the tail call, [`reply`] turns a frame around
//! with its [`tag`] and [`checksum`], [`loops`] is how loops run on kernels with and without
//! `may_goto`, [`maps`] the maps that both use.
#![no_std]
#![feature(asm_experimental_arch)]

pub mod checksum;
pub mod count;
pub mod frame;
pub mod loops;
pub mod maps;
pub mod opaque;
pub mod reply;
pub mod tag;
pub mod visit;
pub mod words;
