//! Compensated summation, as Prometheus sums.
//!
//! Source of the arithmetic: prometheus/util/kahansum (Neumaier's variant of Kahan's sum).

/// A running sum and what rounding took from it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sum {
    pub(crate) sum: f64,
    pub(crate) lost: f64,
}

impl Sum {
    /// Numbers that make up a state: the sum and what was lost.
    pub(crate) const PARTS: usize = 2;

    pub(crate) fn of(value: f64) -> Self {
        Self { sum: value, lost: 0.0 }
    }

    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    /// The sum with what came after this one.
    #[inline]
    pub(crate) fn merge(mut self, later: Sum) -> Self {
        self.add(later.sum);
        if !self.sum.is_infinite() {
            self.lost += later.lost;
        }
        self
    }

    /// The total of `sum_over_time`; an infinite sum stays infinite.
    #[inline]
    pub(crate) fn total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }
}

/// A running mean: the sum while it does not overflow, from then on updated step by step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mean {
    sum: Sum,
    /// Only once `incremental`.
    mean: f64,
    incremental: bool,
    count: f64,
}

impl Mean {
    pub(crate) fn of(value: f64) -> Self {
        Self { sum: Sum::of(value), mean: 0.0, incremental: false, count: 1.0 }
    }

    /// The mean of `count` values with this sum.
    pub(crate) fn of_sum(sum: Sum, count: f64) -> Self {
        Self { sum, mean: 0.0, incremental: false, count }
    }

    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.sum;
            next.add(value);
            if !next.sum.is_infinite() {
                self.sum = next;
                return;
            }
            self.incremental = true;
            self.mean = self.sum.sum / (self.count - 1.0);
            self.sum.lost /= self.count - 1.0;
        }
        let keep = (self.count - 1.0) / self.count;
        let mut mean = Sum { sum: keep * self.mean, lost: keep * self.sum.lost };
        mean.add(value / self.count);
        (self.mean, self.sum.lost) = (mean.sum, mean.lost);
    }

    /// Numbers that [`Mean::parts`] gives.
    pub(crate) const PARTS: usize = 5;

    /// The state as numbers; the first one is never absent.
    pub(crate) fn parts(self) -> [f64; Self::PARTS] {
        let incremental = if self.incremental { 1.0 } else { 0.0 };
        [self.count, self.sum.sum, self.sum.lost, self.mean, incremental]
    }

    pub(crate) fn from_parts([count, sum, lost, mean, incremental]: [f64; Self::PARTS]) -> Self {
        Self { sum: Sum { sum, lost }, mean, incremental: incremental != 0.0, count }
    }

    /// The mean of both, this one's values first.
    pub(crate) fn merge(self, later: Mean) -> Self {
        let count = self.count + later.count;
        if !self.incremental && !later.incremental {
            let sum = self.sum.merge(later.sum);
            if !sum.sum.is_infinite() {
                return Self { sum, mean: 0.0, incremental: false, count };
            }
        }
        let (one, two) = (self.count / count, later.count / count);
        let mut mean = Sum::of(self.value() * one);
        mean.add(later.value() * two);
        Self { sum: Sum { sum: 0.0, lost: mean.lost }, mean: mean.sum, incremental: true, count }
    }

    /// The sum of all values, while it does not overflow.
    pub(crate) fn sum_total(self) -> f64 {
        self.sum.sum + self.sum.lost
    }

    #[inline]
    pub(crate) fn value(self) -> f64 {
        if self.incremental {
            self.mean + self.sum.lost
        } else {
            self.sum.sum / self.count + self.sum.lost / self.count
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_survive_large_ones() {
        let mut sum = Sum::default();
        for value in [1e100, 1.0, -1e100, 1.0] {
            sum.add(value);
        }
        assert_eq!(sum.total(), 2.0);
        let merged = Sum::of(1e100).merge(Sum::of(1.0)).merge(Sum::of(-1e100));
        assert_eq!(merged.total(), 1.0);
    }

    #[test]
    fn infinities_and_overflow_follow_prometheus() {
        let mut sum = Sum::of(f64::INFINITY);
        sum.add(1.0);
        assert_eq!(sum.total(), f64::INFINITY);
        sum.add(f64::NEG_INFINITY);
        assert!(sum.total().is_nan());
        let mut mean = Mean::of(1.7e308);
        mean.add(1.7e308);
        mean.add(1.7e308);
        assert_eq!(mean.value(), 1.7e308);
        let merged = Mean::of(1.7e308).merge(Mean::of(1.7e308));
        assert_eq!(merged.value(), 1.7e308);
    }
}
