//! The node that folds.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, RecordBatchOptions, TimestampMillisecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result as DataFusionResult;
use futures::StreamExt;

use crate::columnar::ColumnarError;
use crate::columnar::block::{ChunkSummary, ChunkView};
use crate::model::{Labels, TimeRange, Timestamp};
use crate::query::batch::BATCH_ROWS;
use crate::query::catalog::fold::aggregate::{Folded, Folding};
use crate::query::catalog::fold::keys::{Key, Keys};
use crate::query::catalog::sample_cursor::{
    SampleCursor, SampleSource, TakesChunks, WholeChunk, from_arrays, into_arrays, sample_columns,
};
use crate::query::catalog::sample_scan::series_batch;
use crate::query::node::{BatchStream, Node, Run};

const NAME: &str = "SampleFoldExec";

/// The samples of some series, folded by keys.
pub(super) struct SampleFold {
    pub(super) source: Arc<SampleSource>,
    pub(super) keys: Keys,
    pub(super) folded: Vec<Folded>,
    /// The keys as EXPLAIN shows them.
    pub(super) by: Vec<String>,
}

impl fmt::Debug for SampleFold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Node for SampleFold {
    fn name(&self) -> &'static str {
        NAME
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by=[{}] fold={:?}", self.source, self.by.join(", "), self.folded)
    }

    fn gathers(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        let takes_chunks = self.folded.iter().all(Folded::takes_chunks);
        let takes = takes_chunks.then(|| Arc::clone(&self) as Arc<dyn TakesChunks>);
        let cursor = SampleCursor::new(Arc::clone(&self.source), takes, NAME, &run);
        let stream = futures::stream::once(async move {
            let foldings = self.folded.iter().map(Folded::start).collect::<Result<_, _>>()?;
            let folding = Running {
                of_series: self.of_series(run.partition)?,
                first: self.source.partitions[run.partition].start,
                wants_arrays: self.folded.iter().any(Folded::wants_arrays),
                samples: sample_columns(),
                foldings,
                cursor,
                series: Vec::new(),
                times: Vec::new(),
                ends: Vec::new(),
                groups: Vec::new(),
                is_done: false,
                schema: Arc::clone(&run.schema),
                fold: self,
            };
            DataFusionResult::Ok(folding)
        });
        let batches = stream.map(|running| match running {
            Ok(running) => futures::stream::try_unfold(running, |mut running| async move {
                Ok(running.next().await?.map(|batch| (batch, running)))
            })
            .boxed(),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        });
        Ok(batches.flatten().boxed())
    }
}

impl SampleFold {
    /// The keys of series, a row for each series of a partition.
    fn of_series(&self, partition: usize) -> DataFusionResult<Vec<Option<ArrayRef>>> {
        let series = &self.source.series[self.source.partitions[partition].clone()];
        let labels: Vec<&Labels> = series.iter().map(|one| &one.labels).collect();
        let batch = series_batch(&labels, &self.keys.labels)?;
        let column = |key: &Key| match key {
            Key::Series(expr) => Ok(Some(expr.evaluate(&batch)?.into_array(series.len())?)),
            Key::Time(_) => Ok(None),
        };
        self.keys.keys.iter().map(column).collect()
    }
}

impl TakesChunks for SampleFold {
    fn take(
        &self,
        chunk: &mut ChunkView<'_>,
        summary: ChunkSummary,
    ) -> Result<Option<WholeChunk>, ColumnarError> {
        if !self.folded.iter().all(|folded| folded.takes(&summary)) {
            return Ok(None);
        }
        let wants_times =
            !self.keys.strides.is_empty() || self.folded.iter().any(Folded::wants_times);
        let times = if wants_times { chunk.time_range()? } else { TimeRange::ALL };
        Ok(self.keys.is_one_run(times).then_some(WholeChunk { times, summary }))
    }
}

/// The state of one partition.
struct Running {
    fold: Arc<SampleFold>,
    cursor: SampleCursor,
    of_series: Vec<Option<ArrayRef>>,
    /// Number of the partition's first series.
    first: usize,
    wants_arrays: bool,
    samples: SchemaRef,
    schema: SchemaRef,
    foldings: Vec<Folding>,
    /// Of each run its series, counted from the first, and its first time.
    series: Vec<u32>,
    times: Vec<Timestamp>,
    /// Of the series in hand.
    ends: Vec<usize>,
    groups: Vec<usize>,
    is_done: bool,
}

impl Running {
    async fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        while !self.is_done && self.series.len() < BATCH_ROWS {
            let held = self.series.len() * 16 * (1 + self.foldings.len());
            match self.cursor.next(held).await? {
                Some(index) => self.fold(index)?,
                None => self.is_done = true,
            }
        }
        if self.series.is_empty() {
            return Ok(None);
        }
        let elapsed = self.cursor.baseline.elapsed_compute().clone();
        let timer = elapsed.timer();
        let batch = self.batch()?;
        timer.done();
        Ok(Some(batch))
    }

    /// Folds the chunks that the cursor holds.
    fn fold_chunks(&mut self, series: u32) {
        let mut run: Option<TimeRange> = None;
        for chunk in &self.cursor.chunks {
            let joined = run.map(|run| run.hull(chunk.times));
            let joined = joined.filter(|joined| self.fold.keys.is_one_run(*joined));
            self.foldings.iter_mut().for_each(|folding| folding.add_chunk(chunk));
            if joined.is_some() {
                self.foldings.iter_mut().for_each(Folding::join);
            } else {
                self.series.push(series);
                self.times.push(chunk.times.start());
            }
            run = joined.or(Some(chunk.times));
        }
    }

    /// Folds the samples and chunks that the cursor holds.
    fn fold(&mut self, index: usize) -> DataFusionResult<()> {
        let elapsed = self.cursor.baseline.elapsed_compute().clone();
        let timer = elapsed.timer();
        let series = u32::try_from(index - self.first)
            .map_err(|_| exec_datafusion_err!("more series than can be numbered"))?;
        let samples = &mut self.cursor.samples;
        let before = self.series.len();
        self.ends.clear();
        self.fold.keys.cut(&samples.timestamps, &mut self.ends);
        let mut start = 0;
        for end in &self.ends {
            self.series.push(series);
            self.times.push(samples.timestamps[start]);
            start = *end;
        }
        for folding in &mut self.foldings {
            let mut start = 0;
            for end in &self.ends {
                folding.add(samples, start..*end);
                start = *end;
            }
        }
        if self.wants_arrays {
            self.groups.clear();
            for (group, end) in (before..).zip(&self.ends) {
                self.groups.resize(*end, group);
            }
            self.fold_rows()?;
        }
        self.fold_chunks(series);
        timer.done();
        Ok(())
    }

    fn fold_rows(&mut self) -> DataFusionResult<()> {
        let (timestamps, values) = into_arrays(&mut self.cursor.samples);
        let columns: Vec<ArrayRef> = vec![Arc::new(timestamps.clone()), Arc::new(values.clone())];
        let rows = RecordBatch::try_new(Arc::clone(&self.samples), columns)?;
        for folding in &mut self.foldings {
            folding.add_rows(&rows, &self.groups, self.series.len())?;
        }
        drop(rows);
        self.cursor.samples = from_arrays(timestamps, values);
        Ok(())
    }

    /// A row for each run; starts anew.
    fn batch(&mut self) -> DataFusionResult<RecordBatch> {
        let rows = self.series.len();
        let series = UInt32Array::from(std::mem::take(&mut self.series));
        let times = TimestampMillisecondArray::from(std::mem::take(&mut self.times));
        let zeros = Float64Array::from(vec![0.0; rows]);
        let columns: Vec<ArrayRef> = vec![Arc::new(times.with_timezone("UTC")), Arc::new(zeros)];
        let starts = RecordBatch::try_new(Arc::clone(&self.samples), columns)?;
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (key, of_series) in self.fold.keys.keys.iter().zip(&self.of_series) {
            columns.push(match (key, of_series) {
                (Key::Series(_), Some(column)) => take(column, &series, None)?,
                (Key::Series(expr) | Key::Time(expr), _) => {
                    expr.evaluate(&starts)?.into_array(rows)?
                }
            });
        }
        for folding in &mut self.foldings {
            columns.extend(folding.finish()?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}
