//! Order statistics of a window: quantiles and the median absolute deviation.

use std::cmp::Ordering;

use crate::promql::functions::range::{Input, float};
use crate::promql::scalar::Scalar;

/// The order in which PromQL sorts values for quantiles: NaN below all numbers.
fn nan_first(one: &f64, two: &f64) -> Ordering {
    match (one.is_nan(), two.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => one.total_cmp(two),
    }
}

/// The quantile of values, which are sorted on the way.
pub(crate) fn quantile_of(quantile: f64, values: &mut [f64]) -> f64 {
    values.sort_unstable_by(nan_first);
    quantile_of_sorted(quantile, values)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ranks are indices")]
fn quantile_of_sorted(quantile: f64, sorted: &[f64]) -> f64 {
    if sorted.is_empty() || quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    let last = float(sorted.len() - 1);
    let rank = quantile * last;
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(last);
    let weight = rank - rank.floor();
    sorted[lower as usize] * (1.0 - weight) + sorted[upper as usize] * weight
}

/// `quantile_over_time`: the window's values are kept sorted while it slides.
pub(crate) fn quantile(
    quantile: &Scalar,
    input: &Input<'_>,
    out: &mut [f64],
    mut check: impl FnMut(f64),
) {
    let mut sorted: Vec<f64> = Vec::new();
    let (mut from, mut to) = (0, 0);
    input.slide(|step, low, high| {
        if low >= to {
            sorted.clear();
            sorted.extend_from_slice(&input.values[low..high]);
            sorted.sort_unstable_by(nan_first);
        } else {
            for value in &input.values[from..low] {
                if let Ok(place) = sorted.binary_search_by(|known| nan_first(known, value)) {
                    sorted.remove(place);
                }
            }
            for value in &input.values[to..high] {
                let place = sorted.partition_point(|known| nan_first(known, value).is_lt());
                sorted.insert(place, *value);
            }
        }
        (from, to) = (low, high);
        let wanted = quantile.at(step);
        check(wanted);
        out[step] = quantile_of_sorted(wanted, &sorted);
    });
}

/// `mad_over_time`: the median distance from the median.
pub(crate) fn mad(input: &Input<'_>, out: &mut [f64]) {
    let mut values: Vec<f64> = Vec::new();
    input.slide(|step, low, high| {
        values.clear();
        values.extend_from_slice(&input.values[low..high]);
        if values.iter().any(|value| value.is_nan()) {
            out[step] = f64::NAN;
            return;
        }
        let median = quantile_of(0.5, &mut values);
        for value in &mut values {
            *value = (*value - median).abs();
        }
        out[step] = quantile_of(0.5, &mut values);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_and_put_nan_first() {
        assert_eq!(quantile_of(0.5, &mut [3.0, 1.0]), 2.0);
        assert_eq!(quantile_of(1.0, &mut [3.0, f64::NAN, 1.0]), 3.0);
        assert!(quantile_of(0.0, &mut [3.0, f64::NAN]).is_nan());
        assert_eq!(quantile_of(-0.1, &mut [1.0]), f64::NEG_INFINITY);
        assert_eq!(quantile_of(1.1, &mut [1.0]), f64::INFINITY);
        assert!(quantile_of(0.5, &mut []).is_nan());
    }
}
