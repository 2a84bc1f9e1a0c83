//! The leaf of SQL plans over raw samples: one row per sample.
//!
//! Read walk: `catalog::sample_table` → here → `storage::Snapshot`. Series come one after the
//! other, each ascending by time; only the columns that are asked for are made.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr, expressions};
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;

use crate::columnar::parquet::columns::TIME;
use crate::model::{Labels, Samples};
use crate::query::batch::BATCH_ROWS;
use crate::query::catalog::columns::{SampleColumn, SampleColumns, label_column, labels_column};
use crate::query::catalog::sample_cursor::{Ends, SampleCursor, SampleSource, into_arrays};
use crate::query::node::{BatchStream, Node, NodeExec, Run};

const NAME: &str = "SampleScanExec";

/// Samples of one table as rows.
#[derive(Clone)]
pub(crate) struct SampleScan {
    pub(crate) source: SampleSource,
    pub(crate) columns: SampleColumns,
    /// Rows after which a partition may stop.
    pub(crate) limit: Option<usize>,
}

impl fmt::Debug for SampleScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl SampleScan {
    pub(crate) fn plan(self) -> Arc<dyn ExecutionPlan> {
        let partitions = &self.source.partitions;
        let by_time = partitions.iter().all(|series| series.len() <= 1);
        let schema = Arc::clone(&self.columns.schema);
        let ordering = by_time.then(|| time_ordering(&schema)).flatten();
        let count = partitions.len();
        NodeExec::ordered_leaf(self, schema, count, ordering)
    }

    /// The same scan, which may leave out all but the rows at one end of time.
    pub(crate) fn with_ends(&self, ends: Ends) -> Self {
        let source = SampleSource { ends: Some(ends), ..self.source.clone() };
        Self { source, ..self.clone() }
    }
}

fn time_ordering(schema: &SchemaRef) -> Option<LexOrdering> {
    let time = expressions::col(TIME, schema).ok()?;
    // There are no nulls; SQL sorts them last unless told otherwise.
    let options = SortOptions { descending: false, nulls_first: false };
    LexOrdering::new([PhysicalSortExpr::new(time, options)])
}

impl Node for SampleScan {
    fn name(&self) -> &'static str {
        NAME
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        let columns: Vec<_> =
            self.columns.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, " columns=[{}]", columns.join(", "))?;
        self.limit.map_or(Ok(()), |limit| write!(f, " limit={limit}"))
    }

    fn gathers(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        let scanning = Scanning {
            cursor: SampleCursor::new(Arc::new(self.source.clone()), None, NAME, &run),
            is_done: false,
            rows_left: self.limit.unwrap_or(usize::MAX),
            builder: RowBuilder::default(),
            ready: VecDeque::new(),
            scan: self,
        };
        let stream = futures::stream::try_unfold(scanning, |mut scanning| async move {
            Ok(scanning.next().await?.map(|batch| (batch, scanning)))
        });
        Ok(stream.boxed())
    }
}

/// The state of one running partition.
struct Scanning {
    scan: Arc<SampleScan>,
    cursor: SampleCursor,
    is_done: bool,
    rows_left: usize,
    builder: RowBuilder,
    /// Batches that are made and not yet handed on.
    ready: VecDeque<RecordBatch>,
}

impl Scanning {
    async fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        let columns = self.scan.columns.columns.len();
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            while !self.is_done && self.rows_left > 0 && !self.builder.is_full() {
                let Some(index) = self.cursor.next(self.builder.bytes(columns)).await? else {
                    self.is_done = true;
                    break;
                };
                let samples = &mut self.cursor.samples;
                samples.timestamps.truncate(self.rows_left);
                samples.values.truncate(self.rows_left);
                self.rows_left -= samples.len();
                self.builder.push(index, samples);
            }
            if self.builder.is_empty() {
                return Ok(None);
            }
            let timer = self.cursor.baseline.elapsed_compute().timer();
            let batch = self.builder.finish(&self.scan)?;
            timer.done();
            // A long series is cut into slices of the same memory.
            let starts = (0..batch.num_rows()).step_by(BATCH_ROWS);
            self.ready.extend(
                starts.map(|start| batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start))),
            );
        }
    }
}

/// Rows on their way to a batch.
#[derive(Default)]
struct RowBuilder {
    samples: Samples,
    /// Number of a series and of its rows.
    runs: Vec<(usize, usize)>,
}

impl RowBuilder {
    fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    fn is_full(&self) -> bool {
        self.samples.len() >= BATCH_ROWS
    }

    /// Memory of the rows with so many columns, a view of 16 bytes the widest.
    fn bytes(&self, columns: usize) -> usize {
        self.samples.len() * 16 * (columns + 1)
    }

    /// Appends the samples of a series; takes their memory where that spares a copy.
    fn push(&mut self, series: usize, samples: &mut Samples) {
        self.runs.push((series, samples.len()));
        if self.is_empty() && samples.len() >= BATCH_ROWS {
            std::mem::swap(&mut self.samples, samples);
        } else {
            self.samples.timestamps.extend_from_slice(&samples.timestamps);
            self.samples.values.extend_from_slice(&samples.values);
        }
    }

    /// All rows as one batch; starts the next one.
    fn finish(&mut self, scan: &SampleScan) -> DataFusionResult<RecordBatch> {
        let rows = self.samples.len();
        let runs = std::mem::take(&mut self.runs);
        let (timestamps, values) = into_arrays(&mut self.samples);
        let (timestamps, values): (ArrayRef, ArrayRef) = (Arc::new(timestamps), Arc::new(values));
        let series = || runs.iter().map(|(series, _)| &scan.source.series[*series].labels);
        let wanted = &scan.columns.columns;
        let places = wanted.iter().any(SampleColumn::is_of_series).then(|| places(&runs, rows));
        let spread = |column: ArrayRef| match &places {
            Some(places) => take(&column, places, None),
            None => Ok(column),
        };
        let arrays: Vec<ArrayRef> = wanted
            .iter()
            .map(|column| match column {
                SampleColumn::Label(name) => spread(label_column(series(), name)),
                SampleColumn::Labels => spread(labels_column(series())),
                SampleColumn::Time => Ok(Arc::clone(&timestamps)),
                SampleColumn::Value => Ok(Arc::clone(&values)),
            })
            .collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&scan.columns.schema);
        Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
    }
}

/// For each row, the number of its run.
fn places(runs: &[(usize, usize)], rows: usize) -> UInt32Array {
    let mut places = Vec::with_capacity(rows);
    for (run, (_, count)) in (0u32..).zip(runs) {
        places.resize(places.len() + count, run);
    }
    places.into()
}

/// The labels of chosen series, as columns of a table: one row per series.
pub(crate) fn series_batch(
    series: &[&Labels],
    columns: &SampleColumns,
) -> DataFusionResult<RecordBatch> {
    let arrays: Vec<ArrayRef> = columns
        .columns
        .iter()
        .map(|column| match column {
            SampleColumn::Label(name) => label_column(series.iter().copied(), name),
            _ => labels_column(series.iter().copied()),
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(series.len()));
    let schema = Arc::clone(&columns.schema);
    Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
}
