//! Random handlers for tests: mostly sensible, so that many are admitted, with odd pieces in them.

use crate::insn::Insn;
use crate::link::{Func, Program};

/// A small generator of random numbers (SplitMix64), seeded so that failures repeat.
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.0;
        n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ n >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

const NUMBERS: [u8; 6] = [0, 3, 4, 5, 8, 9];
const MESSAGE: u8 = 6;
const VIEW: u8 = 7;
/// Opcodes by class bits: 64-bit and 32-bit arithmetic, 64-bit and 32-bit jumps.
const ALU: [u8; 12] = [0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0, 0xb0, 0xc0];
const JUMP: [u8; 11] = [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0];
/// Size bits of memory instructions.
const SIZES: [(u8, u8); 4] = [(0x00, 4), (0x08, 2), (0x10, 1), (0x18, 8)];

struct Writer<'a> {
    random: &'a mut Random,
    insns: Vec<Insn>,
    callee: bool,
}

/// A handler, perhaps with one local function.
pub(super) fn program(random: &mut Random) -> Program {
    let local = random.one_in(3);
    let entry = body(random, local, false);
    let mut functions = vec![Func { name: "entry".into(), first: 0, count: entry.len(), frame: 0 }];
    let mut insns = entry;
    if local {
        let callee = body(random, false, true);
        let first = insns.len();
        for (at, insn) in insns.iter_mut().enumerate() {
            if insn.is_local_call() {
                *insn = insn.with_imm(first as i32 - at as i32 - 1);
            }
        }
        functions.push(Func { name: "local".into(), first, count: callee.len(), frame: 0 });
        insns.extend(callee);
    }
    if random.one_in(4) {
        mutate(random, &mut insns);
    }
    Program { insns, functions, lines: Vec::new() }
}

fn mutate(random: &mut Random, insns: &mut [Insn]) {
    let at = random.below(insns.len() as u64) as usize;
    let mut bytes = insns[at].to_bytes();
    let byte = random.below(8) as usize;
    bytes[byte] ^= 1 << random.below(8);
    insns[at] = Insn::from_bytes(bytes);
}

fn body(random: &mut Random, calls: bool, callee: bool) -> Vec<Insn> {
    let mut writer = Writer { random, insns: Vec::new(), callee };
    writer.start();
    for _ in 0..2 + writer.random.below(12) {
        match writer.random.below(20) {
            0..=5 => writer.arithmetic(),
            6..=8 => writer.branch(),
            9..=10 => writer.bound(),
            11..=13 => writer.access(),
            14..=15 => writer.stack(),
            16 => writer.pointer_on_stack(),
            17 => writer.count(),
            18 if calls => writer.call(),
            _ => writer.copy(),
        }
    }
    writer.end()
}

impl Writer<'_> {
    fn emit(&mut self, opcode: u8, dst: u8, src: u8, offset: i16, imm: i32) {
        self.insns.push(Insn::new(opcode, dst, src, offset, imm));
    }

    fn number(&mut self) -> u8 {
        self.random.pick(&NUMBERS)
    }

    fn imm(&mut self) -> i32 {
        let edge = self.random.pick(&[0, 1, 7, 8, 31, 32, 63, 64, 255, 1 << 16, i32::MAX, i32::MIN, -1, -8]);
        edge.wrapping_add(self.random.below(5) as i32 - 2)
    }

    fn start(&mut self) {
        self.emit(0xbf, MESSAGE, 1, 0, 0);
        self.emit(0xbf, VIEW, 2, 0, 0);
        for reg in NUMBERS {
            match self.random.below(8) {
                0 => {
                    let imm = self.imm();
                    self.emit(0xb7, reg, 0, 0, imm);
                }
                1 if self.callee && (3..=5).contains(&reg) => {}
                2 if self.random.one_in(4) => {}
                _ => {
                    let (bits, _) = self.random.pick(&SIZES);
                    let at = 192 + self.random.below(8) as i16 * 8;
                    self.emit(0x61 | bits, reg, MESSAGE, at, 0);
                }
            }
        }
    }

    fn arithmetic(&mut self) {
        let class = self.random.pick(&[0x07, 0x04]);
        let op = self.random.pick(&ALU);
        let dst = self.number();
        if self.random.one_in(2) {
            let src = self.number();
            self.emit(class | op | 8, dst, src, 0, 0);
        } else {
            let imm = match op {
                0x60 | 0x70 | 0xc0 => self.random.below(if class == 7 { 64 } else { 32 }) as i32,
                0x30 | 0x90 => self.imm().max(1),
                _ => self.imm(),
            };
            self.emit(class | op, dst, 0, 0, imm);
        }
        if self.random.one_in(12) {
            let bits = self.random.pick(&[16, 32, 64]);
            let swap = self.random.pick(&[0xd4, 0xdc]);
            self.emit(swap, dst, 0, 0, bits);
        }
    }

    fn compare(&mut self, skip: i16) {
        let class = self.random.pick(&[0x05, 0x06]);
        let cond = self.random.pick(&JUMP);
        let dst = self.number();
        if self.random.one_in(2) {
            let src = self.number();
            self.emit(class | cond | 8, dst, src, skip, 0);
        } else {
            let imm = self.imm();
            self.emit(class | cond, dst, 0, skip, imm);
        }
    }

    /// A branch over some arithmetic or an early end.
    fn branch(&mut self) {
        if self.random.one_in(8) {
            let pointer = self.random.pick(&[MESSAGE, VIEW]);
            let null = self.random.pick(&[0x15, 0x55]);
            self.emit(null, pointer, 0, 0, 0);
        } else {
            self.compare(0);
        }
        let at = self.insns.len();
        if self.random.one_in(3) {
            self.emit(0xb7, 0, 0, 0, 1);
            self.emit(0x95, 0, 0, 0, 0);
        } else {
            for _ in 0..1 + self.random.below(3) {
                match self.random.below(4) {
                    0 => self.stack(),
                    1 => self.copy(),
                    _ => self.arithmetic(),
                }
            }
        }
        let skip = (self.insns.len() - at) as i16;
        let branch = self.insns[at - 1];
        self.insns[at - 1] = Insn::new(branch.opcode(), branch.dst(), branch.src(), skip, branch.imm());
    }

    /// Makes a number small, one way or another.
    fn bound(&mut self) {
        let reg = self.number();
        let limit = self.random.pick(&[1, 7, 8, 15, 31, 63, 100]);
        match self.random.below(5) {
            0 => self.emit(0x57, reg, 0, 0, limit),
            1 => self.emit(0x54, reg, 0, 0, limit),
            2 => self.emit(0x97, reg, 0, 0, limit),
            _ => {
                let class = self.random.pick(&[0x05, 0x06]);
                let cond = self.random.pick(&[0xa0, 0xb0, 0xc0, 0xd0]);
                self.emit(class | cond, reg, 0, 2, limit);
                self.emit(0xb7, 0, 0, 0, 5);
                self.emit(0x95, 0, 0, 0, 0);
                if cond >= 0xc0 && !self.random.one_in(4) {
                    self.emit(class | 0x70, reg, 0, 2, 0);
                    self.emit(0xb7, 0, 0, 0, 5);
                    self.emit(0x95, 0, 0, 0, 0);
                }
            }
        }
    }

    /// A load or store at an index.
    fn access(&mut self) {
        let index = self.number();
        let other = self.number();
        let (bits, bytes) = self.random.pick(&SIZES);
        let (base, store) = self.random.pick(&[(MESSAGE, true), (MESSAGE, false), (VIEW, false)]);
        let address = self.random.pick(&[1, 2]);
        if self.random.one_in(2) {
            self.emit(0x57, index, 0, 0, 31);
        }
        self.emit(0xbf, address, base, 0, 0);
        let direction = if self.random.one_in(6) { 0x1f } else { 0x0f };
        self.emit(direction, address, index, 0, 0);
        let span = if base == VIEW { 64 } else { 512 };
        let offset = self.random.below(span) as i16 - if self.random.one_in(6) { 64 } else { 0 };
        let offset = if direction == 0x1f { offset + 32 } else { offset };
        let offset = offset - offset % i16::from(bytes.min(4));
        if store {
            self.emit(0x63 | bits, address, other, offset + 1280, 0);
        } else {
            self.emit(0x61 | bits, other, address, offset, 0);
        }
    }

    fn slot(&mut self) -> i16 {
        -8 * (1 + self.random.below(4) as i16)
    }

    /// Stores a number on the stack, or loads one.
    fn stack(&mut self) {
        let (reg, slot) = (self.number(), self.slot());
        let (bits, bytes) = if self.random.one_in(2) { (0x18, 8) } else { self.random.pick(&SIZES) };
        let within = (self.random.below(8) as i16) & !(i16::from(bytes) - 1);
        match self.random.below(4) {
            0 => self.emit(0x61 | bits, reg, 10, slot + within, 0),
            1 => {
                let imm = self.imm();
                self.emit(0x62 | bits, 10, 0, slot + within, imm);
            }
            2 if self.random.one_in(4) => {
                self.emit(0xbf, 1, 10, 0, 0);
                self.emit(0x57, reg, 0, 0, 16);
                self.emit(0x0f, 1, reg, 0, 0);
                let source = self.number();
                let kind = self.random.pick(&[0x61, 0x63]);
                let (dst, src) = if kind == 0x61 { (source, 1) } else { (1, source) };
                self.emit(kind | bits, dst, src, -32 + within, 0);
            }
            _ => {
                self.emit(0x63 | bits, 10, reg, slot + within, 0);
                if self.random.one_in(2) {
                    let back = self.number();
                    self.emit(0x61 | bits, back, 10, slot + within, 0);
                }
            }
        }
    }

    /// Saves a pointer and restores it, perhaps as something else.
    fn pointer_on_stack(&mut self) {
        let slot = self.slot();
        let pointer = self.random.pick(&[MESSAGE, VIEW]);
        self.emit(0x7b, 10, pointer, slot, 0);
        if self.random.one_in(3) {
            self.stack();
        }
        let to = if self.random.one_in(6) { self.number() } else { pointer };
        self.emit(0x79, to, 10, slot, 0);
    }

    /// A loop that counts.
    fn count(&mut self) {
        let counter = self.number();
        let (from, rounds) = (self.random.below(4) as i32, 1 + self.random.below(12) as i32);
        if !self.random.one_in(4) {
            self.emit(0xb7, counter, 0, 0, from);
        } else {
            self.emit(0x57, counter, 0, 0, 7);
        }
        let start = self.insns.len();
        for _ in 0..1 + self.random.below(3) {
            match self.random.below(5) {
                0 => self.stack(),
                1 => self.compare(1),
                2 => self.access(),
                _ => self.arithmetic(),
            }
        }
        self.emit(0x07, counter, 0, 0, 1);
        let cond = self.random.pick(&[0xa5, 0xc5, 0xa6, 0xc6, 0x55]);
        let back = start as i64 - self.insns.len() as i64 - 1;
        self.emit(cond, counter, 0, back as i16, from + rounds);
    }

    fn copy(&mut self) {
        let (dst, src) = (self.number(), self.number());
        let class = self.random.pick(&[0xbf, 0xbf, 0xbc]);
        self.emit(class, dst, src, 0, 0);
    }

    fn call(&mut self) {
        self.emit(0xbf, 1, MESSAGE, 0, 0);
        self.emit(0xbf, 2, VIEW, 0, 0);
        if self.random.one_in(3) {
            self.emit(0xbf, 1, 10, 0, 0);
            self.emit(0x07, 1, 0, 0, -512);
        }
        for reg in 3..=5 {
            let src = self.number();
            self.emit(0xbf, reg, src, 0, 0);
        }
        self.emit(0x85, 0, 1, 0, 0);
        for reg in 3..=5 {
            let at = 192 + self.random.below(8) as i16 * 8;
            self.emit(0x79, reg, MESSAGE, at, 0);
        }
    }

    /// What was computed becomes visible.
    fn end(mut self) -> Vec<Insn> {
        for (at, reg) in NUMBERS.into_iter().enumerate() {
            if self.random.one_in(2) {
                self.emit(0x7b, MESSAGE, reg, 64 + at as i16 * 8, 0);
            }
        }
        if self.random.one_in(3) {
            self.emit(0xb7, 0, 0, 0, 0);
        }
        self.emit(0x95, 0, 0, 0, 0);
        self.insns
    }
}
