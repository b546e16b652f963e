//! Sets of numbers for property tests.

use proptest::prelude::*;

use super::scalar::{Bounds, Scalar, sign_extend, signed_max, unsigned_max};
use super::tnum::Tnum;
use crate::isa::Width;

/// A number near the places where arithmetic changes its mind, or any other.
pub(super) fn number(entropy: u64) -> u64 {
    const EDGES: [u64; 9] = [0, 1 << 7, 1 << 15, 1 << 31, 1 << 32, 1 << 33, 1 << 62, 1 << 63, u64::MAX];
    let rest = entropy.rotate_right(8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match entropy % 6 {
        0 | 1 => EDGES[(rest % 9) as usize].wrapping_add(rest >> 40 & 7).wrapping_sub(rest >> 50 & 7),
        2 => rest >> 48 & 0x1ff,
        3 => rest >> 32,
        4 => (rest as i32) as u64,
        _ => rest,
    }
}

fn bounds(n: u64, width: Width, entropy: [u64; 4]) -> Bounds {
    let slack = |at: usize| match entropy[at] >> 61 {
        0 | 1 => 0,
        2 | 3 => entropy[at] % 10,
        4 => u64::MAX,
        _ => number(entropy[at]),
    };
    let (u, s) = (n & unsigned_max(width), i128::from(sign_extend(n, width)));
    let smax = i128::from(signed_max(width));
    Bounds {
        umin: u.saturating_sub(slack(0)),
        umax: u.saturating_add(slack(1)).min(unsigned_max(width)),
        smin: (s - i128::from(slack(2))).max(-smax - 1) as i64,
        smax: (s + i128::from(slack(3))).min(smax) as i64,
    }
}

/// A set around `n`.
fn around(n: u64, entropy: [u64; 10]) -> Scalar {
    let mask = match entropy[0] >> 62 {
        0 => u64::MAX,
        1 => 0,
        2 => number(entropy[0]),
        _ => number(entropy[0]) & number(entropy[1]),
    };
    let [_, _, a, b, c, d, e, f, g, h] = entropy;
    let (whole, low) = (bounds(n, Width::W64, [a, b, c, d]), bounds(n, Width::W32, [e, f, g, h]));
    let set = Scalar { bits: Tnum { value: n & !mask, mask }, whole, low, id: 0 };
    set.deduced().unwrap_or(set)
}

/// A set and one of its numbers.
pub(super) fn held() -> impl Strategy<Value = (Scalar, u64)> {
    any::<(u64, [u64; 10])>().prop_map(|(n, entropy)| (around(number(n), entropy), number(n)))
}
