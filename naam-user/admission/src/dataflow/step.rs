//! One instruction over a state.

use super::alu;
use super::refine::assume;
use super::scalar::Scalar;
use super::stack::STACK_BYTES;
use super::state::State;
use super::value::{Base, Pointer, Value};
use crate::isa::{AluOp, Cond, Op, Operand, Reg, Width};
use crate::refusal::{Fault, Rule};
use crate::structure::{STACK_BYTES_MAX, Shape, frame_size};

/// Bytes of the message.
const MESSAGE_BYTES: i64 = size_of::<naam_abi::handler::NaamMsg>() as i64;

/// Where a path goes after an instruction.
pub(super) enum Next {
    At(usize),
    /// Into a function.
    Call(usize),
    /// Out of a function, back to its caller.
    Return(usize),
    /// On at the first place, and with another state at the second.
    Split(usize, Box<State>, usize),
    /// The handler is done, or no number takes the path.
    End,
}

/// A pointer that may be compared with null is this close to what it points into: no object lies
/// so close to address zero.
const NULL_SPAN: i64 = 4096;

type Objection = (Rule, String);

pub(super) struct Machine<'a> {
    shape: &'a Shape,
    view_bytes: i64,
    last_id: u32,
    /// Deepest stack byte that each function touched.
    pub frame_bytes: Vec<usize>,
}

impl<'a> Machine<'a> {
    pub fn new(shape: &'a Shape, view_bytes: usize) -> Self {
        Self { shape, view_bytes: view_bytes as i64, last_id: 0, frame_bytes: vec![0; shape.calls.len()] }
    }

    pub fn step(&mut self, state: &mut State, at: usize) -> Result<Next, Fault> {
        self.apply(state, at).map_err(|(rule, detail)| Fault::new(rule, at, detail))
    }

    fn apply(&mut self, state: &mut State, at: usize) -> Result<Next, Objection> {
        match self.shape.ops[at] {
            Op::Alu { op: AluOp::Mov, width, dst, src: Operand::Reg(src) } => {
                let value = self.copied(state, width, src)?;
                state.set_reg(dst, value);
            }
            Op::Alu { op, width, dst, src } => {
                let b = operand(state, src)?;
                let a = if op == AluOp::Mov { Value::Scalar(Scalar::known(0)) } else { read(state, dst)? };
                state.set_reg(dst, arithmetic(op, width, a, b)?);
            }
            Op::Neg { width, dst } => {
                let a = number(read(state, dst)?, "negates")?;
                state.set_reg(dst, Value::Scalar(alu::negate(width, &a)));
            }
            Op::End { dst, bits, swap } => {
                let a = number(read(state, dst)?, "reorders or cuts the bytes of")?;
                state.set_reg(dst, Value::Scalar(alu::end(bits, swap, &a)));
            }
            Op::LoadImm { dst, value } => {
                state.set_reg(dst, Value::Scalar(Scalar::known(value)));
                return Ok(Next::At(at + 2));
            }
            Op::Load { bytes, dst, base, offset } => {
                let value = self.load(state, bytes, base, offset)?;
                state.set_reg(dst, value);
            }
            Op::Store { bytes, base, offset, src } => self.store(state, bytes, base, offset, src)?,
            Op::Jump { offset } => return Ok(Next::At(offset as usize)),
            Op::Branch { cond, width, dst, src, offset } => {
                return branch(state, cond, width, (dst, src), (at + 1, offset as usize));
            }
            Op::Call { offset } => {
                let target = offset as usize;
                state.call(self.shape.function[target], at + 1);
                return Ok(Next::Call(target));
            }
            Op::Exit => return exit(state),
            Op::Tail => return Err((Rule::JumpTarget, "is the middle of a 64-bit load".into())),
        }
        Ok(Next::At(at + 1))
    }

    /// A register to be copied: the copy is linked with the original, so that a later branch on
    /// either tells about both.
    fn copied(&mut self, state: &mut State, width: Width, src: Reg) -> Result<Value, Objection> {
        match (read(state, src)?, width) {
            (Value::Scalar(scalar), Width::W32) if scalar.truncated() != scalar => {
                Ok(Value::Scalar(scalar.truncated()))
            }
            (Value::Scalar(scalar), _) => Ok(Value::Scalar(self.linked(state, src, scalar))),
            (Value::Pointer(pointer), Width::W32) => {
                Err((Rule::PointerArithmetic, format!("takes the low half of a {}", pointer.base)))
            }
            (value, _) => Ok(value),
        }
    }

    /// Gives a register's scalar an id.
    fn linked(&mut self, state: &mut State, reg: Reg, scalar: Scalar) -> Scalar {
        if scalar.id != 0 || scalar.constant().is_some() {
            return scalar;
        }
        self.last_id += 1;
        let linked = Scalar { id: self.last_id, ..scalar };
        state.set_reg(reg, Value::Scalar(linked));
        linked
    }

    fn load(&mut self, state: &mut State, bytes: u8, base: Reg, offset: i16) -> Result<Value, Objection> {
        let pointer = self.address(state, bytes, base, offset, "reads")?;
        match pointer.base {
            Base::Message | Base::View => Ok(Value::Scalar(Scalar::of_bytes(bytes))),
            Base::Stack(depth) => {
                let stack = &state.frames[usize::from(depth)].stack;
                match pointer.fixed() {
                    Some(offset) => stack.load(offset, bytes),
                    None => stack.load_somewhere(pointer.min, pointer.max, bytes),
                }
            }
        }
    }

    fn store(&mut self, state: &mut State, bytes: u8, base: Reg, offset: i16, src: Operand) -> Result<(), Objection> {
        let value = operand(state, src)?;
        let pointer = self.address(state, bytes, base, offset, "writes")?;
        match (pointer.base, value) {
            (Base::View, _) => Err((Rule::ViewWritten, "writes through the view".into())),
            (Base::Message, Value::Pointer(stored)) => {
                Err((Rule::PointerInMessage, format!("stores a {} into the message", stored.base)))
            }
            (Base::Message, _) => Ok(()),
            (Base::Stack(depth), Value::Pointer(Pointer { base: Base::Stack(of), .. })) if of > depth => {
                Err((Rule::FrameEscape, "stores the address of its own stack into its caller's".into()))
            }
            (Base::Stack(depth), value) => {
                let value = match (value, src) {
                    (Value::Scalar(scalar), Operand::Reg(reg)) if bytes == 8 => {
                        Value::Scalar(self.linked(state, reg, scalar))
                    }
                    _ => value,
                };
                let stack = &mut state.frames[usize::from(depth)].stack;
                match (pointer.fixed(), value) {
                    (Some(offset), _) => stack.store(offset, bytes, value),
                    (None, Value::Pointer(stored)) => {
                        let detail = format!("stores a {} at an unknown place of the stack", stored.base);
                        Err((Rule::PointerTruncated, detail))
                    }
                    (None, _) => {
                        stack.store_somewhere(pointer.min, pointer.max, bytes);
                        Ok(())
                    }
                }
            }
        }
    }

    /// The place of an access, which lies inside what the register points into.
    fn address(&mut self, state: &State, bytes: u8, base: Reg, offset: i16, does: &str) -> Result<Pointer, Objection> {
        let pointer = match read(state, base)? {
            Value::Pointer(pointer) => pointer,
            _ => return Err((Rule::NotAPointer, format!("{does} memory at a number"))),
        };
        let (rule, from, to, what) = match pointer.base {
            Base::Message => (Rule::OutOfMessage, 0, MESSAGE_BYTES, "message"),
            Base::View => (Rule::OutOfView, 0, self.view_bytes, "view"),
            Base::Stack(_) => (Rule::OutOfStack, -STACK_BYTES, 0, "stack"),
        };
        // Both terms are far from the ends of i64.
        let at =
            Pointer { min: pointer.min + i64::from(offset), max: pointer.max + i64::from(offset), base: pointer.base };
        if at.min < from || at.max + i64::from(bytes) > to {
            let place = match at.fixed() {
                Some(place) => format!("byte {place}"),
                None => format!("bytes {} to {}", at.min, at.max),
            };
            return Err((rule, format!("{does} {bytes} bytes at {place} of the {what}, which is [{from}, {to})")));
        }
        if let Base::Stack(depth) = at.base {
            let used = &mut self.frame_bytes[state.frames[usize::from(depth)].func];
            *used = (*used).max(-at.min as usize);
            let chain = state.frames.iter().map(|frame| frame_size(self.frame_bytes[frame.func]));
            let total: usize = chain.sum();
            if total > STACK_BYTES_MAX {
                let detail = format!("needs {total} bytes of stack, callers included; the limit is {STACK_BYTES_MAX}");
                return Err((Rule::StackDepth, detail));
            }
        }
        Ok(at)
    }
}

/// A register that holds something.
fn read(state: &State, reg: Reg) -> Result<Value, Objection> {
    match state.reg(reg) {
        Value::Unusable => {
            let detail = format!("reads register r{reg}, which is not written on every path");
            Err((Rule::UninitialisedRegister, detail))
        }
        value => Ok(value),
    }
}

fn operand(state: &State, src: Operand) -> Result<Value, Objection> {
    match src {
        Operand::Reg(reg) => read(state, reg),
        Operand::Imm(imm) => Ok(Value::Scalar(Scalar::known(i64::from(imm) as u64))),
    }
}

fn number(value: Value, does: &str) -> Result<Scalar, Objection> {
    match value {
        Value::Scalar(scalar) => Ok(scalar),
        Value::Pointer(pointer) => Err((Rule::PointerArithmetic, format!("{does} a {}", pointer.base))),
        Value::Unusable => Err((Rule::UninitialisedRegister, "reads an unwritten register".into())),
    }
}

fn arithmetic(op: AluOp, width: Width, a: Value, b: Value) -> Result<Value, Objection> {
    let (pointer, by, sub) = match (op, width, a, b) {
        (_, _, Value::Scalar(a), Value::Scalar(b)) => return Ok(Value::Scalar(alu::binary(op, width, &a, &b))),
        (AluOp::Add, Width::W64, Value::Pointer(pointer), Value::Scalar(by)) => (pointer, by, false),
        (AluOp::Add, Width::W64, Value::Scalar(by), Value::Pointer(pointer)) => (pointer, by, false),
        (AluOp::Sub, Width::W64, Value::Pointer(pointer), Value::Scalar(by)) => (pointer, by, true),
        (_, _, Value::Pointer(pointer), _) | (_, _, _, Value::Pointer(pointer)) => {
            let bits = width.bits();
            let detail = format!("computes a number from a {} ({bits}-bit {op:?})", pointer.base);
            return Err((Rule::PointerArithmetic, detail));
        }
        _ => return Err((Rule::UninitialisedRegister, "reads an unwritten register".into())),
    };
    let (min, max) = (by.whole.smin, by.whole.smax);
    let moved = if sub {
        min.checked_neg().zip(max.checked_neg()).and_then(|(min, max)| pointer.moved(max, min))
    } else {
        pointer.moved(min, max)
    };
    moved.map(Value::Pointer).ok_or_else(|| {
        let does = if sub { "subtracts" } else { "adds" };
        (Rule::PointerUnbounded, format!("{does} a number between {min} and {max} to a {}", pointer.base))
    })
}

fn branch(
    state: &mut State,
    cond: Cond,
    width: Width,
    (dst, src): (Reg, Operand),
    (through, taken): (usize, usize),
) -> Result<Next, Objection> {
    let (a, b) = (read(state, dst)?, operand(state, src)?);
    // Another state goes elsewhere; the way that leaves a loop is gone first.
    let split = |state: &mut State, other: State| {
        if taken > through {
            let this = std::mem::replace(state, other);
            Next::Split(taken, Box::new(this), through)
        } else {
            Next::Split(through, Box::new(other), taken)
        }
    };
    let (Value::Scalar(a), Value::Scalar(b)) = (a, b) else {
        null_check(cond, width, a, b)?;
        // Whether the compiler or the kernel believes a side dead or not, both are gone.
        let other = state.clone();
        return Ok(split(state, other));
    };
    let settle = |state: &mut State, sides: (Scalar, Scalar)| {
        set_number(state, dst, sides.0);
        if let Operand::Reg(src) = src {
            set_number(state, src, sides.1);
        }
    };
    Ok(match (assume(cond, width, &a, &b), assume(cond.negated(), width, &a, &b)) {
        (Some(yes), Some(no)) => {
            let mut other = state.clone();
            settle(&mut other, yes);
            settle(state, no);
            split(state, other)
        }
        (Some(yes), None) => {
            settle(state, yes);
            Next::At(taken)
        }
        (None, Some(no)) => {
            settle(state, no);
            Next::At(through)
        }
        // The state holds no number at all: nothing comes this way.
        (None, None) => Next::End,
    })
}

/// Narrows a register and all that is linked with it.
fn set_number(state: &mut State, reg: Reg, scalar: Scalar) {
    if scalar.id == 0 {
        state.set_reg(reg, Value::Scalar(scalar));
    } else {
        state.set_linked(scalar.id, scalar);
    }
}

/// The one comparison that a pointer may take part in.
fn null_check(cond: Cond, width: Width, a: Value, b: Value) -> Result<(), Objection> {
    let (pointer, other) = match (a, b) {
        (Value::Pointer(pointer), other) | (other, Value::Pointer(pointer)) => (pointer, other),
        _ => return Err((Rule::UninitialisedRegister, "reads an unwritten register".into())),
    };
    // Near its start a pointer is never null: the outcome tells nothing about where it is.
    let near = pointer.min >= -NULL_SPAN && pointer.max <= NULL_SPAN;
    let null = other.constant() == Some(0) && near;
    if null && width == Width::W64 && matches!(cond, Cond::Eq | Cond::Ne) {
        return Ok(());
    }
    let with = match other {
        Value::Pointer(other) => format!("a {}", other.base),
        _ if null => "null by order or in part".into(),
        _ if !near => "anything while it may be far away".into(),
        _ => "a number".into(),
    };
    Err((Rule::PointerCompared, format!("compares a {} with {with}", pointer.base)))
}

fn exit(state: &mut State) -> Result<Next, Objection> {
    let depth = state.depth();
    match state.reg(0) {
        Value::Pointer(Pointer { base: Base::Stack(of), .. }) if of == depth && depth > 0 => {
            return Err((Rule::FrameEscape, "returns the address of its own stack".into()));
        }
        Value::Pointer(pointer) if depth == 0 => {
            return Err((Rule::PointerReturned, format!("returns a {}", pointer.base)));
        }
        Value::Unusable if depth == 0 => {
            return Err((Rule::UninitialisedRegister, "returns without a step code".into()));
        }
        _ => {}
    }
    Ok(state.leave().map_or(Next::End, Next::Return))
}
