//! Variances whose windows and groups are put together from parts, in whatever order.
//!
//! A part keeps the sums of its values' distances from one of them, and of their squares, with
//! twice the digits of an f64. Whichever value that is, it lies within √n standard deviations of
//! the mean, so at most n + 1 times the result cancels, and of 32 digits that leaves more than
//! 12 for 10^9 values. Merging moves sums to the other part's value, which both parts then hold.
//!
//! Source of the arithmetic: Dekker, "A floating-point technique for extending the available
//! precision", 1971; Knuth's two-sum.

use crate::promql::functions::range::window::{Fold, Merge};

/// A number of twice the digits: the sum of both, the second one what rounding left of the first.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Double {
    high: f64,
    low: f64,
}

impl Double {
    const ZERO: Self = Self { high: 0.0, low: 0.0 };

    /// An infinity, and a NaN, has no rest.
    fn of(high: f64, low: f64) -> Self {
        if high.is_finite() && low.is_finite() {
            Self { high, low }
        } else {
            Self { high, low: 0.0 }
        }
    }

    /// The exact sum of two numbers.
    fn sum(one: f64, two: f64) -> Self {
        let sum = one + two;
        let part = sum - one;
        Self::of(sum, (one - (sum - part)) + (two - part))
    }

    /// The exact product of two numbers.
    fn product(one: f64, two: f64) -> Self {
        let product = one * two;
        let (one, two) = (halves(one), halves(two));
        let low = one.0 * two.0 - product + one.0 * two.1 + one.1 * two.0 + one.1 * two.1;
        Self::of(product, low)
    }

    fn add(self, other: Self) -> Self {
        let sum = Self::sum(self.high, other.high);
        let low = Self::sum(self.low, other.low);
        let sum = Self::sum(sum.high, sum.low + low.high);
        Self::sum(sum.high, sum.low + low.low)
    }

    fn times(self, other: Self) -> Self {
        let product = Self::product(self.high, other.high);
        let low = product.low + (self.high * other.low + self.low * other.high);
        Self::sum(product.high, low)
    }

    fn over(self, divisor: f64) -> Self {
        let quotient = self.high / divisor;
        let back = Self::product(quotient, divisor);
        let rest = self.add(Self::of(-back.high, -back.low));
        Self::sum(quotient, rest.high / divisor)
    }
}

/// A number as the sum of two of 26 bits each.
fn halves(number: f64) -> (f64, f64) {
    const SPLIT: f64 = 134_217_729.0; // 2^27 + 1
    let scaled = SPLIT * number;
    let high = scaled - (scaled - number);
    (high, number - high)
}

/// How values are spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    count: f64,
    /// One of the values.
    origin: f64,
    /// Sum of the distances from there, and of their squares.
    sum: Double,
    squares: Double,
}

impl Spread {
    /// Numbers that [`Spread::parts`] gives.
    pub(crate) const PARTS: usize = 6;

    /// The state as numbers; the first one is never absent.
    pub(crate) fn parts(self) -> [f64; Self::PARTS] {
        let (sum, squares) = (self.sum, self.squares);
        [self.count, self.origin, sum.high, sum.low, squares.high, squares.low]
    }

    pub(crate) fn from_parts(parts: [f64; Self::PARTS]) -> Self {
        let [count, origin, sum, sum_low, squares, squares_low] = parts;
        let (sum, squares) = (Double::of(sum, sum_low), Double::of(squares, squares_low));
        Self { count, origin, sum, squares }
    }

    pub(crate) fn variance(self) -> f64 {
        let mean = self.sum.times(self.sum).over(self.count);
        let around_mean = self.squares.add(Double::of(-mean.high, -mean.low));
        let variance = around_mean.over(self.count).high;
        // The square of nothing may be less than nothing by the last of 32 digits.
        if variance < 0.0 { 0.0 } else { variance }
    }
}

impl Merge for Spread {
    fn merge(self, later: Self) -> Self {
        let apart = Double::sum(later.origin, -self.origin);
        let count = Double::of(later.count, 0.0);
        let moved = apart.times(count);
        let twice = Double::of(2.0 * later.sum.high, 2.0 * later.sum.low);
        let squares = later.squares.add(apart.times(twice.add(moved)));
        Self {
            count: self.count + later.count,
            origin: self.origin,
            sum: self.sum.add(later.sum).add(moved),
            squares: self.squares.add(squares),
        }
    }
}

impl Fold for Spread {
    fn of(value: f64, timestamp: i64) -> Self {
        let mut spread =
            Self { count: 0.0, origin: value, sum: Double::ZERO, squares: Double::ZERO };
        spread.add(value, timestamp);
        spread
    }

    #[inline]
    fn add(&mut self, value: f64, _: i64) {
        let apart = Double::sum(value, -self.origin);
        self.count += 1.0;
        self.sum = self.sum.add(apart);
        self.squares = self.squares.add(apart.times(apart));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Spread {
        let mut spread = Spread::of(values[0], 0);
        values[1..].iter().for_each(|value| spread.add(*value, 0));
        spread
    }

    /// Values that are whole multiples of `unit` after their common part: the variance of those
    /// can be told exactly.
    fn exact(wholes: &[i64], unit: f64) -> f64 {
        let (count, sum) =
            (wholes.len() as i128, wholes.iter().map(|one| i128::from(*one)).sum::<i128>());
        let squares: i128 = wholes.iter().map(|one| i128::from(*one).pow(2)).sum();
        (count * squares - sum * sum) as f64 / (count * count) as f64 * unit * unit
    }

    #[test]
    fn a_variance_is_exact_however_it_is_put_together() {
        let unit = 2f64.powi(-20);
        for common in [0.0, 1e9, -3e9] {
            let wholes: Vec<i64> = (0..500).map(|row| row * 7_919 % 1_009 - 300).collect();
            let values: Vec<f64> = wholes.iter().map(|one| common + *one as f64 * unit).collect();
            let expected = exact(&wholes, unit);
            for cuts in [vec![], vec![1], vec![250], vec![3, 4, 499], (1..500).collect()] {
                let mut from = 0;
                let mut all: Option<Spread> = None;
                for to in cuts.iter().copied().chain([values.len()]) {
                    let part = spread(&values[from..to]);
                    all = Some(all.map_or(part, |all| all.merge(part)));
                    from = to;
                }
                let got = Spread::from_parts(all.unwrap().parts()).variance();
                assert!((got - expected).abs() <= 1e-14 * expected, "{common}: {got} {expected}");
            }
        }
    }

    #[test]
    fn parts_far_apart_and_extremes() {
        let far = spread(&[1e16, 1e16 + 2.0]).merge(spread(&[-1e16, 1.0]));
        let expected = 6.875e31;
        assert!((far.variance() - expected).abs() <= 1e-12 * expected, "{}", far.variance());
        assert_eq!(spread(&[0.1; 1_000]).variance(), 0.0);
        assert_eq!(spread(&[0.1; 7]).merge(spread(&[0.1; 9])).variance(), 0.0);
        assert!(spread(&[f64::INFINITY]).variance().is_nan());
        assert!(spread(&[1.0, f64::NAN]).variance().is_nan());
        assert!(spread(&[1.0]).merge(spread(&[f64::NEG_INFINITY])).variance().is_nan());
    }
}
