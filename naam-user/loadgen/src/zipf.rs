//! Zipfian draws in constant time, by Gray et al., "Quickly Generating Billion-Record Synthetic Databases"
//! (SIGMOD 1994), the method of YCSB's request generators.

use crate::stream_rng::StreamRng;

/// YCSB's Zipf constant: the item of rank r (from 1) is drawn in proportion to r^-0.99.
pub const THETA: f64 = 0.99;
/// Items of YCSB's scrambled zipfian generator, whatever the number of records: 10^10.
pub const SCRAMBLED_ITEMS: u64 = 10_000_000_000;
/// Zeta of [`SCRAMBLED_ITEMS`] items with [`THETA`], as YCSB fixes it.
pub const SCRAMBLED_ZETA: f64 = 26.469_028_201_783_02;

/// FNV-1a's offset basis, 64 bits.
pub const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
/// FNV-1a's prime, 64 bits.
pub const FNV_PRIME: u64 = 1_099_511_628_211;

/// YCSB's hash of a number: 64-bit FNV-1a over its eight bytes, lowest first, then the absolute value of the signed
/// result.
#[inline]
pub const fn fnv64(value: u64) -> u64 {
    let mut hash = FNV_OFFSET_BASIS;
    let mut rest = value;
    let mut bytes = 8;
    if value >> 32 == 0 {
        // Four zero bytes at the end only multiply: one step for four.
        bytes = 4;
    }
    let mut i = 0;
    while i < bytes {
        hash = (hash ^ (rest & 0xff)).wrapping_mul(FNV_PRIME);
        rest >>= 8;
        i += 1;
    }
    if bytes == 4 {
        hash = hash.wrapping_mul(FNV_PRIME.wrapping_pow(4));
    }
    (hash as i64).unsigned_abs()
}

/// The generalised harmonic number: the sum of i^-theta for i in 1..=items.
///
/// The first thousand terms are added one by one, the rest by Euler–Maclaurin up to the first derivative (the next
/// correction is below 10^-13 for theta <= 1), so that a billion items cost as little as a thousand.
pub fn zeta(items: u64, theta: f64) -> f64 {
    const EXACT: u64 = 1_000;
    let exact = items.min(EXACT);
    let mut sum: f64 = (1..=exact).rev().map(|i| (i as f64).powf(-theta)).sum();
    if items > EXACT {
        let (a, b) = (EXACT as f64, items as f64);
        let term = |x: f64| x.powf(-theta);
        let slope = |x: f64| -theta * x.powf(-theta - 1.0);
        let area = (b.powf(1.0 - theta) - a.powf(1.0 - theta)) / (1.0 - theta);
        sum += area + (term(b) - term(a)) / 2.0 + (slope(b) - slope(a)) / 12.0;
    }
    sum
}

#[inline]
fn hundredth_power(x: f64) -> f64 {
    let x4 = (x * x) * (x * x);
    let x8 = x4 * x4;
    let x32 = (x8 * x8) * (x8 * x8);
    x32 * x32 * (x32 * x4)
}

/// Draws ranks 0.. (0 the most popular) with Zipf's law.
#[derive(Debug, Clone)]
pub struct Zipfian {
    items: u64,
    theta: f64,
    alpha: f64,
    zeta: f64,
    /// What ranks 0 and 1 together take of `zeta`.
    head: f64,
    eta: f64,
    /// Whether `alpha` is 100 within 10^-12.
    is_hundredth: bool,
}

impl Zipfian {
    /// A generator over `items` ranks (at least 1) with `theta` in (0, 1).
    pub fn new(items: u64, theta: f64) -> Self {
        Self::with_zeta(items, theta, zeta(items.max(1), theta))
    }

    /// The same with a known [`zeta`].
    pub fn with_zeta(items: u64, theta: f64, zeta: f64) -> Self {
        debug_assert!(theta > 0.0 && theta < 1.0, "theta {theta} is outside (0, 1)");
        let items = items.max(1);
        let head = 1.0 + 0.5f64.powf(theta);
        let eta = (1.0 - (2.0 / items as f64).powf(1.0 - theta)) / (1.0 - head / zeta);
        let alpha = 1.0 / (1.0 - theta);
        Self { items, theta, alpha, zeta, head, eta, is_hundredth: (alpha - 100.0).abs() < 1e-12 }
    }

    /// YCSB's generator below its scrambling: ranks over 10^10 items. Its range is written 0..=10^10, both ends
    /// included, so it holds one item more than the constant says while zeta is that of 10^10; so does this one.
    pub fn ycsb() -> Self {
        Self::with_zeta(SCRAMBLED_ITEMS + 1, THETA, SCRAMBLED_ZETA)
    }

    /// Number of ranks.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Lets the generator draw from `items` ranks, for a set that grows. A few more items extend zeta term by term.
    pub fn grow(&mut self, items: u64) {
        if items <= self.items {
            return;
        }
        let zeta = if items - self.items <= 16 {
            self.zeta + (self.items + 1..=items).map(|i| (i as f64).powf(-self.theta)).sum::<f64>()
        } else {
            zeta(items, self.theta)
        };
        *self = Self::with_zeta(items, self.theta, zeta);
    }

    /// The next rank, in 0..items.
    #[inline]
    pub fn rank(&self, rng: &mut StreamRng) -> u64 {
        let u = rng.unit();
        let uz = u * self.zeta;
        if uz < 1.0 || self.items == 1 {
            return 0;
        }
        if uz < self.head || self.items == 2 {
            return 1;
        }
        let (items, base) = (self.items as f64, self.eta * u - self.eta + 1.0);
        if self.is_hundredth {
            // With theta 0.99 alpha is 100 but for 10^-13: eight multiplications come within 10^-13 of the power,
            // which is nearly always enough to know the whole number below it.
            let rough = items * hundredth_power(base);
            let (low, high) = (rough * (1.0 - 1e-13), rough * (1.0 + 1e-13));
            if low as u64 == high as u64 && high < items {
                return low as u64;
            }
        }
        // u < 1 but the power may round up to 1.
        ((items * base.powf(self.alpha)) as u64).min(self.items - 1)
    }

    /// Probability that [`Zipfian::rank`] draws `rank`, by the law (not by the method's approximation of it).
    pub fn probability(&self, rank: u64) -> f64 {
        ((rank + 1) as f64).powf(-self.theta) / self.zeta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_rng::Purpose;

    #[test]
    fn zeta_by_formula_equals_zeta_by_sum() {
        for items in [1, 2, 10, 999, 1_000, 1_001, 5_000, 1_000_000] {
            let sum: f64 = (1..=items).rev().map(|i| (i as f64).powf(-THETA)).sum();
            let formula = zeta(items, THETA);
            assert!((sum - formula).abs() < 1e-10, "{items} items: {sum} by sum, {formula} by formula");
        }
    }

    /// YCSB's constants belong together: its fixed zeta is that of 10^10 items with 0.99.
    #[test]
    fn fixed_zeta_is_that_of_ten_billion_items() {
        assert_eq!(SCRAMBLED_ITEMS, 10u64.pow(10));
        let computed = zeta(SCRAMBLED_ITEMS, THETA);
        assert!((computed - SCRAMBLED_ZETA).abs() < 1e-8, "zeta(10^10, 0.99) = {computed}");
    }

    /// FNV-1a with the published basis and prime; eight zero bytes leave basis * prime^8.
    #[test]
    fn fnv_constants() {
        assert_eq!(FNV_OFFSET_BASIS, 14_695_981_039_346_656_037);
        assert_eq!(FNV_PRIME, (1 << 40) + (1 << 8) + 0xb3);
        let plain = (0..8).fold(FNV_OFFSET_BASIS, |hash, _| hash.wrapping_mul(FNV_PRIME));
        assert_eq!(fnv64(0), (plain as i64).unsigned_abs());
        // The numbers in the first key names that YCSB inserts.
        assert_eq!([fnv64(0), fnv64(1), fnv64(2)], [6284781860667377211, 8517097267634966620, 1820151046732198393]);
    }

    #[test]
    fn head_ranks_follow_the_law() {
        for (zipf, name) in [(Zipfian::new(1_000, THETA), "1,000 items"), (Zipfian::ycsb(), "YCSB's 10^10 items")] {
            let mut rng = StreamRng::new(42, 0, Purpose::Record);
            let draws = 400_000u32;
            let mut counts = [0u64; 2];
            let bounds = [10u64, 100, 900];
            let mut below = [0u64; 3];
            for _ in 0..draws {
                let rank = zipf.rank(&mut rng);
                assert!(rank < zipf.items());
                if let Some(count) = counts.get_mut(rank as usize) {
                    *count += 1;
                }
                for (count, bound) in below.iter_mut().zip(bounds) {
                    *count += u64::from(rank < bound);
                }
            }
            let five_sigma = |p: f64| 5.0 * (p * (1.0 - p) / f64::from(draws)).sqrt();
            // Ranks 0 and 1 are exact in Gray's method.
            for (rank, &count) in counts.iter().enumerate() {
                let (share, p) = (count as f64 / f64::from(draws), zipf.probability(rank as u64));
                assert!((share - p).abs() < five_sigma(p), "{name}, rank {rank}: {share}, law {p}");
            }
            // Later ranks come from a continuous approximation: its own distribution exactly, the law within 6 %.
            for (&count, bound) in below.iter().zip(bounds) {
                let share = count as f64 / f64::from(draws);
                let scaled = (bound as f64 / zipf.items() as f64).powf(1.0 - THETA);
                let method = (scaled - 1.0 + zipf.eta) / zipf.eta;
                assert!((share - method).abs() < five_sigma(method), "{name}, below {bound}: {share}, method {method}");
                let law: f64 = (0..bound).map(|rank| zipf.probability(rank)).sum();
                assert!((share - law).abs() < 0.06 * law, "{name}, below {bound}: {share}, law {law}");
            }
        }
    }

    /// The short way gives the very ranks of the formula.
    #[test]
    fn ranks_are_those_of_the_formula() {
        for items in [1_000, 1_000_000, SCRAMBLED_ITEMS + 1] {
            let zipf = Zipfian::new(items, THETA);
            assert!(zipf.is_hundredth);
            let formula = Zipfian { is_hundredth: false, ..zipf.clone() };
            let mut rng = StreamRng::new(9, 0, Purpose::Record);
            let mut same = rng.clone();
            assert!((0..500_000).all(|_| zipf.rank(&mut rng) == formula.rank(&mut same)), "{items} items");
        }
    }

    #[test]
    fn growing_equals_starting_larger() {
        let mut grown = Zipfian::new(1_000, THETA);
        for items in 1_001..=1_200 {
            grown.grow(items);
        }
        grown.grow(5_000);
        grown.grow(10);
        let fresh = Zipfian::new(5_000, THETA);
        assert_eq!(grown.items(), 5_000);
        assert!((grown.zeta - fresh.zeta).abs() < 1e-10 && (grown.eta - fresh.eta).abs() < 1e-10);
    }

    #[test]
    fn tiny_sets_stay_in_range() {
        let mut rng = StreamRng::new(3, 0, Purpose::Record);
        for items in 0..=5 {
            let zipf = Zipfian::new(items, THETA);
            assert!((0..2_000).all(|_| zipf.rank(&mut rng) < items.max(1)), "{items} items");
        }
    }
}
