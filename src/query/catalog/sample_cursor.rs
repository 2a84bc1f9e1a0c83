//! The samples of chosen series, one series after the other: what the leaves of SQL plans over
//! raw samples share.
//!
//! Read walk: `catalog::sample_scan`, `catalog::fold` → here → `storage::Snapshot`. Stale markers
//! are no rows; conditions on time and value are decided here, before any column is made.
//!
//! A chunk of which no row can pass is left out by what its directory says, and one that a fold
//! takes as a whole is not decoded either.

use std::collections::BinaryHeap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, PrimitiveArray};
use arrow::array::{RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::BaselineMetrics;

use crate::columnar::ColumnarError;
use crate::columnar::block::{ChunkSummary, ChunkView};
use crate::columnar::parquet::columns::{TIME, VALUE};
use crate::model::{Samples, TimeRange, Timestamp};
use crate::query::catalog::chunks::{Holds, ValueTest};
use crate::query::catalog::columns::time;
use crate::query::error::QueryError;
use crate::query::limits::QueryUsage;
use crate::query::node::Run;
use crate::query::scan::{ScanCounters, drop_stale, partitions};
use crate::storage::{SelectedSeries, Snapshot, SnapshotReader};

/// Series of a table, chosen, and which of their samples are wanted.
#[derive(Clone)]
pub(crate) struct SampleSource {
    pub(crate) snapshot: Snapshot,
    pub(crate) series: Arc<[SelectedSeries]>,
    pub(crate) range: TimeRange,
    /// What must hold for a sample, over the columns of [`sample_columns`].
    pub(crate) condition: Option<Arc<dyn PhysicalExpr>>,
    pub(crate) ends: Option<Ends>,
    /// What chose the series, as EXPLAIN shows it.
    pub(crate) selector: String,
    pub(crate) usage: Arc<QueryUsage>,
    pub(crate) partitions: Arc<[Range<usize>]>,
}

/// Only so many rows, the earliest or the latest of all series, are wanted.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    pub(crate) rows: usize,
    pub(crate) latest: bool,
    /// No row beyond this time is among them; one of exactly this time may be.
    bound: Arc<AtomicI64>,
}

impl Ends {
    /// Most rows for which it pays to remember the times of the best ones.
    pub(crate) const ROWS_MAX: usize = 10_000;

    pub(crate) fn new(rows: usize, latest: bool) -> Self {
        let open = if latest { i64::MIN } else { i64::MAX };
        Self { rows, latest, bound: Arc::new(AtomicI64::new(open)) }
    }

    fn narrow(&self, range: TimeRange) -> Option<TimeRange> {
        let bound = self.bound.load(Ordering::Relaxed);
        let open = match self.latest {
            true => TimeRange::new(bound, i64::MAX),
            false => TimeRange::new(i64::MIN, bound),
        };
        open.and_then(|open| range.intersect(open))
    }

    /// A time as a number that is greater the further it is from the wanted end.
    fn distance(&self, at: Timestamp) -> i64 {
        if self.latest { !at } else { at }
    }

    /// Leaves out what cannot be among the wanted rows, and learns the bound from the rest.
    fn cut(&self, best: &mut BinaryHeap<i64>, samples: &mut Samples) {
        if samples.len() > self.rows {
            let from = if self.latest { samples.len() - self.rows } else { 0 };
            samples.timestamps.drain(..from);
            samples.values.drain(..from);
            samples.timestamps.truncate(self.rows);
            samples.values.truncate(self.rows);
        }
        for at in &samples.timestamps {
            let distance = self.distance(*at);
            if best.len() < self.rows {
                best.push(distance);
            } else if let Some(mut worst) = best.peek_mut()
                && distance < *worst
            {
                *worst = distance;
            }
        }
        if best.len() == self.rows
            && let Some(worst) = best.peek()
        {
            // The distance of a distance is the time.
            let at = self.distance(*worst);
            match self.latest {
                true => self.bound.fetch_max(at, Ordering::Relaxed),
                false => self.bound.fetch_min(at, Ordering::Relaxed),
            };
        }
    }
}

impl fmt::Display for SampleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} series={}", self.selector, self.series.len())?;
        if self.range != TimeRange::ALL {
            write!(f, " range=[{}, {}]", self.range.start(), self.range.end())?;
        }
        if let Some(condition) = &self.condition {
            write!(f, " where=[{condition}]")?;
        }
        match &self.ends {
            Some(Ends { rows, latest: true, .. }) => write!(f, " latest={rows}"),
            Some(Ends { rows, latest: false, .. }) => write!(f, " earliest={rows}"),
            None => Ok(()),
        }
    }
}

impl SampleSource {
    /// Cuts the series into at most `partitions_max` ranges.
    pub(crate) fn split(&mut self, partitions_max: usize) {
        let count = self.series.len();
        self.partitions = partitions(&self.snapshot, count, self.range, partitions_max).into();
    }
}

/// The columns that every sample has.
pub(crate) fn sample_columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(TIME, time(), false),
        Field::new(VALUE, DataType::Float64, false),
    ]))
}

/// Samples as columns of [`sample_columns`], without a copy.
pub(crate) fn into_arrays(samples: &mut Samples) -> (TimestampMillisecondArray, Float64Array) {
    let timestamps = TimestampMillisecondArray::from(std::mem::take(&mut samples.timestamps));
    let values = Float64Array::from(std::mem::take(&mut samples.values));
    (timestamps.with_timezone("UTC"), values)
}

/// The samples of columns, without a copy if nobody else holds them.
pub(crate) fn from_arrays(timestamps: TimestampMillisecondArray, values: Float64Array) -> Samples {
    Samples { timestamps: into_vec(timestamps), values: into_vec(values) }
}

/// The memory of a column, taken back if nobody else holds it.
fn into_vec<T: ArrowPrimitiveType>(column: PrimitiveArray<T>) -> Vec<T::Native> {
    let (_, values, _) = column.into_parts();
    values.into_inner().into_vec().unwrap_or_else(|shared| shared.typed_data().to_vec())
}

/// A chunk that stands for its samples, all of which are rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WholeChunk {
    /// Of its timestamps; all of time if that was not looked at.
    pub(crate) times: TimeRange,
    pub(crate) summary: ChunkSummary,
}

/// One who can do with what a directory says of a chunk.
pub(crate) trait TakesChunks: Send + Sync {
    /// The chunk as it is to be kept, or `None` if its samples are needed.
    fn take(
        &self,
        chunk: &mut ChunkView<'_>,
        summary: ChunkSummary,
    ) -> Result<Option<WholeChunk>, ColumnarError>;
}

/// Reads the series of one partition.
pub(crate) struct SampleCursor {
    source: Arc<SampleSource>,
    /// What the source's condition says of values.
    test: Option<ValueTest>,
    takes: Option<Arc<dyn TakesChunks>>,
    columns: SchemaRef,
    reader: SnapshotReader,
    series: Range<usize>,
    /// Of the series in hand; whoever reads may take them.
    pub(crate) samples: Samples,
    /// Chunks of the series in hand whose samples were not read, ascending.
    pub(crate) chunks: Vec<WholeChunk>,
    /// Distances of the best rows so far.
    best: BinaryHeap<i64>,
    memory: MemoryReservation,
    counters: ScanCounters,
    pub(crate) baseline: BaselineMetrics,
}

impl SampleCursor {
    /// `takes` gets chunks as a whole where that is possible.
    pub(crate) fn new(
        source: Arc<SampleSource>,
        takes: Option<Arc<dyn TakesChunks>>,
        name: &str,
        run: &Run,
    ) -> Self {
        let consumer = MemoryConsumer::new(format!("{name}[{}]", run.partition));
        Self {
            test: source.condition.as_ref().map(ValueTest::new),
            takes,
            columns: sample_columns(),
            reader: source.snapshot.reader(),
            series: source.partitions[run.partition].clone(),
            samples: Samples::default(),
            chunks: Vec::new(),
            best: BinaryHeap::new(),
            memory: consumer.register(run.context.memory_pool()),
            counters: ScanCounters::new(run),
            baseline: run.baseline.clone(),
            source,
        }
    }

    /// Reads the next series that has samples and says its number; `None` after the last.
    /// `held` are the bytes that the reader made of earlier ones and still holds.
    pub(crate) async fn next(&mut self, held: usize) -> DataFusionResult<Option<usize>> {
        while let Some(index) = self.series.next() {
            self.counters.breathe().await;
            let elapsed = self.baseline.elapsed_compute().clone();
            let timer = elapsed.timer();
            self.read(index)?;
            timer.done();
            let of_chunks = self.chunks.capacity() * size_of::<WholeChunk>();
            let of_samples = self.samples.timestamps.capacity() * 16;
            self.memory.try_resize(held + of_chunks + of_samples)?;
            if !self.samples.is_empty() || !self.chunks.is_empty() {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn read(&mut self, index: usize) -> DataFusionResult<()> {
        self.chunks.clear();
        let source = &self.source;
        let range = match &source.ends {
            Some(ends) => ends.narrow(source.range),
            None => Some(source.range),
        };
        let Some(range) = range else {
            self.samples.clear();
            return Ok(());
        };
        let series = &source.series[index];
        let (test, takes, chunks) = (&self.test, &self.takes, &mut self.chunks);
        let is_open = test.as_ref().is_none_or(ValueTest::says_anything);
        let read = if is_open && (test.is_some() || takes.is_some()) {
            let mut settle = |chunk: &mut ChunkView<'_>| {
                let summary = chunk.summary()?;
                let holds = test.as_ref().map_or(Holds::Always, |test| test.holds(&summary));
                match (holds, takes) {
                    // Stale markers are no rows.
                    _ if summary.count == 0 => Ok(true),
                    (Holds::Never, _) => Ok(true),
                    (Holds::Always, Some(takes)) if chunk.is_whole() => {
                        let taken = takes.take(chunk, summary)?;
                        chunks.extend(taken);
                        Ok(taken.is_some())
                    }
                    _ => Ok(false),
                }
            };
            self.reader.read_unsettled(series, range, &mut settle, &mut self.samples)
        } else {
            self.reader.read(series, range, &mut self.samples)
        };
        let stats = read.map_err(QueryError::from)?;
        self.counters.add(stats);
        source.usage.add(stats)?;
        // Parts come by when they were written.
        let start = |chunk: &WholeChunk| chunk.times.start();
        if !self.chunks.is_sorted_by_key(start) {
            self.chunks.sort_unstable_by_key(start);
        }
        drop_stale(&mut self.samples);
        if let Some(condition) = &source.condition {
            keep(condition, &self.columns, &mut self.samples)?;
        }
        if let Some(ends) = &source.ends {
            ends.cut(&mut self.best, &mut self.samples);
        }
        Ok(())
    }
}

/// Leaves the samples for which a condition holds.
fn keep(
    condition: &Arc<dyn PhysicalExpr>,
    columns: &SchemaRef,
    samples: &mut Samples,
) -> DataFusionResult<()> {
    let rows = samples.len();
    if rows == 0 {
        return Ok(());
    }
    let (timestamps, values) = into_arrays(samples);
    let arrays: Vec<ArrayRef> = vec![Arc::new(timestamps.clone()), Arc::new(values.clone())];
    let batch = RecordBatch::try_new(Arc::clone(columns), arrays)?;
    let mask = condition.evaluate(&batch)?.into_array(rows)?;
    drop(batch);
    *samples = from_arrays(timestamps, values);
    compact(mask.as_boolean(), samples);
    Ok(())
}

fn compact(mask: &BooleanArray, samples: &mut Samples) {
    let holds = match mask.nulls() {
        Some(nulls) => mask.values() & nulls.inner(),
        None => mask.values().clone(),
    };
    let mut kept = 0;
    for (start, end) in holds.set_slices() {
        samples.timestamps.copy_within(start..end, kept);
        samples.values.copy_within(start..end, kept);
        kept += end - start;
    }
    samples.timestamps.truncate(kept);
    samples.values.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(timestamps: &[i64]) -> Samples {
        let values = timestamps.iter().map(|_| 1.0).collect();
        Samples { timestamps: timestamps.to_vec(), values }
    }

    #[test]
    fn the_bound_is_the_time_of_the_last_wanted_row() {
        let ends = Ends::new(3, true);
        let mut best = BinaryHeap::new();
        let mut one = samples(&[1, 2]);
        ends.cut(&mut best, &mut one);
        assert_eq!(ends.narrow(TimeRange::ALL), Some(TimeRange::ALL));
        let mut two = samples(&[0, 5, 6, 7]);
        ends.cut(&mut best, &mut two);
        assert_eq!(two.timestamps, [5, 6, 7]);
        assert_eq!(ends.narrow(TimeRange::ALL), TimeRange::new(5, i64::MAX));
        let ends = Ends::new(2, false);
        let mut best = BinaryHeap::new();
        ends.cut(&mut best, &mut samples(&[4]));
        ends.cut(&mut best, &mut samples(&[-3, 9]));
        assert_eq!(ends.narrow(TimeRange::ALL), TimeRange::new(i64::MIN, 4));
    }

    #[test]
    fn samples_are_left_where_the_mask_is_true() {
        let mut some = samples(&[1, 2, 3, 4]);
        let mask = BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]);
        compact(&mask, &mut some);
        assert_eq!(some.timestamps, [1, 4]);
        assert_eq!(some.values.len(), 2);
    }
}
