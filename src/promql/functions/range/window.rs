//! Which samples a step sees: windows `(t - d, t]` that slide over a series with two cursors.

use std::ops::Range;

use crate::model::{TimeRange, Timestamp};
use crate::query::Grid;

/// How a range selector treats the edges of its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edges {
    Plain,
    /// The last sample at or before the window's start counts as its first.
    Anchored,
    /// Values at both edges are interpolated.
    Smoothed,
}

/// The window of a selector, relative to the step or pinned by `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) range_ms: i64,
    pub(crate) offset_ms: i64,
    pub(crate) at: Option<Timestamp>,
    pub(crate) edges: Edges,
    pub(crate) lookback_ms: i64,
}

impl Window {
    /// The range in seconds, as Go adds up whole seconds and the rest of a duration.
    #[expect(clippy::cast_precision_loss, reason = "as Prometheus converts durations")]
    pub(crate) fn range_seconds(&self) -> f64 {
        (self.range_ms / 1_000) as f64 + (self.range_ms % 1_000 * 1_000_000) as f64 / 1e9
    }

    /// Where the window of this step ends.
    #[inline]
    pub(crate) fn end(&self, step_at: Timestamp) -> Timestamp {
        self.at.unwrap_or(step_at).saturating_sub(self.offset_ms)
    }

    /// The timestamp before its first one.
    #[inline]
    pub(crate) fn start(&self, step_at: Timestamp) -> Timestamp {
        self.end(step_at).saturating_sub(self.range_ms)
    }

    /// What is read for a window: it, and what its edges need.
    #[inline]
    fn reach(&self, start: Timestamp, end: Timestamp) -> (Timestamp, Timestamp) {
        match self.edges {
            Edges::Plain => (start, end),
            Edges::Anchored => (start.saturating_sub(self.lookback_ms), end),
            Edges::Smoothed => {
                (start.saturating_sub(self.lookback_ms), end.saturating_add(self.lookback_ms))
            }
        }
    }

    /// The samples that any step of the grid needs.
    pub(crate) fn read_range(&self, grid: Grid) -> Option<TimeRange> {
        let reach = |at| self.reach(self.start(at), self.end(at));
        let ((start, _), (_, end)) = (reach(grid.start()), reach(grid.last()));
        TimeRange::new(start.saturating_add(1), end)
    }

    /// Calls `visit(step, low, high)` for every step whose reach holds samples: they are
    /// `timestamps[low..high]`.
    #[inline]
    pub(crate) fn slide(
        &self,
        timestamps: &[Timestamp],
        grid: Grid,
        visit: impl FnMut(usize, usize, usize),
    ) {
        self.slide_rounded(timestamps, grid, |edge| edge, visit);
    }

    /// The same for windows whose edges are moved, never past each other.
    #[inline]
    pub(crate) fn slide_rounded(
        &self,
        timestamps: &[Timestamp],
        grid: Grid,
        round: impl Fn(Timestamp) -> Timestamp,
        mut visit: impl FnMut(usize, usize, usize),
    ) {
        let (mut low, mut high) = (0, 0);
        for step in 0..grid.steps() {
            let at = grid.at(step);
            let (start, end) = self.reach(round(self.start(at)), round(self.end(at)));
            while high < timestamps.len() && timestamps[high] <= end {
                high += 1;
            }
            while low < high && timestamps[low] <= start {
                low += 1;
            }
            if low < high {
                visit(step, low, high);
            }
        }
    }

    /// Whether windows overlap so much that it pays to keep state from one to the next.
    pub(crate) fn overlaps_much(&self, grid: Grid) -> bool {
        self.at.is_none() && grid.steps() > 1 && self.range_ms / grid.step_ms() > 8
    }
}

/// A state that stands for some rows of a window.
pub(crate) trait Merge: Copy {
    /// This state, then a later one.
    fn merge(self, later: Self) -> Self;
}

/// A state that a window folds its samples into, first to last.
pub(crate) trait Fold: Copy {
    fn of(value: f64, timestamp: Timestamp) -> Self;
    fn add(&mut self, value: f64, timestamp: Timestamp);
}

/// Folds every window from its first sample to its last.
pub(crate) fn fold_each<F: Fold>(
    window: &Window,
    grid: Grid,
    timestamps: &[Timestamp],
    values: &[f64],
    mut put: impl FnMut(usize, F),
) {
    window.slide(timestamps, grid, |step, low, high| {
        put(step, fold_rows(&timestamps[low..high], &values[low..high]));
    });
}

/// Folds samples, of which there must be one.
#[inline]
pub(crate) fn fold_rows<F: Fold>(timestamps: &[Timestamp], values: &[f64]) -> F {
    let mut state = F::of(values[0], timestamps[0]);
    for (value, timestamp) in values.iter().zip(timestamps).skip(1) {
        state.add(*value, *timestamp);
    }
    state
}

/// Folds every window in O(rows + steps): the states of all tails of the older part of the window
/// are kept, the newer part is one state, and nothing is ever subtracted. Rows are samples, or
/// whatever `slide` slides over: `of` gives the state of one, `add` adds one to a state.
pub(crate) fn fold_sliding<S: Merge>(
    slide: impl FnOnce(&mut dyn FnMut(usize, usize, usize)),
    of: impl Fn(usize) -> S,
    add: impl Fn(&mut S, usize),
    mut put: impl FnMut(usize, Range<usize>, S),
) {
    // `tails[i]` folds rows `base + i .. middle`; `newer` folds rows `middle .. end`.
    let mut tails: Vec<S> = Vec::new();
    let (mut base, mut middle, mut end) = (0, 0, 0);
    let mut newer: Option<S> = None;
    slide(&mut |step, low, high| {
        if low >= end {
            (middle, end, newer) = (low, low, None);
        }
        while end < high {
            match &mut newer {
                Some(state) => add(state, end),
                None => newer = Some(of(end)),
            }
            end += 1;
        }
        if low > middle {
            // The older part is used up: all rows of the window become tails.
            tails.clear();
            tails.resize(high - low, of(high - 1));
            for row in (low..high - 1).rev() {
                tails[row - low] = of(row).merge(tails[row - low + 1]);
            }
            (base, middle, newer) = (low, high, None);
        }
        let older = (low < middle).then(|| tails[low - base]);
        match (older, newer) {
            (Some(older), Some(newer)) => put(step, low..high, older.merge(newer)),
            (Some(state), None) | (None, Some(state)) => put(step, low..high, state),
            (None, None) => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Rows(u64, u64);

    impl Merge for Rows {
        fn merge(self, later: Self) -> Self {
            assert_eq!(self.1 + 1, later.0);
            Rows(self.0, later.1)
        }
    }

    impl Fold for Rows {
        fn of(value: f64, _: Timestamp) -> Self {
            let row = value.to_bits();
            Rows(row, row)
        }
        fn add(&mut self, value: f64, _: Timestamp) {
            assert_eq!(self.1 + 1, value.to_bits());
            self.1 += 1;
        }
    }

    fn window(range_ms: i64) -> Window {
        Window { range_ms, offset_ms: 0, at: None, edges: Edges::Plain, lookback_ms: 0 }
    }

    #[test]
    fn sliding_sees_the_same_rows_as_folding_each_window() {
        let mut timestamps = Vec::new();
        let mut at = 0;
        for row in 0_i64..300 {
            at += 1 + (row * 7919) % 23 + if row % 90 == 0 { 400 } else { 0 };
            timestamps.push(at);
        }
        let values: Vec<f64> = (0..300).map(f64::from_bits).collect();
        for (range, step) in [(10, 10), (100, 7), (500, 3), (50, 200), (3000, 1)] {
            let grid = Grid::range(-20, 6000, step).unwrap();
            let collect = |sliding: bool| {
                let mut seen = Vec::new();
                let mut put = |step, rows: Rows| seen.push((step, rows));
                if sliding {
                    let of = |row: usize| Rows::of(values[row], timestamps[row]);
                    let add = |rows: &mut Rows, row: usize| rows.add(values[row], timestamps[row]);
                    let window = window(range);
                    let slide = |visit: &mut dyn FnMut(usize, usize, usize)| {
                        window.slide(&timestamps, grid, visit);
                    };
                    fold_sliding(slide, of, add, |step, rows, state: Rows| {
                        assert_eq!(rows.len() as u64, state.1 - state.0 + 1);
                        put(step, state);
                    });
                } else {
                    fold_each(&window(range), grid, &timestamps, &values, put);
                }
                seen
            };
            let each = collect(false);
            assert!(!each.is_empty());
            assert_eq!(collect(true), each, "range {range} step {step}");
        }
    }

    #[test]
    fn windows_are_open_to_the_left() {
        let grid = Grid::range(10, 30, 10).unwrap();
        let mut seen = Vec::new();
        window(10)
            .slide(&[0, 10, 15, 20, 31], grid, |step, low, high| seen.push((step, low, high)));
        assert_eq!(seen, [(0, 1, 2), (1, 2, 4)]);
        assert_eq!(window(10).read_range(grid), TimeRange::new(1, 30));
    }
}
