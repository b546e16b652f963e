//! Known bits: a 64-bit number of which some bits are known ("tristate number", as in the kernel's
//! verifier; Vishwanathan et al., "Sound, Precise, and Fast Abstract Interpretation with Tristate
//! Numbers", CGO 2022).

/// The numbers `n` with `n & !mask == value`; `value & mask` is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tnum {
    pub value: u64,
    pub mask: u64,
}

impl Tnum {
    pub const UNKNOWN: Self = Self { value: 0, mask: u64::MAX };

    pub const fn known(value: u64) -> Self {
        Self { value, mask: 0 }
    }

    /// Any number whose unknown bits are `mask`, the others zero.
    pub const fn masked(mask: u64) -> Self {
        Self { value: 0, mask }
    }

    /// The closest description of `min..=max`.
    pub fn range(min: u64, max: u64) -> Self {
        let delta = u64::MAX.checked_shr((min ^ max).leading_zeros()).unwrap_or(0);
        Self { value: min & !delta, mask: delta }
    }

    pub const fn max(self) -> u64 {
        self.value | self.mask
    }

    #[cfg(test)]
    pub const fn contains(self, n: u64) -> bool {
        n & !self.mask == self.value
    }

    /// Whether every number of `other` is one of this.
    pub const fn covers(self, other: Self) -> bool {
        other.mask & !self.mask == 0 && other.value & !self.mask == self.value
    }

    /// The low half.
    pub const fn low(self) -> Self {
        Self { value: self.value as u32 as u64, mask: self.mask as u32 as u64 }
    }

    /// The same high half over another low half.
    pub const fn with_low(self, low: Self) -> Self {
        const HIGH: u64 = !(u32::MAX as u64);
        Self { value: self.value & HIGH | low.value, mask: self.mask & HIGH | low.mask }
    }

    /// The numbers that both hold, if there may be any.
    pub const fn intersect(self, other: Self) -> Option<Self> {
        if (self.value ^ other.value) & !self.mask & !other.mask != 0 {
            return None;
        }
        let mask = self.mask & other.mask;
        Some(Self { value: (self.value | other.value) & !mask, mask })
    }

    /// The smallest held number that is not below `n`.
    pub fn at_least(self, n: u64) -> Option<u64> {
        let wrong = (n ^ self.value) & !self.mask;
        if wrong == 0 {
            return Some(n);
        }
        let top = 1_u64 << (63 - wrong.leading_zeros());
        // Bits above `top` agree with `n`.
        let above = |bit: u64| !(bit | (bit - 1));
        if n & top == 0 {
            return Some(n & above(top) | self.value & !above(top));
        }
        // `top` is one in `n` and zero here: a higher unknown bit has to step up.
        let candidates = self.mask & !n & above(top);
        if candidates == 0 {
            return None;
        }
        let step = candidates & candidates.wrapping_neg();
        Some(n & above(step) | step | self.value & (step - 1))
    }

    /// The largest held number that is not above `n`.
    pub fn at_most(self, n: u64) -> Option<u64> {
        let mirrored = Self { value: !self.value & !self.mask, mask: self.mask };
        mirrored.at_least(!n).map(|found| !found)
    }

    /// The closest description of both.
    pub const fn join(self, other: Self) -> Self {
        let mask = self.mask | other.mask | (self.value ^ other.value);
        Self { value: self.value & !mask, mask }
    }

    pub const fn add(self, other: Self) -> Self {
        let masks = self.mask.wrapping_add(other.mask);
        let values = self.value.wrapping_add(other.value);
        let carries = masks.wrapping_add(values) ^ values;
        let mask = carries | self.mask | other.mask;
        Self { value: values & !mask, mask }
    }

    pub const fn sub(self, other: Self) -> Self {
        let values = self.value.wrapping_sub(other.value);
        let borrows = values.wrapping_add(self.mask) ^ values.wrapping_sub(other.mask);
        let mask = borrows | self.mask | other.mask;
        Self { value: values & !mask, mask }
    }

    pub const fn and(self, other: Self) -> Self {
        let value = self.value & other.value;
        Self { value, mask: self.max() & other.max() & !value }
    }

    pub const fn or(self, other: Self) -> Self {
        let value = self.value | other.value;
        Self { value, mask: (self.mask | other.mask) & !value }
    }

    pub const fn xor(self, other: Self) -> Self {
        let mask = self.mask | other.mask;
        Self { value: (self.value ^ other.value) & !mask, mask }
    }

    /// Schoolbook multiplication: known bits exactly, unknown ones summed up.
    pub const fn mul(self, other: Self) -> Self {
        let (mut a, mut b) = (self, other);
        let known = a.value.wrapping_mul(b.value);
        let mut unknown = Self::known(0);
        while a.value != 0 || a.mask != 0 {
            if a.value & 1 != 0 {
                unknown = unknown.add(Self::masked(b.mask));
            } else if a.mask & 1 != 0 {
                unknown = unknown.add(Self::masked(b.max()));
            }
            a = Self { value: a.value >> 1, mask: a.mask >> 1 };
            b = Self { value: b.value << 1, mask: b.mask << 1 };
        }
        Self::known(known).add(unknown)
    }

    pub const fn shl(self, by: u32) -> Self {
        Self { value: self.value << by, mask: self.mask << by }
    }

    pub const fn shr(self, by: u32) -> Self {
        Self { value: self.value >> by, mask: self.mask >> by }
    }

    pub const fn sar(self, by: u32) -> Self {
        Self { value: (self.value as i64 >> by) as u64, mask: (self.mask as i64 >> by) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every tnum of four bits.
    fn all() -> impl Iterator<Item = Tnum> {
        (0..256_u64).map(|n| (n & 15, n >> 4)).filter(|(v, m)| v & m == 0).map(|(value, mask)| Tnum { value, mask })
    }

    fn members(t: Tnum) -> impl Iterator<Item = u64> {
        (0..16).filter(move |n| t.contains(*n))
    }

    #[test]
    fn operations_hold_every_outcome() {
        type Pair = (fn(Tnum, Tnum) -> Tnum, fn(u64, u64) -> u64);
        let operations: [Pair; 6] = [
            (Tnum::add, u64::wrapping_add),
            (Tnum::sub, u64::wrapping_sub),
            (Tnum::mul, u64::wrapping_mul),
            (Tnum::and, |a, b| a & b),
            (Tnum::or, |a, b| a | b),
            (Tnum::xor, |a, b| a ^ b),
        ];
        for (index, (abstractly, concretely)) in operations.into_iter().enumerate() {
            for (a, b) in all().flat_map(|a| all().map(move |b| (a, b))) {
                let outcome = abstractly(a, b);
                assert_eq!(outcome.value & outcome.mask, 0);
                for (x, y) in members(a).flat_map(|x| members(b).map(move |y| (x, y))) {
                    assert!(outcome.contains(concretely(x, y)), "{index}: {a:?} {b:?} {x} {y}");
                }
            }
        }
    }

    #[test]
    fn shifts_hold_every_outcome() {
        for t in all() {
            let t = Tnum { value: t.value << 60 | t.value, mask: t.mask << 60 | t.mask };
            for n in (0..16).flat_map(|low| (0..16).map(move |high: u64| high << 60 | low)).filter(|n| t.contains(*n)) {
                for by in [0, 1, 3, 31, 59, 63] {
                    assert!(t.shl(by).contains(n << by));
                    assert!(t.shr(by).contains(n >> by));
                    assert!(t.sar(by).contains((n as i64 >> by) as u64));
                }
            }
        }
    }

    #[test]
    fn neighbours_are_exact() {
        for t in all() {
            for n in 0..16 {
                assert_eq!(t.at_least(n), members(t).find(|m| *m >= n), "{t:?} {n}");
                assert_eq!(t.at_most(n), members(t).filter(|m| *m <= n).last(), "{t:?} {n}");
            }
        }
        assert_eq!(Tnum::UNKNOWN.at_least(u64::MAX), Some(u64::MAX));
        assert_eq!(Tnum::known(5).at_least(6), None);
        assert_eq!(Tnum { value: 1 << 63, mask: 1 }.at_most(u64::MAX), Some(1 << 63 | 1));
    }

    #[test]
    fn sets_are_exact() {
        for (a, b) in all().flat_map(|a| all().map(move |b| (a, b))) {
            let common: Vec<_> = members(a).filter(|n| b.contains(*n)).collect();
            match a.intersect(b) {
                None => assert!(common.is_empty()),
                Some(both) => assert_eq!(members(both).collect::<Vec<_>>(), common),
            }
            let joined = a.join(b);
            assert!(joined.covers(a) && joined.covers(b));
            assert_eq!(a.covers(b), members(b).all(|n| a.contains(n)), "{a:?} {b:?}");
        }
        for (min, max) in (0..16).flat_map(|min| (min..16).map(move |max| (min, max))) {
            assert!((min..=max).all(|n| Tnum::range(min, max).contains(n)));
        }
        assert_eq!(Tnum::range(0, u64::MAX), Tnum::UNKNOWN);
        assert_eq!(Tnum::range(7, 7), Tnum::known(7));
    }
}
