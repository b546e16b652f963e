//! Decides whether an untrusted handler object may run.
//!
//! A handler comes as an ELF object from someone whom the host does not trust. The kernel's
//! verifier keeps it from crashing the kernel, but under the capabilities that NAAM's own programs
//! need, it lets a handler write through its view, hand kernel pointers to clients and read what
//! others left on the stack. So [`admit`] asks three questions before the kernel is asked:
//!
//! 1. Is it a well-formed object: ELF, the description in `.naam`, BTF, the prototype?
//! 2. Is it structurally a pure function: no helper, no map, no data, no recursion, cpu v3 only?
//! 3. Does every path, for every message and every view, access only the message, the view and its
//!    own initialised stack, keep pointers to itself, and end within the cost limit?
//!
//! The third is an abstract interpretation of the instructions; module `dataflow` tells how.
//! What passes is independent of addresses: a handler's outcome is a function of the numbers in its
//! message and view. Handlers run from Linux 6.1 on, hence the instruction set of BPF cpu v3.
//!
//! Speculative execution is outside of this crate's subject.
#![forbid(unsafe_code)]

mod btf;
mod btf_ext;
mod dataflow;
mod elf;
mod insn;
mod isa;
mod link;
mod meta;
mod refusal;
mod report;
mod signature;
mod structure;

use naam_abi::handler::Meta;
use naam_abi::limits::{VIEW_LARGE, VIEW_SMALL};
use sha2::{Digest, Sha256};

pub use insn::{Insn, to_bytes};
pub use link::{Func, Line};
pub use refusal::{Refusal, Rule, Source};
pub use report::{Handler, Report, explain};

use btf::Btf;
use btf_ext::BtfExt;
use elf::Object;
use link::Program;

/// Which view a handler takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// `naam_view64`.
    Small,
    /// `naam_view1k`.
    Large,
}

impl View {
    /// Bytes of the view.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Small => VIEW_SMALL,
            Self::Large => VIEW_LARGE,
        }
    }
}

/// A handler that may run, linked into one stream of instructions.
///
/// Only [`admit`] makes one, and nobody can change what runs: those who execute it rely on that.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Admitted {
    /// The handler's description of itself, checked against the limits.
    pub meta: Meta,
    /// The view it takes.
    pub view: View,
    insns: Vec<Insn>,
    functions: Vec<Func>,
    /// Source lines, sorted by instruction.
    pub lines: Vec<Line>,
    /// Instructions on the longest path of one step, loops unrolled.
    pub cost: u64,
    /// Bytes of stack of the deepest chain of calls, as the kernel counts them.
    pub stack: usize,
    /// SHA-256 over view, description and instructions: what runs, without names and lines.
    pub hash: [u8; 32],
}

impl Admitted {
    /// The handler's name.
    pub fn name(&self) -> &str {
        meta::name(&self.meta)
    }

    /// Its instructions: the entry function, then the local functions it reaches. Calls are
    /// pc-relative, and nothing is left to relocate.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// Its functions in the order of their instructions, the entry first. The others are to be
    /// described to the kernel with *static* linkage, whatever their linkage in the object was.
    pub fn functions(&self) -> &[Func] {
        &self.functions
    }
}

/// Admits a handler object or says why not.
///
/// Total: any bytes may be given; time and memory are bounded.
///
/// # Errors
/// The first broken rule, with the author's source line where BTF tells it.
pub fn admit(elf: &[u8]) -> Result<Admitted, Refusal> {
    let object = Object::read(elf)?;
    let meta = meta::read(&object)?;
    let name = meta::name(&meta);
    let btf = Btf::read(btf_section(&object, ".BTF")?)?;
    let ext = BtfExt::read(btf_section(&object, ".BTF.ext")?, &btf)?;
    let (entry, view) = signature::check(&btf, name, &object.exports())?;
    if ext.core_relocations != 0 {
        let detail = format!("the object has {} CO-RE relocations", ext.core_relocations);
        return Err(Refusal::object(Rule::CoreRelocation, detail));
    }
    let program = link::link(&object, &btf, &ext, name, entry)?;
    let Audited { cost, stack, frames } = audit(&program, view).map_err(|fault| program.refusal(fault))?;
    let hash = hash(view, &meta, &program.insns);
    let Program { insns, mut functions, lines } = program;
    for (function, bytes) in functions.iter_mut().zip(frames) {
        function.frame = structure::frame_size(bytes);
    }
    Ok(Admitted { meta, view, insns, functions, lines, cost, stack, hash })
}

/// What the audits measured: cost of the longest path, bytes of stack in all and by function.
struct Audited {
    cost: u64,
    stack: usize,
    frames: Vec<usize>,
}

/// The structural and the dataflow audit.
fn audit(program: &Program, view: View) -> Result<Audited, refusal::Fault> {
    let shape = structure::audit(program)?;
    let outcome = dataflow::audit(&shape, view)?;
    Ok(Audited { cost: outcome.cost, stack: shape.stack(&outcome.frames)?, frames: outcome.frames })
}

fn btf_section<'a>(object: &Object<'a>, name: &str) -> Result<&'a [u8], Refusal> {
    match object.section(name) {
        Ok(section) if !section.data.is_empty() => Ok(section.data),
        Ok(_) | Err(0) => Err(Refusal::object(Rule::BtfMissing, format!("the object has no section {name}"))),
        Err(count) => Err(Refusal::object(Rule::BtfInvalid, format!("the object has {count} sections {name}"))),
    }
}

fn hash(view: View, meta: &Meta, insns: &[Insn]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update((view.bytes() as u32).to_le_bytes());
    hasher.update(meta::to_bytes(meta));
    hasher.update(to_bytes(insns));
    hasher.finalize().into()
}
