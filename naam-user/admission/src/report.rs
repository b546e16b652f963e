//! What `naam check OBJECT` tells an author.

use std::fmt;

use naam_abi::handler::META_WRITES;
use serde::Serialize;

use crate::refusal::{Refusal, printable};
use crate::{Admitted, admit};

/// The verdict on an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// The handler may run.
    Admitted(Handler),
    /// It may not.
    Refused(Refusal),
}

/// A handler that may run, in figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Handler {
    /// Its name.
    pub name: String,
    /// Bytes of its view.
    pub view_bytes: usize,
    /// Whether it may WRITE, CAS or FAA.
    pub writes: bool,
    /// Bytes of its longest reply.
    pub reply_max: u32,
    /// Bytes of state it carries between sites.
    pub state_len: u32,
    /// Instruction slots, local functions included.
    pub insns: usize,
    /// Local functions.
    pub subprograms: Vec<String>,
    /// Instructions on the longest path of one step.
    pub cost: u64,
    /// Bytes of stack.
    pub stack: usize,
    /// SHA-256 of what runs, in hexadecimal digits.
    pub hash: String,
}

impl From<&Admitted> for Handler {
    fn from(admitted: &Admitted) -> Self {
        Self {
            name: admitted.name().into(),
            view_bytes: admitted.view.bytes(),
            writes: admitted.meta.flags & META_WRITES != 0,
            reply_max: admitted.meta.reply_max,
            state_len: admitted.meta.state_len,
            insns: admitted.insns.len(),
            subprograms: admitted.functions[1..].iter().map(|func| func.name.clone()).collect(),
            cost: admitted.cost,
            stack: admitted.stack,
            hash: admitted.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// Admits or refuses an object, in an author's terms.
pub fn explain(elf: &[u8]) -> Report {
    match admit(elf) {
        Ok(admitted) => Report::Admitted(Handler::from(&admitted)),
        Err(refusal) => Report::Refused(refusal),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admitted(handler) => handler.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "handler      {}", self.name)?;
        writeln!(f, "view         {} bytes", self.view_bytes)?;
        writeln!(f, "writes       {}", if self.writes { "yes" } else { "no" })?;
        writeln!(f, "reply        up to {} bytes", self.reply_max)?;
        writeln!(f, "state        {} bytes", self.state_len)?;
        writeln!(f, "instructions {}", self.insns)?;
        if !self.subprograms.is_empty() {
            writeln!(f, "functions    {}", printable(&self.subprograms.join(", ")))?;
        }
        writeln!(f, "longest step {} instructions", self.cost)?;
        writeln!(f, "stack        {} bytes", self.stack)?;
        write!(f, "sha256       {}", self.hash)
    }
}
