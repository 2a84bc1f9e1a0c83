//! Folds of a window: sums, means, extremes, variances, and what its edges alone tell.

use crate::model::is_stale;
use crate::promql::functions::range::kahan::{Mean, Sum};
use crate::promql::functions::range::window::{Fold, Merge, fold_each, fold_sliding};
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

/// Count, mean and sum of squared distances from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments {
    count: f64,
    mean: Sum,
    squares: Sum,
}

impl Moments {
    pub(crate) fn from_parts(count: f64, mean: f64, squares: f64) -> Self {
        Self { count, mean: Sum::of(mean), squares: Sum::of(squares) }
    }

    pub(crate) fn parts(self) -> [f64; 3] {
        [self.count, self.mean.sum + self.mean.lost, self.squares.sum + self.squares.lost]
    }

    pub(crate) fn variance(self) -> f64 {
        (self.squares.sum + self.squares.lost) / self.count
    }

    /// The moments of both sets of values.
    pub(crate) fn merged(mut self, later: Moments) -> Self {
        let [count, mean, squares] = later.parts();
        let [own_count, own_mean, _] = self.parts();
        let total = own_count + count;
        let apart = mean - own_mean;
        self.mean.add(apart * (count / total));
        self.squares.add(squares);
        self.squares.add(apart * apart * (own_count / total) * count);
        self.count = total;
        self
    }
}

impl Merge for Moments {
    fn merge(self, later: Self) -> Self {
        self.merged(later)
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

/// The state of a variance over range vectors: count, mean and squares of every window, as three
/// rows of cells.
pub(crate) fn sum_count_moments(
    input: (&[i64], &[f64]),
    window: &Window,
    grid: Grid,
    out: &mut [f64],
) {
    let input = Input { timestamps: input.0, values: input.1, window, grid };
    each(&input, |step, all: Moments| put_parts(all.parts(), step, grid, out));
}

/// The state of a mean over range vectors: the parts of every window's mean, as rows of cells.
pub(crate) fn means(input: (&[i64], &[f64]), window: &Window, grid: Grid, out: &mut [f64]) {
    let input = Input { timestamps: input.0, values: input.1, window, grid };
    each(&input, |step, mean: Mean| put_parts(mean.parts(), step, grid, out));
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

/// Folds whose last digits depend on the order of the additions, and which overflow.
fn each<F: Fold>(input: &Input<'_>, put: impl FnMut(usize, F)) {
    let (timestamps, values) = (input.timestamps, input.values);
    if input.window.overlaps_much(input.grid) && sums_stay_finite(values) {
        sliding(input, put);
    } else {
        fold_each(input.window, input.grid, timestamps, values, put);
    }
}

/// Folds that give the same in any order.
fn any_order<F: Fold>(input: &Input<'_>, put: impl FnMut(usize, F)) {
    let (timestamps, values) = (input.timestamps, input.values);
    if input.window.overlaps_much(input.grid) {
        sliding(input, put);
    } else {
        fold_each(input.window, input.grid, timestamps, values, put);
    }
}

fn sliding<F: Fold>(input: &Input<'_>, put: impl FnMut(usize, F)) {
    let (timestamps, values) = (input.timestamps, input.values);
    let of = |row: usize| F::of(values[row], timestamps[row]);
    let add = |state: &mut F, row: usize| state.add(values[row], timestamps[row]);
    fold_sliding(|visit| input.slide(visit), of, add, put);
}

/// Whether no sum of these values, nor of their squares, can overflow: then it does not matter
/// that a window is summed in two halves.
pub(super) fn sums_stay_finite(values: &[f64]) -> bool {
    values.iter().all(|value| value.abs() < 1e140 || is_stale(*value))
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
