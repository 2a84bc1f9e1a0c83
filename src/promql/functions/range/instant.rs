//! Instant selectors: the latest sample of each step, unless it is too old or stale.

use crate::model::{Labels, Samples, TimeRange, Timestamp, is_stale};
use crate::promql::functions::range::rate::interpolate;
use crate::promql::functions::range::seconds;
use crate::query::rollup_scan::RollupKernel;
use crate::query::scan::drop_stale;
use crate::query::{Grid, QueryError, StartTimestamps, StartedKernel, WindowKernel};

/// What of the latest sample is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstantValue {
    Value,
    /// Its time, in seconds: `timestamp(x)`.
    Timestamp,
    /// Its start timestamp, in seconds: `start_timestamp(x)`.
    Start,
    /// On the line between the samples before and after the step: `x smoothed`.
    Smoothed,
}

/// An instant selector at work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InstantKernel {
    pub(crate) offset_ms: i64,
    pub(crate) at: Option<Timestamp>,
    pub(crate) lookback_ms: i64,
    pub(crate) wanted: InstantValue,
}

impl InstantKernel {
    pub(crate) fn looked_up(&self, step_at: Timestamp) -> Timestamp {
        self.at.unwrap_or(step_at).saturating_sub(self.offset_ms)
    }

    /// The samples that any step of the grid needs.
    pub(crate) fn read_range(&self, grid: Grid) -> Option<TimeRange> {
        let start = self.looked_up(grid.start()).saturating_sub(self.lookback_ms);
        let mut end = self.looked_up(grid.last());
        if self.wanted == InstantValue::Smoothed {
            end = end.saturating_add(self.lookback_ms);
        }
        TimeRange::new(start.saturating_add(1), end)
    }

    /// `pick` gives what is wanted of a sample, by its row.
    fn latest(&self, samples: &Samples, grid: Grid, out: &mut [f64], pick: impl Fn(usize) -> f64) {
        let (timestamps, values) = (&samples.timestamps, &samples.values);
        // Rows before `next` are not after the step.
        let mut next = 0;
        for (step, cell) in out.iter_mut().enumerate() {
            let at = self.looked_up(grid.at(step));
            while next < timestamps.len() && timestamps[next] <= at {
                next += 1;
            }
            let Some(row) = next.checked_sub(1) else { continue };
            if timestamps[row] <= at.saturating_sub(self.lookback_ms) || is_stale(values[row]) {
                continue;
            }
            *cell = pick(row);
        }
    }

    fn smoothed(&self, samples: &mut Samples, grid: Grid, out: &mut [f64]) {
        drop_stale(samples);
        let (timestamps, values) = (&samples.timestamps, &samples.values);
        // Rows before `next` are before the step.
        let mut next = 0;
        for (step, cell) in out.iter_mut().enumerate() {
            let at = self.looked_up(grid.at(step));
            while next < timestamps.len() && timestamps[next] < at {
                next += 1;
            }
            let after = (next < timestamps.len()
                && timestamps[next] <= at.saturating_add(self.lookback_ms))
            .then_some(next);
            let before = next
                .checked_sub(1)
                .filter(|row| timestamps[*row] > at.saturating_sub(self.lookback_ms));
            *cell = match (before, after) {
                (_, Some(row)) if timestamps[row] == at => values[row],
                (Some(one), Some(two)) => {
                    interpolate((timestamps[one], values[one]), (timestamps[two], values[two]), at)
                }
                (Some(row), None) => values[row],
                (None, _) => continue,
            };
        }
    }
}

impl WindowKernel for InstantKernel {
    fn name(&self) -> &str {
        match self.wanted {
            InstantValue::Value => "latest",
            InstantValue::Timestamp => "latest_timestamp",
            InstantValue::Start => "latest_start_timestamp",
            InstantValue::Smoothed => "smoothed",
        }
    }

    fn evaluate(
        &self,
        _: &Labels,
        samples: &mut Samples,
        grid: Grid,
        out: &mut [f64],
    ) -> Result<(), QueryError> {
        match self.wanted {
            InstantValue::Smoothed => self.smoothed(samples, grid, out),
            InstantValue::Value => self.latest(samples, grid, out, |row| samples.values[row]),
            InstantValue::Timestamp => {
                self.latest(samples, grid, out, |row| seconds(samples.timestamps[row]));
            }
            // None is known.
            InstantValue::Start => self.latest(samples, grid, out, |_| 0.0),
        }
        Ok(())
    }

    fn read_range(&self, grid: Grid) -> Option<TimeRange> {
        InstantKernel::read_range(self, grid)
    }

    fn rollup(&self) -> Option<&dyn RollupKernel> {
        let told = matches!(self.wanted, InstantValue::Value | InstantValue::Timestamp);
        told.then_some(self as &dyn RollupKernel)
    }

    fn started(&self) -> Option<&dyn StartedKernel> {
        (self.wanted == InstantValue::Start).then_some(self as &dyn StartedKernel)
    }
}

impl StartedKernel for InstantKernel {
    fn evaluate_started(
        &self,
        _: &Labels,
        samples: &mut Samples,
        starts: &StartTimestamps,
        grid: Grid,
        out: &mut [f64],
    ) -> Result<(), QueryError> {
        let starts = starts.of(&samples.timestamps);
        self.latest(samples, grid, out, |row| seconds(starts[row]));
        Ok(())
    }
}
