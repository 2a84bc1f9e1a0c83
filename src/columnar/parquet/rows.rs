//! Rollup rows of many series as Arrow batches of the schema in `columns`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::columnar::aggregate::RollupColumns;
use crate::columnar::parquet::columns::LabelColumns;
use crate::columnar::parquet::labels::LabelRuns;
use crate::model::Labels;

/// Gathers rows series by series.
#[derive(Debug)]
pub struct RollupRows {
    schema: SchemaRef,
    resolution_ms: i64,
    labels: LabelRuns,
    rows: RollupColumns,
}

impl RollupRows {
    pub fn new(columns: &LabelColumns, resolution_ms: i64) -> Self {
        let (schema, labels) = (columns.schema(), LabelRuns::new(columns));
        Self { schema, resolution_ms, labels, rows: RollupColumns::default() }
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds the rows of one series.
    pub fn push(&mut self, labels: &Labels, rows: &RollupColumns) {
        self.labels.push(labels, rows.len());
        self.rows.extend(rows);
    }

    /// All rows so far as one batch; starts anew.
    pub fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let room = RollupColumns::with_capacity(self.rows.len());
        let rows = std::mem::replace(&mut self.rows, room);
        let has_samples = rows
            .count
            .contains(&0)
            .then(|| NullBuffer::from_iter(rows.count.iter().map(|count| *count > 0)));
        let starts: Vec<i64> = rows.bucket_end.iter().map(|end| end - self.resolution_ms).collect();
        let count = |column: Vec<u64>| -> ArrayRef {
            let column = column.into_iter().map(|n| i64::try_from(n).unwrap_or(i64::MAX));
            Arc::new(Int64Array::from_iter_values(column))
        };
        let value = |column: Vec<f64>| -> ArrayRef {
            Arc::new(Float64Array::new(column.into(), has_samples.clone()))
        };
        let time = |column: Vec<i64>, nulls: Option<NullBuffer>| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::new(column.into(), nulls).with_timezone("UTC"))
        };
        let mut arrays = self.labels.take(rows.len())?;
        arrays.push(time(starts, None));
        arrays.push(time(rows.bucket_end, None));
        arrays.push(count(rows.count));
        for column in [rows.sum, rows.min, rows.max, rows.first, rows.last] {
            arrays.push(value(column));
        }
        arrays.push(time(rows.first_ts, has_samples.clone()));
        arrays.push(time(rows.last_ts, has_samples.clone()));
        arrays.push(Arc::new(Float64Array::from(rows.reset_sum)));
        arrays.push(count(rows.resets));
        arrays.push(count(rows.changes));
        let stale = if rows.stale_ts.iter().all(Option::is_none) {
            TimestampMillisecondArray::new_null(rows.stale_ts.len())
        } else {
            TimestampMillisecondArray::from_iter(rows.stale_ts)
        };
        arrays.push(Arc::new(stale.with_timezone("UTC")));
        RecordBatch::try_new(Arc::clone(&self.schema), arrays)
    }
}
