//! A handler, loaded to run here.

use std::sync::Arc;

use naam_abi::handler::{META_WRITES, Meta};
use naam_admission::{Admitted, to_bytes};

use crate::arena::Arena;
use crate::interpreter::Interpreter;
#[cfg(all(target_arch = "x86_64", unix))]
use crate::jit::Code;
use crate::lower::lower;
use crate::{LoadError, RunError};

/// Which machine runs handlers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Machine {
    /// The JIT where there is one and the system lets it make code, otherwise the interpreter.
    #[default]
    Best,
    /// The JIT, or an error.
    Jit,
    /// The interpreter.
    Interpreter,
}

/// Loads handlers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Engine {
    machine: Machine,
}

#[derive(Debug)]
enum Runs {
    #[cfg(all(target_arch = "x86_64", unix))]
    Compiled(Code),
    Interpreted(Interpreter),
}

/// An admitted handler, ready to run; shared by any number of messages and threads.
#[derive(Debug)]
pub struct Program {
    meta: Meta,
    view_bytes: usize,
    hash: [u8; 32],
    runs: Runs,
}

impl Engine {
    /// An engine that runs handlers by `machine`.
    pub fn new(machine: Machine) -> Self {
        Self { machine }
    }

    /// Makes an admitted handler ready to run.
    ///
    /// # Errors
    /// [`LoadError`], if the machine cannot run it exactly as the kernel would.
    pub fn load(&self, handler: &Admitted) -> Result<Arc<Program>, LoadError> {
        let lowered = to_bytes(&lower(handler)?);
        let runs = match self.machine {
            Machine::Interpreter => Runs::Interpreted(Interpreter::new(lowered)),
            Machine::Jit => compiled(&lowered).map_err(LoadError::Jit)?,
            Machine::Best => compiled(&lowered).unwrap_or_else(|_| Runs::Interpreted(Interpreter::new(lowered))),
        };
        Ok(Arc::new(Program { meta: handler.meta, view_bytes: handler.view.bytes(), hash: handler.hash, runs }))
    }
}

#[cfg(all(target_arch = "x86_64", unix))]
fn compiled(lowered: &[u8]) -> Result<Runs, String> {
    Code::compile(lowered).map(Runs::Compiled)
}

#[cfg(not(all(target_arch = "x86_64", unix)))]
fn compiled(_: &[u8]) -> Result<Runs, String> {
    Err("there is a JIT for x86-64 only".into())
}

impl Program {
    /// The handler's description of itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Bytes of its view: the longest READ.
    pub fn view_bytes(&self) -> usize {
        self.view_bytes
    }

    /// Whether it may WRITE, CAS or FAA.
    pub fn writes(&self) -> bool {
        self.meta.flags & META_WRITES != 0
    }

    /// SHA-256 of what runs, as admission computes it.
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Whether it was compiled to machine code.
    pub fn is_compiled(&self) -> bool {
        !matches!(self.runs, Runs::Interpreted(_))
    }

    /// Runs one step on `arena`.
    pub(crate) fn step(&self, arena: &mut Arena) -> Result<u32, RunError> {
        // A handler returns 32 bits; what stands above them in r0 is nobody's.
        match &self.runs {
            #[cfg(all(target_arch = "x86_64", unix))]
            Runs::Compiled(code) => Ok(code.step(arena) as u32),
            Runs::Interpreted(interpreter) => interpreter.step(arena).map(|returned| returned as u32),
        }
    }
}
