//! Handlers of instructions that a test writes one by one.
//!
//! A *vector* is a short piece of code between loads of registers from the arguments and stores of registers to the
//! reply. Many vectors stand in one handler; the last argument chooses one.

use std::sync::OnceLock;

use naam_abi::handler::NaamMsg;
use naam_admission::{Admitted, Insn, admit};

use crate::handlers::{compile, folder};

/// Registers that a vector finds filled from the arguments in this order, and that are given back in the reply. r6 is
/// the message, r10 the frame.
pub const REGISTERS: [u8; 9] = [0, 1, 2, 3, 4, 5, 7, 8, 9];
/// Words of arguments: the registers, then the vector's number.
pub const ARGS: usize = REGISTERS.len() + 1;
/// Bytes of the stack that a vector finds filled, from r10 - STACK on: with the first registers' values.
pub const STACK: usize = 32;

/// What stands in every slot of `slots.c`.
const PLACEHOLDER: [u8; 8] = [0xb7, 0, 0, 0, 0x4d, 0x41, 0x41, 0x4e];
const SLOTS: usize = 1200;
/// Vectors of a handler: short handlers keep the interpreter's part short.
const TOGETHER: usize = 24;

const ARGS_AT: i16 = core::mem::offset_of!(NaamMsg, args) as i16;
const REPLY_AT: i16 = core::mem::offset_of!(NaamMsg, reply) as i16;
const REPLY_LEN_AT: i16 = core::mem::offset_of!(NaamMsg, reply_len) as i16;

/// A piece of code with a name.
#[derive(Clone, Debug)]
pub struct Vector {
    /// What it is, for messages.
    pub name: String,
    /// Its instructions. Jumps stay inside, or go to the instruction behind.
    pub insns: Vec<Insn>,
}

/// A handler whose whole code is `insns`; admission's refusal if it has something against them.
///
/// # Panics
/// If there are too many.
pub fn handler(insns: &[Insn]) -> Result<Admitted, naam_admission::Refusal> {
    static OBJECT: OnceLock<Vec<u8>> = OnceLock::new();
    let object = OBJECT.get_or_init(|| compile(&folder().join("slots.c"), &[]));
    let mut patched = object.clone();
    let at = patched.windows(16).position(|two| two == [PLACEHOLDER; 2].concat()).expect("the slots are there");
    // The `exit` behind the slots is one, too.
    let empty = (SLOTS + 1).checked_sub(insns.len()).expect("as many instructions as there are slots, at most");
    let nothing = Insn::new(0xb7, 0, 0, 0, 0);
    let all = std::iter::repeat_n(nothing, empty).chain(insns.iter().copied());
    for (slot, insn) in patched[at..].chunks_exact_mut(8).zip(all) {
        slot.copy_from_slice(&insn.to_bytes());
    }
    admit(&patched)
}

fn load(dst: u8, base: u8, offset: i16) -> Insn {
    Insn::new(0x79, dst, base, offset, 0)
}

fn store(base: u8, offset: i16, src: u8) -> Insn {
    Insn::new(0x7b, base, src, offset, 0)
}

/// The code of a handler that holds all of `vectors`.
fn code(vectors: &[Vector]) -> Vec<Insn> {
    let mut insns = vec![
        Insn::new(0xbf, 6, 1, 0, 0),
        // The kernel's verifier is not told that the message is there.
        Insn::new(0x55, 6, 0, 2, 0),
        Insn::new(0xb7, 0, 0, 0, 5),
        Insn::new(0x95, 0, 0, 0, 0),
        load(1, 6, ARGS_AT + 8 * REGISTERS.len() as i16),
    ];
    for (number, vector) in (0..).zip(vectors) {
        let mut block = Vec::new();
        for word in 0..STACK as i16 / 8 {
            block.push(load(0, 6, ARGS_AT + word * 8));
            block.push(store(10, word * 8 - STACK as i16, 0));
        }
        block.extend((0..).zip(REGISTERS).map(|(word, register)| load(register, 6, ARGS_AT + word * 8)));
        block.extend(&vector.insns);
        block.extend((0..).zip(REGISTERS).map(|(word, register)| store(6, REPLY_AT + word * 8, register)));
        block.push(Insn::new(0x62, 6, 0, REPLY_LEN_AT, 8 * REGISTERS.len() as i32));
        block.push(Insn::new(0xb7, 0, 0, 0, 0));
        block.push(Insn::new(0x95, 0, 0, 0, 0));
        insns.push(Insn::new(0x55, 1, 0, block.len() as i16, number));
        insns.extend(block);
    }
    insns.extend([Insn::new(0xb7, 0, 0, 0, 5), Insn::new(0x95, 0, 0, 0, 0)]);
    insns
}

/// Handlers that hold all of `vectors`, in their order: each with the vectors that it holds.
///
/// # Panics
/// If admission refuses one.
pub fn handlers(vectors: &[Vector]) -> Vec<(&[Vector], Admitted)> {
    let mut handlers = Vec::new();
    let mut rest = vectors;
    while !rest.is_empty() {
        let mut count = rest.len().min(TOGETHER);
        while code(&rest[..count]).len() > SLOTS {
            count -= 1;
        }
        let (these, others) = rest.split_at(count);
        let admitted =
            handler(&code(these)).unwrap_or_else(|refusal| panic!("{} and others: {refusal}", these[0].name));
        handlers.push((these, admitted));
        rest = others;
    }
    handlers
}
