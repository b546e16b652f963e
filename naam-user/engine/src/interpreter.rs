//! rbpf's interpreter: for machines without its JIT, and on request.

use std::any::Any;

use rbpf::EbpfVmMbuff;
use rbpf::lib::Error;

use crate::RunError;
use crate::arena::{Arena, Context};

/// Runs a lowered handler instruction by instruction. Every access is checked against message, view and stack.
#[derive(Debug)]
pub(crate) struct Interpreter {
    program: Box<[u8]>,
}

/// Admission has judged the instructions; rbpf's verifier would refuse that a call moves r10.
fn accept(_: &[u8]) -> Result<(), Error> {
    Ok(())
}

/// Frames are moved by the lowered instructions themselves.
fn no_frame(_: &[u8], _: usize, _: &mut dyn Any) -> u16 {
    0
}

impl Interpreter {
    pub fn new(program: Vec<u8>) -> Self {
        Self { program: program.into() }
    }

    /// Runs one step: what the handler returned.
    pub fn step(&self, arena: &mut Arena) -> Result<u64, RunError> {
        let context = arena.context();
        let first = context.message.expose_provenance() as u64;
        let end = context.view.expose_provenance() as u64 + size_of_val(&arena.view) as u64;
        let fault = |error: Error| RunError::Fault { detail: format!("{error:?}") };
        // A machine for each step: its memory is this message's, and rbpf cannot forget a range.
        let mut machine = EbpfVmMbuff::new(None).map_err(fault)?;
        machine.set_verifier(accept).map_err(fault)?;
        machine.set_stack_usage_calculator(no_frame, Box::new(())).map_err(fault)?;
        machine.set_program(&self.program).map_err(fault)?;
        machine.register_allowed_memory(first..end);
        // SAFETY: the context's bytes, initialised: two addresses. Nobody writes them.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const context).cast::<u8>(), size_of::<Context>()) };
        machine.execute_program(&[], bytes).map_err(fault)
    }
}
