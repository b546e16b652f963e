//! All paths of a handler, each once: a depth-first search that ends where a state is covered by
//! one whose paths are all known.
//!
//! Where paths join, the state is saved as a node. A later state that a finished node covers has
//! no other paths than the node's, and none longer. A state that comes back to a node it descends
//! from, unchanged in all that matters, is an endless loop as far as the audit can see. Cost is
//! the longest path: each node keeps the longest from it to the end.
//!
//! Constants make states many: a loop that keeps the index of the best of n words has n²/2 of
//! them. A search may join states that differ in one number where it has seen many.

use std::collections::HashMap;

use super::demand::{self, Demand};
use super::scalar::Scalar;
use super::state::State;
use super::step::{Machine, Next};
use super::value::Value;
use super::visited::{Saved, Seen};
use crate::isa::{Op, Reg};
use crate::refusal::{Fault, Rule};
use crate::structure::{Shape, successors};
use naam_abi::limits::STEP_COST_MAX;

/// How a search is done.
#[derive(Clone, Copy)]
pub(super) struct Search {
    /// States kept at one place before those that differ in one number are joined, if ever.
    pub join_after: Option<usize>,
    /// Instructions that are looked at, over all paths.
    pub visits_max: u64,
}

/// States of one group that a new state is compared with, the latest first.
const CANDIDATES_MAX: usize = 256;
/// Registers and stack slots that are kept, over all states.
const VALUES_MAX: usize = 2_000_000;
/// Comparisons of states, and of groups of states.
const COMPARISONS_MAX: usize = 40_000_000;

struct Node {
    saved: Saved,
    parent: usize,
    /// Paths from here that are not known yet.
    open: usize,
    /// Instructions before it on the path that led here first.
    cost: u64,
    /// Instructions on the longest known path from here.
    longest: u64,
}

/// A path that is not gone yet.
struct Path {
    state: State,
    at: usize,
    cost: u64,
    node: usize,
    /// The chain of call sites that led here.
    chain: usize,
}

pub(super) struct Explorer<'a> {
    machine: Machine<'a>,
    demands: Vec<Demand>,
    joins: Vec<bool>,
    nodes: Vec<Node>,
    seen: HashMap<(usize, usize), Seen>,
    /// Chains of call sites: the caller's chain and the site; their index by content.
    chains: Vec<usize>,
    chain_index: HashMap<(usize, usize), usize>,
    search: Search,
    visits: u64,
    values: usize,
    comparisons: usize,
}

impl<'a> Explorer<'a> {
    pub fn new(shape: &'a Shape, view_bytes: usize, search: Search) -> Self {
        Self {
            machine: Machine::new(shape, view_bytes),
            demands: demand::analyse(shape),
            joins: joins(shape),
            nodes: Vec::new(),
            seen: HashMap::new(),
            chains: vec![0],
            chain_index: HashMap::new(),
            search,
            visits: 0,
            values: 0,
            comparisons: 0,
        }
    }

    /// The cost of the longest path, and each function's stack bytes.
    pub fn explore(mut self) -> Result<(u64, Vec<usize>), Fault> {
        let start = State::start();
        self.nodes.push(Node { saved: Saved::of(&start), parent: 0, open: 1, cost: 0, longest: 0 });
        let mut paths = vec![Path { state: start, at: 0, cost: 0, node: 0, chain: 0 }];
        while let Some(mut path) = paths.pop() {
            while let Some(other) = self.advance(&mut path)? {
                if let Some(other) = other {
                    self.nodes[path.node].open += 1;
                    paths.push(other);
                }
            }
        }
        Ok((self.nodes[0].longest, self.machine.frame_bytes))
    }

    /// Takes one instruction. `None`: the path is at its end; otherwise perhaps another path.
    fn advance(&mut self, path: &mut Path) -> Result<Option<Option<Path>>, Fault> {
        let at = path.at;
        if self.joins[at] && self.meet(path)? {
            return Ok(None);
        }
        self.visits += 1;
        if self.visits > self.search.visits_max {
            let detail =
                format!("is where the audit gave up, after {} instructions on all paths", self.search.visits_max);
            return Err(Fault::new(Rule::TooComplex, at, detail));
        }
        path.cost += 1;
        check_cost(path.cost, at)?;
        match self.machine.step(&mut path.state, at)? {
            Next::At(next) => path.at = next,
            Next::Call(target) => {
                path.chain = self.chain(path.chain, at);
                path.at = target;
            }
            Next::Return(to) => {
                path.chain = self.chains[path.chain];
                path.at = to;
            }
            Next::Split(next, state, elsewhere) => {
                path.at = next;
                let (cost, node, chain) = (path.cost, path.node, path.chain);
                return Ok(Some(Some(Path { state: *state, at: elsewhere, cost, node, chain })));
            }
            Next::End => {
                self.finish(path.node, path.cost);
                return Ok(None);
            }
        }
        Ok(Some(None))
    }

    /// Compares the state with those seen here; `true`: its paths are known. Otherwise saves it.
    fn meet(&mut self, path: &mut Path) -> Result<bool, Fault> {
        let place = (path.at, path.chain);
        loop {
            path.state.forget(path.at, &self.demands);
            path.state.unlink();
            let saved = Saved::of(&path.state);
            if let Some(longest) = self.known(place, &saved)? {
                let cost = path.cost + longest;
                check_cost(cost, path.at)?;
                self.finish(path.node, cost);
                return Ok(true);
            }
            if let Some((reg, joined)) = self.joined(place, &saved) {
                path.state.set_reg(reg, Value::Scalar(joined));
                continue;
            }
            let node = self.nodes.len();
            self.values += saved.len();
            self.seen.entry(place).or_default().insert(&saved, node, self.search.join_after.is_some());
            self.nodes.push(Node { saved, parent: path.node, open: 1, cost: path.cost, longest: 0 });
            path.node = node;
            return Ok(false);
        }
    }

    /// The longest path from a finished node that covers the state.
    fn known(&mut self, place: (usize, usize), saved: &Saved) -> Result<Option<u64>, Fault> {
        if self.values > VALUES_MAX || self.comparisons > COMPARISONS_MAX {
            let detail = format!("is where the audit gave up, after {} states", self.nodes.len());
            return Err(Fault::new(Rule::TooComplex, place.0, detail));
        }
        let Some(seen) = self.seen.get(&place) else { return Ok(None) };
        self.comparisons += seen.groups();
        for index in seen.candidates(saved, CANDIDATES_MAX) {
            let node = &self.nodes[index];
            self.comparisons += 1;
            if !node.saved.covers(saved) {
                continue;
            }
            if node.open == 0 {
                return Ok(Some(node.longest));
            }
            if saved.covers(&node.saved) {
                let detail = "begins a loop whose end the audit cannot see";
                return Err(Fault::new(Rule::EndlessLoop, place.0, detail));
            }
        }
        Ok(None)
    }

    /// Where many states were seen: a register in which a finished one differs, and the numbers of
    /// both. A loop's own counter is never joined with its earlier rounds, which are not finished.
    fn joined(&mut self, place: (usize, usize), saved: &Saved) -> Option<(Reg, Scalar)> {
        let many = self.search.join_after?;
        let seen = self.seen.get(&place).filter(|seen| seen.count >= many)?;
        let neighbours = seen.neighbours(saved);
        self.comparisons += neighbours.len();
        let finished = neighbours.into_iter().map(|index| &self.nodes[index]).filter(|node| node.open == 0);
        finished.filter_map(|node| node.saved.join(saved)).map(|(reg, joined)| (reg as Reg, joined)).next()
    }

    /// A path from `node` is known to its end: tells the nodes above.
    fn finish(&mut self, mut node: usize, mut cost: u64) {
        loop {
            let this = &mut self.nodes[node];
            this.longest = this.longest.max(cost - this.cost);
            this.open -= 1;
            if this.open > 0 || node == 0 {
                return;
            }
            cost = this.cost + this.longest;
            node = this.parent;
        }
    }

    fn chain(&mut self, caller: usize, site: usize) -> usize {
        *self.chain_index.entry((caller, site)).or_insert_with(|| {
            self.chains.push(caller);
            self.chains.len() - 1
        })
    }
}

fn check_cost(cost: u64, at: usize) -> Result<(), Fault> {
    if cost > STEP_COST_MAX {
        let detail = format!("lies on a path of {cost} or more instructions; the limit of a step is {STEP_COST_MAX}");
        return Err(Fault::new(Rule::TooLong, at, detail));
    }
    Ok(())
}

/// Instructions where paths join: more than one predecessor, or behind a call.
fn joins(shape: &Shape) -> Vec<bool> {
    let mut predecessors = vec![0_u32; shape.ops.len()];
    for at in 0..shape.ops.len() {
        let weight = match shape.ops[at] {
            Op::Tail => continue,
            Op::Call { .. } => 2,
            _ => 1,
        };
        successors(&shape.ops, at).for_each(|next| predecessors[next] += weight);
    }
    // A loop back to a function's first instruction joins there with the way in.
    let firsts = shape.ops.iter().filter_map(|op| match op {
        Op::Call { offset } => Some(*offset as usize),
        _ => None,
    });
    for first in firsts.chain([0]) {
        predecessors[first] += 1;
    }
    predecessors.into_iter().map(|count| count > 1).collect()
}
