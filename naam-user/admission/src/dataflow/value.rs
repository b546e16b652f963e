//! What a register or a stack slot holds.

use std::fmt;

use super::scalar::Scalar;

/// Pointers stay this close to the start of what they point into.
pub(super) const POINTER_SPAN: i64 = 1 << 29;

/// What a pointer points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Message,
    View,
    /// The stack of the frame at that depth; offsets count down from its top.
    Stack(u8),
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Message => "message pointer",
            Self::View => "view pointer",
            Self::Stack(_) => "stack pointer",
        })
    }
}

/// A pointer at an offset of `min..=max` bytes, both within [`POINTER_SPAN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub base: Base,
    pub min: i64,
    pub max: i64,
}

impl Pointer {
    pub const fn start(base: Base) -> Self {
        Self { base, min: 0, max: 0 }
    }

    /// The pointer moved by `min..=max` bytes, if it stays within [`POINTER_SPAN`].
    pub fn moved(self, min: i64, max: i64) -> Option<Self> {
        let moved = Self { min: self.min.checked_add(min)?, max: self.max.checked_add(max)?, ..self };
        (-POINTER_SPAN <= moved.min && moved.max <= POINTER_SPAN).then_some(moved)
    }

    /// The offset, if only one is possible.
    pub fn fixed(self) -> Option<i64> {
        (self.min == self.max).then_some(self.min)
    }
}

/// What a register or a stack slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Anything; must not be read.
    Unusable,
    Scalar(Scalar),
    Pointer(Pointer),
}

impl Value {
    pub const fn constant(&self) -> Option<u64> {
        match self {
            Self::Scalar(scalar) => scalar.constant(),
            _ => None,
        }
    }

    /// Whether everything that `other` may be is held here; ids are compared by `same_id`.
    pub fn covers(&self, other: &Self, mut same_id: impl FnMut(u32, u32) -> bool) -> bool {
        match (self, other) {
            (Self::Unusable, _) => true,
            (Self::Scalar(a), Self::Scalar(b)) => a.covers(b) && same_id(a.id, b.id),
            (Self::Pointer(a), Self::Pointer(b)) => a.base == b.base && a.min <= b.min && b.max <= a.max,
            _ => false,
        }
    }
}
