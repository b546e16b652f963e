//! What can go wrong.

use thiserror::Error;

/// Why a handler that passed admission cannot run here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// An instruction that this engine is not known to compute as the kernel does.
    #[error(
        "instruction {at} (opcode {opcode:#04x}) is none that the engine is known to compute as the kernel does; the handler can run at the host only"
    )]
    Instruction {
        /// Its index in the admitted stream.
        at: usize,
        /// Its opcode.
        opcode: u8,
    },
    /// More instructions than the machine can address.
    #[error("the handler has {insns} instructions here, the engine takes {max}; it can run at the host only")]
    TooLong {
        /// Instructions after lowering.
        insns: usize,
        /// The most there may be.
        max: usize,
    },
    /// The JIT was asked for and cannot compile it.
    #[error("the handler cannot be compiled here ({0}); the interpreter may run it")]
    Jit(String),
}

/// Why a message could not be taken in, or not go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RunError {
    /// Longer arguments than a message has.
    #[error("{len} bytes of arguments; a message has up to {max}")]
    ArgsTooLong {
        /// Bytes given.
        len: usize,
        /// The most there may be.
        max: usize,
    },
    /// The result of an op that the message does not wait for, or one of another length.
    #[error("the message waits for {waits}, not for {given}; ask `Run::action` what comes next")]
    OutOfTurn {
        /// What it waits for.
        waits: String,
        /// What came.
        given: String,
    },
    /// The interpreter caught the handler at what admission had excluded: a defect of one of the two.
    #[error("the interpreter stopped an admitted handler: {detail}")]
    Fault {
        /// What the interpreter says.
        detail: String,
    },
}
