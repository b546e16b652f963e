//! The instructions a handler may use: BPF cpu v3, as every kernel from 6.1 on runs it.
//!
//! Decoding is strict: fields that an instruction does not use are zero, as the kernel demands.

use crate::insn::Insn;
use crate::refusal::Rule;

/// Operand width of arithmetic and compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    W32,
    W64,
}

impl Width {
    pub const fn bits(self) -> u32 {
        match self {
            Self::W32 => 32,
            Self::W64 => 64,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AluOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
    Lsh,
    Rsh,
    Arsh,
    Mov,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cond {
    Eq,
    Ne,
    /// Some common bit is set.
    Set,
    /// No common bit is set: the negation of `Set`, not an instruction of its own.
    NotSet,
    Gt,
    Ge,
    Lt,
    Le,
    Sgt,
    Sge,
    Slt,
    Sle,
}

impl Cond {
    pub const fn negated(self) -> Self {
        match self {
            Self::Eq => Self::Ne,
            Self::Ne => Self::Eq,
            Self::Set => Self::NotSet,
            Self::NotSet => Self::Set,
            Self::Gt => Self::Le,
            Self::Ge => Self::Lt,
            Self::Lt => Self::Ge,
            Self::Le => Self::Gt,
            Self::Sgt => Self::Sle,
            Self::Sge => Self::Slt,
            Self::Slt => Self::Sge,
            Self::Sle => Self::Sgt,
        }
    }
}

/// A register number, 0 to 10.
pub(crate) type Reg = u8;
/// The frame pointer.
pub(crate) const FP: Reg = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    Reg(Reg),
    Imm(i32),
}

/// A decoded instruction. Targets are still relative to the next instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Alu {
        op: AluOp,
        width: Width,
        dst: Reg,
        src: Operand,
    },
    Neg {
        width: Width,
        dst: Reg,
    },
    /// Keep the low `bits`, reversing their bytes if `swap`.
    End {
        dst: Reg,
        bits: u32,
        swap: bool,
    },
    /// Takes this slot and the next, which is [`Op::Tail`].
    LoadImm {
        dst: Reg,
        value: u64,
    },
    /// The second slot of [`Op::LoadImm`].
    Tail,
    Load {
        bytes: u8,
        dst: Reg,
        base: Reg,
        offset: i16,
    },
    Store {
        bytes: u8,
        base: Reg,
        offset: i16,
        src: Operand,
    },
    Jump {
        offset: i64,
    },
    Branch {
        cond: Cond,
        width: Width,
        dst: Reg,
        src: Operand,
        offset: i64,
    },
    Call {
        offset: i64,
    },
    Exit,
}

/// Decodes one instruction; `next` is the slot behind it.
pub(crate) fn decode(insn: Insn, next: Option<Insn>) -> Result<Op, (Rule, String)> {
    if insn.dst() > FP || (insn.src() > FP && !insn.is_wide()) {
        return Err(bad(insn, "names a register that does not exist"));
    }
    match insn.opcode() & 7 {
        0 => wide(insn, next),
        1 => load(insn),
        2 | 3 => store(insn),
        4 => alu(insn, Width::W32),
        7 => alu(insn, Width::W64),
        5 => jump(insn, Width::W64),
        _ => jump(insn, Width::W32),
    }
}

fn bad(insn: Insn, what: &str) -> (Rule, String) {
    (Rule::BadInstruction, format!("{what} (opcode {:#04x})", insn.opcode()))
}

fn newer(insn: Insn, what: &str) -> (Rule, String) {
    (Rule::NewerInstruction, format!("is {what} (opcode {:#04x}), which came after cpu v3", insn.opcode()))
}

/// Demands that the fields which the instruction does not use are zero.
fn unused(insn: Insn, dst: bool, src: bool, offset: bool, imm: bool) -> Result<(), (Rule, String)> {
    let clean = (!dst || insn.dst() == 0)
        && (!src || insn.src() == 0)
        && (!offset || insn.offset() == 0)
        && (!imm || insn.imm() == 0);
    if clean { Ok(()) } else { Err(bad(insn, "sets fields that it does not use")) }
}

fn wide(insn: Insn, next: Option<Insn>) -> Result<Op, (Rule, String)> {
    match insn.opcode() {
        0x18 => {
            let Some(next) = next.filter(|next| next.opcode() == 0 && next.dst() == 0 && next.src() == 0) else {
                return Err(bad(insn, "is a 64-bit load without its second half"));
            };
            if insn.src() != 0 {
                let detail = format!("is a 64-bit load of kind {}: a map, variable or function", insn.src());
                return Err((Rule::MapReference, detail));
            }
            unused(insn, false, false, true, false)?;
            unused(next, true, true, true, false)?;
            let value = u64::from(insn.imm() as u32) | u64::from(next.imm() as u32) << 32;
            Ok(Op::LoadImm { dst: insn.dst(), value })
        }
        opcode if matches!(opcode & 0xe0, 0x20 | 0x40) => Err((Rule::PacketLoad, "loads from a packet".into())),
        _ => Err(bad(insn, "is not a BPF instruction")),
    }
}

fn bytes(insn: Insn) -> u8 {
    match insn.opcode() & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

fn load(insn: Insn) -> Result<Op, (Rule, String)> {
    match insn.opcode() & 0xe0 {
        0x60 => {
            unused(insn, false, false, false, true)?;
            Ok(Op::Load { bytes: bytes(insn), dst: insn.dst(), base: insn.src(), offset: insn.offset() })
        }
        0x80 => Err(newer(insn, "a sign-extending load")),
        _ => Err(bad(insn, "is not a BPF instruction")),
    }
}

fn store(insn: Insn) -> Result<Op, (Rule, String)> {
    let of_register = insn.opcode() & 7 == 3;
    match insn.opcode() & 0xe0 {
        0x60 => {
            unused(insn, false, !of_register, false, of_register)?;
            let src = if of_register { Operand::Reg(insn.src()) } else { Operand::Imm(insn.imm()) };
            Ok(Op::Store { bytes: bytes(insn), base: insn.dst(), offset: insn.offset(), src })
        }
        0xc0 if of_register => Err((Rule::AtomicInstruction, "is an atomic instruction".into())),
        _ => Err(bad(insn, "is not a BPF instruction")),
    }
}

fn alu(insn: Insn, width: Width) -> Result<Op, (Rule, String)> {
    let of_register = insn.opcode() & 8 != 0;
    let dst = insn.dst();
    let op = match insn.opcode() & 0xf0 {
        0x00 => AluOp::Add,
        0x10 => AluOp::Sub,
        0x20 => AluOp::Mul,
        0x30 if insn.offset() == 1 => return Err(newer(insn, "a signed division")),
        0x30 => AluOp::Div,
        0x40 => AluOp::Or,
        0x50 => AluOp::And,
        0x60 => AluOp::Lsh,
        0x70 => AluOp::Rsh,
        0x80 => {
            if of_register {
                return Err(bad(insn, "is not a BPF instruction"));
            }
            unused(insn, false, true, true, true)?;
            return Ok(Op::Neg { width, dst });
        }
        0x90 if insn.offset() == 1 => return Err(newer(insn, "a signed remainder")),
        0x90 => AluOp::Mod,
        0xa0 => AluOp::Xor,
        0xb0 if of_register && insn.offset() != 0 => return Err(newer(insn, "a sign-extending move")),
        0xb0 => AluOp::Mov,
        0xc0 => AluOp::Arsh,
        0xd0 => return end(insn, width),
        _ => return Err(bad(insn, "is not a BPF instruction")),
    };
    unused(insn, false, !of_register, true, of_register)?;
    let src = if of_register { Operand::Reg(insn.src()) } else { Operand::Imm(insn.imm()) };
    match (op, src) {
        (AluOp::Div | AluOp::Mod, Operand::Imm(0)) => Err(bad(insn, "divides by zero")),
        (AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, Operand::Imm(by)) if by as u32 >= width.bits() => {
            Err(bad(insn, &format!("shifts {} bits by {by}", width.bits())))
        }
        _ => Ok(Op::Alu { op, width, dst, src }),
    }
}

fn end(insn: Insn, width: Width) -> Result<Op, (Rule, String)> {
    let swap = insn.opcode() & 8 != 0;
    if width == Width::W64 {
        return Err(if swap {
            bad(insn, "is not a BPF instruction")
        } else {
            newer(insn, "an unconditional byte swap")
        });
    }
    unused(insn, false, true, true, false)?;
    match insn.imm() {
        bits @ (16 | 32 | 64) => Ok(Op::End { dst: insn.dst(), bits: bits as u32, swap }),
        bits => Err(bad(insn, &format!("swaps {bits} bits"))),
    }
}

fn jump(insn: Insn, width: Width) -> Result<Op, (Rule, String)> {
    let of_register = insn.opcode() & 8 != 0;
    let cond = match (insn.opcode() & 0xf0, width) {
        (0x00, Width::W64) if !of_register => {
            unused(insn, true, true, false, true)?;
            return Ok(Op::Jump { offset: insn.offset().into() });
        }
        (0x00, Width::W32) => return Err(newer(insn, "a long jump")),
        (0x80, Width::W64) => return call(insn, of_register),
        (0x90, Width::W64) if !of_register => {
            unused(insn, true, true, true, true)?;
            return Ok(Op::Exit);
        }
        (0xe0, Width::W64) => return Err(newer(insn, "a may_goto")),
        (0x10, _) => Cond::Eq,
        (0x20, _) => Cond::Gt,
        (0x30, _) => Cond::Ge,
        (0x40, _) => Cond::Set,
        (0x50, _) => Cond::Ne,
        (0x60, _) => Cond::Sgt,
        (0x70, _) => Cond::Sge,
        (0xa0, _) => Cond::Lt,
        (0xb0, _) => Cond::Le,
        (0xc0, _) => Cond::Slt,
        (0xd0, _) => Cond::Sle,
        _ => return Err(bad(insn, "is not a BPF instruction")),
    };
    unused(insn, false, !of_register, false, of_register)?;
    let src = if of_register { Operand::Reg(insn.src()) } else { Operand::Imm(insn.imm()) };
    Ok(Op::Branch { cond, width, dst: insn.dst(), src, offset: insn.offset().into() })
}

fn call(insn: Insn, of_register: bool) -> Result<Op, (Rule, String)> {
    if of_register {
        return Err((Rule::IndirectCall, "calls the function that a register points to".into()));
    }
    unused(insn, true, false, false, false)?;
    match insn.src() {
        0 => Err((Rule::HelperCall, format!("calls kernel helper {}", insn.imm()))),
        1 => {
            unused(insn, true, false, true, false)?;
            Ok(Op::Call { offset: insn.imm().into() })
        }
        2 => Err((Rule::HelperCall, format!("calls the kernel function with BTF id {}", insn.imm()))),
        kind => Err(bad(insn, &format!("is a call of unknown kind {kind}"))),
    }
}
