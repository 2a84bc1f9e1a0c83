//! Folds of a window: sums, means, extremes, variances, and what its edges alone tell.

use std::ops::Range;

use crate::model::{Samples, is_stale};
use crate::promql::functions::range::kahan::{Mean, Sum};
use crate::promql::functions::range::spread::Spread;
use crate::promql::functions::range::window::{Fold, Merge, fold_each, fold_rows, fold_sliding};
use crate::promql::functions::range::{Input, RangeFunction, Window, float, seconds};
use crate::query::Grid;

impl Merge for Sum {
    fn merge(self, later: Self) -> Self {
        Sum::merge(self, later)
    }
}

impl Fold for Sum {
    fn of(value: f64, _: i64) -> Self {
        let mut sum = Sum::default();
        sum.add(value);
        sum
    }
    #[inline]
    fn add(&mut self, value: f64, _: i64) {
        Sum::add(self, value);
    }
}

impl Merge for Mean {
    fn merge(self, later: Self) -> Self {
        Mean::merge(self, later)
    }
}

impl Fold for Mean {
    fn of(value: f64, _: i64) -> Self {
        Mean::of(value)
    }
    #[inline]
    fn add(&mut self, value: f64, _: i64) {
        Mean::add(self, value);
    }
}

/// The lowest value: the first of equal ones, a NaN only if there is nothing else.
#[derive(Clone, Copy)]
pub(crate) struct Min(pub(crate) f64);

impl Merge for Min {
    fn merge(mut self, later: Self) -> Self {
        self.add(later.0, 0);
        self
    }
}

impl Fold for Min {
    fn of(value: f64, _: i64) -> Self {
        Min(value)
    }
    #[inline]
    fn add(&mut self, value: f64, _: i64) {
        if value < self.0 || self.0.is_nan() {
            self.0 = value;
        }
    }
}

/// The highest value, likewise.
#[derive(Clone, Copy)]
pub(crate) struct Max(pub(crate) f64);

impl Merge for Max {
    fn merge(mut self, later: Self) -> Self {
        self.add(later.0, 0);
        self
    }
}

impl Fold for Max {
    fn of(value: f64, _: i64) -> Self {
        Max(value)
    }
    #[inline]
    fn add(&mut self, value: f64, _: i64) {
        if value > self.0 || self.0.is_nan() {
            self.0 = value;
        }
    }
}

/// When the lowest value was last seen.
#[derive(Clone, Copy)]
struct MinAt(f64, i64);

impl Merge for MinAt {
    fn merge(mut self, later: Self) -> Self {
        self.add(later.0, later.1);
        self
    }
}

impl Fold for MinAt {
    fn of(value: f64, timestamp: i64) -> Self {
        MinAt(value, timestamp)
    }
    #[inline]
    fn add(&mut self, value: f64, timestamp: i64) {
        if value <= self.0 || self.0.is_nan() {
            *self = MinAt(value, timestamp);
        }
    }
}

/// When the highest value was last seen.
#[derive(Clone, Copy)]
struct MaxAt(f64, i64);

impl Merge for MaxAt {
    fn merge(mut self, later: Self) -> Self {
        self.add(later.0, later.1);
        self
    }
}

impl Fold for MaxAt {
    fn of(value: f64, timestamp: i64) -> Self {
        MaxAt(value, timestamp)
    }
    #[inline]
    fn add(&mut self, value: f64, timestamp: i64) {
        if value >= self.0 || self.0.is_nan() {
            *self = MaxAt(value, timestamp);
        }
    }
}

/// Count, mean and sum of squared distances from it, as Prometheus updates them.
#[derive(Debug, Clone, Copy)]
struct Moments {
    count: f64,
    mean: Sum,
    squares: Sum,
}

impl Moments {
    fn variance(self) -> f64 {
        (self.squares.sum + self.squares.lost) / self.count
    }
}

impl Fold for Moments {
    fn of(value: f64, timestamp: i64) -> Self {
        let mut none = Moments { count: 0.0, mean: Sum::default(), squares: Sum::default() };
        none.add(value, timestamp);
        none
    }
    #[inline]
    fn add(&mut self, value: f64, _: i64) {
        self.count += 1.0;
        let apart = value - (self.mean.sum + self.mean.lost);
        self.mean.add(apart / self.count);
        self.squares.add(apart * (value - (self.mean.sum + self.mean.lost)));
    }
}

/// A fold into a sum, or what is a sum but for a factor.
trait Summed: Fold + Merge {
    fn total(self) -> f64;
}

impl Summed for Sum {
    fn total(self) -> f64 {
        self.sum + self.lost
    }
}

impl Summed for Mean {
    fn total(self) -> f64 {
        self.sum_total()
    }
}

/// A sum, and how large what it sums is.
#[derive(Clone, Copy)]
struct Weighed<F> {
    sum: F,
    magnitude: f64,
}

impl<F: Merge> Merge for Weighed<F> {
    fn merge(self, later: Self) -> Self {
        let magnitude = self.magnitude + later.magnitude;
        Self { sum: self.sum.merge(later.sum), magnitude }
    }
}

impl<F: Fold> Fold for Weighed<F> {
    fn of(value: f64, timestamp: i64) -> Self {
        Self { sum: F::of(value, timestamp), magnitude: value.abs() }
    }
    #[inline]
    fn add(&mut self, value: f64, timestamp: i64) {
        self.sum.add(value, timestamp);
        self.magnitude += value.abs();
    }
}

impl<F: Summed> Weighed<F> {
    /// Whether the same values give the same sum within 2e-13 of it, in whatever order they are
    /// added: a compensated sum of `count` values errs by its own rounding and at most
    /// `(count · u)² · Σ|x|`, u = 2⁻⁵³ (Higham, "Accuracy and stability of numerical
    /// algorithms", §4.3).
    fn is_settled(&self, count: usize) -> bool {
        let rounding = float(count) * f64::EPSILON / 2.0;
        rounding * rounding * self.magnitude <= 1e-13 * self.sum.total().abs()
    }
}

/// The functions that see every sample of the window.
pub(crate) fn fold(function: RangeFunction, input: &Input<'_>, out: &mut [f64]) {
    match function {
        RangeFunction::Sum => each(input, |step, sum: Sum| out[step] = sum.total()),
        RangeFunction::Avg => each(input, |step, mean: Mean| out[step] = mean.value()),
        RangeFunction::Stdvar => in_order(input, |step, all: Moments| out[step] = all.variance()),
        RangeFunction::Stddev => {
            in_order(input, |step, all: Moments| out[step] = all.variance().sqrt());
        }
        RangeFunction::Min => any_order(input, |step, min: Min| out[step] = min.0),
        RangeFunction::Max => any_order(input, |step, max: Max| out[step] = max.0),
        RangeFunction::TsOfMin => {
            any_order(input, |step, min: MinAt| out[step] = seconds(min.1));
        }
        RangeFunction::TsOfMax => {
            any_order(input, |step, max: MaxAt| out[step] = seconds(max.1));
        }
        other => unreachable!("{other:?} is not a fold"),
    }
}

/// The state of a variance over range vectors: the parts of every window's spread.
pub(crate) fn spreads(input: &Input<'_>, out: &mut [f64]) {
    any_order(input, |step, all: Spread| put_parts(all.parts(), step, input.grid, out));
}

/// The state of a mean over range vectors: the parts of every window's mean, as rows of cells.
pub(crate) fn means(input: &Input<'_>, out: &mut [f64]) {
    each(input, |step, mean: Mean| put_parts(mean.parts(), step, input.grid, out));
}

/// The state of a sum over range vectors: the sum and what rounding took from it.
pub(crate) fn sums(input: &Input<'_>, out: &mut [f64]) {
    each(input, |step, sum: Sum| put_parts([sum.sum, sum.lost], step, input.grid, out));
}

/// Writes the parts of one step's state: all first parts come first, then all second ones.
pub(crate) fn put_parts<const PARTS: usize>(
    parts: [f64; PARTS],
    step: usize,
    grid: Grid,
    out: &mut [f64],
) {
    for (part, value) in parts.into_iter().enumerate() {
        out[part * grid.steps() + step] = value;
    }
}

/// Folds that go sample by sample in every window: merged halves of a variance lose digits where
/// the mean is large and the spread small (timestamps, say), more than an answer may.
fn in_order<F: Fold>(input: &Input<'_>, put: impl FnMut(usize, F)) {
    fold_each(input.window, input.grid, input.timestamps, input.values, put);
}

/// Folds whose last digits depend on the order of the additions, and which overflow. Where the
/// order tells in more than the last digits, since what is added cancels, a window is folded from
/// its first sample to its last.
fn each<F: Summed>(input: &Input<'_>, mut put: impl FnMut(usize, F)) {
    let (timestamps, values) = (input.timestamps, input.values);
    if !input.window.overlaps_much(input.grid) || !sums_stay_finite(values) {
        return fold_each(input.window, input.grid, timestamps, values, put);
    }
    let is_exact = sums_are_exact(values);
    sliding(input, |step, rows, weighed: Weighed<F>| {
        if is_exact || weighed.is_settled(rows.len()) {
            return put(step, weighed.sum);
        }
        let (low, high) = (rows.start, rows.end);
        put(step, fold_rows(&timestamps[low..high], &values[low..high]));
    });
}

/// Folds that give the same in any order.
fn any_order<F: Fold + Merge>(input: &Input<'_>, mut put: impl FnMut(usize, F)) {
    let (timestamps, values) = (input.timestamps, input.values);
    if input.window.overlaps_much(input.grid) {
        sliding(input, |step, _, state| put(step, state));
    } else {
        fold_each(input.window, input.grid, timestamps, values, put);
    }
}

fn sliding<F: Fold + Merge>(input: &Input<'_>, put: impl FnMut(usize, Range<usize>, F)) {
    let (timestamps, values) = (input.timestamps, input.values);
    let of = |row: usize| F::of(values[row], timestamps[row]);
    let add = |state: &mut F, row: usize| state.add(values[row], timestamps[row]);
    fold_sliding(|visit| input.slide(visit), of, add, put);
}

/// What one sample of each window costs a sum, if its windows may have to be folded one by one.
pub(super) fn sum_look_cost(samples: &Samples, window: &Window, grid: Grid) -> Option<usize> {
    let values = &samples.values;
    let slides = sums_stay_finite(values) && (sums_are_exact(values) || sums_only_grow(values));
    (window.overlaps_much(grid) && !slides).then_some(SUM_LOOKS)
}

/// What adding to a compensated sum costs, in samples read.
const SUM_LOOKS: usize = 3;

/// Whether no sum of these values, nor of their squares, can overflow: then it does not matter
/// that a window is summed in two halves.
fn sums_stay_finite(values: &[f64]) -> bool {
    values.iter().all(|value| value.abs() < 1e140 || is_stale(*value))
}

/// Whether every sum of these values is a whole number that an f64 holds.
fn sums_are_exact(values: &[f64]) -> bool {
    let bound = (1u64 << 53) as f64 / float(values.len().max(1));
    values.iter().all(|value| value.abs() <= bound && value.trunc() == *value || is_stale(*value))
}

/// Whether nothing cancels.
fn sums_only_grow(values: &[f64]) -> bool {
    let one_sign =
        |keeps: fn(f64) -> bool| values.iter().all(|value| keeps(*value) || is_stale(*value));
    one_sign(|value| value >= 0.0) || one_sign(|value| value <= 0.0)
}

/// The functions that need no more than the window's first and last sample.
pub(crate) fn edge(function: RangeFunction, input: &Input<'_>, out: &mut [f64]) {
    let (timestamps, values) = (input.timestamps, input.values);
    match function {
        RangeFunction::Count => input.slide(|step, low, high| out[step] = float(high - low)),
        RangeFunction::Present => input.slide(|step, _, _| out[step] = 1.0),
        RangeFunction::First => input.slide(|step, low, _| out[step] = values[low]),
        RangeFunction::Last => input.slide(|step, _, high| out[step] = values[high - 1]),
        RangeFunction::TsOfFirst => {
            input.slide(|step, low, _| out[step] = seconds(timestamps[low]));
        }
        RangeFunction::TsOfLast => {
            input.slide(|step, _, high| out[step] = seconds(timestamps[high - 1]));
        }
        other => unreachable!("{other:?} looks at more than the edges"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::functions::range::Edges;
    use crate::query::ABSENT;

    /// Values that cancel: large ones of both signs, fractions, and stretches without any.
    fn cancelling() -> Samples {
        let mut samples = Samples::default();
        for row in 0..2_000_i64 {
            let small = (row * 7_919 % 1_009) as f64 / 7.0;
            let value = match row % 40 {
                0 | 23 => 1e16,
                3 | 31 => -1e16,
                7 => -small * 3.0,
                _ => small - 70.0,
            };
            samples.push(row * 10, if row / 500 == 1 { small } else { value });
        }
        samples
    }

    #[test]
    fn sliding_sums_agree_with_the_fold_of_each_window_though_values_cancel() {
        let samples = cancelling();
        for (range_ms, step_ms) in [(400, 10), (1_000, 70), (10_000, 30), (90, 10)] {
            let window =
                Window { range_ms, offset_ms: 0, at: None, edges: Edges::Plain, lookback_ms: 0 };
            let grid = Grid::range(0, 20_000, step_ms).unwrap();
            let (timestamps, values) = (&samples.timestamps[..], &samples.values[..]);
            let input = Input::new(timestamps, values, &window, grid);
            for function in [RangeFunction::Sum, RangeFunction::Avg] {
                let mut slid = vec![ABSENT; grid.steps()];
                fold(function, &input, &mut slid);
                let mut folded = vec![ABSENT; grid.steps()];
                match function {
                    RangeFunction::Sum => {
                        fold_each(&window, grid, timestamps, values, |step, sum: Sum| {
                            folded[step] = sum.total();
                        })
                    }
                    _ => fold_each(&window, grid, timestamps, values, |step, mean: Mean| {
                        folded[step] = mean.value();
                    }),
                }
                for (step, (one, two)) in slid.iter().zip(&folded).enumerate() {
                    let near = (one - two).abs() <= 1e-12 * two.abs();
                    assert!(near || is_stale(*one) && is_stale(*two), "{step}: {one} {two}");
                }
            }
        }
    }

    #[test]
    fn only_sums_that_may_cancel_are_cut() {
        let window =
            Window { range_ms: 1_000, offset_ms: 0, at: None, edges: Edges::Plain, lookback_ms: 0 };
        let grid = Grid::range(0, 20_000, 10).unwrap();
        let of = |values: &[f64]| {
            let timestamps = (0..).take(values.len()).collect();
            let samples = Samples { timestamps, values: values.to_vec() };
            sum_look_cost(&samples, &window, grid)
        };
        for slides in [&[0.5, 7.25, 0.0][..], &[-0.5, -0.0], &[1.0, -1.0], &[1.0, ABSENT, -3.0]] {
            assert_eq!(of(slides), None, "{slides:?}");
        }
        for cancels in [&[0.5, -0.5][..], &[1e16, -1.0], &[f64::NAN], &[1.0, f64::INFINITY]] {
            assert_eq!(of(cancels), Some(SUM_LOOKS), "{cancels:?}");
        }
        assert_eq!(sum_look_cost(&cancelling(), &window, Grid::instant(5)), None);
    }
}
