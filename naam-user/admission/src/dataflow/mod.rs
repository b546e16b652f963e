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

use crate::View;
use crate::refusal::Fault;
use crate::structure::Shape;

/// What the audit found out.
pub(crate) struct Outcome {
    /// Instructions on the longest path.
    pub cost: u64,
    /// Bytes of stack that each function uses.
    pub frames: Vec<usize>,
}

/// Follows every path of a structurally sound program.
pub(crate) fn audit(shape: &Shape, view: View) -> Result<Outcome, Fault> {
    let (cost, frames) = explore::Explorer::new(shape, view.bytes()).explore()?;
    Ok(Outcome { cost, frames })
}
