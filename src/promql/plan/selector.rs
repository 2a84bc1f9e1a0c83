//! Selectors and subqueries: what reads samples.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;

use crate::model::{Matcher, Span as Stretch, TimeRange, Timestamp};
use crate::promql::ast::{
    At, DurationSign, Expr, ExprKind, Extension, MatrixSelector, Shift, Span, Subquery,
    VectorSelector,
};
use crate::promql::error::PromqlError;
use crate::promql::exec::table::{SeriesRow, SeriesTable};
use crate::promql::exec::window::Windows;
use crate::promql::functions::range::{Edges, InstantKernel, InstantValue, Window};
use crate::promql::plan::{Planner, Vector, mistyped};
use crate::query::rollup_scan::{RollupRequest, RollupScan, add_expired_series};
use crate::query::scan::{ScanOutput, Selection, SeriesScan};
use crate::query::{Grid, QueryError, WindowKernel};
use crate::storage::SelectedSeries;

/// Step of a subquery that names none: Prometheus' default evaluation interval.
const SUBQUERY_STEP_MS: i64 = 60_000;
/// Most steps of a subquery: one row of it takes 8 bytes for each.
const SUBQUERY_STEPS_MAX: usize = 4_000_000;

/// What is made of a range vector's windows.
pub(crate) enum Wanted<'a> {
    /// Cells of a kernel, made for the window.
    Kernel(&'a (dyn Fn(Window) -> Arc<dyn WindowKernel> + Sync)),
    Samples,
}

/// A range vector's plan, and its window.
pub(crate) struct RangePlan {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) table: Arc<SeriesTable>,
    pub(crate) window: Window,
}

impl Planner {
    /// The newest sample of each series at each step.
    pub(super) async fn plan_instant(
        &self,
        selector: &VectorSelector,
        grid: Grid,
    ) -> Result<Vector, PromqlError> {
        let wanted = match selector.extension {
            Extension::Smoothed => InstantValue::Smoothed,
            Extension::None | Extension::Anchored => InstantValue::Value,
        };
        self.plan_latest(selector, grid, wanted).await
    }

    /// The newest sample's value or time.
    pub(super) async fn plan_latest(
        &self,
        selector: &VectorSelector,
        grid: Grid,
        wanted: InstantValue,
    ) -> Result<Vector, PromqlError> {
        let (offset_ms, at) = self.shift(&selector.shift)?;
        let kernel = InstantKernel { offset_ms, at, lookback_ms: self.lookback_ms, wanted };
        self.plan_matching(&selector.matchers, shown(selector), kernel, grid).await
    }

    /// What a kernel makes of the newest samples of all series that match.
    pub(super) async fn plan_matching(
        &self,
        matchers: &[Matcher],
        title: String,
        kernel: InstantKernel,
        grid: Grid,
    ) -> Result<Vector, PromqlError> {
        let Some(range) = kernel.read_range(grid) else { return Ok(Vector::empty(grid.steps())) };
        let output = ScanOutput::Window { kernel: Arc::new(kernel), grid };
        let (plan, table) = self.scan(matchers, title, range, output).await?;
        Ok(Vector::new(plan, table))
    }

    /// A range vector: a selector's samples, or what a subquery computes at its own steps.
    pub(crate) async fn plan_range(
        &self,
        expr: &Expr,
        grid: Grid,
        wanted: Wanted<'_>,
    ) -> Result<RangePlan, PromqlError> {
        match &expr.without_parens().kind {
            ExprKind::MatrixSelector(matrix) => {
                let window = self.window(matrix)?;
                let output = wanted.output(window, grid);
                let range = window.read_range(grid).ok_or_else(|| mistyped(expr))?;
                let (matchers, title) = (&matrix.selector.matchers, shown(&matrix.selector));
                let (plan, table) = self.scan(matchers, title, range, output).await?;
                Ok(RangePlan { plan, table, window })
            }
            ExprKind::Subquery(subquery) => self.plan_subquery(subquery, grid, wanted).await,
            _ => Err(mistyped(expr)),
        }
    }

    async fn plan_subquery(
        &self,
        subquery: &Subquery,
        grid: Grid,
        wanted: Wanted<'_>,
    ) -> Result<RangePlan, PromqlError> {
        let (offset_ms, at) = self.shift(&subquery.shift)?;
        let window = Window {
            range_ms: self.millis(&subquery.range, DurationSign::Positive)?,
            offset_ms,
            at,
            edges: Edges::Plain,
            lookback_ms: self.lookback_ms,
        };
        let step_ms = match &subquery.step {
            Some(step) => self.millis(step, DurationSign::Positive)?,
            None => SUBQUERY_STEP_MS,
        };
        let inner = window.read_range(grid).and_then(|range| {
            // The first multiple of the step inside of the window.
            let over = range.start().rem_euclid(step_ms);
            let up = if over == 0 { 0 } else { step_ms - over };
            Grid::range(range.start().saturating_add(up), range.end(), step_ms)
        });
        let Some(inner) = inner else {
            let nothing = Vector::empty(grid.steps());
            return Ok(RangePlan { plan: nothing.plan, table: nothing.table, window });
        };
        if inner.steps() > SUBQUERY_STEPS_MAX {
            return Err(PromqlError::execution(format!(
                "subquery has {} steps, more than {SUBQUERY_STEPS_MAX}: take a larger step or a \
                 shorter range",
                inner.steps()
            )));
        }
        let operand = self.vector(&subquery.operand, inner).await?;
        let output = wanted.output(window, grid);
        let plan = Windows::plan(operand.plan, inner, output, Arc::clone(&operand.table));
        Ok(RangePlan { plan, table: operand.table, window })
    }

    fn window(&self, matrix: &MatrixSelector) -> Result<Window, PromqlError> {
        let (offset_ms, at) = self.shift(&matrix.selector.shift)?;
        Ok(Window {
            range_ms: self.millis(&matrix.range, DurationSign::Positive)?,
            offset_ms,
            at,
            edges: edges(matrix.selector.extension),
            lookback_ms: self.lookback_ms,
        })
    }

    /// Offset in milliseconds, and the pinned time.
    pub(super) fn shift(&self, shift: &Shift) -> Result<(i64, Option<Timestamp>), PromqlError> {
        let offset_ms = match &shift.offset {
            Some(offset) => self.millis(offset, DurationSign::Any)?,
            None => 0,
        };
        let at = shift.at.map(|at| match at {
            At::Time(at) => at,
            At::Start => self.times.start,
            At::End => self.times.end,
        });
        Ok((offset_ms, at))
    }

    async fn scan(
        &self,
        matchers: &[Matcher],
        title: String,
        range: TimeRange,
        output: ScanOutput,
    ) -> Result<(Arc<dyn ExecutionPlan>, Arc<SeriesTable>), PromqlError> {
        let mut selected = self.snapshot.select(matchers, range).map_err(QueryError::from)?;
        self.add_expired(matchers, &title, range, &output, &mut selected).await?;
        self.task.usage.add_series(selected.len())?;
        let rows = selected
            .iter()
            .map(|series| SeriesRow { labels: series.labels.clone(), drop_name: false })
            .collect();
        let series: Arc<[SelectedSeries]> = selected.into();
        let table = Arc::new(SeriesTable { rows });
        let starts = self.start_timestamps(matchers, &series, range, &output)?;
        // Rollups do not hold any.
        let summed_up = match starts {
            Some(_) => None,
            None => self.rollup_scan(matchers, &title, &series, &output),
        };
        if let Some(scan) = summed_up {
            self.annotations.answered(&title, scan.stretches());
            if scan.is_rounded() {
                self.annotations.rounded(&title);
            }
            return Ok((scan.plan(), table));
        }
        let plan = SeriesScan::plan(
            &self.snapshot,
            title,
            Selection { series, starts },
            range,
            output,
            Arc::clone(&self.task.usage),
            self.task.partitions_max,
        );
        Ok((plan, table))
    }

    /// Where the start timestamps of each of the series are stored; `None` if the kernel does not
    /// look at any, or there are none.
    fn start_timestamps(
        &self,
        matchers: &[Matcher],
        series: &[SelectedSeries],
        range: TimeRange,
        output: &ScanOutput,
    ) -> Result<Option<Arc<[Option<SelectedSeries>]>>, QueryError> {
        let ScanOutput::Window { kernel, .. } = output else { return Ok(None) };
        if kernel.started().is_none() {
            return Ok(None);
        }
        let mut stored = self.snapshot.select_start_timestamps(matchers, range)?;
        if stored.is_empty() {
            return Ok(None);
        }
        Ok(Some(series.iter().map(|series| stored.remove(&series.labels)).collect()))
    }

    /// Adds series whose samples have expired, if rollups can answer for them; else says so.
    async fn add_expired(
        &self,
        matchers: &[Matcher],
        title: &str,
        range: TimeRange,
        output: &ScanOutput,
        selected: &mut Vec<SelectedSeries>,
    ) -> Result<(), PromqlError> {
        let needed = Stretch { start: range.start().saturating_sub(1), end: range.end() };
        let mut expired = self.rounding.within(needed);
        let Some(first) = expired.next() else { return Ok(()) };
        let kernel = match output {
            ScanOutput::Window { kernel, .. } => kernel.rollup(),
            ScanOutput::Samples => None,
        };
        if kernel.is_none() {
            let end = expired.last().unwrap_or(first).end;
            self.annotations.expired(title, Stretch { start: first.start, end });
            return Ok(());
        }
        let cap = self.max_source_resolution;
        add_expired_series(&self.snapshot, matchers, cap, needed, selected).await?;
        Ok(())
    }

    /// The scan of rollups, if they give the same for less.
    fn rollup_scan(
        &self,
        matchers: &[Matcher],
        title: &str,
        series: &Arc<[SelectedSeries]>,
        output: &ScanOutput,
    ) -> Option<RollupScan> {
        let ScanOutput::Window { kernel, grid } = output else { return None };
        RollupScan::choose(&RollupRequest {
            snapshot: &self.snapshot,
            matchers,
            series,
            kernel,
            grid: *grid,
            cap: self.max_source_resolution,
            rounding: &self.rounding,
            costs: self.rollup_costs,
            usage: &self.task.usage,
            bytes_max: self.task.bytes_max(),
            slices_at_once: self.task.partitions_max,
            selector: title,
        })
    }
}

impl Wanted<'_> {
    fn output(&self, window: Window, grid: Grid) -> ScanOutput {
        match self {
            Wanted::Kernel(make) => ScanOutput::Window { kernel: make(window), grid },
            Wanted::Samples => ScanOutput::Samples,
        }
    }
}

/// The selector as EXPLAIN shows it.
fn shown(selector: &VectorSelector) -> String {
    Expr::new(ExprKind::VectorSelector(selector.clone()), Span::default()).to_string()
}

/// The edges of a range selector's windows.
pub(super) fn edges(extension: Extension) -> Edges {
    match extension {
        Extension::None => Edges::Plain,
        Extension::Anchored => Edges::Anchored,
        Extension::Smoothed => Edges::Smoothed,
    }
}
