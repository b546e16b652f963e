//! Arithmetic over sets of numbers.

use super::scalar::{Bounds, Scalar, sign_extend, signed_max, unsigned_max};
use super::tnum::Tnum;
use crate::isa::{AluOp, Width};

/// The outcome of `a op b`; a 32-bit outcome is zero-extended.
pub(super) fn binary(op: AluOp, width: Width, a: &Scalar, b: &Scalar) -> Scalar {
    if let (Some(a), Some(b)) = (a.constant(), b.constant()) {
        return Scalar::known(concrete(op, width, a, b));
    }
    if op == AluOp::Mov {
        return if width == Width::W64 { *b } else { b.truncated() };
    }
    let (bits, bounds) = at_width(op, width, a, b);
    if width == Width::W32 {
        return Scalar::zero_extended(bits, bounds);
    }
    let low = if low_from_lows(op, b) {
        let (bits, mut low) = at_width(op, Width::W32, a, b);
        low.within_unsigned(bits.value, bits.max());
        low
    } else {
        Bounds::unknown(Width::W32)
    };
    Scalar { bits, whole: bounds, low, id: 0 }.settled()
}

/// Two's complement.
pub(super) fn negate(width: Width, a: &Scalar) -> Scalar {
    binary(AluOp::Sub, width, &Scalar::known(0), a)
}

/// Keeps the low `bits`, reversing their bytes if `swap`.
pub(super) fn end(bits: u32, swap: bool, a: &Scalar) -> Scalar {
    if let Some(n) = a.constant() {
        return Scalar::known(concrete_end(bits, swap, n));
    }
    match (bits, swap) {
        (64, false) => Scalar { id: 0, ..*a },
        (32, false) => Scalar { id: 0, ..a.truncated() },
        _ => Scalar::of_bytes((bits / 8) as u8),
    }
}

/// What the processor computes.
pub(super) fn concrete(op: AluOp, width: Width, a: u64, b: u64) -> u64 {
    let keep = unsigned_max(width);
    let (a, b) = (a & keep, b & keep);
    let by = (b & u64::from(width.bits() - 1)) as u32;
    let outcome = match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Div => a.checked_div(b).unwrap_or(0),
        AluOp::Mod => a.checked_rem(b).unwrap_or(a),
        AluOp::And => a & b,
        AluOp::Or => a | b,
        AluOp::Xor => a ^ b,
        AluOp::Lsh => a << by,
        AluOp::Rsh => a >> by,
        AluOp::Arsh => (sign_extend(a, width) >> by) as u64,
        AluOp::Mov => b,
    };
    outcome & keep
}

/// What the processor computes for a byte order conversion.
pub(super) fn concrete_end(bits: u32, swap: bool, n: u64) -> u64 {
    match (bits, swap) {
        (16, false) => u64::from(n as u16),
        (32, false) => u64::from(n as u32),
        (16, true) => u64::from((n as u16).swap_bytes()),
        (32, true) => u64::from((n as u32).swap_bytes()),
        (_, true) => n.swap_bytes(),
        (_, false) => n,
    }
}

/// Whether the low half of a 64-bit outcome is the 32-bit outcome of the low halves.
fn low_from_lows(op: AluOp, b: &Scalar) -> bool {
    match op {
        AluOp::Add | AluOp::Sub | AluOp::Mul | AluOp::And | AluOp::Or | AluOp::Xor => true,
        AluOp::Lsh => b.constant().is_some_and(|by| by < 32),
        AluOp::Div | AluOp::Mod | AluOp::Rsh | AluOp::Arsh | AluOp::Mov => false,
    }
}

fn at_width(op: AluOp, width: Width, a: &Scalar, b: &Scalar) -> (Tnum, Bounds) {
    let (ta, tb) = (a.bits(width), b.bits(width));
    let (ba, bb) = (a.bounds(width), b.bounds(width));
    let all = Tnum::masked(unsigned_max(width));
    let mut bounds = Bounds::unknown(width);
    let bits = match op {
        AluOp::Add => {
            let unsigned = (wide(ba.umin) + wide(bb.umin), wide(ba.umax) + wide(bb.umax));
            let signed = (swide(ba.smin) + swide(bb.smin), swide(ba.smax) + swide(bb.smax));
            wrapped(&mut bounds, width, unsigned, signed);
            ta.add(tb)
        }
        AluOp::Sub => {
            let unsigned = (wide(ba.umin) - wide(bb.umax), wide(ba.umax) - wide(bb.umin));
            let signed = (swide(ba.smin) - swide(bb.smax), swide(ba.smax) - swide(bb.smin));
            wrapped(&mut bounds, width, unsigned, signed);
            ta.sub(tb)
        }
        AluOp::Mul => {
            let products = [ba.smin, ba.smax].map(|x| [bb.smin, bb.smax].map(|y| swide(x) * swide(y))).concat();
            let signed = (products.iter().copied().min().unwrap_or(0), products.iter().copied().max().unwrap_or(0));
            // A product of two 64-bit numbers may exceed i128; then nothing is known.
            let unsigned = wide(ba.umax).checked_mul(wide(bb.umax)).map(|max| (wide(ba.umin) * wide(bb.umin), max));
            wrapped(&mut bounds, width, unsigned.unwrap_or((0, i128::MAX)), signed);
            ta.mul(tb)
        }
        AluOp::And => {
            bounds.within_unsigned(0, ba.umax.min(bb.umax));
            ta.and(tb)
        }
        AluOp::Or => {
            bounds.within_unsigned(ba.umin.max(bb.umin), u64::MAX);
            ta.or(tb)
        }
        AluOp::Xor => ta.xor(tb),
        AluOp::Div => {
            // Division by zero gives zero.
            let max = ba.umax.checked_div(bb.umin).unwrap_or(ba.umax);
            let min = if bb.umin == 0 { 0 } else { ba.umin / bb.umax };
            bounds.within_unsigned(min, max);
            all
        }
        AluOp::Mod if bb.umin > ba.umax => {
            bounds = *ba;
            ta
        }
        AluOp::Mod => {
            let max = if bb.umin > 0 { bb.umax - 1 } else { ba.umax };
            bounds.within_unsigned(0, max.min(ba.umax));
            all
        }
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => return shift(op, width, a, b),
        AluOp::Mov => {
            bounds = *bb;
            tb
        }
    };
    (bits.and(Tnum::known(unsigned_max(width))), bounds)
}

fn shift(op: AluOp, width: Width, a: &Scalar, b: &Scalar) -> (Tnum, Bounds) {
    let (ta, ba) = (a.bits(width), a.bounds(width));
    let most = width.bits() - 1;
    // The processor takes the amount modulo the width.
    let (least, greatest) = match (b.constant(), b.bounds(width)) {
        (Some(by), _) => (by as u32 & most, by as u32 & most),
        (None, amount) if amount.umax <= u64::from(most) => (amount.umin as u32, amount.umax as u32),
        (None, _) => (0, most),
    };
    let mut bounds = Bounds::unknown(width);
    let exact = |bits: Tnum| {
        let bits = if least == greatest { bits } else { Tnum::UNKNOWN };
        bits.and(Tnum::known(unsigned_max(width)))
    };
    let bits = match op {
        AluOp::Lsh => {
            let unsigned = (wide(ba.umin) << least, (wide(ba.umax) << greatest.min(62)));
            let unsigned = if greatest > 62 { (0, i128::MAX) } else { unsigned };
            let signed = (swide(ba.smin) << least, swide(ba.smax) << least);
            let signed = if least == greatest { signed } else { (i128::MIN / 2, i128::MAX / 2) };
            // Only what does not wrap: a wide interval that wraps whole may still be cut by a variable amount.
            if unsigned.1 <= wide(unsigned_max(width)) {
                bounds.within_unsigned(unsigned.0 as u64, unsigned.1 as u64);
            }
            if -swide(signed_max(width)) - 1 <= signed.0 && signed.1 <= swide(signed_max(width)) {
                bounds.within_signed(signed.0 as i64, signed.1 as i64);
            }
            exact(ta.shl(least))
        }
        AluOp::Rsh => {
            bounds.within_unsigned(ba.umin >> greatest, ba.umax >> least);
            exact(ta.shr(least))
        }
        _ => {
            let min = (ba.smin >> least).min(ba.smin >> greatest);
            let max = (ba.smax >> least).max(ba.smax >> greatest);
            bounds.within_signed(min, max);
            let up = 64 - width.bits();
            exact(ta.shl(up).sar(up + least))
        }
    };
    (bits, bounds)
}

const fn wide(n: u64) -> i128 {
    n as i128
}

const fn swide(n: i64) -> i128 {
    n as i128
}

/// Narrows by intervals of the exact outcome, each kept if it wraps as a whole.
fn wrapped(bounds: &mut Bounds, width: Width, unsigned: (i128, i128), signed: (i128, i128)) {
    let turn = 1_i128 << width.bits();
    let half = turn >> 1;
    if unsigned.0.div_euclid(turn) == unsigned.1.div_euclid(turn) {
        bounds.within_unsigned(unsigned.0.rem_euclid(turn) as u64, unsigned.1.rem_euclid(turn) as u64);
    }
    let (min, max) = (signed.0 + half, signed.1 + half);
    if min.div_euclid(turn) == max.div_euclid(turn) {
        bounds.within_signed((min.rem_euclid(turn) - half) as i64, (max.rem_euclid(turn) - half) as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataflow::arbitrary::held;
    use proptest::prelude::*;

    const OPS: [AluOp; 12] = [
        AluOp::Add,
        AluOp::Sub,
        AluOp::Mul,
        AluOp::Div,
        AluOp::Mod,
        AluOp::And,
        AluOp::Or,
        AluOp::Xor,
        AluOp::Lsh,
        AluOp::Rsh,
        AluOp::Arsh,
        AluOp::Mov,
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16_384))]

        #[test]
        fn operations_hold_every_outcome(
            ((a, x), (b, y)) in (held(), held()),
            op in proptest::sample::select(&OPS[..]),
            width in proptest::sample::select(&[Width::W32, Width::W64][..]),
        ) {
            let outcome = binary(op, width, &a, &b);
            let n = concrete(op, width, x, y);
            prop_assert!(outcome.contains(n), "{op:?} {width:?} {x:#x} {y:#x} = {n:#x}\n{a:x?}\n{b:x?}\n{outcome:x?}");
        }

        #[test]
        fn small_shifts_hold_every_outcome(
            (a, x) in held(),
            (min, span, at) in (0..64_u64, 0..64_u64, any::<u64>()),
            op in proptest::sample::select(&[AluOp::Lsh, AluOp::Rsh, AluOp::Arsh][..]),
            width in proptest::sample::select(&[Width::W32, Width::W64][..]),
        ) {
            let mut b = Scalar::UNKNOWN;
            b.whole.within_unsigned(min, min + span);
            let b = b.deduced().unwrap();
            let y = min + at % (span + 1);
            let outcome = binary(op, width, &a, &b);
            let n = concrete(op, width, x, y);
            prop_assert!(outcome.contains(n), "{op:?} {width:?} {x:#x} {y:#x} = {n:#x}\n{a:x?}\n{b:x?}\n{outcome:x?}");
        }

        #[test]
        fn unary_operations_hold_every_outcome(
            (a, n) in held(),
            bits in proptest::sample::select(&[16_u32, 32, 64][..]),
            swap: bool,
        ) {
            prop_assert!(end(bits, swap, &a).contains(concrete_end(bits, swap, n)));
            prop_assert!(negate(Width::W64, &a).contains(n.wrapping_neg()));
            prop_assert!(negate(Width::W32, &a).contains(u64::from((n as u32).wrapping_neg())));
        }
    }

    #[test]
    fn masks_and_scales_are_exact() {
        let index = binary(AluOp::And, Width::W64, &Scalar::UNKNOWN, &Scalar::known(7));
        let offset = binary(AluOp::Lsh, Width::W64, &index, &Scalar::known(3));
        assert_eq!((offset.whole.smin, offset.whole.smax, offset.bits.mask), (0, 56, 0x38));
        let scaled = binary(AluOp::Mul, Width::W64, &index, &Scalar::known(24));
        assert_eq!((scaled.whole.umin, scaled.whole.umax), (0, 168));
        let less = binary(AluOp::Sub, Width::W64, &index, &Scalar::known(8));
        assert_eq!((less.whole.smin, less.whole.smax), (-8, -1));
        let digit = binary(AluOp::Mod, Width::W32, &Scalar::UNKNOWN, &Scalar::known(10));
        assert_eq!((digit.whole.umin, digit.whole.umax), (0, 9));
    }
}
