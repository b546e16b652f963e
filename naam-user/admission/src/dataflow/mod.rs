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
use crate::refusal::{Fault, Rule};
use crate::structure::Shape;

/// Instructions that a search looks at, over all paths: some seconds at most.
const VISITS_MAX: u64 = 1_000_000;

/// What the audit found out.
pub(crate) struct Outcome {
    /// Instructions on the longest path.
    pub cost: u64,
    /// Bytes of stack that each function uses.
    pub frames: Vec<usize>,
}

/// Follows every path of a structurally sound program.
pub(crate) fn audit(shape: &Shape, view: View) -> Result<Outcome, Fault> {
    let explore = |joining| {
        let search = Search { joining, visits_max: VISITS_MAX };
        Explorer::new(shape, view.bytes(), search).explore()
    };
    let (cost, frames) = explore(false).or_else(|fault| match fault.rule {
        // What the second search refuses may be its own doing: it knows less.
        Rule::TooComplex => explore(true).map_err(|_| fault),
        _ => Err(fault),
    })?;
    Ok(Outcome { cost, frames })
}
