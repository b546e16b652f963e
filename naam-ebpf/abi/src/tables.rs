//! Values of the maps through which the daemon tells the shell what to do.
//!
//! Every entry that changes under traffic is one 64-bit word, or is written before the word that
//! publishes it; the shell reads such words once.

use crate::limits::{INTERFACES_MAX, REGIONS_MAX, SLOT_REPLY_BYTES};

/// Map `APPS`, by app: one tenant.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AppEntry {
    /// Zero: no such app. Otherwise [`APP_SERVING`] and option bits.
    pub flags: u32,
    /// Regions bound into the app's programs.
    pub regions: u32,
    /// Key of the tag: public, or the app's.
    pub key: crate::siphash::Key,
    /// Reserved, zero.
    pub reserved: [u64; 5],
}

/// The app exists and is served.
pub const APP_SERVING: u32 = 1;
/// Tags are computed and checked. Clear only for `integrity = off`.
pub const APP_TAG: u32 = 2;
/// Time in handler programs is measured (two clock reads a datagram).
pub const APP_TIMED: u32 = 4;

/// Map `FUNCTIONS`, by `app * FUNCTIONS_MAX + function`. Both words are [`ProgramRef`]s.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FunctionEntry {
    /// The version that serves messages naming it, or naming version 0.
    pub current: u64,
    /// The version before, served to messages naming it while it drains. Zero: drained.
    pub draining: u64,
}

/// One loaded handler version, packed into a word so that it is seen whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramRef {
    /// Handler version, 1..=65535; zero means "none".
    pub version: u16,
    /// Index in the program array.
    pub program: u32,
}

impl ProgramRef {
    /// The word that stands in a [`FunctionEntry`].
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        (self.version as u64) << 32 | self.program as u64
    }

    /// Reads a word of a [`FunctionEntry`].
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { version: (word >> 32) as u16, program: word as u32 }
    }
}

/// Where a shard's messages run.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Site {
    /// The kernel of the host that owns the memory.
    #[default]
    Host = 0,
    /// The kernel of a SmartNIC on the path.
    Dpu = 1,
    /// The client's engine.
    Client = 2,
}

/// Map `STEER`, by `app * SHARDS_MAX + shard`: one word, so that a move is one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SteerEntry {
    /// Grows with every move of the shard.
    pub epoch: u32,
    /// Where the shard's messages run.
    pub site: u8,
    /// Milliseconds for which a client may rely on this placement.
    pub lease_ms: u16,
}

impl SteerEntry {
    /// The map's value.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        (self.epoch as u64) << 32 | (self.lease_ms as u64) << 8 | self.site as u64
    }

    /// Reads the map's value.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { epoch: (word >> 32) as u32, lease_ms: (word >> 8) as u16, site: word as u8 }
    }
}

/// Map `INTERFACES`: the Ethernet address of an interface served at XDP, where no kernel has looked
/// at it yet. Zero: not known, every frame is taken. Several interfaces may have one place: the word
/// tells whose it is, and the others are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceWord(pub u64);

impl InterfaceWord {
    const SET: u64 = 1 << 63;
    const ADDRESS: u64 = (1 << 48) - 1;

    /// The word of an interface.
    pub const fn new(index: u32, address: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = address;
        Self(Self::owner(index) << 48 | u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// Where the word of an interface stands in the map.
    #[inline(always)]
    pub const fn place(index: u32) -> u32 {
        index % INTERFACES_MAX as u32
    }

    /// Whether a frame that begins with these 8 bytes, as the machine loads them, is for the interface
    /// that it came by.
    #[inline(always)]
    pub const fn takes(self, index: u32, frame: u64) -> bool {
        self.0 >> 48 != Self::owner(index) || (self.0 ^ u64::from_le(frame)) & Self::ADDRESS == 0
    }

    /// The upper 16 bits: set, and the part of the index that the place does not tell.
    #[inline(always)]
    const fn owner(index: u32) -> u64 {
        (Self::SET >> 48) | (index as u64 / INTERFACES_MAX as u64) & 0x7fff
    }
}

/// Right to READ.
pub const RIGHT_READ: u8 = 1;
/// Right to WRITE.
pub const RIGHT_WRITE: u8 = 2;
/// Right to CAS and FAA.
pub const RIGHT_ATOMIC: u8 = 4;
/// All rights.
pub const RIGHT_ALL: u8 = RIGHT_READ | RIGHT_WRITE | RIGHT_ATOMIC;

/// Map `SESSIONS`, by `session % SESSIONS_MAX`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SessionEntry {
    /// The session's whole number; its high bits tell apart the uses of one entry. Zero: none.
    pub session: u32,
    /// The app it belongs to.
    pub app: u32,
    /// Rights by region, through handlers.
    pub handler_rights: [u8; REGIONS_MAX],
    /// Rights by region, through built-in one-sided functions. Zero unless granted.
    pub raw_rights: [u8; REGIONS_MAX],
    /// Key of the tag under `auth = session`.
    pub key: crate::siphash::Key,
    /// Reserved, zero.
    pub reserved: [u64; 2],
    /// The number of the entry's last session. Stays when that session ends, so that a restarted
    /// daemon gives out no number twice.
    pub last: u64,
}

/// Map `SLOTS`, by `(session % SESSIONS_MAX) * SLOTS_MAX + slot`: the memory that makes a writing
/// message run exactly once.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotEntry {
    /// [`SlotWord`]: claimed by compare-and-swap.
    pub word: u64,
    /// The finished message's `code`.
    pub code: u32,
    /// The finished message's status.
    pub status: u16,
    /// Bytes of the cached reply.
    pub reply_len: u16,
    /// The cached reply.
    pub reply: [u64; SLOT_REPLY_BYTES / 8],
}

/// A slot's progress.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotPhase {
    /// Nothing ran under this sequence.
    Idle = 0,
    /// A CPU is running the message.
    Running = 1,
    /// The message has run; the reply is cached.
    Done = 2,
    /// The message was begun and given back without effect: it may be sent again, older ones not.
    Released = 3,
}

/// The first word of a [`SlotEntry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotWord {
    /// The message's sequence number within the slot.
    pub sequence: u32,
    /// High bits of the session, so that a new session finds its slots idle.
    pub generation: u16,
    /// [`SlotPhase`].
    pub phase: u8,
}

impl SlotWord {
    /// The word in the map.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        (self.sequence as u64) << 32 | (self.generation as u64) << 8 | self.phase as u64
    }

    /// Reads the word in the map.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { sequence: (word >> 32) as u32, generation: (word >> 8) as u16, phase: word as u8 }
    }
}

/// Constants of one handler program, in its frozen `.rodata`: the verifier knows them, so code for
/// what a handler does not use is removed when it is loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramConfig {
    /// The app whose regions are bound.
    pub app: u32,
    /// The handler's version.
    pub version: u32,
    /// `PROGRAM_*`.
    pub flags: u32,
    /// Regions bound.
    pub regions: u32,
    /// Longest reply of the handler, a multiple of 8.
    pub reply_max: u32,
    /// Steps a message may take at one visit.
    pub steps_max: u32,
    /// Nanoseconds a datagram may take.
    pub time_budget_ns: u64,
    /// Bytes of the handler's view: the longest READ.
    pub view_len: u32,
    /// The function number it is loaded as.
    pub function: u32,
    /// Steps of a datagram between two looks at the clock: a power of two, less one.
    pub clock_mask: u32,
    /// Bytes of the handler's state, a multiple of 8: what a carried message brings at most, and takes along.
    pub state_len: u32,
    /// Bytes of each region's map value: a power of two, at most 512 MiB; 0 if unbound.
    pub value_len: [u64; REGIONS_MAX],
    /// Their binary logarithms.
    pub value_shift: [u32; REGIONS_MAX],
    /// Map values of each region.
    pub values: [u32; REGIONS_MAX],
}

/// The handler may write; its messages run exactly once.
pub const PROGRAM_WRITES: u32 = 1;
/// Replies carry a tag.
pub const PROGRAM_TAG: u32 = 2;
/// The machine reorders loads: a barrier stands before READs and WRITEs, too.
pub const PROGRAM_WEAKLY_ORDERED: u32 = 4;
/// Time in the program is measured.
pub const PROGRAM_TIMED: u32 = 16;
/// For benches: an answered datagram stays a request, with its reply behind the arguments, so that
/// `BPF_PROG_TEST_RUN` can run it again.
pub const PROGRAM_REPEATABLE: u32 = 32;

const _: () = {
    use core::mem::size_of;
    assert!(size_of::<AppEntry>() == 64);
    assert!(size_of::<FunctionEntry>() == 16);
    assert!(size_of::<SessionEntry>() == 64);
    assert!(size_of::<SlotEntry>() == 256);
    assert!(size_of::<ProgramConfig>() == 48 + 128);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_for_the_interface_with_their_address() {
        let (own, other) = ([2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 8]);
        let begins = |mac: [u8; 6]| u64::from_ne_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0xaa, 0xbb]);
        for index in [1, 1023, 1024, 70_000, (INTERFACES_MAX as u32) << 15] {
            let word = InterfaceWord::new(index, own);
            assert!(word.takes(index, begins(own)) && !word.takes(index, begins(other)), "{index}");
            let neighbour = index.wrapping_add(INTERFACES_MAX as u32);
            assert_eq!(InterfaceWord::place(index), InterfaceWord::place(neighbour));
            assert!(word.takes(neighbour, begins(other)), "an interface without a word takes everything");
            assert!(InterfaceWord(0).takes(index, begins(other)));
        }
    }
}
