//! What is still needed at each instruction: which registers and stack slots will be read, and of
//! which the number matters because a branch, an address or a callee depends on it.
//!
//! Before states are compared, what is not needed is forgotten. That only ever makes states
//! larger: an error here could refuse a good handler, never admit a bad one.

use super::stack::STACK_BYTES;
use crate::isa::{FP, Op, Operand};
use crate::structure::{Shape, successors};

/// Needs at one instruction; bit `n` stands for register or slot `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// Registers that will be read.
    pub regs: u16,
    /// Registers whose number matters.
    pub reg_numbers: u16,
    /// Stack slots that will be read.
    pub slots: u64,
    /// Stack slots whose number matters.
    pub slot_numbers: u64,
}

/// Registers that a call hands over, and those it destroys.
const ARGUMENTS: u16 = 0b11_1110;
const CALLER_SAVED: u16 = 0b11_1111;

impl Demand {
    fn merge(&mut self, other: &Self) {
        self.regs |= other.regs;
        self.reg_numbers |= other.reg_numbers;
        self.slots |= other.slots;
        self.slot_numbers |= other.slot_numbers;
    }

    fn kill(&mut self, reg: u8) -> (bool, bool) {
        let bit = 1 << reg;
        let wanted = (self.regs & bit != 0, self.reg_numbers & bit != 0);
        self.regs &= !bit;
        self.reg_numbers &= !bit;
        wanted
    }

    fn read(&mut self, reg: u8, number: bool) {
        self.regs |= 1 << reg;
        self.reg_numbers |= u16::from(number) << reg;
    }

    fn read_operand(&mut self, src: Operand, number: bool) {
        if let Operand::Reg(reg) = src {
            self.read(reg, number);
        }
    }

    /// The needs of a caller's frame while a callee runs, given those at the return.
    pub fn across_call(self) -> Self {
        Self { regs: self.regs & !CALLER_SAVED, reg_numbers: self.reg_numbers & !CALLER_SAVED, ..self }
    }
}

/// The needs before every instruction.
pub(super) fn analyse(shape: &Shape) -> Vec<Demand> {
    let shared = shape.ops.iter().any(takes_frame_address);
    let mut demands = vec![Demand::default(); shape.ops.len()];
    let mut predecessors = vec![Vec::new(); shape.ops.len()];
    for at in 0..shape.ops.len() {
        if shape.ops[at] != Op::Tail {
            successors(&shape.ops, at).for_each(|next| predecessors[next].push(at));
        }
    }
    for func in &shape.bottom_up {
        let mut queue: Vec<usize> = (0..shape.ops.len()).filter(|at| shape.function[*at] == *func).collect();
        while let Some(at) = queue.pop() {
            let mut after = Demand::default();
            successors(&shape.ops, at).for_each(|next| after.merge(&demands[next]));
            let before = transfer(shape, &demands, at, after, shared);
            if before != demands[at] {
                demands[at] = before;
                queue.extend(&predecessors[at]);
            }
        }
    }
    demands
}

/// Whether a frame's address leaves r10, so that any pointer may lead to any slot.
fn takes_frame_address(op: &Op) -> bool {
    let is_frame = |src: &Operand| *src == Operand::Reg(FP);
    match op {
        Op::Alu { src, .. } | Op::Store { src, .. } => is_frame(src),
        Op::Branch { dst, src, .. } => *dst == FP || is_frame(src),
        _ => false,
    }
}

fn slots_of(offset: i16, bytes: u8) -> u64 {
    let (first, last) = (i64::from(offset), i64::from(offset) + i64::from(bytes) - 1);
    if first < -STACK_BYTES || last >= 0 {
        return 0;
    }
    let slot = |at: i64| (-at - 1) / 8;
    1 << slot(first) | 1 << slot(last)
}

/// The needs before an instruction, given those after it.
fn transfer(shape: &Shape, demands: &[Demand], at: usize, after: Demand, shared: bool) -> Demand {
    let mut needs = after;
    match shape.ops[at] {
        Op::Alu { op, dst, src, .. } => {
            let (_, number) = needs.kill(dst);
            if op != crate::isa::AluOp::Mov {
                needs.read(dst, number);
            }
            needs.read_operand(src, number);
        }
        Op::Neg { dst, .. } | Op::End { dst, .. } => {
            let (_, number) = needs.kill(dst);
            needs.read(dst, number);
        }
        Op::LoadImm { dst, .. } => {
            needs.kill(dst);
        }
        Op::Load { bytes, dst, base, offset } => {
            let (_, number) = needs.kill(dst);
            needs.read(base, true);
            if base == FP {
                let slots = slots_of(offset, bytes);
                needs.slots |= slots;
                needs.slot_numbers |= if number { slots } else { 0 };
            }
        }
        Op::Store { bytes, base, offset, src } => {
            let slots = slots_of(offset, bytes);
            let number = if base == FP { needs.slot_numbers & slots != 0 } else { shared };
            if base == FP && bytes == 8 && offset % 8 == 0 {
                needs.slots &= !slots;
                needs.slot_numbers &= !slots;
            }
            needs.read(base, true);
            needs.read_operand(src, number);
        }
        Op::Branch { dst, src, .. } => {
            needs.read(dst, true);
            needs.read_operand(src, true);
        }
        Op::Call { offset } => {
            let callee = &demands[offset as usize];
            needs = needs.across_call();
            needs.regs |= callee.regs & ARGUMENTS;
            needs.reg_numbers |= callee.reg_numbers & ARGUMENTS;
        }
        Op::Exit => needs.read(0, shape.function[at] != 0),
        Op::Jump { .. } | Op::Tail => {}
    }
    if shared {
        (needs.slots, needs.slot_numbers) = (u64::MAX, u64::MAX);
    }
    needs
}
