//! Turns the record batches of a rollup file back into series and rows.

use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int64Array, PrimitiveArray,
    RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{ArrowPrimitiveType, Int32Type, Int64Type};

use crate::columnar::aggregate::RollupColumns;
use crate::columnar::error::ColumnarError;
use crate::columnar::parquet::columns::{
    BUCKET_END, CHANGES, COUNT, FIRST, FIRST_TS, LAST, LAST_TS, LabelColumns, MAX, METRIC, MIN,
    RESET_SUM, RESETS, RollupColumnSet, STALE, SUM,
};
use crate::model::{Labels, METRIC_NAME};

/// The runs of rows that belong to one series each, in the order of the batch.
pub fn series_runs(
    batch: &RecordBatch,
    columns: &LabelColumns,
) -> Result<Vec<(Labels, Range<usize>)>, ColumnarError> {
    let mut texts = vec![(METRIC_NAME, TextColumn::of(batch, METRIC)?)];
    for (label, column) in columns.iter() {
        // A label that came later than the file has no column in it.
        if batch.column_by_name(column).is_some() {
            texts.push((label, TextColumn::of(batch, column)?));
        }
    }
    let mut runs = Vec::new();
    let mut start = 0;
    for row in 1..=batch.num_rows() {
        let same = row < batch.num_rows() && texts.iter().all(|(_, text)| text.same(row - 1, row));
        if !same {
            let pairs = texts.iter().map(|(label, text)| (*label, text.get(start)));
            let labels = Labels::from_pairs(pairs)
                .map_err(|error| malformed(format!("rollup labels: {error}")))?;
            runs.push((labels, start..row));
            start = row;
        }
    }
    Ok(runs)
}

/// Appends rows `range` of `batch` to `out`: `bucket_end` and the chosen columns.
pub fn append_rows(
    batch: &RecordBatch,
    range: Range<usize>,
    chosen: RollupColumnSet,
    out: &mut RollupColumns,
) -> Result<(), ColumnarError> {
    let times = |name| primitive::<arrow::datatypes::TimestampMillisecondType>(batch, name);
    let counts = |name| primitive::<Int64Type>(batch, name);
    let values = |name| primitive::<arrow::datatypes::Float64Type>(batch, name);
    let extend_times = |column: &TimestampMillisecondArray, out: &mut Vec<i64>| {
        out.extend(
            range.clone().map(|row| if column.is_null(row) { 0 } else { column.value(row) }),
        );
    };
    let extend_counts = |column: &Int64Array, out: &mut Vec<u64>| {
        out.extend(range.clone().map(|row| u64::try_from(column.value(row)).unwrap_or(0)));
    };
    let extend_values = |column: &Float64Array, out: &mut Vec<f64>| {
        out.extend(
            range.clone().map(|row| if column.is_null(row) { 0.0 } else { column.value(row) }),
        );
    };
    let is_chosen = |column| chosen.contains(column);
    extend_times(times(BUCKET_END)?, &mut out.bucket_end);
    for (column, name, to) in [
        (RollupColumnSet::COUNT, COUNT, &mut out.count),
        (RollupColumnSet::RESETS, RESETS, &mut out.resets),
        (RollupColumnSet::CHANGES, CHANGES, &mut out.changes),
    ] {
        if is_chosen(column) {
            extend_counts(counts(name)?, to);
        }
    }
    for (column, name, to) in [
        (RollupColumnSet::SUM, SUM, &mut out.sum),
        (RollupColumnSet::MIN, MIN, &mut out.min),
        (RollupColumnSet::MAX, MAX, &mut out.max),
        (RollupColumnSet::FIRST, FIRST, &mut out.first),
        (RollupColumnSet::LAST, LAST, &mut out.last),
        (RollupColumnSet::RESET_SUM, RESET_SUM, &mut out.reset_sum),
    ] {
        if is_chosen(column) {
            extend_values(values(name)?, to);
        }
    }
    for (column, name, to) in [
        (RollupColumnSet::FIRST_TS, FIRST_TS, &mut out.first_ts),
        (RollupColumnSet::LAST_TS, LAST_TS, &mut out.last_ts),
    ] {
        if is_chosen(column) {
            extend_times(times(name)?, to);
        }
    }
    if is_chosen(RollupColumnSet::STALE) {
        let stale = times(STALE)?;
        out.stale_ts.extend(range.map(|row| stale.is_valid(row).then(|| stale.value(row))));
    }
    Ok(())
}

/// A dictionary column and its values.
struct TextColumn<'a> {
    column: &'a DictionaryArray<Int32Type>,
    values: &'a StringArray,
}

impl<'a> TextColumn<'a> {
    fn of(batch: &'a RecordBatch, name: &str) -> Result<Self, ColumnarError> {
        let not_text = || malformed(format!("column {name:?} is not dictionary text"));
        let column = named(batch, name)?.as_dictionary_opt::<Int32Type>().ok_or_else(not_text)?;
        let values = column.values().as_string_opt::<i32>().ok_or_else(not_text)?;
        Ok(Self { column, values })
    }

    /// Empty where the column is null.
    fn get(&self, row: usize) -> &'a str {
        self.column.key(row).map_or("", |key| self.values.value(key))
    }

    fn same(&self, left: usize, right: usize) -> bool {
        let (left, right) = (self.column.key(left), self.column.key(right));
        left == right
            || match (left, right) {
                (Some(left), Some(right)) => self.values.value(left) == self.values.value(right),
                _ => false,
            }
    }
}

/// Parquet says no more of where it is than the column.
fn malformed(reason: String) -> ColumnarError {
    ColumnarError::Corrupt { offset: 0, reason }
}

fn named<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ColumnarError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| malformed(format!("no column {name:?} in the rollup file")))
}

fn primitive<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a PrimitiveArray<T>, ColumnarError> {
    named(batch, name)?
        .as_primitive_opt::<T>()
        .ok_or_else(|| malformed(format!("column {name:?} is not {}", T::DATA_TYPE)))
}
