//! rbpf's x86-64 JIT, into memory of our own.
//!
//! rbpf is the compiler and nothing else: we keep the pages, seal them and call them. So code is never writable and
//! executable at once, a handler may be of any length, and a compiled handler can be used by many threads.

use std::ptr::NonNull;

use rbpf::EbpfVmMbuff;
use rbpf::lib::Error;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use crate::arena::{Arena, Context};

/// More than the JIT emits for any instruction: a division by a register takes 45 bytes.
const BYTES_PER_INSN: usize = 64;
/// More than its prologue and epilogue take.
const BYTES_AROUND: usize = 256;

/// What the JIT makes of a program: a function by the System V convention, with r1 in the first argument. The others
/// are lengths and offsets of a packet, which admitted instructions cannot look at.
type Entry = unsafe extern "C" fn(*const Context, usize, *mut u8, usize, usize, usize) -> u64;

/// Sealed machine code of one handler.
#[derive(Debug)]
pub(crate) struct Code {
    pages: NonNull<u8>,
    len: usize,
}

// SAFETY: the pages are only read and executed once `Code` exists.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}

fn accept(_: &[u8]) -> Result<(), Error> {
    Ok(())
}

impl Code {
    /// Compiles lowered instructions.
    pub fn compile(program: &[u8]) -> Result<Self, String> {
        let len = (program.len() / 8 * BYTES_PER_INSN + BYTES_AROUND).next_multiple_of(4096);
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new pages at an address that the kernel chooses.
        let pages = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, protection, MapFlags::PRIVATE) }
            .map_err(|error| format!("{len} bytes of memory for the code: {error}"))?;
        let pages = NonNull::new(pages.cast()).ok_or("mapped at address 0")?;
        // From here on dropped in every case.
        let code = Self { pages, len };
        {
            // SAFETY: our own fresh pages, to which there is no other reference until the end of this block.
            let writable = unsafe { std::slice::from_raw_parts_mut(pages.as_ptr(), len) };
            let told = |error: Error| format!("{error:?}");
            let mut compiler = EbpfVmMbuff::new(None).map_err(told)?;
            compiler.set_verifier(accept).map_err(told)?;
            compiler.set_program(program).map_err(told)?;
            compiler.set_jit_exec_memory(writable).map_err(told)?;
            compiler.jit_compile().map_err(told)?;
        }
        // SAFETY: our own pages; no reference to them is left.
        unsafe { rustix::mm::mprotect(pages.as_ptr().cast(), len, MprotectFlags::READ | MprotectFlags::EXEC) }
            .map_err(|error| format!("making {len} bytes of code executable: {error}"))?;
        Ok(code)
    }

    /// Runs one step: what the handler returned.
    pub fn step(&self, arena: &mut Arena) -> u64 {
        let context = arena.context();
        // SAFETY: `compile` has filled the pages from their first byte with a function of this type; they are sealed
        // and live as long as `self`.
        let entry = unsafe { std::mem::transmute::<*mut u8, Entry>(self.pages.as_ptr()) };
        // SAFETY: admission has proved of the instructions, for every message and view, that they access nothing but
        // the message, the view and 256 bytes of stack, which the JIT's own frame of 512 holds, and that they end.
        // Message and view are the arena's, which this borrow keeps to us; lowering keeps their meaning.
        unsafe { entry(&raw const context, 0, std::ptr::null_mut(), 0, 0, 0) }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and nobody is in it: `step` borrows `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.pages.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of own pages: {unmapped:?}");
    }
}
