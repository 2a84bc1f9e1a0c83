//! The other leaf of plans: windows over rollup rows, with raw samples where no row may answer.
//!
//! Read walk: plan → `query::resolution` → here → `storage::RollupView` and `storage::Snapshot`.
//! Rollup files ascend by time and hold all series, so the grid is cut into slices: for one slice
//! the rows of all series are held at once, raw stretches are rolled up on the fly between the
//! windows' cuts, and each series' cells are evaluated. Slices run side by side.
//!
//! Invariant: rows and batches are those of a [`SeriesScan`](crate::query::scan::SeriesScan) of the
//! same selector, in the same order.

mod counters;
mod evaluate;
mod expired;
mod gather;
mod memory;
mod scan;

use std::fmt;

use crate::columnar::aggregate::RollupColumns;
use crate::columnar::parquet::RollupColumnSet;
use crate::model::Labels;
use crate::query::grid::Grid;
use crate::query::resolution::{Rounding, WindowShape};

pub(crate) use expired::{add_expired_series, expired};
pub(crate) use scan::{RollupRequest, RollupScan};

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
