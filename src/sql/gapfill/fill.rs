//! Gap filling at work: sorts what the aggregation gives, then walks along the buckets of each
//! group and gives a row for each.
//!
//! The input is held in memory, accounted to the query; rows that are added are made a batch at a
//! time, so that a wide range of narrow buckets takes time, not memory.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMillisecondArray,
    UInt32Array,
};
use arrow::compute::{
    SortColumn, cast, concat_batches, lexsort_to_indices, partition, take, take_record_batch,
};
use arrow::datatypes::{DataType, Float64Type, SchemaRef, TimeUnit, TimestampMillisecondType};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::StreamExt;

use crate::query::batch::BATCH_ROWS;
use crate::query::node::{BatchStream, Node, Run};
use crate::sql::gapfill::node::{Fill, Layout};

/// The node that runs.
#[derive(Debug)]
pub(super) struct FillNode {
    pub(super) layout: Layout,
}

impl Node for FillNode {
    fn name(&self) -> &'static str {
        "GapFillExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.layout)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        let stream = futures::stream::once(async move {
            let memory = MemoryConsumer::new("GapFillExec").register(run.context.memory_pool());
            let mut input = run.gather(0)?;
            let mut batches = Vec::new();
            while let Some(batch) = input.next().await {
                let batch = batch?;
                // Once as it came, once sorted.
                memory.try_grow(batch.get_array_memory_size().saturating_mul(2))?;
                batches.push(batch);
            }
            let rows = concat_batches(&input.schema(), &batches)?;
            let rows = sorted(&rows, &self.layout)?;
            Filling::new(self.layout.clone(), rows, Arc::clone(&run.schema), memory)
        });
        let batches = stream.map(|filling: DataFusionResult<Filling>| match filling {
            Ok(filling) => futures::stream::try_unfold(filling, |mut filling| async move {
                tokio::task::yield_now().await;
                Ok(filling.next()?.map(|batch| (batch, filling)))
            })
            .boxed(),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        });
        Ok(batches.flatten().boxed())
    }
}

/// By group, then by time.
fn sorted(rows: &RecordBatch, layout: &Layout) -> DataFusionResult<RecordBatch> {
    let order = layout.group.iter().chain([&layout.time]);
    let columns: Vec<_> = order
        .map(|index| SortColumn { values: Arc::clone(rows.column(*index)), options: None })
        .collect();
    let indices = lexsort_to_indices(&columns, None)?;
    Ok(take_record_batch(rows, &indices)?)
}

/// Where the walk along the buckets has come.
struct Filling {
    layout: Layout,
    schema: SchemaRef,
    rows: RecordBatch,
    times: Vec<i64>,
    /// Rows of each group that is not finished.
    groups: std::vec::IntoIter<Range<usize>>,
    walk: Option<Walk>,
    _memory: MemoryReservation,
}

/// One group.
#[derive(Clone)]
struct Walk {
    /// Rows that are still to come.
    rows: Range<usize>,
    /// All of its rows.
    all: Range<usize>,
    bucket: i64,
    last: i64,
}

/// One row of the output: of which row its group's columns are, its time, and its own row if it
/// has one.
struct Step {
    group: usize,
    time: i64,
    row: Option<usize>,
    /// Of the input: the first row that is not before this one.
    next: usize,
    end: usize,
}

impl Filling {
    fn new(
        layout: Layout,
        rows: RecordBatch,
        schema: SchemaRef,
        memory: MemoryReservation,
    ) -> DataFusionResult<Self> {
        let ms = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let times = cast(rows.column(layout.time), &ms)?;
        let times = times.as_primitive::<TimestampMillisecondType>();
        if times.null_count() > 0 {
            return Err(exec_datafusion_err!("gap filling needs a time in every row"));
        }
        let times = times.values().to_vec();
        let groups = if rows.num_rows() == 0 {
            Vec::new()
        } else if layout.group.is_empty() {
            std::iter::once(0..rows.num_rows()).collect()
        } else {
            let columns: Vec<_> =
                layout.group.iter().map(|index| Arc::clone(rows.column(*index))).collect();
            partition(&columns)?.ranges()
        };
        let groups = groups.into_iter();
        Ok(Self { layout, schema, rows, times, groups, walk: None, _memory: memory })
    }

    fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        let mut steps = Vec::new();
        while steps.len() < BATCH_ROWS {
            let Some(walk) = &mut self.walk else {
                let Some(rows) = self.groups.next() else { break };
                self.walk = Some(self.start(rows));
                continue;
            };
            match walk.step(&self.times, self.layout.buckets.stride) {
                Some(step) => steps.push(step),
                None => self.walk = None,
            }
        }
        if steps.is_empty() { Ok(None) } else { self.batch(&steps).map(Some) }
    }

    fn start(&self, rows: Range<usize>) -> Walk {
        let buckets = &self.layout.buckets;
        // A result without bounds has the same buckets in all groups.
        let first = || self.times.iter().min().copied().unwrap_or_default();
        let last = || self.times.iter().max().copied().unwrap_or_default();
        Walk {
            all: rows.clone(),
            rows,
            bucket: buckets.start_of(buckets.first.unwrap_or_else(first)),
            last: buckets.start_of(buckets.last.unwrap_or_else(last)),
        }
    }

    fn batch(&self, steps: &[Step]) -> DataFusionResult<RecordBatch> {
        let index = |row: usize| u32::try_from(row).ok();
        let groups: UInt32Array = steps.iter().map(|step| index(step.group)).collect();
        let rows: UInt32Array = steps.iter().map(|step| step.row.and_then(index)).collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for number in 0..self.rows.num_columns() {
            let column = self.rows.column(number);
            columns.push(if number == self.layout.time {
                let times = steps.iter().map(|step| step.time);
                let times = TimestampMillisecondArray::from_iter_values(times);
                cast(&times.with_timezone("UTC"), column.data_type())?
            } else if self.layout.group.contains(&number) {
                take(column, &groups, None)?
            } else {
                take(column, &rows, None)?
            });
        }
        for filled in &self.layout.filled {
            let column = self.rows.column(filled.column);
            columns.push(match filled.fill {
                Fill::Last => {
                    let known = steps.iter().map(|step| step.before(column));
                    take(column, &Int64Array::from_iter(known.map(to_i64)), None)?
                }
                Fill::Line => {
                    let values = cast(column, &DataType::Float64)?;
                    let values = values.as_primitive::<Float64Type>();
                    let line = steps.iter().map(|step| step.on_line(values, &self.times));
                    Arc::new(Float64Array::from_iter(line))
                }
            });
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn to_i64(row: Option<usize>) -> Option<i64> {
    i64::try_from(row?).ok()
}

impl Walk {
    /// The next row: the input's next one if its time has come, else a bucket without one.
    fn step(&mut self, times: &[i64], stride: i64) -> Option<Step> {
        let due = self.rows.clone().next();
        let row = due.filter(|row| times[*row] <= self.bucket || self.bucket > self.last);
        if row.is_none() && self.bucket > self.last {
            return None;
        }
        let time = row.map_or(self.bucket, |row| times[row]);
        if row.is_some() {
            self.rows.start += 1;
        }
        if time == self.bucket {
            self.bucket = self.bucket.saturating_add(stride);
        }
        Some(Step { group: self.all.start, time, row, next: self.rows.start, end: self.all.end })
    }
}

impl Step {
    /// The last row of the group with a value, up to this one.
    fn before(&self, column: &dyn Array) -> Option<usize> {
        (self.group..self.next).rev().find(|row| column.is_valid(*row))
    }

    /// The value, or what lies between the values on both sides.
    fn on_line(&self, values: &Float64Array, times: &[i64]) -> Option<f64> {
        if let Some(row) = self.row.filter(|row| values.is_valid(*row)) {
            return Some(values.value(row));
        }
        let left = self.before(values)?;
        let right = (self.next..self.end).find(|row| values.is_valid(*row))?;
        let (from, to) = (values.value(left), values.value(right));
        let part = to_f64(self.time - times[left]) / to_f64(times[right] - times[left]);
        Some(from + (to - from) * part)
    }
}

#[expect(clippy::cast_precision_loss, reason = "times apart by less than 285,000 years")]
fn to_f64(ms: i64) -> f64 {
    ms as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(times: &[i64], bucket: i64, last: i64) -> Vec<(i64, Option<usize>)> {
        let rows = 0..times.len();
        let mut walk = Walk { all: rows.clone(), rows, bucket, last };
        std::iter::from_fn(|| walk.step(times, 10)).map(|step| (step.time, step.row)).collect()
    }

    #[test]
    fn every_bucket_has_a_row_and_no_row_is_lost() {
        assert_eq!(steps(&[10, 30], 0, 30), [(0, None), (10, Some(0)), (20, None), (30, Some(1))]);
        assert_eq!(steps(&[], 0, 10), [(0, None), (10, None)]);
        // Rows outside of the bounds, or off the grid, stand where their time is.
        assert_eq!(steps(&[-10, 5, 40], 0, 10)[..3], [(-10, Some(0)), (0, None), (5, Some(1))]);
        assert_eq!(steps(&[-10, 5, 40], 0, 10)[3..], [(10, None), (40, Some(2))]);
    }
}
