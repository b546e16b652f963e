//! Conformance: every instruction that admission accepts does the same in the kernel and in the engine's two machines,
//! bit for bit, over random numbers and the awkward ones.

use std::sync::Arc;

use naam_abi::wire::Status;
use naam_admission::{Admitted, Insn, Rule};
use naam_engine::{Engine, Image, Machine, Program, Run};
use naam_loader::Hook;
use naam_tests::frame::Message;
use naam_tests::handlers;
use naam_tests::stage::{SHARD, Stage};
use naam_tests::vectors::{self, ARGS, REGISTERS, STACK, Vector};

/// Numbers at which arithmetic tends to go wrong.
const AWKWARD: [u64; 16] = [
    0,
    1,
    2,
    31,
    32,
    63,
    64,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0xffff_ffff_8000_0000,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX - 1,
    u64::MAX,
];
/// Immediates of arithmetic and compares.
const IMMEDIATES: [i32; 8] = [0, 1, 7, 0x1234_5678, i32::MAX, i32::MIN, -1, -77];
/// Pairs of registers: all that machines treat in a way of their own (rbpf's r0 and r3 are what x86 divides in, and r4
/// and r5 need a longer encoding), and the same one twice.
const PAIRS: [(u8, u8); 9] = [(0, 1), (1, 0), (3, 0), (0, 3), (3, 4), (4, 3), (5, 9), (8, 2), (3, 3)];
/// Messages of a datagram; with their headers they fit.
const MESSAGES: usize = 28;
/// Arithmetic by the high half of the opcode.
const OPERATIONS: [(u8, &str); 12] = [
    (0x00, "add"),
    (0x10, "sub"),
    (0x20, "mul"),
    (0x30, "div"),
    (0x40, "or"),
    (0x50, "and"),
    (0x60, "lsh"),
    (0x70, "rsh"),
    (0x90, "mod"),
    (0xa0, "xor"),
    (0xb0, "mov"),
    (0xc0, "arsh"),
];
const CONDITIONS: [(u8, &str); 11] = [
    (0x10, "jeq"),
    (0x20, "jgt"),
    (0x30, "jge"),
    (0x40, "jset"),
    (0x50, "jne"),
    (0x60, "jsgt"),
    (0x70, "jsge"),
    (0xa0, "jlt"),
    (0xb0, "jle"),
    (0xc0, "jslt"),
    (0xd0, "jsle"),
];

fn vector(name: impl Into<String>, insns: impl Into<Vec<Insn>>) -> Vector {
    Vector { name: name.into(), insns: insns.into() }
}

fn arithmetic(all: &mut Vec<Vector>) {
    for (operation, name) in OPERATIONS {
        for (class, bits) in [(4, 32), (7, 64)] {
            for (dst, src) in PAIRS {
                let insn = Insn::new(operation | 8 | class, dst, src, 0, 0);
                all.push(vector(format!("{name}{bits} r{dst}, r{src}"), [insn]));
            }
            let shifts = name.contains("sh");
            for (imm, dst) in IMMEDIATES.into_iter().zip([0, 1, 2, 3, 4, 5, 7, 9]) {
                let imm = if shifts { imm & (bits - 1) } else { imm };
                if imm == 0 && matches!(name, "div" | "mod") {
                    continue;
                }
                let insn = Insn::new(operation | class, dst, 0, 0, imm);
                all.push(vector(format!("{name}{bits} r{dst}, {imm}"), [insn]));
            }
        }
    }
    for dst in REGISTERS {
        all.push(vector(format!("neg32 r{dst}"), [Insn::new(0x84, dst, 0, 0, 0)]));
        all.push(vector(format!("neg64 r{dst}"), [Insn::new(0x87, dst, 0, 0, 0)]));
        for bits in [16, 32, 64] {
            all.push(vector(format!("le{bits} r{dst}"), [Insn::new(0xd4, dst, 0, 0, bits)]));
            all.push(vector(format!("be{bits} r{dst}"), [Insn::new(0xdc, dst, 0, 0, bits)]));
        }
        let wide = 0x8765_4321_0fed_cba9_u64.rotate_left(u32::from(dst) * 7);
        let halves = [Insn::new(0x18, dst, 0, 0, wide as i32), Insn::new(0, 0, 0, 0, (wide >> 32) as i32)];
        all.push(vector(format!("lddw r{dst}"), halves));
    }
}

/// Each sort of jump, taken or not: r9 tells, and what stands behind is not run twice.
fn jumps(all: &mut Vec<Vector>) {
    let told = |branch: Insn| [branch, Insn::new(0x07, 9, 0, 0, 1000), Insn::new(0x07, 9, 0, 0, 7)];
    for (condition, name) in CONDITIONS {
        for (class, bits) in [(6, 32), (5, 64)] {
            for (dst, src) in PAIRS {
                let insn = Insn::new(condition | 8 | class, dst, src, 1, 0);
                all.push(vector(format!("{name}{bits} r{dst}, r{src}"), told(insn)));
            }
            for (imm, dst) in IMMEDIATES.into_iter().zip([0, 1, 2, 3, 4, 5, 7, 8]) {
                all.push(vector(
                    format!("{name}{bits} r{dst}, {imm}"),
                    told(Insn::new(condition | class, dst, 0, 1, imm)),
                ));
            }
        }
    }
    // Forward over a wide load, and backward: a loop of at most four turns.
    let over = [
        Insn::new(0x05, 0, 0, 2, 0),
        Insn::new(0x07, 9, 0, 0, 1),
        Insn::new(0x05, 0, 0, 2, 0),
        Insn::new(0x15, 0, 0, -3, -1),
        Insn::new(0xb7, 8, 0, 0, 3),
        Insn::new(0x07, 9, 0, 0, 5),
    ];
    all.push(vector("ja both ways", over));
    let turns = [
        Insn::new(0x57, 2, 0, 0, 3),
        Insn::new(0x07, 9, 0, 0, 11),
        Insn::new(0x07, 2, 0, 0, -1),
        Insn::new(0x75, 2, 0, -3, 0),
    ];
    all.push(vector("a loop", turns));
}

/// Loads and stores of every width, at every place of a stack slot where they are aligned.
fn memory(all: &mut Vec<Vector>) {
    for (size, bytes) in [(0x10, 1), (0x08, 2), (0x00, 4), (0x18, 8)] {
        for at in (0..8).step_by(bytes) {
            let place = at as i16 - STACK as i16 + 8;
            for (dst, base) in [(0, 10), (4, 1), (9, 7), (1, 1)] {
                let mut insns = Vec::new();
                if base != 10 {
                    insns.push(Insn::new(0xbf, base, 10, 0, 0));
                }
                insns.push(Insn::new(0x61 | size, dst, base, place, 0));
                // Nobody gives a pointer away.
                if base != 10 && base != dst {
                    insns.push(Insn::new(0xb7, base, 0, 0, 0));
                }
                all.push(vector(format!("load {bytes} bytes at {at} to r{dst} by r{base}"), insns));
            }
            let look = Insn::new(0x79, 9, 10, 8 - STACK as i16, 0);
            for src in [0, 1, 4, 7] {
                let store = Insn::new(0x63 | size, 10, src, place, 0);
                all.push(vector(format!("store {bytes} bytes of r{src} at {at}"), [store, look]));
            }
            for imm in [-2, 0x1234_5678] {
                let store = Insn::new(0x62 | size, 10, 0, place, imm);
                all.push(vector(format!("store {imm} as {bytes} bytes at {at}"), [store, look]));
            }
            let through = [
                Insn::new(0xbf, 4, 10, 0, 0),
                Insn::new(0x63 | size, 4, 0, place, 0),
                look,
                Insn::new(0xb7, 4, 0, 0, 0),
            ];
            all.push(vector(format!("store {bytes} bytes at {at} by r4"), through));
        }
    }
}

fn table() -> Vec<Vector> {
    let mut all = Vec::new();
    arithmetic(&mut all);
    jumps(&mut all);
    memory(&mut all);
    all
}

/// Random numbers (SplitMix64) by a seed that is printed, and taken from `NAAM_SEED`.
struct Random(u64);

impl Random {
    fn new(test: &str) -> Self {
        let seed = std::env::var("NAAM_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 0x4e41);
        println!("{test}: NAAM_SEED={seed}");
        Self(seed)
    }

    fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.any() % end as u64) as usize
    }

    /// A number for an instruction to work on.
    fn operand(&mut self) -> u64 {
        let number = self.any();
        match self.below(8) {
            0..=2 => AWKWARD[self.below(AWKWARD.len())],
            3 => number & 0xff,
            4 => number & 0xffff_ffff,
            5 => i64::from(number as i32) as u64,
            _ => number,
        }
    }

    fn operands(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.operand()).collect()
    }
}

fn machines(handler: &Admitted) -> [(&'static str, Arc<Program>); 2] {
    [("JIT", Machine::Jit), ("interpreter", Machine::Interpreter)].map(|(name, machine)| {
        (name, Engine::new(machine).load(handler).unwrap_or_else(|error| panic!("{name}: {error}")))
    })
}

/// Sends one message each of `inputs` through the kernel and both machines; a handler that asks for no memory.
fn compare(stage: &Stage, machines: &[(&str, Arc<Program>)], inputs: &[Vec<u64>], room: usize, what: &str) {
    let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let messages = (0..).zip(inputs).map(|(number, input)| Message::new(number, &bytes(input), room)).collect();
    let (_, reply) = stage.judge(&Stage::request(messages), what);
    let memory = Image::new();
    for (input, answer) in inputs.iter().zip(&reply.answers) {
        assert_eq!(answer.status, Status::Ok as u16, "{what} of {input:x?}");
        for (machine, program) in machines {
            let args = bytes(input);
            let request = naam_engine::Request { args: &args, reply_room: room, shard: SHARD };
            let mut run = Run::start(program, &request).expect("it starts");
            let end = run.finish(&memory).expect("no fault");
            assert_eq!(
                (end.status as u16, end.code, end.reply, end.steps),
                (answer.status, answer.code, &answer.reply[..], u32::from(answer.steps)),
                "{what} by the {machine}, of {input:x?}"
            );
        }
    }
}

fn compare_vectors(vectors: &[Vector], random: &mut Random) {
    for (vectors, handler) in vectors::handlers(vectors) {
        let stage = Stage::new(Hook::Xdp, true, &handler);
        let machines = machines(&handler);
        for (number, vector) in (0..).zip(vectors) {
            for _ in 0..2 {
                let input = |_| [random.operands(ARGS - 1), vec![number]].concat();
                let inputs: Vec<Vec<u64>> = (0..MESSAGES).map(input).collect();
                compare(&stage, &machines, &inputs, ARGS * 8, &vector.name);
            }
        }
    }
}

/// Every instruction by itself.
#[test]
fn every_instruction_is_the_kernels() {
    let table = table();
    assert!(table.len() > 800, "{} vectors", table.len());
    compare_vectors(&table, &mut Random::new("every_instruction_is_the_kernels"));
}

/// Instructions one after another, as they are found in handlers.
#[test]
fn random_sequences_are_the_kernels() {
    let table = table();
    let mut random = Random::new("random_sequences_are_the_kernels");
    let sequences: Vec<Vector> = (0..160)
        .map(|_| {
            let picked: Vec<&Vector> = (0..2 + random.below(12)).map(|_| &table[random.below(table.len())]).collect();
            let names: Vec<&str> = picked.iter().map(|vector| vector.name.as_str()).collect();
            vector(names.join("; "), picked.iter().flat_map(|vector| vector.insns.clone()).collect::<Vec<_>>())
        })
        .collect();
    compare_vectors(&sequences, &mut random);
}

/// Functions that call functions: frames stay apart, r6 to r9 come back.
#[test]
fn local_calls_are_the_kernels() {
    let handler = handlers::handler("calls");
    assert!(handler.functions().len() >= 4, "clang has kept the functions apart");
    let stage = Stage::new(Hook::Xdp, true, &handler);
    let machines = machines(&handler);
    let mut random = Random::new("local_calls_are_the_kernels");
    for _ in 0..40 {
        let inputs: Vec<Vec<u64>> = (0..MESSAGES).map(|_| random.operands(5)).collect();
        compare(&stage, &machines, &inputs, 64, "calls");
    }
}

/// What came after cpu v3 is refused before any machine sees it, so there is nothing to compare.
#[test]
fn what_the_engine_cannot_know_is_not_admitted() {
    let exit = Insn::new(0x95, 0, 0, 0, 0);
    let zero = Insn::new(0xb7, 0, 0, 0, 0);
    let newer = [
        ("a sign-extending load", Insn::new(0x81, 0, 10, -8, 0), Rule::NewerInstruction),
        ("a sign-extending move", Insn::new(0xbf, 0, 0, 8, 0), Rule::NewerInstruction),
        ("a signed division", Insn::new(0x37, 0, 0, 1, 3), Rule::NewerInstruction),
        ("an unconditional swap", Insn::new(0xd7, 0, 0, 0, 32), Rule::NewerInstruction),
        ("a long jump", Insn::new(0x06, 0, 0, 0, 0), Rule::NewerInstruction),
        ("an atomic addition", Insn::new(0xdb, 10, 0, -8, 0), Rule::AtomicInstruction),
    ];
    for (what, insn, rule) in newer {
        let store = Insn::new(0x7b, 10, 0, -8, 0);
        let refusal = vectors::handler(&[zero, store, insn, zero, exit]).expect_err(what);
        assert_eq!(refusal.rule, rule, "{what}: {refusal}");
    }
}
