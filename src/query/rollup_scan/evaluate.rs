//! Evaluates slice after slice: rows of all series first, then series after series.

use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::{StreamExt, TryStreamExt};

use crate::columnar::aggregate::RollupColumns;
use crate::model::{Labels, Samples};
use crate::query::ABSENT;
use crate::query::batch::{VectorBuilder, batch_rows};
use crate::query::error::QueryError;
use crate::query::node::Run;
use crate::query::pace::{Pace, filled};
use crate::query::resolution::{Slice, Source};
use crate::query::rollup_scan::RollupInput;
use crate::query::rollup_scan::counters::RollupCounters;
use crate::query::rollup_scan::gather::Gathering;
use crate::query::rollup_scan::memory::ROW_BYTES;
use crate::query::rollup_scan::scan::RollupScan;
use crate::storage::ReadStats;

impl RollupScan {
    /// The cells of all series, row after row.
    pub(super) async fn evaluate(
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
                let stats = ReadStats {
                    samples: rows as u64,
                    bytes: batch.bytes_read,
                    ..ReadStats::default()
                };
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

/// Rows of one series in one batch.
pub(super) struct Entry {
    series: u32,
    /// Which stretch of the slice.
    pub(super) stretch: u32,
    pub(super) batch: usize,
    pub(super) rows: std::ops::Range<usize>,
}

/// The rollup rows of one slice, all series.
#[derive(Default)]
pub(super) struct Held {
    pub(super) batches: Vec<RollupColumns>,
    /// By series, then time.
    entries: Vec<Entry>,
}

struct SliceCells {
    values: Vec<f64>,
    _reservation: MemoryReservation,
}

/// Cells of all series, on their way out.
pub(super) struct Evaluated {
    scan: Arc<RollupScan>,
    values: Vec<f64>,
    /// The series that comes next.
    next: usize,
    _reservation: MemoryReservation,
}

impl Evaluated {
    /// The rows of the next batch.
    pub(super) fn next_rows(&mut self) -> Option<VectorBuilder> {
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
