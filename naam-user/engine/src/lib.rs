//! Runs admitted handlers in userspace: the same bytes, the same steps, the same ends as in the kernel.
//!
//! [`Engine::load`] takes what passed admission and makes a [`Program`] of it, by rbpf's x86-64 JIT or its
//! interpreter. A [`Run`] is one message's visit: it runs steps, says by [`Action`] what memory it needs, and goes on
//! when that is there. It does no IO and never waits, so any number of messages can be in flight. Where memory is at
//! hand, [`Run::finish`] drives it.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use naam_engine::{Engine, Image, Request, Run};
//! let handler = naam_admission::admit(&std::fs::read("sum.o")?).map_err(|refusal| refusal.to_string())?;
//! let program = Engine::default().load(&handler)?;
//! let mut memory = Image::new();
//! memory.push(&[1; 2 << 20]).expect("a region's size");
//! let args: Vec<u8> = [0u64, 2].iter().flat_map(|word| word.to_le_bytes()).collect();
//! let mut run = Run::start(&program, &Request { args: &args, reply_room: 8, shard: 0 })?;
//! let end = run.finish(&memory)?;
//! assert_eq!(end.reply, [16; 8]);
//! # Ok(())
//! # }
//! ```
//!
//! | module | what |
//! |---|---|
//! | `lower` | from admitted instructions to ones that rbpf computes as the kernel does |
//! | `jit`, `interpreter` | rbpf's two machines |
//! | `arena` | the memory that a handler can reach |
//! | `run` | the step machine |
//! | [`memory`] | the owner's regions, images, rights |

mod arena;
mod error;
mod interpreter;
#[cfg(all(target_arch = "x86_64", unix))]
mod jit;
mod lower;
pub mod memory;
mod program;
mod run;

pub use error::{LoadError, RunError};
pub use memory::{Image, Limited, Memory};
pub use program::{Engine, Machine, Program};
pub use run::{Action, Effect, End, Request, Run};
