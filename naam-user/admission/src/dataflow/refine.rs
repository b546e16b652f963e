//! What a branch says about its operands.

use super::scalar::{Scalar, unsigned_max};
use super::tnum::Tnum;
use crate::isa::{Cond, Width};

/// The operands, given that `a cond b` holds at the width. `None`: it never holds.
pub(super) fn assume(cond: Cond, width: Width, a: &Scalar, b: &Scalar) -> Option<(Scalar, Scalar)> {
    let (mut x, mut y) = (*a, *b);
    match cond {
        Cond::Eq => equal(width, &mut x, &mut y)?,
        Cond::Ne => {
            differ(width, &mut x, b);
            differ(width, &mut y, a);
        }
        Cond::Set => {
            meet(width, &mut x, b)?;
            meet(width, &mut y, a)?;
        }
        Cond::NotSet => {
            miss(width, &mut x, b)?;
            miss(width, &mut y, a)?;
        }
        Cond::Gt => return assume(Cond::Lt, width, b, a).map(|(b, a)| (a, b)),
        Cond::Ge => return assume(Cond::Le, width, b, a).map(|(b, a)| (a, b)),
        Cond::Sgt => return assume(Cond::Slt, width, b, a).map(|(b, a)| (a, b)),
        Cond::Sge => return assume(Cond::Sle, width, b, a).map(|(b, a)| (a, b)),
        Cond::Lt => {
            let (max, min) = (b.bounds(width).umax.checked_sub(1)?, a.bounds(width).umin.checked_add(1)?);
            x.bounds_mut(width).within_unsigned(0, max);
            y.bounds_mut(width).within_unsigned(min, u64::MAX);
        }
        Cond::Le => {
            x.bounds_mut(width).within_unsigned(0, b.bounds(width).umax);
            y.bounds_mut(width).within_unsigned(a.bounds(width).umin, u64::MAX);
        }
        Cond::Slt => {
            let (max, min) = (b.bounds(width).smax.checked_sub(1)?, a.bounds(width).smin.checked_add(1)?);
            x.bounds_mut(width).within_signed(i64::MIN, max);
            y.bounds_mut(width).within_signed(min, i64::MAX);
        }
        Cond::Sle => {
            x.bounds_mut(width).within_signed(i64::MIN, b.bounds(width).smax);
            y.bounds_mut(width).within_signed(a.bounds(width).smin, i64::MAX);
        }
    }
    Some((x.deduced()?, y.deduced()?))
}

/// Both hold what each holds.
fn equal(width: Width, x: &mut Scalar, y: &mut Scalar) -> Option<()> {
    let low = x.bits.low().intersect(y.bits.low())?;
    let mut bounds = x.low;
    bounds.within(&y.low);
    for side in [&mut *x, &mut *y] {
        side.low = bounds;
        side.bits = side.bits.with_low(low);
    }
    if width == Width::W64 {
        let bits = x.bits.intersect(y.bits)?;
        let mut bounds = x.whole;
        bounds.within(&y.whole);
        for side in [x, y] {
            side.whole = bounds;
            side.bits = bits;
        }
    }
    Some(())
}

/// `x` is not `other`: an interval that ends at a known number ends one earlier.
fn differ(width: Width, x: &mut Scalar, other: &Scalar) {
    let (bounds, other) = (x.bounds_mut(width), other.bounds(width));
    if other.umin == other.umax {
        if bounds.umin == bounds.umax && bounds.umin == other.umin {
            // An empty interval: the branch is never taken.
            (bounds.umin, bounds.umax) = (1, 0);
        } else if bounds.umin == other.umin {
            bounds.umin += 1;
        } else if bounds.umax == other.umin {
            bounds.umax -= 1;
        }
    }
    if other.smin == other.smax && bounds.smin < bounds.smax {
        if bounds.smin == other.smin {
            bounds.smin += 1;
        } else if bounds.smax == other.smin {
            bounds.smax -= 1;
        }
    }
}

/// `x` and `other` have a bit in common.
fn meet(width: Width, x: &mut Scalar, other: &Scalar) -> Option<()> {
    let common = x.bits(width).max() & other.bits(width).max();
    if common == 0 {
        return None;
    }
    if common.is_power_of_two() {
        x.bits = x.bits.intersect(Tnum { value: common, mask: !common })?;
    }
    // The lowest bit that may be common is a lower bound.
    x.bounds_mut(width).within_unsigned(common & common.wrapping_neg(), u64::MAX);
    Some(())
}

/// `x` and `other` have no bit in common.
fn miss(width: Width, x: &mut Scalar, other: &Scalar) -> Option<()> {
    let zero = other.bits(width).value & unsigned_max(width);
    x.bits = x.bits.intersect(Tnum::masked(!zero))?;
    Some(())
}

/// Whether the processor takes the branch.
#[cfg(test)]
pub(super) fn concrete(cond: Cond, width: Width, a: u64, b: u64) -> bool {
    use super::scalar::sign_extend;
    let (a, b) = (a & unsigned_max(width), b & unsigned_max(width));
    let (s, t) = (sign_extend(a, width), sign_extend(b, width));
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Set => a & b != 0,
        Cond::NotSet => a & b == 0,
        Cond::Gt => a > b,
        Cond::Ge => a >= b,
        Cond::Lt => a < b,
        Cond::Le => a <= b,
        Cond::Sgt => s > t,
        Cond::Sge => s >= t,
        Cond::Slt => s < t,
        Cond::Sle => s <= t,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataflow::arbitrary::held;
    use proptest::prelude::*;

    const CONDS: [Cond; 12] = [
        Cond::Eq,
        Cond::Ne,
        Cond::Set,
        Cond::NotSet,
        Cond::Gt,
        Cond::Ge,
        Cond::Lt,
        Cond::Le,
        Cond::Sgt,
        Cond::Sge,
        Cond::Slt,
        Cond::Sle,
    ];

    /// Two sets, a member of each; often the same number, so that equality is met.
    fn pair() -> impl Strategy<Value = (Scalar, Scalar, u64, u64)> {
        (held(), held(), any::<bool>(), any::<bool>()).prop_map(|((a, x), (b, y), same, constant)| {
            match (same, constant) {
                (true, true) => (a, Scalar::known(x), x, x),
                (true, false) => (a, a, x, x),
                (false, true) => (a, Scalar::known(y), x, y),
                (false, false) => (a, b, x, y),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32_768))]

        /// The operands survive on the side of the branch that the processor takes.
        #[test]
        fn the_taken_side_keeps_its_operands(
            (a, b, x, y) in pair(),
            cond in proptest::sample::select(&CONDS[..]),
            width in proptest::sample::select(&[Width::W32, Width::W64][..]),
        ) {
            let holds = if concrete(cond, width, x, y) { cond } else { cond.negated() };
            let Some((c, d)) = assume(holds, width, &a, &b) else {
                return Err(TestCaseError::fail(format!("{holds:?} {width:?} {x:#x} {y:#x} lost:\n{a:x?}\n{b:x?}")));
            };
            prop_assert!(c.contains(x) && d.contains(y), "{holds:?} {width:?} {x:#x} {y:#x}\n{a:x?} -> {c:x?}\n{b:x?} -> {d:x?}");
            prop_assert!(a.covers(&c) && b.covers(&d));
        }
    }

    #[test]
    fn constants_decide() {
        let (five, six) = (Scalar::known(5), Scalar::known(6));
        for width in [Width::W32, Width::W64] {
            for cond in CONDS {
                let holds = concrete(cond, width, 5, 6);
                assert_eq!(assume(cond, width, &five, &six).is_some(), holds, "{cond:?}");
            }
            assert!(assume(Cond::Ne, width, &five, &five).is_none());
        }
    }

    #[test]
    fn a_checked_index_is_bounded() {
        let (index, _) = assume(Cond::Lt, Width::W64, &Scalar::UNKNOWN, &Scalar::known(125)).unwrap();
        assert_eq!((index.whole.smin, index.whole.smax), (0, 124));
        let (index, _) = assume(Cond::Lt, Width::W32, &Scalar::of_bytes(4), &Scalar::known(125)).unwrap();
        assert_eq!((index.whole.smin, index.whole.smax), (0, 124));
        let (index, _) = assume(Cond::Slt, Width::W64, &index, &Scalar::known(8)).unwrap();
        assert_eq!(index.whole.umax, 7);
    }
}
