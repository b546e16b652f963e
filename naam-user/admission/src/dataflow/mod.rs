//! The dataflow audit: an abstract interpretation of all paths.
//!
//! Every register and every stack byte is unusable, a number out of a set, or a pointer into the
//! message, the view or a running function's stack at an offset out of an interval. The message
//! and the view hold numbers only: no pointer is ever stored there. Functions are followed at each
//! call with the arguments of that call.
//!
//! | module | subject |
//! |---|---|
//! | [`tnum`], [`scalar`] | sets of numbers |
//! | [`alu`], [`refine`] | arithmetic over them, and what a branch tells |
//! | [`value`], [`stack`], [`state`] | what registers, stack and a path hold |
//! | [`step`] | one instruction, and all rules about pointers |
//! | [`demand`], [`visited`], [`explore`] | which states need not be followed again; cost |
//!
//! Soundness rests on `alu`, `refine`, `stack`, `step` and the order of states in `visited`; each
//! is tested against concrete execution.

mod alu;
#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod concrete;
mod demand;
mod explore;
#[cfg(test)]
mod generate;
mod refine;
mod scalar;
#[cfg(test)]
mod soundness;
mod stack;
mod state;
mod step;
mod tnum;
mod value;
mod visited;

use explore::{Explorer, Search};

use crate::View;
use crate::refusal::Fault;
use crate::structure::Shape;

/// Tried first: cheap where constants make states many, and the same as the other elsewhere.
const JOINING: Search = Search { join_after: Some(64), visits_max: 250_000 };
/// Tried then: what the first refuses may be its own doing, for it knows less. Some seconds at most.
const EXACT: Search = Search { join_after: None, visits_max: 1_000_000 };

/// What the audit found out.
pub(crate) struct Outcome {
    /// Instructions on the longest path.
    pub cost: u64,
    /// Bytes of stack that each function uses.
    pub frames: Vec<usize>,
}

/// Follows every path of a structurally sound program.
pub(crate) fn audit(shape: &Shape, view: View) -> Result<Outcome, Fault> {
    let explore = |search| Explorer::new(shape, view.bytes(), search).explore();
    let (cost, frames) = explore(JOINING).or_else(|_| explore(EXACT))?;
    Ok(Outcome { cost, frames })
}
