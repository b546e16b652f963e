//! From the instructions that passed admission to ones that rbpf computes as the kernel does.
//!
//! rbpf 0.4.1 and the kernel disagree on some of what admission accepts. Each of these has an equal that both its
//! machines compute rightly; `kernel-notes/rbpf.md` has the list with what goes wrong. Lowering puts the equals in
//! place and moves the targets of jumps and calls along. Opcodes that neither stand in that list nor are known to be
//! right are refused, so a wider admission cannot reach a machine that would compute something else.

use naam_admission::{Admitted, Func, Insn};

use crate::LoadError;

/// rbpf keeps positions in 16 signed bits.
const LOWERED_MAX: usize = i16::MAX as usize;

const ADD64_IMM: u8 = 0x07;
const MUL64_IMM: u8 = 0x27;
const AND32_IMM: u8 = 0x54;
const LOAD64: u8 = 0x79;
const NEG64: u8 = 0x87;
const MOD32_REG: u8 = 0x9c;
const MOV32_REG: u8 = 0xbc;
const MOV64_REG: u8 = 0xbf;
const LE: u8 = 0xd4;
const CALL: u8 = 0x85;
const LOAD_IMM: u8 = 0x18;
const EXIT: u8 = 0x95;
const JA: u8 = 0x05;
const JSGT_IMM: u8 = 0x65;
const JSGE_IMM: u8 = 0x75;
const JSLT_IMM: u8 = 0xc5;
const FP: u8 = 10;

/// Where a lowered instruction leads.
#[derive(Clone, Copy)]
enum Leads {
    Nowhere,
    /// A jump to this instruction of the handler.
    Jump(usize),
    /// A call of the function that begins at this instruction of the handler.
    Call(usize),
}

#[derive(Default)]
struct Lowering {
    insns: Vec<(Insn, Leads)>,
    /// For every instruction of the handler, where it begins.
    starts: Vec<usize>,
}

/// The handler as rbpf shall run it. r1 points to two words there: the addresses of message and view.
pub(crate) fn lower(handler: &Admitted) -> Result<Vec<Insn>, LoadError> {
    lower_functions(handler.insns(), handler.functions())
}

fn lower_functions(insns: &[Insn], functions: &[Func]) -> Result<Vec<Insn>, LoadError> {
    let mut lowering = Lowering { insns: Vec::new(), starts: vec![usize::MAX; insns.len()] };
    lowering.put(Insn::new(LOAD64, 2, 1, 8, 0));
    lowering.put(Insn::new(LOAD64, 1, 1, 0, 0));
    for function in callers_first(insns, functions) {
        let function = &functions[function];
        let mut at = function.first;
        while at < function.first + function.count {
            lowering.starts[at] = lowering.insns.len();
            let insn = insns[at];
            if insn.opcode() == LOAD_IMM {
                lowering.put(insn);
                at += 1;
                lowering.put(insns[at]);
            } else {
                lowering.insn(at, insn, function.frame as i32)?;
            }
            at += 1;
        }
    }
    lowering.finish()
}

/// The functions, callers before those they call: rbpf's interpreter adds the distance of a call unsigned. The entry
/// stays the first.
fn callers_first(insns: &[Insn], functions: &[Func]) -> Vec<usize> {
    struct Order<'a> {
        insns: &'a [Insn],
        functions: &'a [Func],
        seen: Vec<bool>,
        order: Vec<usize>,
    }
    impl Order<'_> {
        /// Admission lets no more than eight functions call each other in a row.
        fn visit(&mut self, function: usize) {
            if std::mem::replace(&mut self.seen[function], true) {
                return;
            }
            let Func { first, count, .. } = self.functions[function];
            for at in first..first + count {
                if self.insns[at].is_local_call() {
                    let target = (at as i64 + 1 + i64::from(self.insns[at].imm())) as usize;
                    if let Some(callee) = self.functions.iter().position(|callee| callee.first == target) {
                        self.visit(callee);
                    }
                }
            }
            self.order.push(function);
        }
    }
    let mut order = Order { insns, functions, seen: vec![false; functions.len()], order: Vec::new() };
    order.visit(0);
    order.order.reverse();
    order.order
}

impl Lowering {
    fn put(&mut self, insn: Insn) {
        self.insns.push((insn, Leads::Nowhere));
    }

    fn jump(&mut self, opcode: u8, dst: u8, imm: i32, to: usize) {
        self.insns.push((Insn::new(opcode, dst, 0, 0, imm), Leads::Jump(to)));
    }

    fn insn(&mut self, at: usize, insn: Insn, frame: i32) -> Result<(), LoadError> {
        let (dst, src, imm) = (insn.dst(), insn.src(), insn.imm());
        let to = (at as i64 + 1 + i64::from(insn.offset())) as usize;
        let zero_extend = Insn::new(AND32_IMM, dst, 0, 0, -1);
        match insn.opcode() {
            MOV32_REG => {
                if dst != src {
                    self.put(Insn::new(MOV64_REG, dst, src, 0, 0));
                }
                self.put(zero_extend);
            }
            MOD32_REG => {
                self.put(zero_extend);
                self.put(insn);
            }
            NEG64 => self.put(Insn::new(MUL64_IMM, dst, 0, 0, -1)),
            LE => match imm {
                16 => self.put(Insn::new(AND32_IMM, dst, 0, 0, 0xffff)),
                32 => self.put(zero_extend),
                _ => {}
            },
            CALL if insn.is_local_call() => {
                self.put(Insn::new(ADD64_IMM, FP, 0, 0, -frame));
                self.insns.push((insn, Leads::Call((at as i64 + 1 + i64::from(imm)) as usize)));
                self.put(Insn::new(ADD64_IMM, FP, 0, 0, frame));
            }
            JA => self.insns.push((insn, Leads::Jump(to))),
            opcode if unsigned_branch(opcode) && imm < 0 => self.unsigned_branch(opcode, dst, imm, at + 1, to),
            opcode if is_branch(opcode) => self.insns.push((insn, Leads::Jump(to))),
            opcode if is_plain(opcode) => self.put(insn),
            opcode => return Err(LoadError::Instruction { at, opcode }),
        }
        Ok(())
    }

    /// A 64-bit compare, equal or unsigned, with what is sign-extended to a number above 2^63: two signed compares.
    fn unsigned_branch(&mut self, opcode: u8, dst: u8, imm: i32, next: usize, to: usize) {
        match opcode & 0xf0 {
            // Equal: neither above nor below.
            0x10 => {
                self.jump(JSGT_IMM, dst, imm, next);
                self.jump(JSGE_IMM, dst, imm, to);
            }
            // Not equal.
            0x50 => {
                self.jump(JSGT_IMM, dst, imm, to);
                self.jump(JSLT_IMM, dst, imm, to);
            }
            // Above (or equal): what is no negative number is below.
            0x20 | 0x30 => {
                self.jump(JSGE_IMM, dst, 0, next);
                let signed = if opcode & 0xf0 == 0x20 { JSGT_IMM } else { JSGE_IMM };
                self.jump(signed, dst, imm, to);
            }
            // Below (or equal).
            _ => {
                self.jump(JSGE_IMM, dst, 0, to);
                let signed = if opcode & 0xf0 == 0xa0 { JSLT_IMM } else { 0xd5 };
                self.jump(signed, dst, imm, to);
            }
        }
    }

    fn finish(self) -> Result<Vec<Insn>, LoadError> {
        if self.insns.len() > LOWERED_MAX {
            return Err(LoadError::TooLong { insns: self.insns.len(), max: LOWERED_MAX });
        }
        let starts = self.starts;
        let placed = self.insns.into_iter().enumerate().map(|(at, (insn, leads))| {
            let distance = |to: usize| starts[to] as i64 - (at as i64 + 1);
            match leads {
                Leads::Nowhere => insn,
                Leads::Jump(to) => {
                    // Positions have 15 bits, so do distances.
                    Insn::new(insn.opcode(), insn.dst(), insn.src(), distance(to) as i16, insn.imm())
                }
                Leads::Call(to) => insn.with_imm(distance(to) as i32),
            }
        });
        Ok(placed.collect())
    }
}

/// JEQ, JGT, JGE, JNE, JLT, JLE of 64 bits with an immediate.
fn unsigned_branch(opcode: u8) -> bool {
    matches!(opcode, 0x15 | 0x25 | 0x35 | 0x55 | 0xa5 | 0xb5)
}

/// Conditional jumps of 32 and 64 bits.
fn is_branch(opcode: u8) -> bool {
    matches!(opcode & 7, 5 | 6) && matches!(opcode >> 4, 1..=7 | 0xa..=0xd)
}

/// What rbpf computes as the kernel does, and leads nowhere.
fn is_plain(opcode: u8) -> bool {
    let operation = opcode >> 4;
    match opcode & 7 {
        // Loads and stores of memory, all widths.
        1..=3 => opcode & 0xe0 == 0x60,
        // NEG32, BE, and arithmetic but what is lowered.
        4 => opcode == 0x84 || opcode == 0xdc || (operation <= 0xc && operation != 8),
        7 => operation <= 0xc && operation != 8,
        _ => opcode == EXIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::interpreter::Interpreter;
    use naam_admission::to_bytes;

    const R0_FROM_2: Insn = Insn::new(MOV64_REG, 0, 2, 0, 0);
    const END: Insn = Insn::new(EXIT, 0, 0, 0, 0);

    fn wide(dst: u8, value: u64) -> [Insn; 2] {
        [Insn::new(LOAD_IMM, dst, 0, 0, value as i32), Insn::new(0, 0, 0, 0, (value >> 32) as i32)]
    }

    fn code(parts: &[&[Insn]]) -> Vec<Insn> {
        parts.concat()
    }

    /// What rbpf has wrong: instructions, what the kernel computes, and whether the JIT, and the interpreter, differ.
    /// Each of these was compared with the kernel by `prog_conformance`.
    fn wrong() -> Vec<(&'static str, Vec<Insn>, u64, [bool; 2])> {
        let value = 0x1234_5678_9abc_def0;
        let unsigned = |opcode| {
            let taken = [Insn::new(0xb7, 0, 0, 0, 1), Insn::new(opcode, 2, 0, 1, -2), Insn::new(0xb7, 0, 0, 0, 0)];
            code(&[&wide(2, u64::MAX - 1), &taken, &[END]])
        };
        let swap = |imm| code(&[&wide(0, value), &[Insn::new(LE, 0, 0, 0, imm), END]]);
        let mov = code(&[&wide(2, value), &[Insn::new(MOV32_REG, 0, 2, 0, 0), END]]);
        let modulo =
            code(&[&wide(2, value), &[Insn::new(0xb7, 3, 0, 0, 0), Insn::new(MOD32_REG, 2, 3, 0, 0), R0_FROM_2, END]]);
        vec![
            ("mov32", mov, 0x9abc_def0, [true, false]),
            ("le16", swap(16), 0xdef0, [true, false]),
            ("le32", swap(32), 0x9abc_def0, [true, false]),
            ("mod32 by zero", modulo, 0x9abc_def0, [true, true]),
            ("jeq to a negative immediate", unsigned(0x15), 1, [false, true]),
            ("jge to a negative immediate", unsigned(0x35), 1, [false, false]),
            ("jle to a negative immediate", unsigned(0xb5), 1, [false, true]),
            ("jne to a negative immediate", unsigned(0x55), 0, [false, true]),
            ("jlt to a negative immediate", unsigned(0xa5), 0, [false, false]),
            ("jgt to a negative immediate", unsigned(0x25), 0, [false, true]),
            // The interpreter's own frames have 256 bytes each, two of which fill its stack: we give it none.
            ("a call", calling(), 7, [true, true]),
        ]
    }

    /// Keeps 7 in its frame while a function writes to its own.
    fn calling() -> Vec<Insn> {
        vec![
            Insn::new(0x7a, FP, 0, -8, 7),
            Insn::new(CALL, 0, 1, 0, 2),
            Insn::new(LOAD64, 0, FP, -8, 0),
            END,
            Insn::new(0x7a, FP, 0, -8, 9),
            Insn::new(0xb7, 0, 0, 0, 0),
            END,
        ]
    }

    fn functions(insns: &[Insn]) -> Vec<Func> {
        let func = |first, count| Func { name: String::new(), first, count, frame: 32 };
        match insns.iter().position(|insn| insn.is_local_call()) {
            None => vec![func(0, insns.len())],
            Some(_) => vec![func(0, 4), func(4, insns.len() - 4)],
        }
    }

    fn interpreted(insns: &[Insn]) -> u64 {
        Interpreter::new(to_bytes(insns)).step(&mut Arena::new()).expect("no fault")
    }

    #[cfg(all(target_arch = "x86_64", unix))]
    fn compiled(insns: &[Insn]) -> u64 {
        crate::jit::Code::compile(&to_bytes(insns)).expect("compiles").step(&mut Arena::new())
    }

    /// If this fails after an update of rbpf, something need not be lowered any more.
    #[cfg(all(target_arch = "x86_64", unix))]
    #[test]
    fn rbpf_alone_computes_something_else() {
        for (what, insns, right, [jit, interpreter]) in wrong() {
            assert_eq!(compiled(&insns) != right, jit, "{what} by the JIT");
            assert_eq!(interpreted(&insns) != right, interpreter, "{what} by the interpreter");
        }
    }

    #[test]
    fn what_was_lowered_is_right() {
        for (what, insns, right, _) in wrong() {
            let lowered = lower_functions(&insns, &functions(&insns)).expect(what);
            assert_eq!(interpreted(&lowered), right, "{what} by the interpreter");
            #[cfg(all(target_arch = "x86_64", unix))]
            assert_eq!(compiled(&lowered), right, "{what} by the JIT");
        }
    }

    #[test]
    fn unknown_instructions_are_refused() {
        let known = [END, Insn::new(0x61, 0, 1, 0, 0), Insn::new(0x0f, 0, 1, 0, 0), Insn::new(0xdc, 0, 0, 0, 32)];
        for insn in known {
            assert!(lower_functions(&[insn, END], &functions(&[insn, END])).is_ok(), "{insn:?}");
        }
        // Atomics, packet loads, sign extension, long jumps, helpers, tail calls, indirect calls.
        for opcode in [0xdb, 0xc3, 0x20, 0x30, 0x40, 0x81, 0x89, 0x91, 0x06, 0x8d, 0xd7, 0xdf, 0xe5, 0x8f, 0x9d] {
            let insns = [Insn::new(opcode, 0, 1, 0, 0), END];
            let refused = lower_functions(&insns, &functions(&insns));
            assert_eq!(refused, Err(LoadError::Instruction { at: 0, opcode }), "{opcode:#04x}");
        }
        let helper = [Insn::new(CALL, 0, 0, 0, 1), END];
        assert_eq!(lower_functions(&helper, &functions(&helper)), Err(LoadError::Instruction { at: 0, opcode: CALL }));
        let long = vec![Insn::new(MOV32_REG, 0, 1, 0, 0); 20_000];
        assert!(matches!(lower_functions(&long, &functions(&long)), Err(LoadError::TooLong { .. })));
    }
}
