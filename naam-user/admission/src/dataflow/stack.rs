//! A function's stack: 512 bytes below r10, of which the used slots are kept.

use super::scalar::Scalar;
use super::value::Value;
use crate::isa::{AluOp, Width};
use crate::refusal::Rule;

/// Bytes of a stack.
pub(super) const STACK_BYTES: i64 = 512;

/// What one byte holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Byte {
    /// Never written.
    Unwritten,
    /// A part of a pointer whose other parts were overwritten.
    PointerPart,
    /// A byte of some number.
    Number,
}

/// One half of a slot that is not held whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Bytes([Byte; 4]),
    Number(Scalar),
}

/// Eight aligned bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// A number or pointer that was stored whole; never [`Value::Unusable`].
    Whole(Value),
    Halves([Half; 2]),
}

impl Half {
    const UNWRITTEN: Self = Self::Bytes([Byte::Unwritten; 4]);

    fn bytes(&self) -> [Byte; 4] {
        match self {
            Self::Bytes(bytes) => *bytes,
            Self::Number(_) => [Byte::Number; 4],
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.covers(b),
            (Self::Number(_), Self::Bytes(_)) => false,
            // Bytes that must not be read cover all others.
            (Self::Bytes(a), _) => a.iter().zip(other.bytes()).all(|(a, b)| *a != Byte::Number || b == Byte::Number),
        }
    }
}

impl Slot {
    pub const UNWRITTEN: Self = Self::Halves([Half::UNWRITTEN; 2]);

    fn halves(&self) -> [Half; 2] {
        match self {
            Self::Halves(halves) => *halves,
            Self::Whole(Value::Scalar(_)) => [Half::Bytes([Byte::Number; 4]); 2],
            Self::Whole(_) => [Half::Bytes([Byte::PointerPart; 4]); 2],
        }
    }

    fn byte(&self, at: usize) -> Byte {
        self.halves()[at / 4].bytes()[at % 4]
    }

    fn set_byte(&mut self, at: usize, byte: Byte) {
        let mut halves = self.halves();
        let mut bytes = halves[at / 4].bytes();
        bytes[at % 4] = byte;
        halves[at / 4] = Half::Bytes(bytes);
        *self = Self::Halves(halves);
    }

    /// Whether everything that `other` may be is held here.
    pub fn covers(&self, other: &Self, same_id: impl FnMut(u32, u32) -> bool) -> bool {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.covers(b, same_id),
            (Self::Whole(_), Self::Halves(_)) => false,
            (Self::Halves(a), _) => a.iter().zip(other.halves()).all(|(a, b)| a.covers(&b)),
        }
    }

    /// Forgets which number is held.
    pub fn blurred(self) -> Self {
        match self {
            Self::Whole(Value::Scalar(_)) => Self::Whole(Value::Scalar(Scalar::UNKNOWN)),
            Self::Whole(_) => self,
            Self::Halves(halves) => Self::Halves(halves.map(|half| Half::Bytes(half.bytes()))),
        }
    }
}

/// Slot 0 is the highest: bytes -8 to -1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stack {
    slots: Vec<Slot>,
}

/// The slot and the byte within it at an offset from r10.
fn place(offset: i64) -> (usize, usize) {
    let below = (-offset - 1) as usize;
    (below / 8, 7 - below % 8)
}

impl Stack {
    pub fn slots(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots.iter().enumerate()
    }

    pub fn slots_mut(&mut self) -> impl Iterator<Item = (usize, &mut Slot)> {
        self.slots.iter_mut().enumerate()
    }

    pub fn slot(&self, index: usize) -> &Slot {
        self.slots.get(index).unwrap_or(&Slot::UNWRITTEN)
    }

    fn slot_mut(&mut self, index: usize) -> &mut Slot {
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::UNWRITTEN);
        }
        &mut self.slots[index]
    }

    /// Stores at one offset. The caller has checked that the stack holds `offset..offset + bytes`.
    pub fn store(&mut self, offset: i64, bytes: u8, value: Value) -> Result<(), (Rule, String)> {
        let (index, first) = place(offset);
        match (value, bytes, first) {
            (Value::Scalar(_) | Value::Pointer(_), 8, 0) => *self.slot_mut(index) = Slot::Whole(value),
            (Value::Scalar(scalar), 4, 0 | 4) => {
                let slot = self.slot_mut(index);
                let mut halves = slot.halves();
                halves[first / 4] = Half::Number(Scalar { id: 0, ..scalar.truncated() });
                *slot = Slot::Halves(halves);
            }
            (Value::Scalar(_), ..) => {
                for at in offset..offset + i64::from(bytes) {
                    let (index, byte) = place(at);
                    self.slot_mut(index).set_byte(byte, Byte::Number);
                }
            }
            (Value::Pointer(pointer), ..) => {
                let detail = format!("stores a {} in pieces or at an odd place of the stack", pointer.base);
                return Err((Rule::PointerTruncated, detail));
            }
            (Value::Unusable, ..) => return Err((Rule::UninitialisedRegister, "stores an unwritten register".into())),
        }
        Ok(())
    }

    /// Stores a number somewhere: bytes of `min..max + bytes` may or may not be overwritten.
    pub fn store_somewhere(&mut self, min: i64, max: i64, bytes: u8) {
        for at in min..max + i64::from(bytes) {
            let (index, byte) = place(at);
            let slot = self.slot_mut(index);
            // Numbers stay numbers of another value, pointers become parts, unwritten stays unwritten.
            let kept = slot.byte(byte);
            slot.set_byte(byte, kept);
        }
    }

    /// Loads from one offset.
    pub fn load(&self, offset: i64, bytes: u8) -> Result<Value, (Rule, String)> {
        let (index, first) = place(offset);
        match (self.slot(index), bytes, first) {
            (Slot::Whole(value), 8, 0) => return Ok(*value),
            (Slot::Whole(Value::Scalar(scalar)), ..) if first + usize::from(bytes) <= 8 => {
                return Ok(Value::Scalar(part(scalar, first, bytes)));
            }
            (Slot::Halves(halves), ..) if first % 4 + usize::from(bytes) <= 4 => {
                if let Half::Number(scalar) = &halves[first / 4] {
                    return Ok(Value::Scalar(part(scalar, first % 4, bytes)));
                }
            }
            (Slot::Halves([Half::Number(low), Half::Number(high)]), 8, 0) => {
                let high = super::alu::binary(AluOp::Lsh, Width::W64, high, &Scalar::known(32));
                return Ok(Value::Scalar(super::alu::binary(AluOp::Or, Width::W64, low, &high)));
            }
            _ => {}
        }
        self.load_somewhere(offset, offset, bytes)
    }

    /// Loads a number from somewhere: all bytes of `min..max + bytes` must be numbers.
    pub fn load_somewhere(&self, min: i64, max: i64, bytes: u8) -> Result<Value, (Rule, String)> {
        for at in min..max + i64::from(bytes) {
            let (index, byte) = place(at);
            match self.slot(index).byte(byte) {
                Byte::Number => {}
                Byte::Unwritten => {
                    let detail = format!("reads stack byte {at}, which is not written on every path");
                    return Err((Rule::UninitialisedStack, detail));
                }
                Byte::PointerPart => {
                    return Err((Rule::PointerTruncated, format!("reads stack byte {at}, a part of a pointer")));
                }
            }
        }
        Ok(Value::Scalar(Scalar::of_bytes(bytes)))
    }
}

/// Some bytes of a number in memory.
fn part(scalar: &Scalar, first: usize, bytes: u8) -> Scalar {
    let shifted = super::alu::binary(AluOp::Rsh, Width::W64, scalar, &Scalar::known(first as u64 * 8));
    match bytes {
        8 => shifted,
        4 => shifted.truncated(),
        _ => super::alu::binary(AluOp::And, Width::W64, &shifted, &Scalar::known(u64::MAX >> (64 - bytes * 8))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::{Base, Pointer};
    use super::*;

    const POINTER: Value = Value::Pointer(Pointer::start(Base::View));

    fn number(n: u64) -> Value {
        Value::Scalar(Scalar::known(n))
    }

    #[test]
    fn whole_values_come_back() {
        let mut stack = Stack::default();
        stack.store(-16, 8, POINTER).unwrap();
        stack.store(-8, 8, number(0x1122_3344_5566_7788)).unwrap();
        assert_eq!(stack.load(-16, 8).unwrap(), POINTER);
        assert_eq!(stack.load(-8, 8).unwrap().constant(), Some(0x1122_3344_5566_7788));
        assert_eq!(stack.load(-4, 4).unwrap().constant(), Some(0x1122_3344));
        assert_eq!(stack.load(-7, 2).unwrap().constant(), Some(0x6677));
        assert_eq!(stack.load(-1, 1).unwrap().constant(), Some(0x11));
    }

    #[test]
    fn halves_come_back() {
        let mut stack = Stack::default();
        stack.store(-8, 4, number(0xffff_ffff_0000_0007)).unwrap();
        assert_eq!(stack.load(-8, 4).unwrap().constant(), Some(7));
        assert_eq!(stack.load(-8, 8).unwrap_err().0, Rule::UninitialisedStack);
        stack.store(-4, 4, number(1)).unwrap();
        assert_eq!(stack.load(-8, 8).unwrap().constant(), Some(1 << 32 | 7));
        assert_eq!(stack.load(-6, 4).unwrap(), Value::Scalar(Scalar::of_bytes(4)));
    }

    #[test]
    fn pointers_are_never_seen_in_parts() {
        let mut stack = Stack::default();
        stack.store(-8, 8, POINTER).unwrap();
        assert_eq!(stack.load(-8, 4).unwrap_err().0, Rule::PointerTruncated);
        assert_eq!(stack.load_somewhere(-16, -8, 8).unwrap_err().0, Rule::UninitialisedStack);
        stack.store(-8, 1, number(0)).unwrap();
        assert_eq!(stack.load(-8, 8).unwrap_err().0, Rule::PointerTruncated);
        assert!(stack.load(-8, 1).is_ok());
        assert_eq!(stack.store(-12, 8, POINTER).unwrap_err().0, Rule::PointerTruncated);
        assert_eq!(stack.store(-8, 4, POINTER).unwrap_err().0, Rule::PointerTruncated);
    }

    #[test]
    fn a_store_somewhere_writes_nothing_for_sure() {
        let mut stack = Stack::default();
        stack.store(-16, 8, number(3)).unwrap();
        stack.store(-24, 8, POINTER).unwrap();
        stack.store_somewhere(-24, -8, 8);
        assert_eq!(stack.load(-16, 8).unwrap(), Value::Scalar(Scalar::of_bytes(8)));
        assert_eq!(stack.load(-24, 8).unwrap_err().0, Rule::PointerTruncated);
        assert_eq!(stack.load(-8, 8).unwrap_err().0, Rule::UninitialisedStack);
    }
}
