//! The seam between NAAM and the kernel's `bpf()` system call.
//!
//! Everything that NAAM asks of BPF apart from aya's own loading goes through this crate: maps
//! made at run time, programs loaded from an instruction stream, test runs, pins, and what the
//! kernel says about each of them. Functions are typed, own their file descriptors, check the
//! lengths that the kernel does not see, and report failures as [`SysError`]: operation, object,
//! errno, way out.
//!
//! | module | kernel object |
//! |---|---|
//! | [`map`] | maps: create, look up, update, delete, freeze |
//! | [`mapping`] | the pages of a map in this process: words and copies, never references |
//! | [`btf`] | BTF blobs |
//! | [`program`] | programs: load from instructions, verifier log, what the kernel reports |
//! | [`run`] | `BPF_PROG_TEST_RUN` |
//! | [`grace`] | waiting until running programs have ended |
//! | [`pin`] | bpffs |
//! | [`features`] | what this kernel can do |
//! | [`link`] | links: which interface one holds |
//! | [`tc`] | filters at TC ingress, by their numbers |
//! | [`xdp`] | XDP on an interface |
//!
//! Aya's objects enter through their descriptors: `Map::from_fd(fd.try_clone_to_owned()?)`.

pub mod btf;
mod error;
pub mod features;
pub mod grace;
mod kind;
pub mod link;
pub mod map;
pub mod mapping;
pub mod pin;
pub mod program;
pub mod run;
pub mod tc;
pub mod xdp;

pub use btf::Btf;
pub use error::{Errno, Operation, SysError};
pub use map::{Map, MapInfo, MapSpec, MapType, Update};
pub use mapping::{Mapping, OutOfRange};
pub use program::{Insn, LoadError, Loaded, Program, ProgramInfo, ProgramSpec, ProgramType};
pub use run::{RunInput, RunOutput};
