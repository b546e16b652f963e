//! The structural audit: what the instructions are, where control can go, who calls whom.

use std::ops::Range;

use crate::isa::{FP, Op, decode};
use crate::link::Program;
use crate::refusal::{Fault, Rule};

/// Functions on one chain of calls, the entry included.
pub(crate) const CALL_DEPTH_MAX: usize = 8;
/// Bytes of stack of one chain of calls: the kernel gives 512, the shell keeps the other half.
pub(crate) const STACK_BYTES_MAX: usize = 256;
/// The kernel rounds every frame up to a multiple of this.
const FRAME_ALIGN: usize = 32;

/// What the kernel reckons for a frame of so many bytes.
pub(crate) fn frame_size(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(FRAME_ALIGN)
}

/// A program whose structure is sound.
pub(crate) struct Shape {
    /// One operation per slot. Offsets in [`Op::Jump`], [`Op::Branch`] and [`Op::Call`] are now
    /// indices of the target.
    pub ops: Vec<Op>,
    /// The function of each slot.
    pub function: Vec<usize>,
    /// For each function the functions it calls, with one call site each.
    pub calls: Vec<Vec<(usize, usize)>>,
    /// Functions, callees before callers.
    pub bottom_up: Vec<usize>,
}

pub(crate) fn audit(program: &Program) -> Result<Shape, Fault> {
    let mut shape = Shape {
        ops: Vec::with_capacity(program.insns.len()),
        function: Vec::with_capacity(program.insns.len()),
        calls: vec![Vec::new(); program.functions.len()],
        bottom_up: Vec::new(),
    };
    for (index, func) in program.functions.iter().enumerate() {
        let range = func.first..func.first + func.count;
        decode_function(program, range.clone(), &mut shape)?;
        shape.function.resize(range.end, index);
        check_flow(&shape.ops, range)?;
    }
    for at in 0..shape.ops.len() {
        if let Op::Call { offset } = shape.ops[at] {
            let (caller, callee) = (shape.function[at], shape.function[offset as usize]);
            if !shape.calls[caller].iter().any(|(known, _)| *known == callee) {
                shape.calls[caller].push((callee, at));
            }
        }
    }
    order(program, &mut shape)?;
    Ok(shape)
}

fn decode_function(program: &Program, range: Range<usize>, shape: &mut Shape) -> Result<(), Fault> {
    let mut at = range.start;
    while at < range.end {
        let next = (at + 1 < range.end).then(|| program.insns[at + 1]);
        let op = decode(program.insns[at], next).map_err(|(rule, detail)| Fault::new(rule, at, detail))?;
        let op = resolve(program, &range, at, op)?;
        if let Op::Alu { dst: FP, .. }
        | Op::Neg { dst: FP, .. }
        | Op::End { dst: FP, .. }
        | Op::LoadImm { dst: FP, .. }
        | Op::Load { dst: FP, .. } = op
        {
            return Err(Fault::new(Rule::FramePointerWritten, at, "writes r10"));
        }
        shape.ops.push(op);
        if let Op::LoadImm { .. } = op {
            shape.ops.push(Op::Tail);
            at += 1;
        }
        at += 1;
    }
    Ok(())
}

/// Makes targets absolute.
fn resolve(program: &Program, range: &Range<usize>, at: usize, op: Op) -> Result<Op, Fault> {
    let inside = |offset: i64| {
        let target = at as i64 + 1 + offset;
        if range.contains(&usize::try_from(target).unwrap_or(usize::MAX)) {
            return Ok(target);
        }
        Err(Fault::new(Rule::JumpTarget, at, "jumps out of its function"))
    };
    Ok(match op {
        Op::Jump { offset } => Op::Jump { offset: inside(offset)? },
        Op::Branch { cond, width, dst, src, offset } => Op::Branch { cond, width, dst, src, offset: inside(offset)? },
        Op::Call { offset } => {
            let target = at as i64 + 1 + offset;
            if !program.functions.iter().any(|func| func.first as i64 == target) {
                return Err(Fault::new(Rule::CallTarget, at, "calls what is not the start of a function"));
            }
            Op::Call { offset: target }
        }
        other => other,
    })
}

/// Jumps land on whole instructions, the end is not fallen off, everything is reached.
fn check_flow(ops: &[Op], range: Range<usize>) -> Result<(), Fault> {
    let mut reached = vec![false; range.len()];
    let mut queue = vec![(range.start, range.start)];
    while let Some((at, from)) = queue.pop() {
        if at >= range.end {
            return Err(Fault::new(Rule::FallsOffEnd, from, "is the last of its function and goes on"));
        }
        if ops[at] == Op::Tail {
            return Err(Fault::new(Rule::JumpTarget, from, "jumps into the middle of a 64-bit load"));
        }
        if std::mem::replace(&mut reached[at - range.start], true) {
            continue;
        }
        for next in successors(ops, at) {
            queue.push((next, at));
        }
    }
    match range.clone().find(|at| ops[*at] != Op::Tail && !reached[at - range.start]) {
        Some(at) => Err(Fault::new(Rule::UnreachableCode, at, "cannot be reached")),
        None => Ok(()),
    }
}

/// Where control goes next within the function; calls return.
pub(crate) fn successors(ops: &[Op], at: usize) -> impl Iterator<Item = usize> + use<> {
    let (next, other) = match ops[at] {
        Op::Exit => (None, None),
        Op::Jump { offset } => (None, Some(offset as usize)),
        Op::Branch { offset, .. } => (Some(at + 1), Some(offset as usize)),
        Op::LoadImm { .. } => (Some(at + 2), None),
        _ => (Some(at + 1), None),
    };
    next.into_iter().chain(other)
}

/// Orders functions bottom-up; refuses recursion and deep nesting.
fn order(program: &Program, shape: &mut Shape) -> Result<(), Fault> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; program.functions.len()];
    let mut depth = vec![1_usize; program.functions.len()];
    let mut path = vec![(0, 0)];
    marks[0] = Mark::Open;
    while let Some((func, next)) = path.pop() {
        let Some((callee, site)) = shape.calls[func].get(next).copied() else {
            marks[func] = Mark::Done;
            shape.bottom_up.push(func);
            continue;
        };
        match marks[callee] {
            Mark::Open => {
                let detail = format!("calls {}, which is still running", program.functions[callee].name);
                return Err(Fault::new(Rule::Recursion, site, detail));
            }
            Mark::New => {
                marks[callee] = Mark::Open;
                path.push((func, next));
                path.push((callee, 0));
            }
            Mark::Done => {
                depth[func] = depth[func].max(depth[callee] + 1);
                if depth[func] > CALL_DEPTH_MAX {
                    let detail = format!("nests calls {} functions deep", depth[func]);
                    return Err(Fault::new(Rule::CallDepth, site, detail));
                }
                path.push((func, next + 1));
            }
        }
    }
    Ok(())
}

impl Shape {
    /// Bytes of stack of the deepest chain, given what each function's frame uses.
    pub fn stack(&self, frames: &[usize]) -> Result<usize, Fault> {
        let mut total = vec![0; frames.len()];
        for func in &self.bottom_up {
            let below = self.calls[*func].iter().map(|(callee, site)| (total[*callee], *site)).max();
            total[*func] = frame_size(frames[*func]) + below.map_or(0, |(bytes, _)| bytes);
            if total[*func] > STACK_BYTES_MAX {
                let first = self.function.iter().position(|of| of == func).unwrap_or(0);
                let site = below.map_or(first, |(_, site)| site);
                let detail =
                    format!("needs {} bytes of stack, callees included; the limit is {STACK_BYTES_MAX}", total[*func]);
                return Err(Fault::new(Rule::StackDepth, site, detail));
            }
        }
        Ok(total[0])
    }
}
