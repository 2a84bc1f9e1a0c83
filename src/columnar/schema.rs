//! The one Arrow schema that samples travel in: flush, block writer, merge and compaction.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, Float64Array, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::columnar::error::ColumnarError;

/// Rows that a batch made here holds at most.
pub const BATCH_ROWS_MAX: usize = 65_536;

/// `(series: UInt32, timestamp: Timestamp(Millisecond), value: Float64)`, nothing nullable.
///
/// `series` indexes a list of labels that goes with the batches and ascends in label order, so
/// rows ordered by (series, timestamp) are ordered by (labels, timestamp).
pub fn samples() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("series", DataType::UInt32, false),
            Field::new("timestamp", DataType::Timestamp(TimeUnit::Millisecond, None), false),
            Field::new("value", DataType::Float64, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// A batch from its columns, without copying them.
pub fn batch(
    series: Vec<u32>,
    timestamps: Vec<i64>,
    values: Vec<f64>,
) -> Result<RecordBatch, ColumnarError> {
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(UInt32Array::from(series)),
        Arc::new(TimestampMillisecondArray::from(timestamps)),
        Arc::new(Float64Array::from(values)),
    ];
    RecordBatch::try_new(samples(), columns)
        .map_err(|error| ColumnarError::InvalidBatch(error.to_string()))
}

/// The columns of a samples batch as slices.
#[derive(Debug, Clone, Copy)]
pub struct SampleColumns<'a> {
    pub series: &'a [u32],
    pub timestamps: &'a [i64],
    pub values: &'a [f64],
}

impl<'a> SampleColumns<'a> {
    /// Refuses a batch of another schema or with nulls.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, ColumnarError> {
        let wrong = || ColumnarError::InvalidBatch(format!("schema {:?}", batch.schema()));
        if batch.num_columns() != 3 || batch.columns().iter().any(|column| column.null_count() > 0)
        {
            return Err(wrong());
        }
        let column = |index: usize| batch.column(index).as_any();
        Ok(Self {
            series: column(0).downcast_ref::<UInt32Array>().ok_or_else(wrong)?.values(),
            timestamps: column(1)
                .downcast_ref::<TimestampMillisecondArray>()
                .ok_or_else(wrong)?
                .values(),
            values: column(2).downcast_ref::<Float64Array>().ok_or_else(wrong)?.values(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_back_and_other_schemas_are_refused() {
        let samples = batch(vec![0, 0, 3], vec![1, 2, 1], vec![0.5, -0.0, f64::NAN]).unwrap();
        let columns = SampleColumns::of(&samples).unwrap();
        assert_eq!((columns.series, columns.timestamps), (&[0, 0, 3][..], &[1, 2, 1][..]));
        assert!(SampleColumns::of(&samples.project(&[0, 1]).unwrap()).is_err());
        assert!(SampleColumns::of(&samples.project(&[0, 2, 1]).unwrap()).is_err());
    }
}
