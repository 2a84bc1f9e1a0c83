//! What nodes exchange: one row per series.
//!
//! A vector batch has two columns: `series` UInt32, an index into a table of label sets that the
//! plan's maker holds, and `vals` FixedSizeList<Float64; cells>, usually one cell per step of
//! the node's grid. A third column can carry native histograms later.
//!
//! A sample batch carries raw samples: `series`, `timestamps` List<Int64>, `vals` List<Float64>.
//!
//! Invariant: a cell without a value is null, and the value under the null is the stale marker.
//! No result is ever a stale marker, so kernels look at values alone; DataFusion, SQL and IPC
//! see nulls.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array, Int64Array, ListArray, RecordBatch,
    UInt32Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, UInt32Type};

use crate::model::{STALE_NAN_BITS, Samples, is_stale};
use crate::query::error::QueryError;

/// Cells in one batch: 512 KiB of values.
pub const BATCH_CELLS: usize = 65_536;
/// Rows in one batch when rows are short.
pub const BATCH_ROWS: usize = 8_192;

/// A cell without a value, inside kernels.
pub const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

/// How many rows of so many cells make a batch.
pub fn batch_rows(cells: usize) -> usize {
    (BATCH_CELLS / cells.max(1)).clamp(1, BATCH_ROWS)
}

/// The schema of vectors with so many cells in a row.
pub fn vector_schema(cells: usize) -> SchemaRef {
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    let cells = i32::try_from(cells).unwrap_or(i32::MAX);
    Arc::new(Schema::new(vec![
        Field::new("series", DataType::UInt32, false),
        Field::new("vals", DataType::FixedSizeList(item, cells), false),
    ]))
}

/// The schema of raw samples.
pub fn sample_schema() -> SchemaRef {
    let list = |kind| DataType::List(Arc::new(Field::new_list_field(kind, false)));
    Arc::new(Schema::new(vec![
        Field::new("series", DataType::UInt32, false),
        Field::new("timestamps", list(DataType::Int64), false),
        Field::new("vals", list(DataType::Float64), false),
    ]))
}

/// Builds one vector batch.
#[derive(Debug)]
pub struct VectorBuilder {
    cells: usize,
    series: Vec<u32>,
    values: Vec<f64>,
}

impl VectorBuilder {
    pub fn new(cells: usize, rows: usize) -> Self {
        Self {
            cells,
            series: Vec::with_capacity(rows),
            values: Vec::with_capacity(rows.saturating_mul(cells)),
        }
    }

    /// Appends a row whose cells are all absent, to be written.
    pub fn row(&mut self, series: u32) -> &mut [f64] {
        self.series.push(series);
        let start = self.values.len();
        self.values.resize(start + self.cells, ABSENT);
        &mut self.values[start..]
    }

    /// Takes back the last row if none of its cells was written; says whether it stays.
    pub fn keep_if_present(&mut self) -> bool {
        let start = self.values.len() - self.cells;
        if self.values[start..].iter().any(|value| !is_stale(*value)) {
            return true;
        }
        self.values.truncate(start);
        self.series.pop();
        false
    }

    pub fn rows(&self) -> usize {
        self.series.len()
    }

    pub fn is_full(&self) -> bool {
        self.rows() >= batch_rows(self.cells)
    }

    /// The batch of all rows so far; the builder starts anew.
    pub fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, QueryError> {
        let rows = self.rows();
        let series = std::mem::replace(&mut self.series, Vec::with_capacity(rows));
        let values = std::mem::replace(&mut self.values, Vec::with_capacity(rows * self.cells));
        vector_batch(schema, series, values)
    }
}

/// Builds all batches of a node that yields when it has seen all of its input.
#[derive(Debug)]
pub struct VectorBatches {
    schema: SchemaRef,
    builder: VectorBuilder,
    full: Vec<RecordBatch>,
}

impl VectorBatches {
    /// For rows of so many cells, as `schema` has them.
    pub fn new(schema: &SchemaRef, cells: usize) -> Self {
        let builder = VectorBuilder::new(cells, 0);
        Self { schema: Arc::clone(schema), builder, full: Vec::new() }
    }

    /// Appends a row whose cells are all absent, to be written before [`VectorBatches::end_row`].
    pub fn row(&mut self, series: u32) -> &mut [f64] {
        self.builder.row(series)
    }

    /// The last row is written. It stays if any of its cells is present.
    pub fn end_row(&mut self) -> Result<(), QueryError> {
        self.builder.keep_if_present();
        if self.builder.is_full() {
            self.full.push(self.builder.finish(&self.schema)?);
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Vec<RecordBatch>, QueryError> {
        self.full.push(self.builder.finish(&self.schema)?);
        Ok(self.full)
    }
}

/// A vector batch of these rows; `values` holds [`ABSENT`] where there is none.
pub fn vector_batch(
    schema: &SchemaRef,
    series: Vec<u32>,
    values: Vec<f64>,
) -> Result<RecordBatch, QueryError> {
    let DataType::FixedSizeList(item, cells) = schema.field(1).data_type() else {
        return Err(QueryError::Internal("not a vector schema".to_owned()));
    };
    let nulls = values.iter().any(|value| is_stale(*value)).then(|| {
        NullBuffer::new(BooleanBuffer::collect_bool(values.len(), |cell| !is_stale(values[cell])))
    });
    let values = Float64Array::new(ScalarBuffer::from(values), nulls);
    let vals = FixedSizeListArray::try_new(Arc::clone(item), *cells, Arc::new(values), None);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(UInt32Array::from(series)), Arc::new(vals.map_err(internal)?)];
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(internal)
}

/// The rows of a vector batch.
#[derive(Debug, Clone, Copy)]
pub struct VectorRows<'a> {
    pub series: &'a [u32],
    /// All cells, row after row; [`ABSENT`] where there is no value.
    pub values: &'a [f64],
    /// Whether no cell is absent.
    pub dense: bool,
    cells: usize,
}

impl<'a> VectorRows<'a> {
    pub fn of(batch: &'a RecordBatch) -> Result<Self, QueryError> {
        let wrong = || QueryError::Internal(format!("not a vector batch: {}", batch.schema()));
        if batch.num_columns() < 2 {
            return Err(wrong());
        }
        let series = batch.column(0).as_primitive_opt::<UInt32Type>().ok_or_else(wrong)?;
        let vals = batch.column(1).as_fixed_size_list_opt().ok_or_else(wrong)?;
        let cells = usize::try_from(vals.value_length()).map_err(|_| wrong())?;
        let values = vals.values().as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        Ok(Self {
            series: series.values(),
            values: values.values(),
            dense: values.null_count() == 0,
            cells,
        })
    }

    pub fn iter(self) -> impl Iterator<Item = (u32, &'a [f64])> {
        self.series.iter().copied().zip(self.values.chunks_exact(self.cells.max(1)))
    }
}

/// Builds one batch of raw samples.
#[derive(Debug, Default)]
pub struct SampleBuilder {
    series: Vec<u32>,
    lengths: Vec<usize>,
    samples: Samples,
}

impl SampleBuilder {
    pub fn push(&mut self, series: u32, samples: &Samples) {
        self.series.push(series);
        self.lengths.push(samples.len());
        self.samples.timestamps.extend_from_slice(&samples.timestamps);
        self.samples.values.extend_from_slice(&samples.values);
    }

    pub fn is_full(&self) -> bool {
        self.samples.len() >= BATCH_CELLS || self.series.len() >= BATCH_ROWS
    }

    pub fn rows(&self) -> usize {
        self.series.len()
    }

    pub fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, QueryError> {
        let built = std::mem::take(self);
        let offsets = OffsetBuffer::<i32>::from_lengths(built.lengths);
        let list = |values: ArrayRef| {
            let item = Arc::new(Field::new_list_field(values.data_type().clone(), false));
            ListArray::try_new(item, offsets.clone(), values, None).map_err(internal)
        };
        let timestamps = list(Arc::new(Int64Array::from(built.samples.timestamps)))?;
        let vals = list(Arc::new(Float64Array::from(built.samples.values)))?;
        let columns: Vec<ArrayRef> =
            vec![Arc::new(UInt32Array::from(built.series)), Arc::new(timestamps), Arc::new(vals)];
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(internal)
    }
}

/// Calls `visit` with series, timestamps and values of every row of a sample batch.
pub fn for_each_sample_row(
    batch: &RecordBatch,
    mut visit: impl FnMut(u32, &[i64], &[f64]) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let wrong = || QueryError::Internal(format!("not a sample batch: {}", batch.schema()));
    if batch.num_columns() < 3 {
        return Err(wrong());
    }
    let series = batch.column(0).as_primitive_opt::<UInt32Type>().ok_or_else(wrong)?;
    let timestamps = batch.column(1).as_list_opt::<i32>().ok_or_else(wrong)?;
    let vals = batch.column(2).as_list_opt::<i32>().ok_or_else(wrong)?;
    let all_timestamps = timestamps.values().as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
    let all_values = vals.values().as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
    let bounds = |offsets: &[i32], row: usize| {
        let at = |index: usize| usize::try_from(offsets[index]).unwrap_or_default();
        at(row)..at(row + 1)
    };
    for (row, series) in series.values().iter().enumerate() {
        let timestamps = &all_timestamps.values()[bounds(timestamps.value_offsets(), row)];
        let values = &all_values.values()[bounds(vals.value_offsets(), row)];
        visit(*series, timestamps, values)?;
    }
    Ok(())
}

fn internal(error: arrow::error::ArrowError) -> QueryError {
    QueryError::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_cells_are_nulls_and_come_back_as_absent() {
        let schema = vector_schema(3);
        let mut builder = VectorBuilder::new(3, 2);
        builder.row(7)[1] = f64::NAN;
        assert!(builder.keep_if_present());
        builder.row(8);
        assert!(!builder.keep_if_present());
        builder.row(9).copy_from_slice(&[1.0, 2.0, 3.0]);
        let batch = builder.finish(&schema).unwrap();
        assert_eq!(batch.column(1).as_fixed_size_list().values().null_count(), 2);
        let rows = VectorRows::of(&batch).unwrap();
        assert!(!rows.dense);
        let rows: Vec<_> = rows.iter().collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].0, 7);
        assert!(is_stale(rows[0].1[0]) && rows[0].1[1].is_nan() && !is_stale(rows[0].1[1]));
        assert_eq!(rows[1], (9, &[1.0, 2.0, 3.0][..]));
        assert_eq!(builder.rows(), 0);
    }

    #[test]
    fn raw_samples_come_back_row_by_row() {
        let mut builder = SampleBuilder::default();
        let samples = Samples { timestamps: vec![1, 2], values: vec![0.5, -0.0] };
        builder.push(3, &samples);
        builder.push(4, &Samples { timestamps: vec![9], values: vec![1.0] });
        let batch = builder.finish(&sample_schema()).unwrap();
        let mut seen = Vec::new();
        for_each_sample_row(&batch, |series, timestamps, values| {
            seen.push((series, timestamps.to_vec(), values.to_vec()));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(3, vec![1, 2], vec![0.5, -0.0]), (4, vec![9], vec![1.0])]);
    }

    #[test]
    fn batches_are_sized_in_cells() {
        assert_eq!(batch_rows(1), BATCH_ROWS);
        assert_eq!(batch_rows(65_536), 1);
        assert_eq!(batch_rows(1 << 30), 1);
        assert_eq!(batch_rows(2_500), 26);
    }
}
