//! The leaf of every plan: reads series of a snapshot, merged over all parts.
//!
//! Read walk: plan → here → `storage::Snapshot` → parts. A window kernel runs on each series
//! while its samples are still in the cache, so that one row per series leaves the scan.
//!
//! Invariant: a partition is a range of the selected series, which ascend by labels, so windows
//! are local to a partition and partitions in order give the series in order.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, MetricBuilder};
use futures::StreamExt;

use crate::model::{Samples, TimeRange};
use crate::query::batch::{SampleBuilder, VectorBuilder, batch_rows, sample_schema, vector_schema};
use crate::query::error::QueryError;
use crate::query::grid::Grid;
use crate::query::kernel::{StartTimestamps, WindowKernel, evaluate};
use crate::query::limits::QueryUsage;
use crate::query::node::{BatchStream, Node, NodeExec, Run};
use crate::query::pace::Pace;
use crate::storage::{ReadStats, SelectedSeries, Snapshot, SnapshotReader};

/// A partition is worth its start-up cost from this many samples on.
pub const PARTITION_SAMPLES: u64 = 250_000;
/// For the estimate of how many samples a range holds.
pub(crate) const ASSUMED_INTERVAL_MS: i64 = 10_000;

/// What looking at a chunk's summary counts for.
const SETTLED_LOOKS: usize = 32;

/// What a scan yields.
#[derive(Debug, Clone)]
pub enum ScanOutput {
    /// One vector row per series.
    Window { kernel: Arc<dyn WindowKernel>, grid: Grid },
    /// The samples themselves, without stale markers.
    Samples,
}

/// The series that a selector stands for.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) series: Arc<[SelectedSeries]>,
    /// Where the start timestamps of each are stored, if the kernel looks at them.
    pub(crate) starts: Option<Arc<[Option<SelectedSeries>]>>,
}

/// A selector, resolved to series.
pub struct SeriesScan {
    snapshot: Snapshot,
    selection: Selection,
    partitions: Vec<Range<usize>>,
    range: TimeRange,
    output: ScanOutput,
    selector: String,
    usage: Arc<QueryUsage>,
}

impl fmt::Debug for SeriesScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl SeriesScan {
    /// A plan that reads `range` of these series in at most `partitions_max` partitions.
    pub(crate) fn plan(
        snapshot: &Snapshot,
        selector: String,
        selection: Selection,
        range: TimeRange,
        output: ScanOutput,
        usage: Arc<QueryUsage>,
        partitions_max: usize,
    ) -> Arc<dyn ExecutionPlan> {
        let schema = match &output {
            ScanOutput::Window { kernel, grid } => vector_schema(kernel.width() * grid.steps()),
            ScanOutput::Samples => sample_schema(),
        };
        let partitions = partitions(snapshot, selection.series.len(), range, partitions_max);
        let count = partitions.len();
        let snapshot = snapshot.clone();
        let scan = Self { snapshot, selection, partitions, range, output, selector, usage };
        NodeExec::leaf(scan, schema, count)
    }
}

/// Cuts the numbers of so many series into at most `partitions_max` ranges, each worth a task.
pub(crate) fn partitions(
    snapshot: &Snapshot,
    series: usize,
    range: TimeRange,
    partitions_max: usize,
) -> Vec<Range<usize>> {
    let samples = estimate_samples(snapshot, series, range);
    let wanted = usize::try_from(samples / PARTITION_SAMPLES).unwrap_or(usize::MAX);
    split(series, wanted.clamp(1, partitions_max.max(1)))
}

fn estimate_samples(snapshot: &Snapshot, series: usize, range: TimeRange) -> u64 {
    let Some(covered) = snapshot.time_range().and_then(|all| all.intersect(range)) else {
        return 0;
    };
    let length = covered.end().saturating_sub(covered.start());
    let each = u64::try_from(length / ASSUMED_INTERVAL_MS).unwrap_or(0).max(1);
    each.saturating_mul(series as u64)
}

/// Cuts `0..count` into `parts` ranges of nearly equal length, none empty but the only one.
fn split(count: usize, parts: usize) -> Vec<Range<usize>> {
    let parts = parts.clamp(1, count.max(1));
    (0..parts).map(|part| count * part / parts..count * (part + 1) / parts).collect()
}

impl Node for SeriesScan {
    fn name(&self) -> &'static str {
        "SeriesScanExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.range;
        write!(f, "{} series={}", self.selector, self.selection.series.len())?;
        write!(f, " range=[{}, {}]", range.start(), range.end())?;
        match &self.output {
            ScanOutput::Window { kernel, grid } => {
                write!(f, " window={} grid={grid}", kernel.name())
            }
            ScanOutput::Samples => f.write_str(" raw"),
        }
    }

    fn gathers(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        let rows = self.partitions[run.partition].clone();
        let consumer = MemoryConsumer::new(format!("SeriesScanExec[{}]", run.partition));
        let counters = ScanCounters::new(&run);
        let scanning = Scanning {
            reader: self.snapshot.reader(),
            rows,
            samples: Samples::default(),
            starts: StartTimestamps::default(),
            reservation: consumer.register(run.context.memory_pool()),
            counters,
            baseline: run.baseline.clone(),
        };
        let schema = Arc::clone(&run.schema);
        let stream = futures::stream::try_unfold(scanning, move |mut scanning| {
            let scan = Arc::clone(&self);
            let schema = Arc::clone(&schema);
            async move {
                if scanning.rows.is_empty() {
                    return Ok(None);
                }
                let batch = match &scan.output {
                    ScanOutput::Window { kernel, grid } => {
                        let cells = kernel.width() * grid.steps();
                        let rows = batch_rows(cells).min(scanning.rows.len());
                        scanning.reserve(rows.saturating_mul(cells))?;
                        let mut builder = VectorBuilder::new(cells, rows);
                        while !scanning.rows.is_empty() && !builder.is_full() {
                            scanning.counters.breathe().await;
                            let (index, series) = scanning.next(&scan)?;
                            if scanning.samples.is_empty() {
                                continue;
                            }
                            let out = builder.row(index);
                            let (labels, samples) = (&series.labels, &mut scanning.samples);
                            let pace = &mut scanning.counters.pace;
                            let compute = scanning.baseline.elapsed_compute();
                            match kernel.started().filter(|_| !scanning.starts.is_empty()) {
                                Some(kernel) => {
                                    let timer = compute.timer();
                                    let starts = &scanning.starts;
                                    kernel.evaluate_started(labels, samples, starts, *grid, out)?;
                                    timer.done();
                                    pace.look(samples.len() + out.len()).await;
                                }
                                None => {
                                    let kernel = kernel.as_ref();
                                    evaluate(kernel, labels, samples, *grid, out, pace, compute)
                                        .await?;
                                }
                            }
                            builder.keep_if_present();
                        }
                        builder.finish(&schema)?
                    }
                    ScanOutput::Samples => {
                        let mut builder = SampleBuilder::default();
                        let mut held = 0;
                        while !scanning.rows.is_empty() && !builder.is_full() {
                            scanning.counters.breathe().await;
                            let (index, _) = scanning.next(&scan)?;
                            drop_stale(&mut scanning.samples);
                            if !scanning.samples.is_empty() {
                                held += scanning.samples.len() * 2;
                                scanning.reserve(held)?;
                                builder.push(index, &scanning.samples);
                            }
                        }
                        builder.finish(&schema)?
                    }
                };
                Ok(Some((batch, scanning)))
            }
        });
        Ok(stream.boxed())
    }
}

/// Removes stale markers.
pub fn drop_stale(samples: &mut Samples) {
    use crate::model::is_stale;
    if !samples.values.iter().any(|value| is_stale(*value)) {
        return;
    }
    let mut kept = 0;
    for row in 0..samples.len() {
        if !is_stale(samples.values[row]) {
            samples.values[kept] = samples.values[row];
            samples.timestamps[kept] = samples.timestamps[row];
            kept += 1;
        }
    }
    samples.values.truncate(kept);
    samples.timestamps.truncate(kept);
}

/// The state of one running partition.
struct Scanning {
    reader: SnapshotReader,
    rows: Range<usize>,
    samples: Samples,
    starts: StartTimestamps,
    reservation: MemoryReservation,
    counters: ScanCounters,
    baseline: BaselineMetrics,
}

impl Scanning {
    /// Holds memory for so many values of output and the samples of one series.
    fn reserve(&mut self, values: usize) -> DataFusionResult<()> {
        let samples = (self.samples.timestamps.capacity() + self.starts.capacity()) * 2;
        self.reservation.try_resize(values.saturating_add(samples).saturating_mul(8))
    }

    /// Reads the next series into `samples`, and its start timestamps into `starts`.
    fn next<'a>(&mut self, scan: &'a SeriesScan) -> Result<(u32, &'a SelectedSeries), QueryError> {
        let index = self.rows.start;
        self.rows.start += 1;
        let series = &scan.selection.series[index];
        let timer = self.baseline.elapsed_compute().timer();
        let mut stats = self.reader.read(series, scan.range, &mut self.samples)?;
        self.starts.clear();
        if let Some(starts) = &scan.selection.starts
            && let Some(companion) = &starts[index]
        {
            stats.add(self.starts.read(&mut self.reader, companion, scan.range)?);
        }
        timer.done();
        self.counters.add(stats);
        scan.usage.add(stats)?;
        let index = u32::try_from(index).map_err(|_| {
            QueryError::Internal("more series in one plan than can be numbered".to_owned())
        })?;
        Ok((index, series))
    }
}

/// What EXPLAIN ANALYZE shows of a scan.
pub(crate) struct ScanCounters {
    samples: Count,
    chunks: Count,
    settled: Count,
    bytes: Count,
    series: Count,
    pace: Pace,
}

impl ScanCounters {
    pub(crate) fn new(run: &Run) -> Self {
        let counter =
            |name: &'static str| MetricBuilder::new(&run.metrics).counter(name, run.partition);
        Self {
            samples: counter("samples"),
            chunks: counter("chunks"),
            settled: counter("settled"),
            bytes: counter("bytes"),
            series: counter("series"),
            pace: Pace::due(),
        }
    }

    /// Lets others run now and then; here a dropped query ends.
    pub(crate) async fn breathe(&mut self) {
        self.pace.breathe().await;
    }

    /// One series was read.
    pub(crate) fn add(&mut self, stats: ReadStats) {
        let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        self.samples.add(count(stats.samples));
        self.chunks.add(count(stats.chunks));
        self.settled.add(count(stats.settled));
        self.bytes.add(count(stats.bytes));
        self.series.add(1);
        // An empty series is not free either, nor is a chunk of which nothing is read.
        let settled = count(stats.settled).saturating_mul(SETTLED_LOOKS);
        self.pace.count(count(stats.samples).saturating_add(settled).max(64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stale_nan;

    #[test]
    fn partitions_cover_all_series_once() {
        for (count, parts) in [(0, 1), (1, 4), (10, 3), (100, 7), (5, 5)] {
            let ranges = split(count, parts);
            let covered: Vec<usize> = ranges.iter().cloned().flatten().collect();
            assert_eq!(covered, (0..count).collect::<Vec<_>>());
            assert!(count == 0 || ranges.iter().all(|range| !range.is_empty()));
        }
    }

    #[test]
    fn stale_markers_are_no_samples() {
        let mut samples =
            Samples { timestamps: vec![1, 2, 3], values: vec![stale_nan(), 1.0, stale_nan()] };
        drop_stale(&mut samples);
        assert_eq!((samples.timestamps, samples.values), (vec![2], vec![1.0]));
    }
}
