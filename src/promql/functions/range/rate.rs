//! Differences: `rate`, `increase`, `delta`, their instant kin, `resets` and `changes`.

use crate::promql::functions::range::started::overlaps;
use crate::promql::functions::range::{Edges, Input, RangeFunction, float, seconds};

/// `rate`, `increase` and `delta`, extrapolated to the window's edges as Prometheus does, or
/// taken at the edges where the selector is `anchored` or `smoothed`.
pub(crate) fn rate(function: RangeFunction, input: &Input<'_>, out: &mut [f64]) {
    let is_counter = function != RangeFunction::Delta;
    let per_second = match function {
        RangeFunction::Rate => Some(input.window.range_seconds()),
        _ => None,
    };
    if input.window.edges != Edges::Plain {
        return at_edges(is_counter, per_second, input, out);
    }
    let resets = if is_counter { resets(input) } else { Vec::new() };
    let has_starts = is_counter && !input.starts.is_empty();
    let (mut from, mut to) = (0, 0);
    input.slide(|step, low, high| {
        let at = input.grid.at(step);
        let window = (input.window.start(at), input.window.end(at));
        let zero = if has_starts { input.counted(low).zero_after(window.0) } else { None };
        if high - low < 2 && zero.is_none() {
            return;
        }
        while from < resets.len() && resets[from] <= low {
            from += 1;
        }
        to = to.max(from);
        while to < resets.len() && resets[to] < high {
            to += 1;
        }
        let first = input.values[low];
        let mut increase = input.values[high - 1] - first;
        for reset in &resets[from..to] {
            increase += input.values[reset - 1];
        }
        let samples = (input.timestamps[low], input.timestamps[high - 1]);
        let ends = Ends { window, samples, count: high - low };
        let mut factor = match zero {
            Some(zero) => {
                increase += first;
                ends.extrapolation_from(zero)
            }
            None => ends.extrapolation(is_counter.then_some((first, increase))),
        };
        if let Some(per_second) = per_second {
            factor /= per_second;
        }
        out[step] = increase * factor;
    });
}

/// Rows at which a counter began anew.
fn resets(input: &Input<'_>) -> Vec<usize> {
    (1..input.values.len()).filter(|row| input.is_reset(*row)).collect()
}

/// How many windows hold a sample whose start timestamp lies in what the sample before it has
/// counted already.
pub(crate) fn windows_of_overlaps(input: &Input<'_>) -> u64 {
    if input.starts.is_empty() {
        return 0;
    }
    let is_overlap = |row: &usize| overlaps(input.counted(row - 1), input.counted(*row));
    let rows: Vec<usize> = (1..input.starts.len()).filter(is_overlap).collect();
    let mut windows = 0;
    input.slide(|_, low, high| {
        let next = rows.partition_point(|row| *row <= low);
        windows += u64::from(rows.get(next).is_some_and(|row| *row < high));
    });
    windows
}

/// Where a window and its samples begin and end.
pub(crate) struct Ends {
    pub(crate) window: (i64, i64),
    pub(crate) samples: (i64, i64),
    pub(crate) count: usize,
}

impl Ends {
    /// By what the increase between the samples is multiplied to cover the window. A counter,
    /// given as its first value and its increase, is not extrapolated below zero.
    #[inline]
    pub(crate) fn extrapolation(&self, counter: Option<(f64, f64)>) -> f64 {
        let mut to_start = seconds(self.samples.0 - self.window.0);
        let mut to_end = seconds(self.window.1 - self.samples.1);
        let sampled = seconds(self.samples.1 - self.samples.0);
        let between = sampled / float(self.count - 1);
        let threshold = between * 1.1;
        if to_start >= threshold {
            to_start = between / 2.0;
        }
        if let Some((first, increase)) = counter {
            let mut to_zero = to_start;
            if increase > 0.0 && first >= 0.0 {
                to_zero = sampled * (first / increase);
            }
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        if to_end >= threshold {
            to_end = between / 2.0;
        }
        if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled }
    }

    /// The same for a counter that was zero at a time inside of the window, before the samples.
    fn extrapolation_from(&self, zero: i64) -> f64 {
        let mut to_end = seconds(self.window.1 - self.samples.1);
        let sampled = seconds(self.samples.1 - zero);
        // Of a single sample nobody knows when the next one would have come.
        let between = match self.count {
            1 => 0.0,
            count => seconds(self.samples.1 - self.samples.0) / float(count - 1),
        };
        if to_end >= between * 1.1 {
            to_end = between / 2.0;
        }
        (sampled + to_end) / sampled
    }
}

/// `anchored` and `smoothed`: the difference of the values at the window's edges.
fn at_edges(is_counter: bool, per_second: Option<f64>, input: &Input<'_>, out: &mut [f64]) {
    let smoothed = input.window.edges == Edges::Smoothed;
    input.slide(|step, low, high| {
        let at = input.grid.at(step);
        let (start, end) = (input.window.start(at), input.window.end(at));
        let timestamps = &input.timestamps[low..high];
        let values = &input.values[low..high];
        if smoothed && timestamps[0] > end {
            return;
        }
        let edges = Edge { timestamps, values, start, end, smoothed, is_counter };
        let Some((left, right, inside)) = edges.find() else { return };
        let mut difference = right - left;
        if is_counter {
            let mut correction = 0.0;
            let mut last = left;
            for value in inside {
                if *value < last {
                    correction += last;
                }
                last = *value;
            }
            if right < last {
                correction += last;
            }
            difference += correction;
        }
        out[step] = difference / per_second.unwrap_or(1.0);
    });
}

/// Samples of a window and around it.
struct Edge<'a> {
    timestamps: &'a [i64],
    values: &'a [f64],
    start: i64,
    end: i64,
    smoothed: bool,
    is_counter: bool,
}

impl<'a> Edge<'a> {
    /// The values at the window's start and end, and those strictly between.
    fn find(&self) -> Option<(f64, f64, &'a [f64])> {
        let (timestamps, values) = (self.timestamps, self.values);
        let mut last = timestamps.len() - 1;
        let mut first =
            timestamps[..last].partition_point(|at| *at <= self.start).saturating_sub(1);
        if self.smoothed {
            last = timestamps[..last].partition_point(|at| *at < self.end);
        }
        if timestamps[last] <= self.start {
            return None;
        }
        let left = if self.smoothed && timestamps[first] < self.start {
            self.between(first, self.start)
        } else {
            values[first]
        };
        let right = if self.smoothed && last > 0 && timestamps[last] > self.end {
            self.between(last - 1, self.end)
        } else {
            values[last]
        };
        if timestamps[first] <= self.start {
            first += 1;
        }
        let after_last = if timestamps[last] >= self.end { last } else { last + 1 };
        Some((left, right, values.get(first..after_last).unwrap_or_default()))
    }

    /// The value at `at` on the line from sample `row` to the next one.
    fn between(&self, row: usize, at: i64) -> f64 {
        let (one, two) = (self.values[row], self.values[row + 1]);
        let from = if self.is_counter && two < one { 0.0 } else { one };
        interpolate((self.timestamps[row], from), (self.timestamps[row + 1], two), at)
    }
}

/// The value at `at` on the line through two samples.
#[expect(clippy::cast_precision_loss, reason = "as Prometheus converts timestamps")]
pub(crate) fn interpolate(one: (i64, f64), two: (i64, f64), at: i64) -> f64 {
    one.1 + (two.1 - one.1) * (at - one.0) as f64 / (two.0 - one.0) as f64
}

/// What a range selector itself shows when it is `anchored` or `smoothed`.
pub(crate) fn with_edges(
    timestamps: &[i64],
    values: &[f64],
    (start, end): (i64, i64),
    smoothed: bool,
) -> Vec<(i64, f64)> {
    if timestamps.is_empty() {
        return Vec::new();
    }
    let edges = Edge { timestamps, values, start, end, smoothed, is_counter: false };
    let last = timestamps.len() - 1;
    let mut first = timestamps[..last].partition_point(|at| *at <= start).saturating_sub(1);
    let Some((left, right, inside)) = edges.find() else { return Vec::new() };
    if timestamps[first] <= start {
        first += 1;
    }
    let last = first + inside.len();
    let mut points = vec![(start, left)];
    points.extend(timestamps[first..last].iter().copied().zip(inside.iter().copied()));
    points.push((end, right));
    points
}

/// `irate` and `idelta`: the last two samples of the window.
pub(crate) fn instant(is_rate: bool, input: &Input<'_>, out: &mut [f64]) {
    input.slide(|step, low, high| {
        if high - low < 2 {
            return;
        }
        let (last, next) = (input.values[high - 2], input.values[high - 1]);
        let interval = input.timestamps[high - 1] - input.timestamps[high - 2];
        // A counter that was reset counted from zero.
        let difference = if is_rate && input.is_reset(high - 1) { next } else { next - last };
        out[step] = if is_rate { difference / seconds(interval) } else { difference };
    });
}

/// `resets` and `changes`: how many steps from one sample to the next are such.
/// `counts` says it of a row and the one before it.
pub(crate) fn count_steps(input: &Input<'_>, out: &mut [f64], counts: impl Fn(usize) -> bool) {
    let mut total = 0;
    // `upto[row]`: how many there are up to this row.
    let upto: Vec<usize> = (0..input.values.len())
        .map(|row| {
            total += usize::from(row > 0 && counts(row));
            total
        })
        .collect();
    input.slide(|step, low, high| {
        let mut first = low;
        if input.window.edges == Edges::Anchored {
            let start = input.window.start(input.grid.at(step));
            let after = low + input.timestamps[low..high].partition_point(|at| *at <= start);
            if after >= high {
                return;
            }
            first = after.saturating_sub(1).max(low);
        }
        out[step] = float(upto[high - 1] - upto[first]);
    });
}
