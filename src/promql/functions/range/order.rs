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

/// The quantile of values, which are reordered on the way.
pub(crate) fn quantile_of(quantile: f64, values: &mut [f64]) -> f64 {
    let Some(rank) = Rank::of(quantile, values.len()) else {
        return no_rank(quantile, values.len());
    };
    let (_, lower, above) = values.select_nth_unstable_by(rank.lower, nan_first);
    let lower = *lower;
    // The next one in order is the least of those above.
    let upper = above.iter().copied().min_by(nan_first).unwrap_or(lower);
    rank.between(lower, upper)
}

fn quantile_of_sorted(quantile: f64, sorted: &[f64]) -> f64 {
    let Some(rank) = Rank::of(quantile, sorted.len()) else {
        return no_rank(quantile, sorted.len());
    };
    let lower = sorted[rank.lower];
    rank.between(lower, sorted.get(rank.lower + 1).copied().unwrap_or(lower))
}

/// The quantile of so many values where it is none of them.
fn no_rank(quantile: f64, count: usize) -> f64 {
    if count == 0 || quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY }
}

/// Where a quantile lies among sorted values.
struct Rank {
    lower: usize,
    /// How far it is from there to the next one.
    weight: f64,
}

impl Rank {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    fn of(quantile: f64, count: usize) -> Option<Self> {
        if count == 0 || !(0.0..=1.0).contains(&quantile) {
            return None;
        }
        let rank = quantile * float(count - 1);
        Some(Self { lower: rank.floor() as usize, weight: rank - rank.floor() })
    }

    fn between(&self, lower: f64, upper: f64) -> f64 {
        lower * (1.0 - self.weight) + upper * self.weight
    }
}

/// Samples that enter and leave a sorted window one by one; with more than that it pays to look
/// for the quantile anew, since each of them moves half of the window.
const CHANGES_MAX: usize = 16;

/// `quantile_over_time`: the window's values are kept sorted while it slides slowly.
pub(crate) fn quantile(
    quantile: &Scalar,
    input: &Input<'_>,
    out: &mut [f64],
    mut check: impl FnMut(f64),
) {
    // The values of rows `from..to`, sorted if `is_sorted`.
    let mut values: Vec<f64> = Vec::new();
    let (mut from, mut to, mut is_sorted) = (0, 0, false);
    input.slide(|step, low, high| {
        let wanted = quantile.at(input.grid.number(step));
        check(wanted);
        let slides = low < to;
        let changes = if slides { (low - from) + (high - to) } else { high - low };
        if slides && is_sorted && changes <= CHANGES_MAX {
            for value in &input.values[from..low] {
                if let Ok(place) = values.binary_search_by(|known| nan_first(known, value)) {
                    values.remove(place);
                }
            }
            for value in &input.values[to..high] {
                let place = values.partition_point(|known| nan_first(known, value).is_lt());
                values.insert(place, *value);
            }
        } else {
            values.clear();
            values.extend_from_slice(&input.values[low..high]);
            is_sorted = changes <= CHANGES_MAX;
            if is_sorted {
                values.sort_unstable_by(nan_first);
            }
        }
        (from, to) = (low, high);
        out[step] = match is_sorted {
            true => quantile_of_sorted(wanted, &values),
            false => quantile_of(wanted, &mut values),
        };
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
    use crate::promql::functions::range::{Edges, Window};
    use crate::query::Grid;

    #[test]
    fn quantiles_interpolate_and_put_nan_first() {
        assert_eq!(quantile_of(0.5, &mut [3.0, 1.0]), 2.0);
        assert_eq!(quantile_of(1.0, &mut [3.0, f64::NAN, 1.0]), 3.0);
        assert!(quantile_of(0.0, &mut [3.0, f64::NAN]).is_nan());
        assert_eq!(quantile_of(-0.1, &mut [1.0]), f64::NEG_INFINITY);
        assert_eq!(quantile_of(1.1, &mut [1.0]), f64::INFINITY);
        assert!(quantile_of(0.5, &mut []).is_nan());
    }

    #[test]
    fn windows_that_slide_slowly_and_quickly_give_what_each_gives_alone() {
        let timestamps: Vec<i64> = (0..400).map(|row| row * 10 + row % 7).collect();
        let values: Vec<f64> = (0..400)
            .map(|row| match row * 7_919 % 101 {
                0 => f64::NAN,
                1 => f64::INFINITY,
                2 => -0.0,
                rest => f64::from(rest) - 50.0,
            })
            .collect();
        for (range_ms, step_ms) in [(500, 10), (500, 170), (500, 2_000), (3_000, 70), (15, 30)] {
            let window =
                Window { range_ms, offset_ms: 0, at: None, edges: Edges::Plain, lookback_ms: 0 };
            let grid = Grid::range(-20, 5_000, step_ms).unwrap();
            let input = Input::new(&timestamps, &values, &window, grid);
            for wanted in [0.0, 0.31, 0.5, 1.0, 1.5] {
                let mut got = vec![7.25; grid.steps()];
                quantile(&Scalar::Const(wanted), &input, &mut got, |_| ());
                let mut expected = vec![7.25; grid.steps()];
                input.slide(|step, low, high| {
                    let mut sorted = values[low..high].to_vec();
                    sorted.sort_by(nan_first);
                    expected[step] = quantile_of_sorted(wanted, &sorted);
                });
                let bits =
                    |cells: &[f64]| cells.iter().map(|cell| cell.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&got), bits(&expected), "{range_ms} {step_ms} {wanted}");
            }
        }
    }
}
