//! A processor for tests: runs a handler on real numbers and watches every access.

use super::alu;
use super::refine;
use super::stack::{Half, Slot};
use super::state::State;
use super::value::{Base, Value};
use crate::isa::{FP, Op, Operand, Reg};

const MESSAGE_BYTES: usize = 2304;
const FRAME_BYTES: u64 = 512;
/// Frames stand apart, so that no access reaches from one into the next.
const FRAME_STRIDE: u64 = 1 << 20;

/// Where things lie in memory.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub message: u64,
    pub view: u64,
    pub stack: u64,
    /// What unwritten registers and stack bytes hold.
    pub garbage: u64,
}

pub(super) struct Processor {
    places: Places,
    regs: [u64; 11],
    /// Registers r6 to r9 of the callers, and where they go on.
    callers: Vec<([u64; 4], usize)>,
    pub message: Vec<u8>,
    pub view: Vec<u8>,
    stacks: Vec<Vec<u8>>,
    pub executed: u64,
}

impl Processor {
    pub fn new(places: Places, message: Vec<u8>, view: Vec<u8>) -> Self {
        let mut regs = [0; 11];
        for (at, reg) in regs.iter_mut().enumerate() {
            *reg = places.garbage.rotate_left(at as u32 * 5);
        }
        (regs[1], regs[2], regs[10]) = (places.message, places.view, places.stack);
        let mut processor = Self { places, regs, callers: Vec::new(), message, view, stacks: Vec::new(), executed: 0 };
        processor.push_stack();
        processor
    }

    fn push_stack(&mut self) {
        let garbage = self.places.garbage.to_le_bytes();
        self.stacks.push((0..FRAME_BYTES as usize).map(|at| garbage[at % 8] ^ at as u8).collect());
    }

    /// Runs to the end or to the limit: the step code.
    pub fn run(&mut self, ops: &[Op], limit: u64) -> Result<u32, String> {
        let mut at = 0;
        while self.executed < limit {
            match self.step(ops, at)? {
                Some(next) => at = next,
                None => return Ok(self.regs[0] as u32),
            }
        }
        Err(format!("more than {limit} instructions"))
    }

    /// One instruction: where to go on, `None` at the end.
    pub fn step(&mut self, ops: &[Op], at: usize) -> Result<Option<usize>, String> {
        self.executed += 1;
        let operand = |regs: &[u64; 11], src: Operand| match src {
            Operand::Reg(reg) => regs[usize::from(reg)],
            Operand::Imm(imm) => i64::from(imm) as u64,
        };
        match ops[at] {
            Op::Alu { op, width, dst, src } => {
                let b = operand(&self.regs, src);
                let dst = &mut self.regs[usize::from(dst)];
                *dst = alu::concrete(op, width, *dst, b);
            }
            Op::Neg { width, dst } => {
                let dst = &mut self.regs[usize::from(dst)];
                *dst = alu::concrete(crate::isa::AluOp::Sub, width, 0, *dst);
            }
            Op::End { dst, bits, swap } => {
                let dst = &mut self.regs[usize::from(dst)];
                *dst = alu::concrete_end(bits, swap, *dst);
            }
            Op::LoadImm { dst, value } => {
                self.regs[usize::from(dst)] = value;
                return Ok(Some(at + 2));
            }
            Op::Load { bytes, dst, base, offset } => {
                let memory = self.memory(base, offset, bytes, false)?;
                let mut word = [0; 8];
                word[..usize::from(bytes)].copy_from_slice(memory);
                self.regs[usize::from(dst)] = u64::from_le_bytes(word);
            }
            Op::Store { bytes, base, offset, src } => {
                let word = operand(&self.regs, src).to_le_bytes();
                self.memory(base, offset, bytes, true)?.copy_from_slice(&word[..usize::from(bytes)]);
            }
            Op::Jump { offset } => return Ok(Some(offset as usize)),
            Op::Branch { cond, width, dst, src, offset } => {
                if refine::concrete(cond, width, self.regs[usize::from(dst)], operand(&self.regs, src)) {
                    return Ok(Some(offset as usize));
                }
            }
            Op::Call { offset } => {
                self.callers.push((self.regs[6..10].try_into().expect("four registers"), at + 1));
                self.regs[10] -= FRAME_STRIDE;
                self.regs[6..10].fill(self.places.garbage);
                self.regs[0] = !self.places.garbage;
                self.push_stack();
                return Ok(Some(offset as usize));
            }
            Op::Exit => {
                let Some((saved, to)) = self.callers.pop() else { return Ok(None) };
                self.stacks.pop();
                self.regs[10] += FRAME_STRIDE;
                self.regs[6..10].copy_from_slice(&saved);
                self.regs[1..6].fill(self.places.garbage);
                return Ok(Some(to));
            }
            Op::Tail => return Err("runs into the middle of a 64-bit load".into()),
        }
        Ok(Some(at + 1))
    }

    fn memory(&mut self, base: Reg, offset: i16, bytes: u8, write: bool) -> Result<&mut [u8], String> {
        let address = self.regs[usize::from(base)].wrapping_add_signed(offset.into());
        let inside = |start: u64, len: usize| {
            let at = usize::try_from(address.checked_sub(start)?).ok()?;
            (at + usize::from(bytes) <= len).then_some(at..at + usize::from(bytes))
        };
        let message = inside(self.places.message, MESSAGE_BYTES);
        let view = inside(self.places.view, self.view.len()).filter(|_| !write);
        let frame = (0..self.stacks.len()).find_map(|depth| {
            let top = self.places.stack - depth as u64 * FRAME_STRIDE;
            inside(top - FRAME_BYTES, FRAME_BYTES as usize).map(|range| (depth, range))
        });
        match (message, view, frame) {
            (Some(range), ..) => Ok(&mut self.message[range]),
            (_, Some(range), _) => Ok(&mut self.view[range]),
            (.., Some((depth, range))) => Ok(&mut self.stacks[depth][range]),
            _ => Err(format!("touches {bytes} bytes at {address:#x}, write {write}")),
        }
    }

    /// Says what of this processor the abstract state does not hold.
    pub fn check(&self, state: &State) -> Result<(), String> {
        for reg in 0..FP {
            let (held, real) = (state.reg(reg), self.regs[usize::from(reg)]);
            if !self.holds(&held, real) {
                return Err(format!("r{reg} is {real:#x}, not {held:x?}"));
            }
        }
        for (depth, frame) in state.frames.iter().enumerate() {
            for (index, slot) in frame.stack.slots() {
                let from = FRAME_BYTES as usize - 8 * (index + 1);
                let word = u64::from_le_bytes(self.stacks[depth][from..from + 8].try_into().expect("eight bytes"));
                let good = match slot {
                    Slot::Whole(value) => self.holds(value, word),
                    Slot::Halves(halves) => halves
                        .iter()
                        .zip([word & 0xffff_ffff, word >> 32])
                        .all(|(half, real)| !matches!(half, Half::Number(scalar) if !scalar.contains(real))),
                };
                if !good {
                    return Err(format!("slot {index} of frame {depth} is {word:#x}, not {slot:x?}"));
                }
            }
        }
        Ok(())
    }

    fn holds(&self, value: &Value, real: u64) -> bool {
        match value {
            Value::Unusable => true,
            Value::Scalar(scalar) => scalar.contains(real),
            Value::Pointer(pointer) => {
                let start = match pointer.base {
                    Base::Message => self.places.message,
                    Base::View => self.places.view,
                    Base::Stack(depth) => self.places.stack - u64::from(depth) * FRAME_STRIDE,
                };
                (pointer.min..=pointer.max).contains(&(real.wrapping_sub(start) as i64))
            }
        }
    }
}
