//! The state of a path: the frames of the running functions.

use super::demand::Demand;
use super::scalar::Scalar;
use super::stack::{Slot, Stack};
use super::value::{Base, Pointer, Value};
use crate::isa::{FP, Reg};

/// A running function.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    regs: [Value; FP as usize],
    pub stack: Stack,
    /// The function.
    pub func: usize,
    /// Where the caller goes on.
    pub returns_to: usize,
}

/// The state of a path.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// The entry function's frame first.
    pub frames: Vec<Frame>,
}

impl State {
    /// At the handler's first instruction.
    pub fn start() -> Self {
        let mut regs = [Value::Unusable; FP as usize];
        regs[1] = Value::Pointer(Pointer::start(Base::Message));
        regs[2] = Value::Pointer(Pointer::start(Base::View));
        Self { frames: vec![Frame { regs, stack: Stack::default(), func: 0, returns_to: usize::MAX }] }
    }

    /// The depth of the running function's frame.
    pub fn depth(&self) -> u8 {
        (self.frames.len() - 1) as u8
    }

    /// The running function's frame.
    pub fn top(&self) -> &Frame {
        &self.frames[self.frames.len() - 1]
    }

    fn top_mut(&mut self) -> &mut Frame {
        let top = self.frames.len() - 1;
        &mut self.frames[top]
    }

    pub fn reg(&self, reg: Reg) -> Value {
        match self.top().regs.get(usize::from(reg)) {
            Some(value) => *value,
            None => Value::Pointer(Pointer::start(Base::Stack(self.depth()))),
        }
    }

    /// Sets a register; the structural audit has seen that it is not r10.
    pub fn set_reg(&mut self, reg: Reg, value: Value) {
        self.top_mut().regs[usize::from(reg)] = value;
    }

    /// Enters a function with the caller's arguments.
    pub fn call(&mut self, func: usize, returns_to: usize) {
        let mut regs = [Value::Unusable; FP as usize];
        regs[1..6].copy_from_slice(&self.top().regs[1..6]);
        self.frames.push(Frame { regs, stack: Stack::default(), func, returns_to });
    }

    /// Leaves a function and says where its caller goes on; `None`: the handler is done.
    pub fn leave(&mut self) -> Option<usize> {
        if self.frames.len() == 1 {
            return None;
        }
        let frame = self.frames.pop()?;
        let caller = &mut self.top_mut().regs;
        caller[0] = frame.regs[0];
        caller[1..6].fill(Value::Unusable);
        Some(frame.returns_to)
    }

    /// Sets every scalar with that id.
    pub fn set_linked(&mut self, id: u32, scalar: Scalar) {
        self.each_scalar(|old| {
            if old.id == id {
                *old = scalar;
            }
        });
    }

    /// Forgets all that is not needed from `at` on.
    pub fn forget(&mut self, at: usize, demands: &[Demand]) {
        let mut needs = demands[at];
        for frame in self.frames.iter_mut().rev() {
            frame.forget(&needs);
            if let Some(caller) = demands.get(frame.returns_to) {
                needs = caller.across_call();
            }
        }
    }

    /// Drops ids that link nothing.
    pub fn unlink(&mut self) {
        let mut seen = Vec::new();
        self.each_scalar(|scalar| {
            if scalar.constant().is_some() {
                scalar.id = 0;
            } else if scalar.id != 0 {
                seen.push(scalar.id);
            }
        });
        seen.sort_unstable();
        self.each_scalar(|scalar| {
            let first = seen.partition_point(|id| *id < scalar.id);
            if seen.get(first + 1) != Some(&scalar.id) {
                scalar.id = 0;
            }
        });
    }

    fn each_scalar(&mut self, mut each: impl FnMut(&mut Scalar)) {
        let mut visit = |value: &mut Value| {
            if let Value::Scalar(scalar) = value {
                each(scalar);
            }
        };
        for frame in &mut self.frames {
            frame.regs.iter_mut().for_each(&mut visit);
            for (_, slot) in frame.stack.slots_mut() {
                if let Slot::Whole(value) = slot {
                    visit(value);
                }
            }
        }
    }
}

impl Frame {
    /// Registers r0 to r9.
    pub fn regs(&self) -> &[Value] {
        &self.regs
    }

    fn forget(&mut self, needs: &Demand) {
        for (reg, value) in self.regs.iter_mut().enumerate() {
            if needs.regs >> reg & 1 == 0 {
                *value = Value::Unusable;
            } else if let Value::Scalar(_) = value
                && needs.reg_numbers >> reg & 1 == 0
            {
                *value = Value::Scalar(Scalar::UNKNOWN);
            }
        }
        for (index, slot) in self.stack.slots_mut() {
            if needs.slots >> index & 1 == 0 {
                *slot = Slot::UNWRITTEN;
            } else if needs.slot_numbers >> index & 1 == 0 {
                *slot = slot.blurred();
            }
        }
    }
}
