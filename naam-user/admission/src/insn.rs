//! One BPF instruction as its eight bytes.

use std::fmt;

/// One 8-byte BPF instruction slot, little-endian: opcode, registers, offset, immediate.
///
/// A 64-bit immediate load takes two slots.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Insn([u8; 8]);

impl Insn {
    /// An instruction from its parts; registers are 4-bit numbers.
    pub const fn new(opcode: u8, dst: u8, src: u8, offset: i16, imm: i32) -> Self {
        let (o, i) = (offset.to_le_bytes(), imm.to_le_bytes());
        Self([opcode, (dst & 15) | (src << 4), o[0], o[1], i[0], i[1], i[2], i[3]])
    }

    /// The instruction that stands in these bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The eight bytes, as the kernel takes them.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// Operation, class and mode.
    pub const fn opcode(self) -> u8 {
        self.0[0]
    }

    /// Destination register.
    pub const fn dst(self) -> u8 {
        self.0[1] & 15
    }

    /// Source register, or the pseudo kind of a call or 64-bit load.
    pub const fn src(self) -> u8 {
        self.0[1] >> 4
    }

    /// Offset of a jump in instructions, or of a memory access in bytes.
    pub const fn offset(self) -> i16 {
        i16::from_le_bytes([self.0[2], self.0[3]])
    }

    /// The immediate; a call's pc-relative target.
    pub const fn imm(self) -> i32 {
        i32::from_le_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// The same instruction with another immediate.
    #[must_use]
    pub const fn with_imm(self, imm: i32) -> Self {
        Self::new(self.opcode(), self.dst(), self.src(), self.offset(), imm)
    }

    /// Whether this is the first slot of a 64-bit immediate load.
    pub const fn is_wide(self) -> bool {
        self.opcode() == 0x18
    }

    /// Whether this calls a function of the same program.
    pub const fn is_local_call(self) -> bool {
        self.opcode() == 0x85 && self.src() == 1
    }
}

impl fmt::Debug for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dst, src) = (self.dst(), self.src());
        write!(f, "Insn({:#04x} r{dst} r{src} off {} imm {})", self.opcode(), self.offset(), self.imm())
    }
}

/// The bytes of a program, as the kernel and userspace engines take them.
pub fn to_bytes(insns: &[Insn]) -> Vec<u8> {
    insns.iter().flat_map(|insn| insn.to_bytes()).collect()
}
