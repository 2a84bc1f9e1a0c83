//! What is computed from the samples of one series while they are in the cache.

use std::fmt;
use std::ops::Range;

use datafusion::physical_plan::metrics::Time;

use crate::model::start_timestamps::from_value;
use crate::model::{Labels, Samples, TimeRange, Timestamp};
use crate::query::ABSENT;
use crate::query::error::QueryError;
use crate::query::grid::Grid;
use crate::query::pace::Pace;
use crate::query::rollup_scan::RollupKernel;
use crate::query::scan::drop_stale;
use crate::storage::{ReadStats, SelectedSeries, SnapshotReader};

/// Looks that a kernel may take in one go, as [`Pace`] counts them: some milliseconds.
const LOOKS_AT_ONCE_MAX: usize = 1 << 21;

/// A function of the windows of one series.
pub trait WindowKernel: fmt::Debug + Send + Sync {
    /// As EXPLAIN shows it.
    fn name(&self) -> &str;

    /// Cells per step: one, or several for the state of an aggregation.
    fn width(&self) -> usize {
        1
    }

    /// Writes the cells of one series, which are absent when it is called: first the first cells
    /// of all steps, then the second cells of all steps, and so on.
    fn evaluate(
        &self,
        labels: &Labels,
        samples: &mut Samples,
        grid: Grid,
        out: &mut [f64],
    ) -> Result<(), QueryError>;

    /// The samples that the steps of a grid need.
    fn read_range(&self, grid: Grid) -> Option<TimeRange>;

    /// For kernels that look at every sample of a window at each step: what one such look costs
    /// over these samples, in samples read. Their steps do not depend on each other, nor on stale
    /// markers, so that they can be computed some at a time. `None` if the windows slide, and all
    /// steps cost what the samples do.
    fn look_cost(&self, _samples: &Samples, _grid: Grid) -> Option<usize> {
        None
    }

    /// The same for kernels that look at start timestamps where there are any.
    fn started(&self) -> Option<&dyn StartedKernel> {
        None
    }

    /// The same over rollup rows, if they tell it.
    fn rollup(&self) -> Option<&dyn RollupKernel> {
        None
    }
}

/// A window kernel that looks at start timestamps. Its windows slide.
pub trait StartedKernel: WindowKernel {
    /// Like [`WindowKernel::evaluate`]; `starts` are start timestamps of the samples.
    fn evaluate_started(
        &self,
        labels: &Labels,
        samples: &mut Samples,
        starts: &StartTimestamps,
        grid: Grid,
        out: &mut [f64],
    ) -> Result<(), QueryError>;
}

/// The start timestamps of one series, as its companion holds them.
#[derive(Debug, Default)]
pub struct StartTimestamps(Samples);

impl StartTimestamps {
    /// Replaces them by those of another series.
    pub(crate) fn read(
        &mut self,
        reader: &mut SnapshotReader,
        companion: &SelectedSeries,
        range: TimeRange,
    ) -> Result<ReadStats, QueryError> {
        Ok(reader.read(companion, range, &mut self.0)?)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Rows that there is memory for.
    pub(crate) fn capacity(&self) -> usize {
        self.0.timestamps.capacity()
    }

    /// The start timestamp of each of the samples at these ascending times, 0 where none is known.
    pub fn of(&self, timestamps: &[Timestamp]) -> Vec<Timestamp> {
        let mut row = 0;
        let held = &self.0.timestamps;
        let start_at = |at: &Timestamp| {
            while row < held.len() && held[row] < *at {
                row += 1;
            }
            if held.get(row) == Some(at) { from_value(self.0.values[row]) } else { 0 }
        };
        timestamps.iter().map(start_at).collect()
    }
}

/// Evaluates a kernel over one series in pieces that do not hold a thread for long.
pub(crate) async fn evaluate(
    kernel: &dyn WindowKernel,
    labels: &Labels,
    samples: &mut Samples,
    grid: Grid,
    out: &mut [f64],
    pace: &mut Pace,
    compute: &Time,
) -> Result<(), QueryError> {
    let timer = compute.timer();
    // Most are quick whatever they do.
    let quick = samples.len().saturating_mul(grid.steps()) <= LOOKS_AT_ONCE_MAX / 16;
    let cost = if quick { None } else { kernel.look_cost(samples, grid) };
    let Some(cost) = cost else {
        kernel.evaluate(labels, samples, grid, out)?;
        timer.done();
        pace.look(samples.len() + out.len()).await;
        return Ok(());
    };
    drop_stale(samples);
    timer.done();
    let steps = grid.steps();
    let mut part = Samples::default();
    let mut cells = Vec::new();
    let mut from = 0;
    while from < steps {
        let timer = compute.timer();
        let mut to = steps;
        let (rows, looks) = loop {
            let rows = rows_in(samples, kernel.read_range(grid.part(from..to)));
            let looks = rows.len().saturating_mul(to - from).saturating_mul(cost);
            if looks <= LOOKS_AT_ONCE_MAX || to == from + 1 {
                break (rows, looks);
            }
            to = from + (to - from) / 2;
        };
        part.clear();
        part.timestamps.extend_from_slice(&samples.timestamps[rows.clone()]);
        part.values.extend_from_slice(&samples.values[rows]);
        cells.clear();
        cells.resize(kernel.width() * (to - from), ABSENT);
        kernel.evaluate(labels, &mut part, grid.part(from..to), &mut cells)?;
        for (out, cells) in out.chunks_exact_mut(steps).zip(cells.chunks_exact(to - from)) {
            out[from..to].copy_from_slice(cells);
        }
        timer.done();
        pace.look(looks).await;
        from = to;
    }
    Ok(())
}

/// The rows of samples in a range.
fn rows_in(samples: &Samples, range: Option<TimeRange>) -> Range<usize> {
    let Some(range) = range else { return 0..0 };
    let low = samples.timestamps.partition_point(|at| *at < range.start());
    let high = samples.timestamps.partition_point(|at| *at <= range.end());
    low..high
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of each window times the number of its step, and how many samples it has.
    #[derive(Debug)]
    struct Windows {
        range_ms: i64,
        cost: Option<usize>,
    }

    impl WindowKernel for Windows {
        fn name(&self) -> &str {
            "windows"
        }

        fn width(&self) -> usize {
            2
        }

        fn evaluate(
            &self,
            _: &Labels,
            samples: &mut Samples,
            grid: Grid,
            out: &mut [f64],
        ) -> Result<(), QueryError> {
            for step in 0..grid.steps() {
                let range = TimeRange::new(grid.at(step) - self.range_ms + 1, grid.at(step));
                let rows = rows_in(samples, range);
                if !rows.is_empty() {
                    out[grid.steps() + step] = rows.len() as f64;
                    let sum: f64 = samples.values[rows].iter().sum();
                    out[step] = sum * grid.number(step) as f64;
                }
            }
            Ok(())
        }

        fn read_range(&self, grid: Grid) -> Option<TimeRange> {
            TimeRange::new(grid.start() - self.range_ms + 1, grid.last())
        }

        fn look_cost(&self, _: &Samples, _: Grid) -> Option<usize> {
            self.cost
        }
    }

    #[tokio::test]
    async fn pieces_give_what_the_whole_gives_and_let_others_run() {
        let mut samples = Samples::default();
        for at in (0..2_000).filter(|at| at / 300 != 2) {
            samples.push(at * 10, f64::from(u16::try_from(at % 100).unwrap()));
        }
        let grid = Grid::range(-100, 25_000, 7).unwrap();
        for range_ms in [5, 1_000, 30_000] {
            let kernel = Windows { range_ms, cost: Some(16) };
            let mut whole = vec![ABSENT; 2 * grid.steps()];
            kernel.evaluate(&Labels::empty(), &mut samples, grid, &mut whole).unwrap();
            let mut pieces = vec![ABSENT; 2 * grid.steps()];
            let (mut pace, labels, compute) = (Pace::default(), Labels::empty(), Time::new());
            let mut work = Box::pin(evaluate(
                &kernel,
                &labels,
                &mut samples,
                grid,
                &mut pieces,
                &mut pace,
                &compute,
            ));
            let mut turns = 1;
            while futures::poll!(&mut work).is_pending() {
                turns += 1;
            }
            drop(work);
            assert!(turns > 3, "{turns}");
            let bits = |cells: &[f64]| cells.iter().map(|cell| cell.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&pieces), bits(&whole), "{range_ms}");
        }
    }

    #[tokio::test]
    async fn a_kernel_that_slides_sees_stale_markers_however_many_steps_there_are() {
        let mut samples = Samples::default();
        (0..2_000).for_each(|at| samples.push(at * 10, if at == 7 { ABSENT } else { 1.0 }));
        let grid = Grid::range(0, 20_000, 1).unwrap();
        let kernel = Windows { range_ms: 1, cost: None };
        let mut out = vec![ABSENT; 2 * grid.steps()];
        let (mut pace, labels, compute) = (Pace::default(), Labels::empty(), Time::new());
        evaluate(&kernel, &labels, &mut samples, grid, &mut out, &mut pace, &compute)
            .await
            .unwrap();
        assert!(out[70].is_nan() && out[grid.steps() + 70] == 1.0, "the marker is a sample here");
    }
}
