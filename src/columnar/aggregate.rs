//! Rollup rows: what the samples of one series in one bucket are summed up to.
//!
//! Buckets are left-open and right-closed, `(k·r, (k + 1)·r]`, as PromQL's windows are, so that a
//! window whose ends are multiples of `r` is a whole number of buckets. The columns are those from
//! which Prometheus' functions can be computed exactly: its `extrapolatedRate` needs the first
//! and the last sample, their number, and the sum of the values before each reset.
//!
//! Stale markers are not samples: they are counted nowhere, and only a marker that is the last
//! thing in its bucket is remembered, since from there on the series does not exist.
//!
//! Invariant: rows ascend by `bucket_end`; all columns are of equal length; a row has samples or
//! a stale marker.

use std::ops::Range;

use crate::model::{Samples, Timestamp, is_stale};

/// The rows of one series at one resolution, as columns.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct RollupColumns {
    /// The last instant of the bucket, in ms: a multiple of the resolution.
    pub bucket_end: Vec<Timestamp>,
    /// Number of samples; 0 only where the bucket holds nothing but a stale marker.
    pub count: Vec<u64>,
    pub sum: Vec<f64>,
    pub min: Vec<f64>,
    pub max: Vec<f64>,
    pub first: Vec<f64>,
    pub last: Vec<f64>,
    pub first_ts: Vec<Timestamp>,
    pub last_ts: Vec<Timestamp>,
    /// Sum of the values that stood right before a drop, inside the bucket.
    pub reset_sum: Vec<f64>,
    /// Number of drops inside the bucket.
    pub resets: Vec<u64>,
    /// Number of changes of value inside the bucket.
    pub changes: Vec<u64>,
    /// When the series ended, if a stale marker is the last thing in the bucket.
    pub stale_ts: Vec<Option<Timestamp>>,
}

/// One row, while it is being built or merged.
#[derive(Debug, Clone, Copy)]
struct Row {
    bucket_end: Timestamp,
    count: u64,
    sum: KahanSum,
    min: f64,
    max: f64,
    first: f64,
    last: f64,
    first_ts: Timestamp,
    last_ts: Timestamp,
    reset_sum: f64,
    resets: u64,
    changes: u64,
    stale_ts: Option<Timestamp>,
}

impl RollupColumns {
    /// No rows.
    pub const fn new() -> Self {
        Self {
            bucket_end: Vec::new(),
            count: Vec::new(),
            sum: Vec::new(),
            min: Vec::new(),
            max: Vec::new(),
            first: Vec::new(),
            last: Vec::new(),
            first_ts: Vec::new(),
            last_ts: Vec::new(),
            reset_sum: Vec::new(),
            resets: Vec::new(),
            changes: Vec::new(),
            stale_ts: Vec::new(),
        }
    }

    /// No rows, and room for `rows`.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            bucket_end: Vec::with_capacity(rows),
            count: Vec::with_capacity(rows),
            sum: Vec::with_capacity(rows),
            min: Vec::with_capacity(rows),
            max: Vec::with_capacity(rows),
            first: Vec::with_capacity(rows),
            last: Vec::with_capacity(rows),
            first_ts: Vec::with_capacity(rows),
            last_ts: Vec::with_capacity(rows),
            reset_sum: Vec::with_capacity(rows),
            resets: Vec::with_capacity(rows),
            changes: Vec::with_capacity(rows),
            stale_ts: Vec::with_capacity(rows),
        }
    }

    pub fn len(&self) -> usize {
        self.bucket_end.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bucket_end.is_empty()
    }

    /// Empties the columns and keeps their memory.
    pub fn clear(&mut self) {
        self.bucket_end.clear();
        self.count.clear();
        self.sum.clear();
        self.min.clear();
        self.max.clear();
        self.first.clear();
        self.last.clear();
        self.first_ts.clear();
        self.last_ts.clear();
        self.reset_sum.clear();
        self.resets.clear();
        self.changes.clear();
        self.stale_ts.clear();
    }

    /// Appends the rows of `other`, which come later or belong to another series.
    pub fn extend(&mut self, other: &Self) {
        self.bucket_end.extend_from_slice(&other.bucket_end);
        self.count.extend_from_slice(&other.count);
        self.sum.extend_from_slice(&other.sum);
        self.min.extend_from_slice(&other.min);
        self.max.extend_from_slice(&other.max);
        self.first.extend_from_slice(&other.first);
        self.last.extend_from_slice(&other.last);
        self.first_ts.extend_from_slice(&other.first_ts);
        self.last_ts.extend_from_slice(&other.last_ts);
        self.reset_sum.extend_from_slice(&other.reset_sum);
        self.resets.extend_from_slice(&other.resets);
        self.changes.extend_from_slice(&other.changes);
        self.stale_ts.extend_from_slice(&other.stale_ts);
    }

    /// Appends some rows of `other`. Columns that were not read there, and are empty, stay so.
    pub fn extend_range(&mut self, other: &Self, rows: Range<usize>) {
        fn extend<T: Copy>(to: &mut Vec<T>, from: &[T], rows: &Range<usize>) {
            to.extend_from_slice(from.get(rows.clone()).unwrap_or_default());
        }
        extend(&mut self.bucket_end, &other.bucket_end, &rows);
        extend(&mut self.count, &other.count, &rows);
        extend(&mut self.sum, &other.sum, &rows);
        extend(&mut self.min, &other.min, &rows);
        extend(&mut self.max, &other.max, &rows);
        extend(&mut self.first, &other.first, &rows);
        extend(&mut self.last, &other.last, &rows);
        extend(&mut self.first_ts, &other.first_ts, &rows);
        extend(&mut self.last_ts, &other.last_ts, &rows);
        extend(&mut self.reset_sum, &other.reset_sum, &rows);
        extend(&mut self.resets, &other.resets, &rows);
        extend(&mut self.changes, &other.changes, &rows);
        extend(&mut self.stale_ts, &other.stale_ts, &rows);
    }

    /// Appends those of the rows `range` of `other` whose bucket's end `keep` approves.
    pub fn extend_where(
        &mut self,
        other: &Self,
        range: Range<usize>,
        keep: impl Fn(Timestamp) -> bool,
    ) {
        for at in range.filter(|at| keep(other.bucket_end[*at])) {
            self.push(&other.row(at));
        }
    }

    /// Keeps only the rows whose bucket's end `keep` approves.
    pub fn retain_buckets(&mut self, keep: impl Fn(Timestamp) -> bool) {
        if !self.bucket_end.iter().all(|end| keep(*end)) {
            let rows = std::mem::take(self);
            self.extend_where(&rows, 0..rows.len(), keep);
        }
    }

    /// Restores the order of rows of one series that came from several places.
    pub fn sort_by_bucket(&mut self) {
        if !self.bucket_end.is_sorted() {
            let rows = std::mem::take(self);
            let mut order: Vec<usize> = (0..rows.len()).collect();
            order.sort_unstable_by_key(|at| rows.bucket_end[*at]);
            order.into_iter().for_each(|at| self.push(&rows.row(at)));
        }
    }

    fn push(&mut self, row: &Row) {
        self.bucket_end.push(row.bucket_end);
        self.count.push(row.count);
        self.sum.push(row.sum.total());
        self.min.push(row.min);
        self.max.push(row.max);
        self.first.push(row.first);
        self.last.push(row.last);
        self.first_ts.push(row.first_ts);
        self.last_ts.push(row.last_ts);
        self.reset_sum.push(row.reset_sum);
        self.resets.push(row.resets);
        self.changes.push(row.changes);
        self.stale_ts.push(row.stale_ts);
    }

    fn row(&self, at: usize) -> Row {
        Row {
            bucket_end: self.bucket_end[at],
            count: self.count[at],
            sum: KahanSum::of(self.sum[at]),
            min: self.min[at],
            max: self.max[at],
            first: self.first[at],
            last: self.last[at],
            first_ts: self.first_ts[at],
            last_ts: self.last_ts[at],
            reset_sum: self.reset_sum[at],
            resets: self.resets[at],
            changes: self.changes[at],
            stale_ts: self.stale_ts[at],
        }
    }
}

/// The end of the bucket of `resolution_ms` that holds `at`: `at` rounded up to a multiple.
#[inline]
pub fn bucket_end(at: Timestamp, resolution_ms: i64) -> Timestamp {
    let over = at.rem_euclid(resolution_ms);
    if over == 0 { at } else { at.saturating_add(resolution_ms - over) }
}

/// Appends the rows of `samples` (ascending by time) to `out`.
pub fn roll_up_samples(samples: &Samples, resolution_ms: i64, out: &mut RollupColumns) {
    let mut open: Option<Row> = None;
    for (&at, &value) in samples.timestamps.iter().zip(&samples.values) {
        let row = match &mut open {
            Some(row) if at <= row.bucket_end => row,
            _ => {
                if let Some(row) = open.take() {
                    out.push(&row);
                }
                open.insert(Row::empty(bucket_end(at, resolution_ms)))
            }
        };
        row.add(at, value);
    }
    if let Some(row) = open {
        out.push(&row);
    }
}

/// Appends one row that sums up samples of any stretch of time, which ends at `end`. There must
/// be samples.
pub fn roll_up_stretch(
    timestamps: &[Timestamp],
    values: &[f64],
    end: Timestamp,
    out: &mut RollupColumns,
) {
    let mut row = Row::empty(end);
    for (&at, &value) in timestamps.iter().zip(values) {
        row.add(at, value);
    }
    out.push(&row);
}

/// Appends the rows of a coarser resolution, a multiple of that of `rows`, to `out`.
pub fn roll_up_rows(rows: &RollupColumns, resolution_ms: i64, out: &mut RollupColumns) {
    let mut open: Option<Row> = None;
    for at in 0..rows.len() {
        let next = rows.row(at);
        let end = bucket_end(next.bucket_end, resolution_ms);
        match &mut open {
            Some(row) if row.bucket_end == end => row.merge(&next),
            _ => {
                if let Some(row) = open.take() {
                    out.push(&row);
                }
                open = Some(Row { bucket_end: end, ..next });
            }
        }
    }
    if let Some(row) = open {
        out.push(&row);
    }
}

impl Row {
    fn empty(bucket_end: Timestamp) -> Self {
        Self {
            bucket_end,
            count: 0,
            sum: KahanSum::of(0.0),
            min: 0.0,
            max: 0.0,
            first: 0.0,
            last: 0.0,
            first_ts: 0,
            last_ts: 0,
            reset_sum: 0.0,
            resets: 0,
            changes: 0,
            stale_ts: None,
        }
    }

    #[inline]
    fn add(&mut self, at: Timestamp, value: f64) {
        if is_stale(value) {
            self.stale_ts = Some(at);
            return;
        }
        self.stale_ts = None;
        if self.count == 0 {
            (self.first, self.min, self.max, self.first_ts) = (value, value, value, at);
            self.sum = KahanSum::of(value);
        } else {
            self.follow(value);
            self.min = lesser(self.min, value);
            self.max = greater(self.max, value);
            self.sum.add(value);
        }
        self.count += 1;
        (self.last, self.last_ts) = (value, at);
    }

    /// Counts what happens between `last` and the value that comes next.
    #[inline]
    fn follow(&mut self, next: f64) {
        if next < self.last {
            self.add_resets(self.last, 1);
        }
        if next != self.last && !(next.is_nan() && self.last.is_nan()) {
            self.changes += 1;
        }
    }

    /// Adds `resets` from values with this sum. As 0.0 + −0.0 is 0.0, neither does the sum begin
    /// with 0.0, nor is one added for a bucket without resets.
    #[inline]
    fn add_resets(&mut self, sum: f64, resets: u64) {
        if resets > 0 {
            self.reset_sum = if self.resets > 0 { self.reset_sum + sum } else { sum };
            self.resets += resets;
        }
    }

    /// Adds a row that is later in time.
    fn merge(&mut self, next: &Row) {
        self.stale_ts = next.stale_ts;
        if next.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = Row { bucket_end: self.bucket_end, ..*next };
            return;
        }
        self.follow(next.first);
        self.min = lesser(self.min, next.min);
        self.max = greater(self.max, next.max);
        self.sum.add(next.sum.total());
        self.count += next.count;
        (self.last, self.last_ts) = (next.last, next.last_ts);
        self.add_resets(next.reset_sum, next.resets);
        self.changes += next.changes;
    }
}

/// Prometheus' minimum: a NaN counts only where there is nothing else; of equals the first stays.
#[inline]
fn lesser(known: f64, next: f64) -> f64 {
    if next < known || known.is_nan() { next } else { known }
}

/// Prometheus' maximum, likewise.
#[inline]
fn greater(known: f64, next: f64) -> f64 {
    if next > known || known.is_nan() { next } else { known }
}

/// A sum that carries what rounding took away (Neumaier's variant of Kahan's summation), with
/// Prometheus' rule that an infinite sum carries nothing.
#[derive(Debug, Clone, Copy)]
struct KahanSum {
    sum: f64,
    carry: f64,
}

impl KahanSum {
    fn of(value: f64) -> Self {
        Self { sum: value, carry: 0.0 }
    }

    #[inline]
    fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.carry = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.carry += (self.sum - total) + value;
        } else {
            self.carry += (value - total) + self.sum;
        }
        self.sum = total;
    }

    fn total(self) -> f64 {
        // −0.0 + 0.0 is 0.0: an exact sum keeps its sign.
        if self.carry == 0.0 { self.sum } else { self.sum + self.carry }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::stale_nan;

    fn samples(rows: &[(i64, f64)]) -> Samples {
        Samples {
            timestamps: rows.iter().map(|row| row.0).collect(),
            values: rows.iter().map(|row| row.1).collect(),
        }
    }

    fn rolled(rows: &[(i64, f64)], resolution_ms: i64) -> RollupColumns {
        let mut out = RollupColumns::default();
        roll_up_samples(&samples(rows), resolution_ms, &mut out);
        out
    }

    #[test]
    fn a_sample_on_the_edge_belongs_to_the_bucket_that_it_ends() {
        let rows = rolled(&[(60_000, 1.0), (60_001, 2.0), (120_000, 3.0), (120_001, 4.0)], 60_000);
        assert_eq!(rows.bucket_end, [60_000, 120_000, 180_000]);
        assert_eq!(rows.count, [1, 2, 1]);
        assert_eq!(rows.first, [1.0, 2.0, 4.0]);
        assert_eq!(rows.last_ts, [60_000, 120_000, 120_001]);
        assert_eq!(bucket_end(-1, 60_000), 0);
        assert_eq!(bucket_end(-60_000, 60_000), -60_000);
    }

    #[test]
    fn a_stretch_is_one_row_and_rows_can_be_taken_in_parts() {
        let whole = rolled(&[(1, 5.0), (2, 1.0), (60_000, 3.0)], 60_000);
        let mut stretch = RollupColumns::default();
        roll_up_stretch(&[1, 2, 60_000], &[5.0, 1.0, 3.0], 60_000, &mut stretch);
        assert_eq!(stretch, whole);
        let mut part = RollupColumns::default();
        let read =
            RollupColumns { bucket_end: vec![1, 2, 3], count: vec![4, 5, 6], ..part.clone() };
        part.extend_range(&read, 1..3);
        assert_eq!((part.bucket_end.len(), part.count, part.sum), (2, vec![5, 6], vec![]));
    }

    #[test]
    fn resets_inside_and_across_buckets_are_kept() {
        // Reset inside the first bucket (5 -> 1) and exactly across the edge (3 -> 2).
        let rows =
            rolled(&[(1, 5.0), (2, 1.0), (60_000, 3.0), (60_001, 2.0), (60_002, 2.0)], 60_000);
        assert_eq!(rows.reset_sum, [5.0, 0.0]);
        assert_eq!(rows.resets, [1, 0]);
        assert_eq!(rows.changes, [2, 0]);
        let mut coarse = RollupColumns::default();
        roll_up_rows(&rows, 300_000, &mut coarse);
        assert_eq!(coarse.reset_sum, [8.0]);
        assert_eq!(coarse.resets, [2]);
        assert_eq!(coarse.changes, [3]);
    }

    #[test]
    fn nan_counts_only_where_there_is_nothing_else() {
        let rows = rolled(&[(1, f64::NAN), (2, 4.0), (3, f64::NAN), (4, 1.0)], 60_000);
        assert_eq!((rows.min[0], rows.max[0]), (1.0, 4.0));
        assert!(rows.sum[0].is_nan() && rows.first[0].is_nan());
        assert!(rolled(&[(1, f64::NAN)], 60_000).max[0].is_nan());
    }

    #[test]
    fn a_stale_marker_matters_only_at_the_end_of_its_bucket() {
        let rows = rolled(
            &[(1, 1.0), (2, stale_nan()), (3, 2.0), (60_001, stale_nan()), (120_001, 7.0)],
            60_000,
        );
        assert_eq!(rows.count, [2, 0, 1]);
        assert_eq!(rows.stale_ts, [None, Some(60_001), None]);
        let mut coarse = RollupColumns::default();
        roll_up_rows(&rows, 300_000, &mut coarse);
        assert_eq!((coarse.count[0], coarse.stale_ts[0], coarse.last[0]), (3, None, 7.0));
    }

    #[test]
    fn negative_zero_keeps_its_sign() {
        let rows = rolled(&[(1, -0.0), (2, -0.0)], 60_000);
        assert!(rows.sum[0].is_sign_negative() && rows.max[0].is_sign_negative());
        let rows =
            rolled(&[(1, 0.0), (2, -0.0), (3, -3.0), (60_001, -0.0), (60_002, -4.0)], 60_000);
        let mut coarse = RollupColumns::default();
        roll_up_rows(&rows, 300_000, &mut coarse);
        for rows in [rows, coarse] {
            assert!(rows.reset_sum[0] == 0.0 && rows.reset_sum[0].is_sign_negative());
        }
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            6 => (-50i32..50).prop_map(f64::from),
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
            1 => Just(-0.0),
            1 => Just(stale_nan()),
        ]
    }

    proptest! {
        /// Rolling up in two steps says the same as rolling up the samples at once: bit for bit
        /// but for the sum, whose whole numbers here are exact too.
        #[test]
        fn two_steps_equal_one(steps in prop::collection::vec((1i64..40_000, value()), 1..200)) {
            let mut at = -500_000;
            let rows: Vec<_> = steps.iter().map(|(step, v)| { at += step; (at, *v) }).collect();
            let (fine, direct) = (rolled(&rows, 60_000), rolled(&rows, 300_000));
            let mut coarse = RollupColumns::default();
            roll_up_rows(&fine, 300_000, &mut coarse);
            let bits = |column: &[f64]| column.iter().map(|v| if v.is_nan() { 1 } else { v.to_bits() }).collect::<Vec<_>>();
            prop_assert_eq!(&coarse.bucket_end, &direct.bucket_end);
            prop_assert_eq!(&coarse.count, &direct.count);
            prop_assert_eq!(&coarse.first_ts, &direct.first_ts);
            prop_assert_eq!(&coarse.last_ts, &direct.last_ts);
            prop_assert_eq!(&coarse.resets, &direct.resets);
            prop_assert_eq!(&coarse.changes, &direct.changes);
            prop_assert_eq!(&coarse.stale_ts, &direct.stale_ts);
            for (two, one) in [(&coarse.sum, &direct.sum), (&coarse.min, &direct.min),
                (&coarse.max, &direct.max), (&coarse.first, &direct.first),
                (&coarse.last, &direct.last), (&coarse.reset_sum, &direct.reset_sum)] {
                prop_assert_eq!(bits(two), bits(one));
            }
        }
    }
}
