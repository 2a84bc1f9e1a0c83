//! The node: what it was asked, who answers, and its place in a plan.

use std::fmt;
use std::sync::Arc;

use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};

use crate::columnar::parquet::RollupColumnSet;
use crate::model::{Matcher, Resolution, Span, Timestamp};
use crate::query::batch::vector_schema;
use crate::query::grid::Grid;
use crate::query::kernel::WindowKernel;
use crate::query::limits::QueryUsage;
use crate::query::node::{BatchStream, Node, NodeExec, Run};
use crate::query::resolution::{
    Choice, RollupCosts, Rounding, Slice, Source, SourceResolution, Stored, Stretch, choose, slices,
};
use crate::query::rollup_scan::memory::{DAY_MS, interval_ms, slice_ms};
use crate::storage::{RollupView, SelectedSeries, Snapshot};

/// Stretches that EXPLAIN names.
const STRETCHES_SHOWN: usize = 8;

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

/// A selector's windows over rollups.
pub(crate) struct RollupScan {
    pub(super) snapshot: Snapshot,
    pub(super) view: RollupView,
    pub(super) matchers: Vec<Matcher>,
    pub(super) series: Arc<[SelectedSeries]>,
    pub(super) kernel: Arc<dyn WindowKernel>,
    pub(super) columns: RollupColumnSet,
    /// Where windows start and end, ascending.
    pub(super) cuts: Vec<Timestamp>,
    pub(super) rounding: Rounding,
    rounded: bool,
    stretches: Vec<Stretch>,
    pub(super) slices: Vec<Slice>,
    pub(super) slices_at_once: usize,
    pub(super) grid: Grid,
    /// The steps that are evaluated: one of `grid` if `@` makes all of them the same.
    pub(super) evaluated: Grid,
    selector: String,
    pub(super) usage: Arc<QueryUsage>,
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
            columns: kernel.columns().names().count() as u64,
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
    pub(super) fn cells(&self) -> usize {
        self.kernel.width() * self.grid.steps()
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
