//! Sum, least and greatest of a run of values.
//!
//! Order is IEEE 754's total order, as in ORDER BY and in DataFusion's own kernels: -0 is less than 0, and
//! a positive NaN is greater than all numbers.

use std::cmp::Ordering;

/// Values that are looked at side by side.
const LANES: usize = 8;

/// The sum of some values, added in lanes.
pub(super) fn sum(values: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    rest.iter().chain(&lanes).fold(0.0, |sum, value| sum + value)
}

pub(super) fn least(values: &[f64]) -> f64 {
    extreme(values, f64::INFINITY, |a, b| if a < b { a } else { b }, Ordering::Less)
}

pub(super) fn greatest(values: &[f64]) -> f64 {
    extreme(values, f64::NEG_INFINITY, |a, b| if a > b { a } else { b }, Ordering::Greater)
}

/// The value that no other is before, of at least one. Zeros and NaN, which comparisons of
/// floats cannot tell apart, are seldom the answer and looked at again.
#[inline(always)]
fn extreme(values: &[f64], open: f64, better: impl Fn(f64, f64) -> f64, before: Ordering) -> f64 {
    let (mut lanes, mut unordered) = ([open; LANES], [false; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in chunk.iter().enumerate() {
            lanes[lane] = better(*value, lanes[lane]);
            unordered[lane] |= value.is_nan();
        }
    }
    let rest_is_unordered = rest.iter().any(|value| value.is_nan());
    let found = rest.iter().chain(&lanes).fold(open, |found, value| better(*value, found));
    if found == 0.0 || rest_is_unordered || unordered.contains(&true) {
        let exact = values
            .iter()
            .copied()
            .reduce(|found, value| if value.total_cmp(&found) == before { value } else { found });
        return exact.unwrap_or(found);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_are_of_the_total_order() {
        let nan = f64::NAN;
        let cases: [&[f64]; 9] = [
            &[1.0],
            &[0.0, -0.0],
            &[-0.0, 0.0],
            &[nan],
            &[1.0, nan, -3.0],
            &[-nan, 1.0],
            &[f64::INFINITY, f64::NEG_INFINITY, 0.0],
            &[f64::INFINITY],
            &[
                5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.25, 0.125, -7.0, 9.0, 8.0, nan, 3.0, 1.0, 1.0, 1.0,
                2.0,
            ],
        ];
        for values in cases {
            let least_of = values.iter().copied().min_by(f64::total_cmp).unwrap();
            let greatest_of = values.iter().copied().max_by(f64::total_cmp).unwrap();
            assert_eq!(least(values).to_bits(), least_of.to_bits(), "{values:?}");
            assert_eq!(greatest(values).to_bits(), greatest_of.to_bits(), "{values:?}");
        }
    }

    #[test]
    fn sums_begin_at_zero() {
        assert_eq!(sum(&[-0.0]).to_bits(), 0.0_f64.to_bits());
        assert_eq!(sum(&(1..=100).map(f64::from).collect::<Vec<_>>()), 5_050.0);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }
}
