//! Programs: loaded from an instruction stream, and what the kernel reports of them.

use std::ffi::{CString, c_char};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use libbpf_sys as bpf;
use thiserror::Error;

use crate::error::check;
use crate::kind::Kind;
use crate::{Btf, Errno, Operation, SysError, pin};

/// One instruction word, as in an ELF section on a little-endian machine.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Insn {
    /// Opcode.
    pub code: u8,
    /// Destination register in the low half, source in the high half.
    pub registers: u8,
    /// Jump or memory offset.
    pub off: i16,
    /// Immediate.
    pub imm: i32,
}

impl Insn {
    /// Builds an instruction from its parts; registers are 0..=10.
    pub const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        Self { code, registers: src << 4 | dst & 0xf, off, imm }
    }

    /// Reads an instruction from the bytes of an ELF section.
    pub const fn from_bytes(b: [u8; 8]) -> Self {
        Self {
            code: b[0],
            registers: b[1],
            off: i16::from_le_bytes([b[2], b[3]]),
            imm: i32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        }
    }

    /// The bytes in an ELF section.
    pub const fn to_bytes(self) -> [u8; 8] {
        let (off, imm) = (self.off.to_le_bytes(), self.imm.to_le_bytes());
        [self.code, self.registers, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]
    }

    /// Destination register.
    pub const fn dst(self) -> u8 {
        self.registers & 0xf
    }

    /// Source register.
    pub const fn src(self) -> u8 {
        self.registers >> 4
    }
}

/// Kinds of programs that NAAM loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ProgramType {
    /// Classic socket filter: what an unprivileged probe may load.
    SocketFilter = bpf::BPF_PROG_TYPE_SOCKET_FILTER,
    /// TC classifier.
    SchedCls = bpf::BPF_PROG_TYPE_SCHED_CLS,
    /// XDP.
    Xdp = bpf::BPF_PROG_TYPE_XDP,
}

/// A function's place and BTF type: `struct bpf_func_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncInfo {
    /// First instruction.
    pub insn_off: u32,
    /// BTF type number of the FUNC.
    pub type_id: u32,
}

/// An instruction's place in the source: `struct bpf_line_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// Instruction.
    pub insn_off: u32,
    /// File name, as an offset in the BTF's strings.
    pub file_name_off: u32,
    /// Text of the line, as an offset in the BTF's strings.
    pub line_off: u32,
    /// Line number in the high 22 bits, column in the low 10.
    pub line_col: u32,
}

/// How much the verifier shall say about a program that it *accepts*. Of one that it refuses it
/// always shows at least the path that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Log {
    /// Nothing. The fastest.
    #[default]
    Off,
    /// Counts: instructions processed, states, stack depth. Kernel 5.2.
    Stats,
    /// Every instruction on every path, and the counts. Slow, and megabytes for large programs.
    Trace,
}

impl Log {
    fn level(self) -> u32 {
        match self {
            Self::Off => 0,
            Self::Stats => 4,
            Self::Trace => 2 | 4,
        }
    }
}

/// What is to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct ProgramSpec<'a> {
    /// The kind.
    pub program_type: ProgramType,
    /// Name shown by bpftool; the kernel keeps 15 bytes.
    pub name: &'a str,
    /// Licence; `GPL`-compatible ones may call more helpers.
    pub license: &'a str,
    /// The instructions; map references hold descriptors already.
    pub insns: &'a [Insn],
    /// BTF that the two infos refer to.
    pub btf: Option<&'a Btf>,
    /// Functions, in ascending order, the first at 0.
    pub func_info: &'a [FuncInfo],
    /// Lines, in ascending order without repetition.
    pub line_info: &'a [LineInfo],
    /// Where it will be attached, for types that want to know (`BPF_XDP`, `BPF_TCX_INGRESS`); 0 otherwise.
    pub expected_attach_type: u32,
    /// `BPF_F_*` flags of the load.
    pub flags: u32,
    /// What the verifier shall say on success.
    pub log: Log,
}

impl<'a> ProgramSpec<'a> {
    /// A program of these instructions, with nothing optional.
    pub fn new(program_type: ProgramType, name: &'a str, insns: &'a [Insn]) -> Self {
        Self {
            program_type,
            name,
            license: "Dual MIT/GPL",
            insns,
            btf: None,
            func_info: &[],
            line_info: &[],
            expected_attach_type: 0,
            flags: 0,
            log: Log::Off,
        }
    }
}

/// A program that the kernel has accepted, and what it said.
#[derive(Debug)]
pub struct Loaded {
    /// The program.
    pub program: Program,
    /// The verifier's log; empty under [`Log::Off`].
    pub log: String,
    /// Instructions that the verifier walked through on all paths. 0 before kernel 5.16.
    pub verified_insns: u32,
}

/// A program or BTF that the kernel has refused, and what it said.
#[derive(Clone, Debug, Error)]
#[error("{error}{}", last_lines(.log))]
pub struct LoadError {
    /// Operation, object, errno.
    #[source]
    pub error: SysError,
    /// The kernel's log: its end, where it was longer than [`LOG_BYTES_MAX`].
    pub log: String,
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].iter().map(|line| format!("\n  kernel: {line}")).collect()
}

/// First size of the log buffer.
const LOG_BYTES: usize = 256 << 10;
/// Last size of the log buffer.
pub const LOG_BYTES_MAX: usize = 64 << 20;

/// A program that this process has open.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

impl Program {
    /// Has the kernel verify and compile a program.
    pub fn load(spec: &ProgramSpec<'_>) -> Result<Loaded, LoadError> {
        let mut log_bytes = LOG_BYTES;
        loop {
            let mut log = vec![0u8; log_bytes];
            match load_once(spec, &mut log) {
                Ok(fd) => {
                    let program = Self { fd };
                    let verified_insns =
                        program.info().map_err(|error| LoadError { error, log: String::new() })?.verified_insns;
                    return Ok(Loaded { program, log: log_text(&log), verified_insns });
                }
                // The log did not fit: the kernel then fails even a program that it accepts.
                Err(Errno::NOSPC) if log_bytes < LOG_BYTES_MAX => log_bytes *= 4,
                Err(errno) => {
                    let object =
                        format!("program `{}` ({:?}, {} instructions)", spec.name, spec.program_type, spec.insns.len());
                    let error = SysError::new(Operation::LoadProgram, object, errno);
                    return Err(LoadError { error, log: log_text(&log) });
                }
            }
        }
    }

    /// Takes over a program's descriptor, such as a duplicate of one that aya holds.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SysError> {
        Kind::Program.require(fd.as_fd(), &format!("program on descriptor {}", fd.as_raw_fd()))?;
        Ok(Self { fd })
    }

    /// Opens a pinned program.
    pub fn open_pinned(path: &Path) -> Result<Self, SysError> {
        let fd = pin::open(path)?;
        Kind::Program.require(fd.as_fd(), &path.display().to_string())?;
        Ok(Self { fd })
    }

    /// Pins the program; refuses a path that exists.
    pub fn pin(&self, path: &Path) -> Result<(), SysError> {
        pin::pin(self.as_fd(), path)
    }

    /// Pins the program in place of what stands at `path`, at one instant.
    pub fn pin_replacing(&self, path: &Path) -> Result<(), SysError> {
        pin::pin_replacing(self.as_fd(), path)
    }

    /// What the kernel knows of the program now.
    pub fn info(&self) -> Result<ProgramInfo, SysError> {
        let mut raw = self.query(&mut [])?;
        let mut map_ids = vec![0; raw.nr_map_ids as usize];
        if !map_ids.is_empty() {
            raw = self.query(&mut map_ids)?;
        }
        Ok(ProgramInfo {
            id: raw.id,
            name: name_text(&raw.name),
            raw_type: raw.type_,
            tag: raw.tag,
            jited_bytes: raw.jited_prog_len,
            translated_bytes: raw.xlated_prog_len,
            loaded_at: Duration::from_nanos(raw.load_time),
            map_ids,
            btf_id: raw.btf_id,
            runs: raw.run_cnt,
            run_time: Duration::from_nanos(raw.run_time_ns),
            recursion_misses: raw.recursion_misses,
            verified_insns: raw.verified_insns,
        })
    }

    fn query(&self, map_ids: &mut [u32]) -> Result<bpf::bpf_prog_info, SysError> {
        let mut raw = bpf::bpf_prog_info {
            nr_map_ids: map_ids.len() as u32,
            map_ids: if map_ids.is_empty() { 0 } else { map_ids.as_mut_ptr() as u64 },
            ..Default::default()
        };
        let mut len = size_of::<bpf::bpf_prog_info>() as u32;
        // SAFETY: `raw` is initialised, `len` is its size, and the only array it points to is
        // `map_ids`, with its length; the descriptor is a program's.
        let returned = unsafe { bpf::bpf_prog_get_info_by_fd(self.fd.as_raw_fd(), &mut raw, &mut len) };
        check(returned).map_err(|errno| {
            SysError::new(Operation::Info, format!("program on descriptor {}", self.fd.as_raw_fd()), errno)
        })?;
        Ok(raw)
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn load_once(spec: &ProgramSpec<'_>, log: &mut [u8]) -> Result<OwnedFd, Errno> {
    let name = CString::new(spec.name).map_err(|_| Errno::INVAL)?;
    let license = CString::new(spec.license).map_err(|_| Errno::INVAL)?;
    // With level 0 and a buffer, libbpf loads without a log first and asks for it only on failure.
    let mut opts = bpf::bpf_prog_load_opts {
        sz: size_of::<bpf::bpf_prog_load_opts>() as _,
        expected_attach_type: spec.expected_attach_type,
        prog_flags: spec.flags,
        log_level: spec.log.level(),
        log_size: log.len() as u32,
        log_buf: log.as_mut_ptr().cast(),
        ..Default::default()
    };
    if let Some(btf) = spec.btf {
        opts.prog_btf_fd = btf.as_fd().as_raw_fd() as u32;
        opts.func_info = spec.func_info.as_ptr().cast();
        opts.func_info_cnt = spec.func_info.len() as u32;
        opts.func_info_rec_size = size_of::<FuncInfo>() as u32;
        opts.line_info = spec.line_info.as_ptr().cast();
        opts.line_info_cnt = spec.line_info.len() as u32;
        opts.line_info_rec_size = size_of::<LineInfo>() as u32;
    }
    // SAFETY: strings, instructions (same layout as `struct bpf_insn`), infos and log outlive the
    // call and are as long as stated; `opts` is fully initialised, with its size.
    let returned = unsafe {
        bpf::bpf_prog_load(
            spec.program_type as u32,
            name.as_ptr(),
            license.as_ptr(),
            spec.insns.as_ptr().cast(),
            spec.insns.len() as _,
            &mut opts,
        )
    };
    // SAFETY: the call returned a new descriptor that nobody else owns.
    check(returned).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel reports of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// The kernel's number of this program.
    pub id: u32,
    /// Its name, up to 15 bytes.
    pub name: String,
    /// The kind, as the kernel numbers it.
    pub raw_type: u32,
    /// Hash of the instructions, as bpftool shows it.
    pub tag: [u8; 8],
    /// Bytes of machine code; 0 without the JIT.
    pub jited_bytes: u32,
    /// Bytes of instructions after the verifier's changes.
    pub translated_bytes: u32,
    /// Time of the load since boot.
    pub loaded_at: Duration,
    /// Maps in use, by the kernel's numbers.
    pub map_ids: Vec<u32>,
    /// The kernel's number of its BTF; 0 without.
    pub btf_id: u32,
    /// Runs, while [`enable_statistics`] held.
    pub runs: u64,
    /// Time of those runs.
    pub run_time: Duration,
    /// Runs skipped because the program was running on that CPU already.
    pub recursion_misses: u64,
    /// Instructions that the verifier walked through. 0 before kernel 5.16.
    pub verified_insns: u32,
}

impl ProgramInfo {
    /// The tag as bpftool writes it.
    pub fn tag_text(&self) -> String {
        self.tag.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// While this lives, the kernel counts runs and run time of every program (some 85 ns a run).
#[derive(Debug)]
pub struct Statistics {
    _fd: OwnedFd,
}

/// Switches run statistics on. Kernel 5.8; needs CAP_SYS_ADMIN.
pub fn enable_statistics() -> Result<Statistics, SysError> {
    // SAFETY: no memory is passed.
    let returned = unsafe { bpf::bpf_enable_stats(bpf::BPF_STATS_RUN_TIME) };
    let fd = check(returned).map_err(|errno| {
        SysError::new(Operation::EnableStats, "run statistics", errno)
            .with_hint("needs CAP_SYS_ADMIN, or `sysctl kernel.bpf_stats_enabled=1` by an administrator")
    })?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(Statistics { _fd: unsafe { OwnedFd::from_raw_fd(fd) } })
}

pub(crate) fn log_text(log: &[u8]) -> String {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[..end]).into_owned()
}

pub(crate) fn name_text(name: &[c_char; 16]) -> String {
    log_text(&name.map(|byte| byte as u8))
}

const _: () = {
    assert!(size_of::<Insn>() == size_of::<bpf::bpf_insn>());
    assert!(size_of::<FuncInfo>() == size_of::<bpf::bpf_func_info>());
    assert!(size_of::<LineInfo>() == size_of::<bpf::bpf_line_info>());
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_bytes_round_trip() {
        let bytes = [0xb7, 0x21, 0xfe, 0xff, 4, 3, 2, 1];
        let insn = Insn::from_bytes(bytes);
        assert_eq!((insn.dst(), insn.src(), insn.off, insn.imm), (1, 2, -2, 0x0102_0304));
        assert_eq!(insn.to_bytes(), bytes);
        assert_eq!(Insn::new(0xb7, 1, 2, -2, 0x0102_0304), insn);
    }

    #[test]
    fn load_error_shows_the_end_of_the_log() {
        let error = SysError::new(Operation::LoadProgram, "program `p`", Errno::ACCES);
        let log = "one\ntwo\nR0 !read_ok\nprocessed 1 insns\n\n".to_owned();
        let text = LoadError { error, log }.to_string();
        assert!(text.contains("R0 !read_ok") && text.contains("program `p`") && !text.contains("one"), "{text}");
    }
}
