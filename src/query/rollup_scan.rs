//! The other leaf of plans: windows over rollup rows, with raw samples where no row may answer.
//!
//! Read walk: plan → `query::resolution` → here → `storage::RollupView` and `storage::Snapshot`.
//! Rollup files ascend by time and hold all series, so the grid is cut into slices: for one slice
//! the rows of all series are held at once, raw stretches are rolled up on the fly between the
//! windows' cuts, and each series' cells are evaluated. Slices run side by side.
//!
//! Invariant: rows and batches are those of a [`SeriesScan`](crate::query::scan::SeriesScan) of the
//! same selector, in the same order.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{Count, MetricBuilder};
use futures::{StreamExt, TryStreamExt};

use crate::columnar::aggregate::{RollupColumns, roll_up_stretch};
use crate::columnar::parquet::RollupColumnSet;
use crate::model::{Labels, Matcher, Resolution, Samples, Span, Timestamp};
use crate::query::ABSENT;
use crate::query::batch::{VectorBuilder, batch_rows, vector_schema};
use crate::query::error::QueryError;
use crate::query::grid::Grid;
use crate::query::kernel::WindowKernel;
use crate::query::limits::QueryUsage;
use crate::query::node::{BatchStream, Node, NodeExec, Run};
use crate::query::pace::{Pace, filled};
use crate::query::resolution::{
    Choice, RollupCosts, Rounding, Slice, Source, SourceResolution, Stored, Stretch, WindowShape,
    choose, fewest_rows, slices,
};
use crate::query::scan::ASSUMED_INTERVAL_MS;
use crate::storage::{ReadStats, RollupView, SelectedSeries, Snapshot, SnapshotReader};

/// Rows that one slice aims to hold, in bytes.
const SLICE_BYTES: u64 = 64 << 20;
/// The share of a query's memory that cells and slices may take; with more than that the selector
/// is read raw, series by series.
const MEMORY_SHARE: u64 = 2;
/// One row of one series in memory: all columns.
const ROW_BYTES: usize = 13 * 8;
/// How far back windows reach is read again for each slice, so a slice is at least this many
/// times as long.
const SLICE_REACHES: i64 = 4;
const DAY_MS: i64 = 86_400_000;
/// Stretches that EXPLAIN names.
const STRETCHES_SHOWN: usize = 8;

/// What is computed from the rollup rows of one series.
pub trait RollupKernel: fmt::Debug + Send + Sync {
    fn shape(&self) -> WindowShape;

    /// The columns it looks at. Rows without samples are given only to those who look at stale
    /// markers.
    fn columns(&self) -> RollupColumnSet;

    /// Writes the cells of one series as [`WindowKernel::evaluate`] does. No window begins or ends
    /// inside a row, and rows may reach beyond the windows.
    fn evaluate_rows(&self, labels: &Labels, input: &RollupInput<'_>, out: &mut [f64]);
}

/// The rows of one series, and the steps to evaluate.
pub struct RollupInput<'a> {
    pub rows: &'a RollupColumns,
    pub grid: Grid,
    /// Windows' edges are rounded down where raw samples have expired.
    pub rounding: &'a Rounding,
}

/// A selector that may be answered from rollups.
pub(crate) struct RollupRequest<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) matchers: &'a [Matcher],
    pub(crate) series: &'a Arc<[SelectedSeries]>,
    pub(crate) kernel: &'a Arc<dyn WindowKernel>,
    pub(crate) grid: Grid,
    pub(crate) cap: SourceResolution,
    pub(crate) rounding: &'a Rounding,
    pub(crate) costs: RollupCosts,
    pub(crate) usage: &'a Arc<QueryUsage>,
    /// Bytes that the query may hold.
    pub(crate) bytes_max: u64,
    /// Slices that run side by side.
    pub(crate) slices_at_once: usize,
    pub(crate) selector: &'a str,
}

/// Where raw samples have expired and rows are left, by resolution.
pub(crate) fn expired(snapshot: &Snapshot) -> Vec<(Resolution, Vec<Span>)> {
    let Some(view) = snapshot.rollups() else { return Vec::new() };
    Resolution::ALL.map(|resolution| (resolution, view.expired(resolution))).to_vec()
}

/// Adds to `series` those that have rows in `needed` and no samples any more.
pub(crate) async fn add_expired_series(
    snapshot: &Snapshot,
    matchers: &[Matcher],
    cap: SourceResolution,
    needed: Span,
    series: &mut Vec<SelectedSeries>,
) -> Result<(), QueryError> {
    let Some(view) = snapshot.rollups() else { return Ok(()) };
    let mut found = BTreeSet::new();
    for (span, resolution) in fewest_rows(&expired(snapshot), cap, needed) {
        let mut batches = view.read(resolution, matchers, span, RollupColumnSet::NONE);
        while let Some(batch) = batches.try_next().await? {
            for (labels, _) in batch.series {
                if !found.contains(&labels) {
                    found.insert(labels);
                }
            }
            tokio::task::yield_now().await;
        }
    }
    found.retain(|labels| series.binary_search_by(|known| known.labels.cmp(labels)).is_err());
    if !found.is_empty() {
        series.extend(found.into_iter().map(SelectedSeries::without_samples));
        series.sort_unstable_by(|one, two| one.labels.cmp(&two.labels));
    }
    Ok(())
}

/// A selector's windows over rollups.
pub struct RollupScan {
    snapshot: Snapshot,
    view: RollupView,
    matchers: Vec<Matcher>,
    series: Arc<[SelectedSeries]>,
    kernel: Arc<dyn WindowKernel>,
    columns: RollupColumnSet,
    /// Where windows start and end, ascending.
    cuts: Vec<Timestamp>,
    rounding: Rounding,
    rounded: bool,
    stretches: Vec<Stretch>,
    slices: Vec<Slice>,
    slices_at_once: usize,
    grid: Grid,
    /// The steps that are evaluated: one of `grid` if `@` makes all of them the same.
    evaluated: Grid,
    selector: String,
    usage: Arc<QueryUsage>,
}

impl fmt::Debug for RollupScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl RollupScan {
    /// A scan of rollups: if they give the same answer for less, or if nothing else is left.
    pub(crate) fn choose(request: &RollupRequest<'_>) -> Option<Self> {
        let kernel = request.kernel.rollup()?;
        let view = request.snapshot.rollups()?;
        if request.cap == SourceResolution::Raw || request.series.is_empty() {
            return None;
        }
        let shape = kernel.shape();
        let demand = shape.demand(request.grid, request.rounding);
        let clean = Resolution::ALL.map(|resolution| (resolution, view.clean(resolution)));
        let raw = request.snapshot.time_range();
        let stored = Stored {
            clean: &clean,
            raw: raw.map(|raw| Span { start: raw.start().saturating_sub(1), end: raw.end() }),
            rounding: request.rounding,
            series: request.series.len() as u64,
            interval_ms: interval_ms(view),
        };
        let Choice { stretches, is_needed } =
            choose(&demand, &stored, request.cap, &request.costs)?;
        let evaluated = match shape.at {
            Some(_) => Grid::instant(request.grid.start()),
            None => request.grid,
        };
        let slice_ms = match slice_ms(&shape, &stretches, request) {
            // Nothing else can answer: the query's memory decides.
            None if is_needed => DAY_MS,
            fits => fits?,
        };
        Some(Self {
            snapshot: request.snapshot.clone(),
            view: view.clone(),
            matchers: request.matchers.to_vec(),
            series: Arc::clone(request.series),
            kernel: Arc::clone(request.kernel),
            columns: kernel.columns(),
            cuts: demand.cuts,
            slices: slices(&shape, evaluated, request.rounding, &stretches, slice_ms),
            rounded: shape.is_moved(request.grid, request.rounding),
            rounding: request.rounding.clone(),
            stretches,
            slices_at_once: request.slices_at_once.max(1),
            grid: request.grid,
            evaluated,
            selector: request.selector.to_owned(),
            usage: Arc::clone(request.usage),
        })
    }

    pub(crate) fn plan(self) -> Arc<dyn ExecutionPlan> {
        let schema = vector_schema(self.kernel.width() * self.grid.steps());
        NodeExec::leaf(self, schema, 1)
    }

    /// Who answers which stretch, in order of time.
    pub(crate) fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// Whether an edge of a window was moved, as raw samples have expired.
    pub(crate) fn is_rounded(&self) -> bool {
        self.rounded
    }

    /// Cells of one series.
    fn cells(&self) -> usize {
        self.kernel.width() * self.grid.steps()
    }

    /// The cells of all series, row after row.
    async fn evaluate(
        self: Arc<Self>,
        reservation: MemoryReservation,
        run: Run,
    ) -> Result<Evaluated, QueryError> {
        let width = self.kernel.width();
        let (cells, steps) = (self.cells(), self.grid.steps());
        let count = self.series.len().saturating_mul(cells);
        reservation.try_grow(count.saturating_mul(8))?;
        let mut pace = Pace::default();
        let mut values = filled(ABSENT, count, &mut pace).await;
        let counters = RollupCounters::new(&run);
        let scan = Arc::clone(&self);
        let slices = (0..self.slices.len()).map(move |number| {
            let (scan, counters) = (Arc::clone(&scan), counters.clone());
            let consumer = MemoryConsumer::new(format!("RollupScanExec[{number}]"));
            let reservation = consumer.register(run.context.memory_pool());
            async move {
                // Dropping the task, with the query, ends it at its next yield.
                let task = SpawnedTask::spawn(scan.evaluate_slice(number, counters, reservation));
                task.join().await.map_err(|error| QueryError::Internal(error.to_string()))?
            }
        });
        let mut done = futures::stream::iter(slices).buffered(self.slices_at_once).enumerate();
        while let Some((number, slice)) = done.next().await {
            let slice = slice?;
            let of = self.slices[number].steps.clone();
            for (row, cells) in
                slice.values.chunks_exact(width * of.len()).zip(values.chunks_exact_mut(cells))
            {
                for part in 0..width {
                    let from = &row[part * of.len()..(part + 1) * of.len()];
                    let to = &mut cells[part * steps..(part + 1) * steps];
                    if self.evaluated.steps() < steps {
                        to.fill(from[0]);
                    } else {
                        to[of.clone()].copy_from_slice(from);
                    }
                }
                pace.look(cells.len()).await;
            }
        }
        Ok(Evaluated { values, next: 0, scan: self, _reservation: reservation })
    }

    async fn evaluate_slice(
        self: Arc<Self>,
        number: usize,
        counters: RollupCounters,
        reservation: MemoryReservation,
    ) -> Result<SliceCells, QueryError> {
        let slice = &self.slices[number];
        let grid = self.evaluated.part(slice.steps.clone());
        let width = self.kernel.width() * grid.steps();
        let count = self.series.len().saturating_mul(width);
        reservation.try_grow(count.saturating_mul(8))?;
        let mut pace = Pace::default();
        let mut values = filled(ABSENT, count, &mut pace).await;
        let held = self.read_rows(slice, &counters, &reservation).await?;
        let mut gathering = Gathering {
            scan: &self,
            reader: self.snapshot.reader(),
            samples: Samples::default(),
            rolled: RollupColumns::default(),
            rows: RollupColumns::default(),
        };
        let mut entries = held.entries.as_slice();
        for ((index, series), out) in
            (0u32..).zip(self.series.iter()).zip(values.chunks_exact_mut(width))
        {
            let own = entries.partition_point(|entry| entry.series <= index);
            let (own, later) = entries.split_at(own);
            entries = later;
            let seen = gathering.gather(series, slice, &held, own, &counters)?;
            if !gathering.rows.is_empty() {
                let timer = counters.compute.timer();
                let kernel = self
                    .kernel
                    .rollup()
                    .ok_or_else(|| QueryError::Internal("a kernel lost its rollup".to_owned()))?;
                let input = RollupInput { rows: &gathering.rows, grid, rounding: &self.rounding };
                kernel.evaluate_rows(&series.labels, &input, out);
                timer.done();
            }
            pace.look(usize::try_from(seen).unwrap_or(usize::MAX).saturating_add(width)).await;
        }
        Ok(SliceCells { values, _reservation: reservation })
    }

    /// All rollup rows of a slice.
    async fn read_rows(
        &self,
        slice: &Slice,
        counters: &RollupCounters,
        reservation: &MemoryReservation,
    ) -> Result<Held, QueryError> {
        let mut held = Held::default();
        for (stretch, part) in (0u32..).zip(&slice.stretches) {
            let Source::Rollup(resolution) = part.source else { continue };
            let mut batches = self.view.read(resolution, &self.matchers, part.span, self.columns);
            // Series ascend within a file, so the next one is mostly the one after the last.
            let mut place = 0;
            while let Some(batch) = batches.try_next().await? {
                let rows = batch.rows.len();
                let stats = ReadStats { samples: rows as u64, chunks: 0, bytes: batch.bytes_read };
                self.usage.add(stats)?;
                counters.rows.add(rows);
                counters.rows_decoded.add(usize::try_from(batch.rows_read).unwrap_or(usize::MAX));
                counters.bytes.add(usize::try_from(batch.bytes_read).unwrap_or(usize::MAX));
                let bytes = rows.saturating_mul(ROW_BYTES);
                reservation.try_grow(bytes)?;
                let number = held.batches.len();
                for (labels, rows) in batch.series {
                    let Some(series) = self.place(&labels, &mut place) else { continue };
                    held.entries.push(Entry { series, stretch, batch: number, rows });
                }
                held.batches.push(batch.rows);
                tokio::task::yield_now().await;
            }
        }
        // Entries of one series stay in order of time.
        held.entries.sort_by_key(|entry| entry.series);
        Ok(held)
    }

    /// The number of a series, looked for from `place` on first. Rows of a series that has nothing
    /// in any window are nobody's.
    fn place(&self, labels: &Labels, place: &mut usize) -> Option<u32> {
        let at =
            |place: usize| self.series.get(place).is_some_and(|series| series.labels == *labels);
        if !at(*place) {
            *place = self.series.binary_search_by(|series| series.labels.cmp(labels)).ok()?;
        }
        let found = u32::try_from(*place).ok();
        *place += 1;
        found
    }
}

/// From one sample of a series to the next, as rollups tell it.
fn interval_ms(view: &RollupView) -> i64 {
    let counted = Resolution::ALL.into_iter().rev().find_map(|resolution| {
        let (mut rows, mut samples) = (0u64, 0u64);
        for file in view.files(resolution) {
            rows = rows.saturating_add(file.rows());
            samples = samples.saturating_add(file.samples());
        }
        (samples > 0).then(|| resolution.ms().unsigned_abs().saturating_mul(rows) / samples)
    });
    let interval = counted.and_then(|interval| i64::try_from(interval).ok());
    interval.unwrap_or(ASSUMED_INTERVAL_MS).max(1)
}

/// How much time one slice spans; `None` if the cells of all series, or the rows that one slice
/// needs, take more memory than they may.
fn slice_ms(
    shape: &WindowShape,
    stretches: &[Stretch],
    request: &RollupRequest<'_>,
) -> Option<i64> {
    let bytes_max = request.bytes_max / MEMORY_SHARE;
    let series = request.series.len() as u64;
    let cells = (request.kernel.width() as u64).saturating_mul(request.grid.steps() as u64);
    let cell_bytes = series.saturating_mul(cells).saturating_mul(8);
    // Slices hold cells of their own until they are copied.
    let left = bytes_max.checked_sub(cell_bytes.saturating_mul(2))?;
    let rows = |stretch: &Stretch| {
        let length = stretch.span.end.abs_diff(stretch.span.start);
        match stretch.source {
            Source::Rollup(resolution) => length / resolution.ms().unsigned_abs(),
            // At most one for each cut.
            Source::Raw => cells.saturating_mul(2).min(length),
        }
    };
    let all_rows = stretches.iter().map(rows).fold(0, u64::saturating_add);
    let length = stretches.last()?.span.end.abs_diff(stretches.first()?.span.start).max(1);
    let bytes = all_rows.saturating_mul(series).saturating_mul(ROW_BYTES as u64);
    let day = DAY_MS.unsigned_abs();
    let bytes_a_day = (bytes / length.div_ceil(day)).max(1);
    let reach = shape.range_ms.saturating_add(shape.before_ms);
    let days = (SLICE_BYTES / bytes_a_day).clamp(1, length.div_ceil(day));
    let reach_days = reach.saturating_mul(SLICE_REACHES) / DAY_MS;
    let slice_days = i64::try_from(days).ok()?.max(reach_days).max(1);
    let held_days = slice_days.saturating_add(reach / DAY_MS + 1).unsigned_abs();
    let at_once = request.slices_at_once.max(1) as u64;
    let held = held_days.min(length.div_ceil(day)).saturating_mul(bytes_a_day);
    (held.saturating_mul(at_once) <= left).then(|| slice_days.saturating_mul(DAY_MS))
}

/// Rows of one series in one batch.
struct Entry {
    series: u32,
    /// Which stretch of the slice.
    stretch: u32,
    batch: usize,
    rows: std::ops::Range<usize>,
}

/// The rollup rows of one slice, all series.
#[derive(Default)]
struct Held {
    batches: Vec<RollupColumns>,
    /// By series, then time.
    entries: Vec<Entry>,
}

struct SliceCells {
    values: Vec<f64>,
    _reservation: MemoryReservation,
}

/// Puts together the rows of one series after another.
struct Gathering<'a> {
    scan: &'a RollupScan,
    reader: SnapshotReader,
    samples: Samples,
    rolled: RollupColumns,
    rows: RollupColumns,
}

impl Gathering<'_> {
    /// Fills `rows` with the series' rows of the slice, ascending; returns how much was looked at.
    fn gather(
        &mut self,
        series: &SelectedSeries,
        slice: &Slice,
        held: &Held,
        mut entries: &[Entry],
        counters: &RollupCounters,
    ) -> Result<u64, QueryError> {
        self.rows.clear();
        // A series without anything is not free either.
        let mut seen = 64;
        for (stretch, part) in (0u32..).zip(&slice.stretches) {
            match part.source {
                Source::Rollup(_) => {
                    let own = entries.partition_point(|entry| entry.stretch <= stretch);
                    for entry in &entries[..own] {
                        self.append(&held.batches[entry.batch], entry.rows.clone());
                        seen += entry.rows.len() as u64;
                    }
                    entries = &entries[own..];
                }
                Source::Raw => {
                    let Some(range) = part.span.range() else { continue };
                    let stats = self.reader.read(series, range, &mut self.samples)?;
                    self.scan.usage.add(stats)?;
                    counters.add_raw(stats);
                    seen += stats.samples;
                    let mut rolled = std::mem::take(&mut self.rolled);
                    rolled.clear();
                    roll_up_between(&self.samples, part.span.end, &self.scan.cuts, &mut rolled);
                    self.append(&rolled, 0..rolled.len());
                    self.rolled = rolled;
                }
            }
        }
        Ok(seen)
    }

    /// Appends rows; those without samples only if the kernel wants stale markers.
    fn append(&mut self, from: &RollupColumns, rows: std::ops::Range<usize>) {
        if self.scan.columns.contains(RollupColumnSet::STALE) {
            return self.rows.extend_range(from, rows);
        }
        let mut start = rows.start;
        while start < rows.end {
            let full = from.count[start..rows.end].iter().take_while(|count| **count > 0).count();
            self.rows.extend_range(from, start..start + full);
            start += full + 1;
        }
    }
}

/// One row for the samples between two cuts each; `end` is where the samples' stretch ends.
fn roll_up_between(samples: &Samples, end: Timestamp, cuts: &[Timestamp], out: &mut RollupColumns) {
    let (timestamps, values) = (&samples.timestamps, &samples.values);
    let Some(first) = timestamps.first() else { return };
    let mut cut = cuts.partition_point(|cut| cut < first);
    let mut from = 0;
    while from < timestamps.len() {
        while cut < cuts.len() && cuts[cut] < timestamps[from] {
            cut += 1;
        }
        let row_end = cuts.get(cut).map_or(end, |cut| end.min(*cut));
        let to = from + timestamps[from..].partition_point(|at| *at <= row_end);
        roll_up_stretch(&timestamps[from..to], &values[from..to], row_end, out);
        from = to;
    }
}

impl Node for RollupScan {
    fn name(&self) -> &'static str {
        "RollupScanExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coarsest = self.stretches.iter().map(|stretch| stretch.source).max();
        write!(f, "{} series={}", self.selector, self.series.len())?;
        write!(f, " window={} grid={}", self.kernel.name(), self.grid)?;
        write!(f, " resolution={}", coarsest.unwrap_or(Source::Raw))?;
        write!(f, " slices={} stretches=[", self.slices.len())?;
        for (number, stretch) in self.stretches.iter().take(STRETCHES_SHOWN).enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{} ({}, {}]", stretch.source, stretch.span.start, stretch.span.end)?;
        }
        match self.stretches.len().saturating_sub(STRETCHES_SHOWN) {
            0 => f.write_str("]"),
            more => write!(f, ", {more} more]"),
        }
    }

    fn gathers(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        let consumer = MemoryConsumer::new("RollupScanExec");
        let reservation = consumer.register(run.context.memory_pool());
        let schema = Arc::clone(&run.schema);
        let evaluated =
            async move { self.evaluate(reservation, run).await.map_err(DataFusionError::from) };
        let batches = futures::stream::once(evaluated).map_ok(move |mut evaluated| {
            let schema = Arc::clone(&schema);
            futures::stream::iter(std::iter::from_fn(move || {
                evaluated.next_rows().map(|mut rows| Ok(rows.finish(&schema)?))
            }))
        });
        Ok(batches.try_flatten().boxed())
    }
}

/// Cells of all series, on their way out.
struct Evaluated {
    scan: Arc<RollupScan>,
    values: Vec<f64>,
    /// The series that comes next.
    next: usize,
    _reservation: MemoryReservation,
}

impl Evaluated {
    /// The rows of the next batch.
    fn next_rows(&mut self) -> Option<VectorBuilder> {
        let cells = self.scan.cells();
        let left = self.scan.series.len() - self.next;
        if left == 0 {
            return None;
        }
        let mut builder = VectorBuilder::new(cells, batch_rows(cells).min(left));
        while self.next < self.scan.series.len() && !builder.is_full() {
            let row = &self.values[self.next * cells..(self.next + 1) * cells];
            builder.row(u32::try_from(self.next).ok()?).copy_from_slice(row);
            builder.keep_if_present();
            self.next += 1;
        }
        Some(builder)
    }
}

/// What EXPLAIN ANALYZE shows of a scan.
#[derive(Clone)]
struct RollupCounters {
    rows: Count,
    rows_decoded: Count,
    samples: Count,
    chunks: Count,
    bytes: Count,
    compute: datafusion::physical_plan::metrics::Time,
}

impl RollupCounters {
    fn new(run: &Run) -> Self {
        let counter =
            |name: &'static str| MetricBuilder::new(&run.metrics).counter(name, run.partition);
        Self {
            rows: counter("rows"),
            rows_decoded: counter("rows_decoded"),
            samples: counter("samples"),
            chunks: counter("chunks"),
            bytes: counter("bytes"),
            compute: run.baseline.elapsed_compute().clone(),
        }
    }

    fn add_raw(&self, stats: ReadStats) {
        let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        self.samples.add(count(stats.samples));
        self.chunks.add(count(stats.chunks));
        self.bytes.add(count(stats.bytes));
    }
}
