//! What NAAM relies on in the kernel, each fact by the smallest program that shows it. The pages of `kernel-notes/`
//! name these tests; when a kernel fails one, its page is wrong for that kernel.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use naam_sys::map::READ_ONLY_FOR_PROGRAMS;
use naam_sys::program::{FuncInfo, LineInfo};
use naam_sys::{
    Btf, Errno, Insn, LoadError, Map, MapSpec, MapType, Program, ProgramSpec, ProgramType, RunInput, Update,
};
use naam_testbed::Pins;

const FRAME: [u8; 64] = [0; 64];
const EXIT: Insn = Insn::new(0x95, 0, 0, 0, 0);
/// `enum bpf_attach_type`: XDP.
const BPF_XDP: u32 = 37;

const fn set(register: u8, value: i32) -> Insn {
    Insn::new(0xb7, register, 0, 0, value)
}

const fn copy(to: u8, from: u8) -> Insn {
    Insn::new(0xbf, to, from, 0, 0)
}

/// `register = map`, or with `kind` 2 the address of the map's first value.
fn map_in(register: u8, kind: u8, map: &Map) -> [Insn; 2] {
    [Insn::new(0x18, register, kind, 0, map.as_fd().as_raw_fd()), Insn::default()]
}

fn map(map_type: MapType, value_size: u32, max_entries: u32, flags: u32) -> Map {
    create(map_type, value_size, max_entries, flags).unwrap_or_else(|error| panic!("{error}"))
}

fn create(map_type: MapType, value_size: u32, max_entries: u32, flags: u32) -> Result<Map, naam_sys::SysError> {
    Map::create(&MapSpec { name: "naam_fact", map_type, key_size: 4, value_size, max_entries, flags, btf: None })
}

fn try_load(insns: &[Insn]) -> Result<Program, LoadError> {
    Program::load(&ProgramSpec::new(ProgramType::Xdp, "naam_fact", insns)).map(|loaded| loaded.program)
}

fn load(insns: &[Insn]) -> Program {
    try_load(insns).unwrap_or_else(|error| panic!("{error}\n{}", error.log))
}

fn verdict(program: &Program) -> u32 {
    program.test_run(&RunInput { data: &FRAME, ..RunInput::default() }).expect("test run").retval
}

/// Under the capabilities that the shell needs the verifier lets a kernel address out, and old stack in.
#[test]
fn privileged_programs_may_leak_pointers_and_read_old_stack() {
    let values = map(MapType::Array, 8, 1, 0);
    let mut leak = Vec::from(map_in(2, 2, &values));
    // *(u64 *)value = context; return 2
    leak.extend([Insn::new(0x7b, 2, 1, 0, 0), set(0, 2), EXIT]);
    assert_eq!(verdict(&load(&leak)), 2);
    let word = values.lookup(&[0; 4]).unwrap().unwrap();
    let address = u64::from_ne_bytes(word.try_into().unwrap());
    assert_eq!(address >> 63, 1, "{address:#x} is an address of the kernel's half");
    // return *(u64 *)(r10 - 8)
    load(&[Insn::new(0x79, 0, 10, -8, 0), EXIT]);
}

/// Constants of a map that neither program nor user can write are constants to the verifier: a
/// branch that they rule out is not even looked at.
#[test]
fn constants_of_a_frozen_map_rule_out_branches() {
    let outcome = |flags, freeze: bool| {
        let constants = map(MapType::Array, 8, 1, flags);
        constants.update(&[0; 4], &[0; 8], Update::Any).unwrap();
        if freeze {
            constants.freeze().unwrap();
        }
        let mut insns = Vec::from(map_in(1, 2, &constants));
        // if constant != 0 { r0 = r7, which nobody has set }
        insns.extend([Insn::new(0x79, 1, 1, 0, 0), set(0, 2), Insn::new(0x15, 1, 0, 1, 0), copy(0, 7), EXIT]);
        try_load(&insns)
    };
    assert_eq!(verdict(&outcome(READ_ONLY_FOR_PROGRAMS, true).expect("accepted")), 2);
    for (flags, freeze) in [(READ_ONLY_FOR_PROGRAMS, false), (0, true), (0, false)] {
        let error = outcome(flags, freeze).expect_err("refused");
        assert!(error.log.contains("R7 !read_ok"), "{}", error.log);
    }
}

#[test]
fn per_cpu_values_end_at_32_kib() {
    create(MapType::PerCpuArray, 32 << 10, 1, 0).expect("32 KiB");
    assert_eq!(create(MapType::PerCpuArray, (32 << 10) + 8, 1, 0).unwrap_err().errno, Errno::TOO_BIG);
    create(MapType::Array, 256 << 10, 1, 0).expect("a plain array has no such limit");
}

#[test]
fn pins_have_no_dots() {
    let values = map(MapType::Array, 8, 1, 0);
    let pins = Pins::new().unwrap();
    assert_eq!(values.pin(&pins.path().join("eth0.7")).unwrap_err().errno, Errno::PERM);
    values.pin(&pins.path().join("eth0:7")).expect("a colon will do");
}

/// Returns what the program in place 0 of `programs` returns, or 1 if there is none.
fn tail_caller(programs: &Map) -> Program {
    let mut insns = Vec::from(map_in(2, 1, programs));
    insns.extend([set(3, 0), Insn::new(0x85, 0, 0, 0, 12), set(0, 1), EXIT]);
    load(&insns)
}

/// A program array refers to its programs, but a program that refers to the array does not keep
/// them: they go with the array's last descriptor or pin.
#[test]
fn program_arrays_are_emptied_with_their_last_user() {
    let programs = map(MapType::ProgArray, 4, 1, 0);
    let caller = tail_caller(&programs);
    assert_eq!(verdict(&caller), 1);
    programs.update_fd(0, load(&[set(0, 2), EXIT]).as_fd()).unwrap();
    assert_eq!(verdict(&caller), 2);
    let pins = Pins::new().unwrap();
    programs.pin(&pins.path().join("programs")).unwrap();
    drop(programs);
    assert_eq!(verdict(&caller), 2, "the pin is a user");
    drop(pins);
    let deadline = Instant::now() + Duration::from_secs(5);
    // The kernel's work queue empties it.
    while verdict(&caller) != 1 {
        assert!(Instant::now() < deadline, "still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The first program that uses a program array makes its kind the array's kind; the attach type is
/// part of it on kernels with commit 4540aed51b12.
#[test]
fn program_arrays_take_one_kind_of_program() {
    let insns = [set(0, 2), EXIT];
    let load_as = |program_type, expected_attach_type| {
        let spec = ProgramSpec { expected_attach_type, ..ProgramSpec::new(program_type, "naam_fact", &insns) };
        Program::load(&spec).expect("load").program
    };
    let programs = map(MapType::ProgArray, 4, 2, 0);
    programs.update_fd(0, load_as(ProgramType::Xdp, BPF_XDP).as_fd()).unwrap();
    programs.update_fd(1, load_as(ProgramType::Xdp, BPF_XDP).as_fd()).expect("the same kind");
    let classifier = programs.update_fd(1, load_as(ProgramType::SchedCls, 0).as_fd());
    assert_eq!(classifier.unwrap_err().errno, Errno::INVAL);
    match programs.update_fd(1, load_as(ProgramType::Xdp, 0).as_fd()) {
        Err(error) => assert_eq!(error.errno, Errno::INVAL),
        Ok(()) => {
            let version = naam_sys::features::kernel_version().expect("a version");
            assert!(version < naam_sys::features::KernelVersion::new(6, 18, 0), "{version} mixes attach types");
            println!("SKIPPED program_arrays_take_one_kind_of_program: {version} does not compare attach types");
        }
    }
}

/// `repeat` runs a program again on what the run before left.
#[test]
fn test_runs_do_not_put_the_frame_back() {
    // if data + 14 <= data_end { data[0] += 1 } return 2
    let insns = [
        Insn::new(0x61, 2, 1, 0, 0),
        Insn::new(0x61, 3, 1, 4, 0),
        copy(4, 2),
        Insn::new(0x07, 4, 0, 0, 14),
        Insn::new(0x2d, 4, 3, 3, 0),
        Insn::new(0x71, 5, 2, 0, 0),
        Insn::new(0x07, 5, 0, 0, 1),
        Insn::new(0x73, 2, 5, 0, 0),
        set(0, 2),
        EXIT,
    ];
    let input = RunInput { data: &FRAME, data_out_max: 64, repeat: 5, ..RunInput::default() };
    assert_eq!(load(&insns).test_run(&input).unwrap().data[0], 5);
}

/// BTF of `static|global u32 reader(struct view *v)`, whose view has 64 bytes, and of a `main`.
/// FUNC `main` is number 6, `reader` 7.
fn reader_btf(linkage: u32) -> Vec<u8> {
    const STRINGS: &[u8] = b"\0int\0view\0v\0main\0reader\0";
    let (int, view, v, main, reader) = (1, 5, 10, 12, 17);
    let kind = |number: u32, low: u32| number << 24 | low;
    let types: Vec<u32> = [
        vec![int, kind(1, 0), 4, 32],       // 1: INT, 32 bits
        vec![view, kind(4, 0), 64],         // 2: STRUCT view, 64 bytes
        vec![0, kind(2, 0), 2],             // 3: PTR to it
        vec![0, kind(13, 0), 1],            // 4: u32 (void)
        vec![0, kind(13, 1), 1, v, 3],      // 5: u32 (struct view *v)
        vec![main, kind(12, 0), 4],         // 6: FUNC main, static
        vec![reader, kind(12, linkage), 5], // 7: FUNC reader
    ]
    .concat();
    let length = types.len() as u32 * 4;
    let header = [0x0001_eb9f, 24, 0, length, length, STRINGS.len() as u32];
    let words = header.into_iter().chain(types).flat_map(u32::to_le_bytes);
    words.chain(STRINGS.iter().copied()).collect()
}

/// A static function is verified with what its callers pass; a global one with its prototype alone.
/// So a handler that reads behind its view passes as a static function.
#[test]
fn only_global_functions_are_held_to_their_prototype() {
    const READS_AT: i16 = 64;
    // main: return reader(r10 - 128). reader: if v == 0 { return 0 } return *(u32 *)(v + 64)
    let insns = [
        copy(1, 10),
        Insn::new(0x07, 1, 0, 0, -128),
        Insn::new(0x85, 0, 1, 0, 1),
        EXIT,
        set(0, 0),
        Insn::new(0x15, 1, 0, 1, 0),
        Insn::new(0x61, 0, 1, READS_AT, 0),
        EXIT,
    ];
    let outcome = |linkage| {
        let btf = Btf::load(&reader_btf(linkage)).unwrap_or_else(|error| panic!("{error}\n{}", error.log));
        let functions = [FuncInfo { insn_off: 0, type_id: 6 }, FuncInfo { insn_off: 4, type_id: 7 }];
        let spec = ProgramSpec::new(ProgramType::Xdp, "naam_fact", &insns);
        Program::load(&ProgramSpec { btf: Some(&btf), func_info: &functions, ..spec })
    };
    const STATIC: u32 = 0;
    const GLOBAL: u32 = 1;
    outcome(STATIC).unwrap_or_else(|error| panic!("{error}\n{}", error.log));
    let error = outcome(GLOBAL).expect_err("refused");
    assert!(error.log.contains("mem_size=64"), "{}", error.log);
}

/// Two line entries for one instruction, which an empty inline assembly makes of LLVM, are refused.
#[test]
fn lines_ascend_strictly() {
    let insns = [set(0, 2), set(0, 2), EXIT];
    let btf = Btf::load(&reader_btf(0)).unwrap_or_else(|error| panic!("{error}\n{}", error.log));
    let outcome = |offsets: [u32; 2]| {
        let lines = offsets.map(|insn_off| LineInfo { insn_off, file_name_off: 1, line_off: 1, line_col: 1 << 10 });
        let functions = [FuncInfo { insn_off: 0, type_id: 6 }];
        let spec = ProgramSpec::new(ProgramType::Xdp, "naam_fact", &insns);
        Program::load(&ProgramSpec { btf: Some(&btf), func_info: &functions, line_info: &lines, ..spec })
    };
    outcome([0, 1]).unwrap_or_else(|error| panic!("{error}\n{}", error.log));
    let error = outcome([0, 0]).expect_err("refused");
    assert!(error.log.contains("Invalid line_info[1].insn_off"), "{}", error.log);
}
