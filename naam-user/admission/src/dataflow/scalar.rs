//! Sets of numbers: known bits, and signed and unsigned intervals of the whole and of the low half.

use super::tnum::Tnum;
use crate::isa::Width;

/// Intervals of a number of some width; a 32-bit number is kept zero- (or sign-) extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub umin: u64,
    pub umax: u64,
    pub smin: i64,
    pub smax: i64,
}

pub(super) const fn unsigned_max(width: Width) -> u64 {
    u64::MAX >> (64 - width.bits())
}

pub(super) const fn signed_max(width: Width) -> i64 {
    i64::MAX >> (64 - width.bits())
}

/// Reads a number of the width as signed.
pub(super) const fn sign_extend(n: u64, width: Width) -> i64 {
    let by = 64 - width.bits();
    (n << by) as i64 >> by
}

impl Bounds {
    pub const fn unknown(width: Width) -> Self {
        let smax = signed_max(width);
        Self { umin: 0, umax: unsigned_max(width), smin: -smax - 1, smax }
    }

    pub const fn known(n: u64, width: Width) -> Self {
        let (n, s) = (n & unsigned_max(width), sign_extend(n, width));
        Self { umin: n, umax: n, smin: s, smax: s }
    }

    #[cfg(test)]
    pub fn contains(&self, n: u64, width: Width) -> bool {
        let (n, s) = (n & unsigned_max(width), sign_extend(n, width));
        (self.umin..=self.umax).contains(&n) && (self.smin..=self.smax).contains(&s)
    }

    pub const fn covers(&self, other: &Self) -> bool {
        self.umin <= other.umin && other.umax <= self.umax && self.smin <= other.smin && other.smax <= self.smax
    }

    /// The smallest intervals around both.
    pub fn join(&self, other: &Self) -> Self {
        Self {
            umin: self.umin.min(other.umin),
            umax: self.umax.max(other.umax),
            smin: self.smin.min(other.smin),
            smax: self.smax.max(other.smax),
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.umin > self.umax || self.smin > self.smax
    }

    pub fn within_unsigned(&mut self, min: u64, max: u64) {
        self.umin = self.umin.max(min);
        self.umax = self.umax.min(max);
    }

    pub fn within_signed(&mut self, min: i64, max: i64) {
        self.smin = self.smin.max(min);
        self.smax = self.smax.min(max);
    }

    pub fn within(&mut self, other: &Self) {
        self.within_unsigned(other.umin, other.umax);
        self.within_signed(other.smin, other.smax);
    }

    /// What known bits say about the intervals. `None`: no number is left.
    fn learn_bits(&mut self, bits: Tnum, width: Width) -> Option<()> {
        let sign = 1_u64 << (width.bits() - 1);
        let (smin, smax) = (bits.value | bits.mask & sign, bits.value | bits.mask & !sign);
        self.within_signed(sign_extend(smin, width), sign_extend(smax, width));
        if self.is_empty() {
            return None;
        }
        self.umin = bits.at_least(self.umin)?;
        self.umax = bits.at_most(self.umax)?;
        (!self.is_empty()).then_some(())
    }

    /// What the signed and the unsigned interval say about each other.
    fn learn_sign(&mut self, width: Width) -> Option<()> {
        let as_signed = |n| sign_extend(n, width);
        let as_unsigned = |n: i64| n as u64 & unsigned_max(width);
        if as_signed(self.umin) <= as_signed(self.umax) {
            self.within_signed(as_signed(self.umin), as_signed(self.umax));
        } else if self.smin < 0 && self.smax >= 0 {
            // Both intervals cross the sign: at most umin..=smax and smin..=umax are left.
            if self.umin > as_unsigned(self.smax) {
                self.smax = -1;
            } else if as_unsigned(self.smin) > self.umax {
                self.smin = 0;
            }
        }
        if (self.smin < 0) == (self.smax < 0) {
            self.within_unsigned(as_unsigned(self.smin), as_unsigned(self.smax));
        }
        (!self.is_empty()).then_some(())
    }
}

/// A set of 64-bit numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    pub bits: Tnum,
    pub whole: Bounds,
    pub low: Bounds,
    /// Scalars with the same id hold the same number; 0 is no id.
    pub id: u32,
}

impl Scalar {
    pub const UNKNOWN: Self =
        Self { bits: Tnum::UNKNOWN, whole: Bounds::unknown(Width::W64), low: Bounds::unknown(Width::W32), id: 0 };

    pub const fn known(n: u64) -> Self {
        Self { bits: Tnum::known(n), whole: Bounds::known(n, Width::W64), low: Bounds::known(n, Width::W32), id: 0 }
    }

    /// An unknown number of so many bytes.
    pub fn of_bytes(bytes: u8) -> Self {
        let mask = u64::MAX >> (64 - u32::from(bytes) * 8);
        Self::UNKNOWN.with_bits(Tnum::masked(mask))
    }

    /// The number, if only one is held.
    pub const fn constant(&self) -> Option<u64> {
        if self.bits.mask == 0 { Some(self.bits.value) } else { None }
    }

    #[cfg(test)]
    pub fn contains(&self, n: u64) -> bool {
        self.bits.contains(n) && self.whole.contains(n, Width::W64) && self.low.contains(n, Width::W32)
    }

    /// Whether every number of `other` is held here. Ids are not looked at.
    pub const fn covers(&self, other: &Self) -> bool {
        self.bits.covers(other.bits) && self.whole.covers(&other.whole) && self.low.covers(&other.low)
    }

    /// A set that holds all numbers of both.
    pub fn join(&self, other: &Self) -> Self {
        let bits = self.bits.join(other.bits);
        Self { bits, whole: self.whole.join(&other.whole), low: self.low.join(&other.low), id: 0 }.settled()
    }

    /// The bounds at a width.
    pub const fn bounds(&self, width: Width) -> &Bounds {
        match width {
            Width::W32 => &self.low,
            Width::W64 => &self.whole,
        }
    }

    pub const fn bounds_mut(&mut self, width: Width) -> &mut Bounds {
        match width {
            Width::W32 => &mut self.low,
            Width::W64 => &mut self.whole,
        }
    }

    /// The known bits at a width.
    pub const fn bits(&self, width: Width) -> Tnum {
        match width {
            Width::W32 => self.bits.low(),
            Width::W64 => self.bits,
        }
    }

    pub fn with_bits(self, bits: Tnum) -> Self {
        Self { bits, ..self }.deduced().unwrap_or(Self::UNKNOWN)
    }

    /// The low half, zero-extended.
    pub fn truncated(&self) -> Self {
        if self.whole.umax <= u64::from(u32::MAX) {
            return *self;
        }
        Self::zero_extended(self.bits.low(), self.low)
    }

    /// A 32-bit number, zero-extended.
    pub fn zero_extended(bits: Tnum, low: Bounds) -> Self {
        let whole = Bounds { umin: low.umin, umax: low.umax, smin: low.umin as i64, smax: low.umax as i64 };
        Self { bits, whole, low, id: 0 }.settled()
    }

    /// The outcome of an operation. Both operands held a number, so a contradiction means that
    /// nothing comes this way at all; it is answered by forgetting, which is always sound.
    pub fn settled(self) -> Self {
        self.deduced().unwrap_or(Self::UNKNOWN)
    }

    /// Lets bits and intervals learn from each other. `None`: no number is left.
    pub fn deduced(mut self) -> Option<Self> {
        if self.whole.is_empty() || self.low.is_empty() {
            return None;
        }
        // Each round narrows; a few rounds find nearly all there is, and any number is sound.
        for _ in 0..4 {
            let before = self;
            self.whole.learn_bits(self.bits, Width::W64)?;
            self.low.learn_bits(self.bits.low(), Width::W32)?;
            self.whole.learn_sign(Width::W64)?;
            self.low.learn_sign(Width::W32)?;
            self.learn_halves()?;
            self.bits = self.bits.intersect(Tnum::range(self.whole.umin, self.whole.umax))?;
            let low = self.bits.low().intersect(Tnum::range(self.low.umin, self.low.umax))?;
            self.bits = self.bits.with_low(low);
            if self == before {
                break;
            }
        }
        Some(self)
    }

    /// What the whole and the low half say about each other.
    fn learn_halves(&mut self) -> Option<()> {
        const LOW: u64 = u32::MAX as u64;
        if self.whole.umin >> 32 == self.whole.umax >> 32 {
            let high = self.whole.umin & !LOW;
            self.low.within_unsigned(self.whole.umin & LOW, self.whole.umax & LOW);
            self.whole.within_unsigned(high | self.low.umin, high | self.low.umax);
        }
        if self.whole.smin >> 32 == self.whole.smax >> 32 {
            let high = self.whole.smin as u64 & !LOW;
            self.low.within_unsigned(self.whole.smin as u64 & LOW, self.whole.smax as u64 & LOW);
            self.whole.within_signed((high | self.low.umin) as i64, (high | self.low.umax) as i64);
        }
        if self.whole.smin >= i64::from(i32::MIN) && self.whole.smax <= i64::from(i32::MAX) {
            self.low.within_signed(self.whole.smin, self.whole.smax);
            self.whole.within_signed(self.low.smin, self.low.smax);
        }
        (!self.whole.is_empty() && !self.low.is_empty()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataflow::arbitrary::held;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// A set built around a number still holds it after deduction, and every member survives.
        #[test]
        fn deduction_loses_no_number((set, n) in held()) {
            prop_assert!(set.contains(n));
            let deduced = set.deduced().expect("not empty");
            prop_assert!(deduced.contains(n), "{n:#x} lost: {set:x?} -> {deduced:x?}");
            prop_assert!(set.covers(&deduced));
        }

        #[test]
        fn a_join_covers_both((a, _) in held(), (b, _) in held()) {
            let joined = a.join(&b);
            prop_assert!(joined.covers(&a) && joined.covers(&b), "{a:x?} {b:x?} {joined:x?}");
        }

        #[test]
        fn truncation_holds_the_low_half((set, n) in held()) {
            prop_assert!(set.truncated().contains(n & 0xffff_ffff));
        }
    }

    #[test]
    fn sign_crossing_sets_are_narrowed() {
        let mut set = Scalar::UNKNOWN;
        set.whole.within_signed(-4, 10);
        set.whole.within_unsigned(20, u64::MAX);
        let set = set.deduced().unwrap();
        assert_eq!((set.whole.smin, set.whole.smax), (-4, -1));
    }

    #[test]
    fn bounds_follow_alignment() {
        let mut set = Scalar::UNKNOWN.with_bits(Tnum::masked(0x7c));
        set.whole.within_unsigned(1, u64::MAX);
        assert_eq!(set.deduced().unwrap().whole.umin, 4);
    }
}
