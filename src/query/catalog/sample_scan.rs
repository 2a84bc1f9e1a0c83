//! The leaf of SQL plans over raw samples: one row per sample.
//!
//! Read walk: `catalog::sample_table` → here → `storage::Snapshot`. Series come one after the
//! other, each ascending by time; only the columns that are asked for are made.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, RecordBatchOptions, TimestampMillisecondArray, UInt32Array,
};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr, expressions};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::BaselineMetrics;
use futures::StreamExt;

use crate::columnar::parquet::columns::TIME;
use crate::model::{Labels, Samples, TimeRange};
use crate::query::batch::BATCH_ROWS;
use crate::query::catalog::columns::{SampleColumn, SampleColumns, label_column, labels_column};
use crate::query::error::QueryError;
use crate::query::limits::QueryUsage;
use crate::query::node::{BatchStream, Node, NodeExec, Run};
use crate::query::scan::{ScanCounters, drop_stale, partitions};
use crate::storage::{SelectedSeries, Snapshot, SnapshotReader};

/// Samples of one table, the series already chosen.
pub(crate) struct SampleScan {
    pub(crate) snapshot: Snapshot,
    pub(crate) series: Vec<SelectedSeries>,
    pub(crate) range: TimeRange,
    pub(crate) columns: SampleColumns,
    /// Rows after which a partition may stop.
    pub(crate) limit: Option<usize>,
    /// What chose the series, as EXPLAIN shows it.
    pub(crate) selector: String,
    pub(crate) usage: Arc<QueryUsage>,
    partitions: Vec<Range<usize>>,
}

impl fmt::Debug for SampleScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl SampleScan {
    /// A plan of at most `partitions_max` partitions.
    pub(crate) fn plan(mut self, partitions_max: usize) -> Arc<dyn ExecutionPlan> {
        // Few rows are found soonest where the first series are.
        let partitions_max = if self.limit.is_some() { 1 } else { partitions_max };
        self.partitions = partitions(&self.snapshot, self.series.len(), self.range, partitions_max);
        let count = self.partitions.len();
        let by_time = self.partitions.iter().all(|series| series.len() <= 1);
        let schema = Arc::clone(&self.columns.schema);
        let ordering = by_time.then(|| time_ordering(&schema)).flatten();
        NodeExec::ordered_leaf(self, schema, count, ordering)
    }

    pub(crate) fn new(
        snapshot: Snapshot,
        series: Vec<SelectedSeries>,
        range: TimeRange,
        columns: SampleColumns,
        limit: Option<usize>,
        selector: String,
        usage: Arc<QueryUsage>,
    ) -> Self {
        let partitions = Vec::new();
        Self { snapshot, series, range, columns, limit, selector, usage, partitions }
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
        "SampleScanExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} series={}", self.selector, self.series.len())?;
        write!(f, " range=[{}, {}]", self.range.start(), self.range.end())?;
        let columns: Vec<_> =
            self.columns.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, " columns=[{}]", columns.join(", "))?;
        self.limit.map_or(Ok(()), |limit| write!(f, " limit={limit}"))
    }

    fn gathers(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        let consumer = MemoryConsumer::new(format!("SampleScanExec[{}]", run.partition));
        let scanning = Scanning {
            reader: self.snapshot.reader(),
            series: self.partitions[run.partition].clone(),
            rows_left: self.limit.unwrap_or(usize::MAX),
            read: Samples::default(),
            builder: RowBuilder::default(),
            ready: VecDeque::new(),
            reservation: consumer.register(run.context.memory_pool()),
            counters: ScanCounters::new(&run),
            baseline: run.baseline.clone(),
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
    reader: SnapshotReader,
    series: Range<usize>,
    rows_left: usize,
    /// The samples of the series in hand.
    read: Samples,
    builder: RowBuilder,
    /// Batches that are made and not yet handed on.
    ready: VecDeque<RecordBatch>,
    reservation: MemoryReservation,
    counters: ScanCounters,
    baseline: BaselineMetrics,
}

impl Scanning {
    async fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            while !self.series.is_empty() && self.rows_left > 0 && !self.builder.is_full() {
                self.counters.breathe().await;
                self.read_one()?;
            }
            if self.builder.is_empty() {
                return Ok(None);
            }
            let timer = self.baseline.elapsed_compute().timer();
            let batch = self.builder.finish(&self.scan)?;
            timer.done();
            // A long series is cut into slices of the same memory.
            let starts = (0..batch.num_rows()).step_by(BATCH_ROWS);
            self.ready.extend(
                starts.map(|start| batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start))),
            );
        }
    }

    /// Adds the rows of the next series.
    fn read_one(&mut self) -> DataFusionResult<()> {
        let index = self.series.start;
        self.series.start += 1;
        let timer = self.baseline.elapsed_compute().timer();
        let series = &self.scan.series[index];
        let stats =
            self.reader.read(series, self.scan.range, &mut self.read).map_err(QueryError::from)?;
        drop_stale(&mut self.read);
        if self.read.len() > self.rows_left {
            self.read.timestamps.truncate(self.rows_left);
            self.read.values.truncate(self.rows_left);
        }
        self.rows_left -= self.read.len();
        self.builder.push(index, &mut self.read);
        timer.done();
        self.counters.add(stats);
        self.scan.usage.add(stats)?;
        let columns = self.scan.columns.columns.len();
        self.reservation
            .try_resize(self.builder.bytes(columns) + self.read.timestamps.capacity() * 16)
    }
}

/// Rows on their way to a batch.
#[derive(Default)]
struct RowBuilder {
    timestamps: Vec<i64>,
    values: Vec<f64>,
    /// Number of a series and of its rows.
    runs: Vec<(usize, usize)>,
}

impl RowBuilder {
    fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    fn is_full(&self) -> bool {
        self.timestamps.len() >= BATCH_ROWS
    }

    /// Memory of the rows with so many columns, a view of 16 bytes the widest.
    fn bytes(&self, columns: usize) -> usize {
        self.timestamps.len() * 16 * (columns + 1)
    }

    /// Appends the samples of a series; takes their memory where that spares a copy.
    fn push(&mut self, series: usize, samples: &mut Samples) {
        if samples.is_empty() {
            return;
        }
        self.runs.push((series, samples.len()));
        if self.is_empty() && samples.len() >= BATCH_ROWS {
            std::mem::swap(&mut self.timestamps, &mut samples.timestamps);
            std::mem::swap(&mut self.values, &mut samples.values);
        } else {
            self.timestamps.extend_from_slice(&samples.timestamps);
            self.values.extend_from_slice(&samples.values);
        }
    }

    /// All rows as one batch; starts the next one.
    fn finish(&mut self, scan: &SampleScan) -> DataFusionResult<RecordBatch> {
        let rows = self.timestamps.len();
        let runs = std::mem::take(&mut self.runs);
        let timestamps: ArrayRef = Arc::new(
            TimestampMillisecondArray::from(std::mem::take(&mut self.timestamps))
                .with_timezone("UTC"),
        );
        let values: ArrayRef = Arc::new(Float64Array::from(std::mem::take(&mut self.values)));
        let series = || runs.iter().map(|(series, _)| &scan.series[*series].labels);
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
