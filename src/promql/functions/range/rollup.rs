//! Range functions and instant selectors over rollup rows.
//!
//! A row stands for all samples of a stretch; no window begins or ends inside one. What a function
//! gives over rows is what it gives over the samples: bit for bit, but for sums and means, whose
//! additions are grouped otherwise, and `rate` and `increase` of fractional counters with resets.
//!
//! Sums and means that overflow f64 on the way are the exception: what a row's sum lost to
//! infinity cannot be told.

use crate::columnar::aggregate::RollupColumns;
use crate::columnar::parquet::RollupColumnSet;
use crate::model::Labels;
use crate::promql::functions::range::fold::{Max, Min, put_parts};
use crate::promql::functions::range::instant::{InstantKernel, InstantValue};
use crate::promql::functions::range::kahan::{Mean, Sum};
use crate::promql::functions::range::rate::Ends;
use crate::promql::functions::range::window::{Merge, fold_sliding};
use crate::promql::functions::range::{
    Edges, RangeFunction, RangeKernel, SampleFold, SampleState, Window, float, seconds,
};
use crate::query::resolution::Rounding;
use crate::query::rollup_scan::{RollupInput, RollupKernel};
use crate::query::{Grid, WindowShape};

impl RangeFunction {
    /// The columns that give the function over windows with such edges; `None` if rows do not
    /// tell it.
    pub(super) fn rollup_columns(self, edges: Edges) -> Option<RollupColumnSet> {
        // Smoothed values lie on lines through samples that rows do not keep.
        if edges == Edges::Smoothed || !self.accepts(edges) {
            return None;
        }
        let all = |columns: &[RollupColumnSet]| {
            columns.iter().fold(RollupColumnSet::COUNT, |all, column| all.and(*column))
        };
        use RollupColumnSet as Column;
        // Whether the sample before the window is too old to count.
        let anchor = if edges == Edges::Anchored { Column::LAST_TS } else { Column::NONE };
        let delta = [Column::FIRST, Column::FIRST_TS, Column::LAST, Column::LAST_TS];
        let counter = [&delta[..], &[Column::RESET_SUM, Column::RESETS]].concat();
        Some(match self {
            RangeFunction::Rate | RangeFunction::Increase => all(&counter),
            RangeFunction::Delta => all(&delta),
            RangeFunction::Resets => all(&[anchor, Column::FIRST, Column::LAST, Column::RESETS]),
            RangeFunction::Changes => all(&[anchor, Column::FIRST, Column::LAST, Column::CHANGES]),
            RangeFunction::Sum | RangeFunction::Avg => all(&[Column::SUM]),
            RangeFunction::Min => all(&[Column::MIN]),
            RangeFunction::Max => all(&[Column::MAX]),
            RangeFunction::Count | RangeFunction::Present => all(&[]),
            RangeFunction::First => all(&[Column::FIRST]),
            RangeFunction::Last => all(&[Column::LAST]),
            RangeFunction::TsOfFirst => all(&[Column::FIRST_TS]),
            RangeFunction::TsOfLast => all(&[Column::LAST_TS]),
            RangeFunction::Irate
            | RangeFunction::Idelta
            | RangeFunction::Stddev
            | RangeFunction::Stdvar
            | RangeFunction::TsOfMin
            | RangeFunction::TsOfMax
            | RangeFunction::Quantile
            | RangeFunction::Mad
            | RangeFunction::Deriv
            | RangeFunction::PredictLinear
            | RangeFunction::DoubleExponentialSmoothing => return None,
        })
    }
}

impl Window {
    pub(crate) fn shape(&self) -> WindowShape {
        WindowShape {
            range_ms: self.range_ms,
            offset_ms: self.offset_ms,
            at: self.at,
            before_ms: if self.edges == Edges::Plain { 0 } else { self.lookback_ms },
        }
    }
}

impl RollupKernel for RangeKernel {
    fn shape(&self) -> WindowShape {
        self.window.shape()
    }

    fn columns(&self) -> RollupColumnSet {
        self.function.rollup_columns(self.window.edges).unwrap_or(RollupColumnSet::ALL)
    }

    fn evaluate_rows(&self, labels: &Labels, input: &RollupInput<'_>, out: &mut [f64]) {
        let rows = input.rows;
        let input = Rows::of(input, &self.window);
        match self.function {
            RangeFunction::Rate | RangeFunction::Increase | RangeFunction::Delta => {
                input.rate(self.function, out);
                if self.function != RangeFunction::Delta {
                    self.check_counter(labels, out);
                }
            }
            RangeFunction::Resets => {
                input.count_steps(&rows.resets, out, |last, next| next < last);
            }
            RangeFunction::Changes => input.count_steps(&rows.changes, out, |last, next| {
                next != last && !(next.is_nan() && last.is_nan())
            }),
            RangeFunction::Sum => input.sums(|step, sum, _| out[step] = sum.total()),
            RangeFunction::Avg => input.sums(|step, sum, count| {
                out[step] = Mean::of_sum(sum, float(count)).value();
            }),
            RangeFunction::Min => {
                input.fold(|row| Min(rows.min[row]), |step, min| out[step] = min.0);
            }
            RangeFunction::Max => {
                input.fold(|row| Max(rows.max[row]), |step, max| out[step] = max.0);
            }
            RangeFunction::Count => {
                let upto = input.counts();
                input.slide(|step, low, high| out[step] = float(upto[high] - upto[low]));
            }
            RangeFunction::Present => input.slide(|step, _, _| out[step] = 1.0),
            RangeFunction::First => input.slide(|step, low, _| out[step] = rows.first[low]),
            RangeFunction::Last => input.slide(|step, _, high| out[step] = rows.last[high - 1]),
            RangeFunction::TsOfFirst => {
                input.slide(|step, low, _| out[step] = seconds(rows.first_ts[low]));
            }
            RangeFunction::TsOfLast => {
                input.slide(|step, _, high| out[step] = seconds(rows.last_ts[high - 1]));
            }
            other => unreachable!("{other:?} has no rollup columns"),
        }
    }
}

impl RollupKernel for SampleFold {
    fn shape(&self) -> WindowShape {
        self.window.shape()
    }

    fn columns(&self) -> RollupColumnSet {
        RollupColumnSet::COUNT.and(RollupColumnSet::SUM)
    }

    fn evaluate_rows(&self, _: &Labels, input: &RollupInput<'_>, out: &mut [f64]) {
        let (grid, rows) = (input.grid, Rows::of(input, &self.window));
        match self.state {
            SampleState::Mean => rows.sums(|step, sum, count| {
                put_parts(Mean::of_sum(sum, float(count)).parts(), step, grid, out);
            }),
            SampleState::Sum => {
                rows.sums(|step, sum, _| put_parts([sum.sum, sum.lost], step, grid, out));
            }
            SampleState::Spread => unreachable!("a spread has no rollup columns"),
        }
    }
}

impl RollupKernel for InstantKernel {
    fn shape(&self) -> WindowShape {
        WindowShape {
            range_ms: 0,
            offset_ms: self.offset_ms,
            at: self.at,
            before_ms: self.lookback_ms,
        }
    }

    fn columns(&self) -> RollupColumnSet {
        let times = RollupColumnSet::COUNT.and(RollupColumnSet::LAST_TS);
        match self.wanted {
            InstantValue::Timestamp => times.and(RollupColumnSet::STALE),
            _ => times.and(RollupColumnSet::STALE).and(RollupColumnSet::LAST),
        }
    }

    fn evaluate_rows(&self, _: &Labels, input: &RollupInput<'_>, out: &mut [f64]) {
        let rows = input.rows;
        // Rows before `next` are not after the step.
        let mut next = 0;
        for (step, cell) in out.iter_mut().enumerate() {
            let at = input.rounding.down(self.looked_up(input.grid.at(step)));
            while next < rows.len() && rows.bucket_end[next] <= at {
                next += 1;
            }
            let Some(row) = next.checked_sub(1) else { continue };
            let is_gone = rows.stale_ts[row].is_some() || rows.count[row] == 0;
            if is_gone || rows.last_ts[row] <= at.saturating_sub(self.lookback_ms) {
                continue;
            }
            *cell = match self.wanted {
                InstantValue::Timestamp => seconds(rows.last_ts[row]),
                _ => rows.last[row],
            };
        }
    }
}

/// The rows of one series, none without samples, and the windows over them.
struct Rows<'a> {
    rows: &'a RollupColumns,
    window: &'a Window,
    grid: Grid,
    rounding: &'a Rounding,
}

impl<'a> Rows<'a> {
    fn of(input: &RollupInput<'a>, window: &'a Window) -> Self {
        Self { rows: input.rows, window, grid: input.grid, rounding: input.rounding }
    }

    /// Where the window of a step starts and ends.
    fn edges(&self, step: usize) -> (i64, i64) {
        let at = self.grid.at(step);
        (self.rounding.down(self.window.start(at)), self.rounding.down(self.window.end(at)))
    }

    /// Calls `visit(step, low, high)` for every step whose reach holds rows: `low..high`.
    fn slide(&self, visit: impl FnMut(usize, usize, usize)) {
        let ends = &self.rows.bucket_end;
        if self.rounding.is_empty() {
            return self.window.slide(ends, self.grid, visit);
        }
        self.window.slide_rounded(ends, self.grid, |edge| self.rounding.down(edge), visit);
    }

    /// How many samples there are before each row, and in all.
    fn counts(&self) -> Vec<usize> {
        let mut total = 0;
        let counts = self.rows.count.iter().map(|count| {
            total += usize::try_from(*count).unwrap_or(usize::MAX);
            total
        });
        std::iter::once(0).chain(counts).collect()
    }

    fn fold<S: Merge>(&self, of: impl Fn(usize) -> S, mut put: impl FnMut(usize, S)) {
        let add = |state: &mut S, row: usize| *state = state.merge(of(row));
        fold_sliding(|visit| self.slide(visit), &of, add, |step, _, state| put(step, state));
    }

    /// Sum and number of the samples of each window.
    fn sums(&self, mut put: impl FnMut(usize, Sum, usize)) {
        let upto = self.counts();
        let of = |row: usize| {
            // As samples are summed: from 0.0, so that a sum of −0.0 is 0.0.
            let mut sum = Sum::default();
            sum.add(self.rows.sum[row]);
            Folded { sum, rows: (row, row + 1) }
        };
        self.fold(of, |step, folded| {
            let (low, high) = folded.rows;
            put(step, folded.sum, upto[high] - upto[low]);
        });
    }

    /// The value is lower in `row` than at the end of the row before.
    fn falls_before(&self, row: usize) -> bool {
        self.rows.first[row] < self.rows.last[row - 1]
    }

    /// Rows in which, or right before which, the value falls.
    fn falls(&self) -> Vec<usize> {
        let falls = |row: &usize| self.rows.resets[*row] > 0 || *row > 0 && self.falls_before(*row);
        (0..self.rows.len()).filter(falls).collect()
    }

    /// `rate`, `increase` and `delta`, as over samples.
    fn rate(&self, function: RangeFunction, out: &mut [f64]) {
        let is_counter = function != RangeFunction::Delta;
        let per_second = match function {
            RangeFunction::Rate => Some(self.window.range_seconds()),
            _ => None,
        };
        let rows = self.rows;
        let falls = if is_counter { self.falls() } else { Vec::new() };
        if self.window.edges == Edges::Anchored {
            return self.anchored_rate(is_counter, &falls, per_second, out);
        }
        let upto = self.counts();
        let (mut from, mut to) = (0, 0);
        self.slide(|step, low, high| {
            let count = upto[high] - upto[low];
            if count < 2 {
                return;
            }
            while from < falls.len() && falls[from] < low {
                from += 1;
            }
            to = to.max(from);
            while to < falls.len() && falls[to] < high {
                to += 1;
            }
            let first = rows.first[low];
            let mut increase = rows.last[high - 1] - first;
            for &row in &falls[from..to] {
                if row > low && self.falls_before(row) {
                    increase += rows.last[row - 1];
                }
                // Without a reset nothing is added: −0.0 + 0.0 is 0.0.
                if rows.resets[row] > 0 {
                    increase += rows.reset_sum[row];
                }
            }
            let ends = Ends {
                window: self.edges(step),
                samples: (rows.first_ts[low], rows.last_ts[high - 1]),
                count,
            };
            let mut factor = ends.extrapolation(is_counter.then_some((first, increase)));
            if let Some(per_second) = per_second {
                factor /= per_second;
            }
            out[step] = increase * factor;
        });
    }

    /// The same from the last sample before each window to the last one in it.
    fn anchored_rate(
        &self,
        is_counter: bool,
        falls: &[usize],
        per_second: Option<f64>,
        out: &mut [f64],
    ) {
        let rows = self.rows;
        self.slide(|step, low, high| {
            let Some(Anchored { anchor, first }) = self.anchored(step, low, high) else { return };
            let left = anchor.map_or(rows.first[first], |row| rows.last[row]);
            let mut correction = 0.0;
            let from = falls.partition_point(|row| *row < first);
            for &row in falls[from..].iter().take_while(|row| **row < high) {
                // The row before the first one counts only as its anchor.
                if (row > first || anchor.is_some()) && row > 0 && self.falls_before(row) {
                    correction += rows.last[row - 1];
                }
                if rows.resets[row] > 0 {
                    correction += rows.reset_sum[row];
                }
            }
            let mut difference = rows.last[high - 1] - left;
            if is_counter {
                difference += correction;
            }
            out[step] = difference / per_second.unwrap_or(1.0);
        });
    }

    /// `resets` and `changes`: `inside` counts those within each row, `counts` says whether one
    /// value after another is one.
    fn count_steps(&self, inside: &[u64], out: &mut [f64], counts: impl Fn(f64, f64) -> bool) {
        let rows = self.rows;
        let inside = |row: usize| usize::try_from(inside[row]).unwrap_or(usize::MAX);
        let mut total = 0;
        // `upto[row]`: how many there are up to this row's end.
        let upto: Vec<usize> = (0..rows.len())
            .map(|row| {
                let before = row > 0 && counts(rows.last[row - 1], rows.first[row]);
                total += usize::from(before) + inside(row);
                total
            })
            .collect();
        self.slide(|step, low, high| {
            let (anchor, first) = match self.window.edges {
                Edges::Anchored => match self.anchored(step, low, high) {
                    Some(Anchored { anchor, first }) => (anchor, first),
                    None => return,
                },
                Edges::Plain | Edges::Smoothed => (None, low),
            };
            out[step] = float(match anchor {
                Some(row) => upto[high - 1] - upto[row],
                None => upto[high - 1] - upto[first] + inside(first),
            });
        });
    }

    /// Where an anchored window really begins; `None` if there is no sample in it.
    fn anchored(&self, step: usize, low: usize, high: usize) -> Option<Anchored> {
        let (start, _) = self.edges(step);
        let ends = &self.rows.bucket_end;
        let first = low + ends[low..high].partition_point(|end| *end <= start);
        let oldest = start.saturating_sub(self.window.lookback_ms);
        // A row may have begun before the lookback does, so its last sample decides.
        let anchor = first.checked_sub(1).filter(|row| self.rows.last_ts[*row] > oldest);
        (first < high).then_some(Anchored { anchor, first })
    }
}

struct Anchored {
    /// The row whose last sample is the window's first one.
    anchor: Option<usize>,
    /// The first row inside of the window.
    first: usize,
}

/// The sum of some rows, and which.
#[derive(Clone, Copy)]
struct Folded {
    sum: Sum,
    rows: (usize, usize),
}

impl Merge for Folded {
    fn merge(self, later: Self) -> Self {
        Self { sum: self.sum.merge(later.sum), rows: (self.rows.0, later.rows.1) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::columnar::aggregate::roll_up_stretch;
    use crate::model::{Samples, is_stale, stale_nan};
    use crate::promql::annotations::Annotations;
    use crate::query::WindowKernel;

    const LOOKBACK_MS: i64 = 300;

    fn kernel(function: RangeFunction, range_ms: i64, edges: Edges) -> RangeKernel {
        let window = Window { range_ms, offset_ms: 0, at: None, edges, lookback_ms: LOOKBACK_MS };
        let annotations = Arc::new(Annotations::new(""));
        RangeKernel {
            function,
            window,
            params: Vec::new(),
            annotations,
            position: 0,
            use_starts: false,
        }
    }

    /// One row for the samples between two cuts each; windows' cuts and some more, so that windows
    /// hold several rows.
    fn rows(samples: &Samples, shape: WindowShape, grid: Grid, every: i64) -> RollupColumns {
        let mut cuts = shape.demand(grid, &Rounding::default()).cuts;
        cuts.extend((-20..60).map(|number| number * every));
        cuts.sort_unstable();
        let mut rows = RollupColumns::default();
        let mut from = 0;
        for cut in cuts {
            let to = samples.timestamps.partition_point(|at| *at <= cut);
            if from < to {
                let (times, values) = (&samples.timestamps[from..to], &samples.values[from..to]);
                roll_up_stretch(times, values, cut, &mut rows);
            }
            from = to.max(from);
        }
        rows
    }

    fn with_samples(rows: &RollupColumns) -> RollupColumns {
        let mut kept = RollupColumns::default();
        for row in (0..rows.len()).filter(|row| rows.count[*row] > 0) {
            kept.extend_range(rows, row..row + 1);
        }
        kept
    }

    fn check(name: &str, raw: &[f64], rolled: &[f64], scale: f64) {
        for (step, (raw, rolled)) in raw.iter().zip(rolled).enumerate() {
            let same = raw.to_bits() == rolled.to_bits()
                || !is_stale(*raw) && !is_stale(*rolled) && raw.is_nan() && rolled.is_nan()
                || (raw - rolled).abs() <= scale * 1e-12;
            assert!(same, "{name} at step {step}: raw {raw:?}, rolled {rolled:?}");
        }
    }

    fn value(fractions: bool) -> impl Strategy<Value = f64> {
        let number = if fractions { 0.1 } else { 1.0 };
        prop_oneof![
            12 => (0i32..50).prop_map(move |value| f64::from(value) * number),
            2 => (-5i32..5).prop_map(f64::from),
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY),
            2 => Just(-0.0),
            2 => Just(stale_nan()),
        ]
    }

    const FUNCTIONS: [RangeFunction; 15] = [
        RangeFunction::Rate,
        RangeFunction::Increase,
        RangeFunction::Delta,
        RangeFunction::Resets,
        RangeFunction::Changes,
        RangeFunction::Sum,
        RangeFunction::Avg,
        RangeFunction::Min,
        RangeFunction::Max,
        RangeFunction::Count,
        RangeFunction::Present,
        RangeFunction::First,
        RangeFunction::Last,
        RangeFunction::TsOfFirst,
        RangeFunction::TsOfLast,
    ];

    proptest! {
        /// Every function gives over rows what it gives over samples: bit for bit where the
        /// samples are whole numbers, within 1e-12 of their size where they are not.
        #[test]
        fn rows_give_what_samples_give(
            fractions in any::<bool>(),
            seeds in prop::collection::vec((1i64..90, 0usize..20), 0..200),
            values in prop::collection::vec(value(false), 20),
            fractional in prop::collection::vec(value(true), 20),
            range_ms in 1i64..2_000,
            step in 1i64..700,
            every in prop::sample::select(vec![60i64, 100, 1_000]),
        ) {
            let mut at = 0;
            let mut samples = Samples::default();
            let values = if fractions { fractional } else { values };
            for (wait, number) in seeds {
                at += wait;
                samples.push(at, values[number]);
            }
            let grid = Grid::range(0, 8_000, step).unwrap();
            let scale = if fractions { 50.0 * 200.0 } else { 0.0 };
            let labels = Labels::empty();
            for (function, edges) in FUNCTIONS.iter().flat_map(|function| {
                [Edges::Plain, Edges::Anchored].map(|edges| (*function, edges))
            }) {
                let kernel = kernel(function, range_ms, edges);
                let Some(over_rows) = kernel.rollup() else {
                    prop_assert!(!function.accepts(edges));
                    continue;
                };
                let mut raw = vec![crate::query::ABSENT; grid.steps()];
                let mut rolled = raw.clone();
                kernel.evaluate(&labels, &mut samples.clone(), grid, &mut raw).unwrap();
                let rows = with_samples(&rows(&samples, over_rows.shape(), grid, every));
                let rounding = &Rounding::default();
                let input = RollupInput { rows: &rows, grid, rounding };
                over_rows.evaluate_rows(&labels, &input, &mut rolled);
                check(&format!("{function:?} {edges:?}"), &raw, &rolled, scale);
            }
            for wanted in [InstantValue::Value, InstantValue::Timestamp] {
                let kernel = InstantKernel { offset_ms: 3, at: None, lookback_ms: LOOKBACK_MS, wanted };
                let over_rows = kernel.rollup().unwrap();
                let mut raw = vec![crate::query::ABSENT; grid.steps()];
                let mut rolled = raw.clone();
                kernel.evaluate(&labels, &mut samples.clone(), grid, &mut raw).unwrap();
                let rows = rows(&samples, over_rows.shape(), grid, every);
                let rounding = &Rounding::default();
                let input = RollupInput { rows: &rows, grid, rounding };
                over_rows.evaluate_rows(&labels, &input, &mut rolled);
                check(&format!("{wanted:?}"), &raw, &rolled, 0.0);
            }
        }
    }

    #[test]
    fn what_rows_do_not_tell_is_read_raw() {
        for function in [RangeFunction::Irate, RangeFunction::Quantile, RangeFunction::Stddev] {
            assert!(kernel(function, 10, Edges::Plain).rollup().is_none());
        }
        assert!(kernel(RangeFunction::Rate, 10, Edges::Smoothed).rollup().is_none());
    }
}
