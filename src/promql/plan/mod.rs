//! From the tree of a query to a physical plan, without any optimizer in between.
//!
//! Labels are settled here: every vector comes with the table of label sets that its rows point
//! to. Scalars are settled here too, since operators need them: `scalar(v)`, `count_values` and
//! `info` run their input while the rest of the plan is made.

mod aggregate;
mod binary;
mod call;
mod histogram;
mod info;
mod selector;

pub(crate) use selector::{RangePlan, Wanted};

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;

use crate::model::{Labels, Timestamp};
use crate::promql::annotations::Annotations;
use crate::promql::ast::{DurationExpr, DurationSign, Expr, ExprKind, UnaryOp};
use crate::promql::error::PromqlError;
use crate::promql::exec::leaf::Rows;
use crate::promql::exec::map::{Map, RowFn, cell_by_cell};
use crate::promql::exec::repeat::Repeat;
use crate::promql::exec::table::SeriesTable;
use crate::promql::scalar::Scalar;
use crate::query::batch::VectorRows;
use crate::query::node::gather;
use crate::query::resolution::Rounding;
use crate::query::session::QueryTask;
use crate::query::{Grid, QueryError, RollupCosts, SourceResolution};
use crate::storage::Snapshot;

/// What an expression becomes.
pub(crate) enum Planned {
    Scalar(Scalar),
    Text(String),
    Vector(Vector),
}

impl Planned {
    /// What was planned for one step, at each of so many.
    fn repeated(self, steps: usize) -> Self {
        match self {
            Planned::Scalar(scalar) => Planned::Scalar(Scalar::Const(scalar.at(0))),
            Planned::Text(text) => Planned::Text(text),
            Planned::Vector(once) => {
                Planned::Vector(Vector::new(Repeat::plan(once.plan, steps), once.table))
            }
        }
    }
}

/// A plan and what its rows are.
pub(crate) struct Vector {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) table: Arc<SeriesTable>,
    /// Whether the order of the rows is part of the answer.
    pub(crate) sorted: bool,
}

impl Vector {
    fn new(plan: Arc<dyn ExecutionPlan>, table: Arc<SeriesTable>) -> Self {
        Self { plan, table, sorted: false }
    }

    fn empty(steps: usize) -> Self {
        Self::new(Rows::plan("nothing", steps, Vec::new()), Arc::default())
    }

    /// The same rows with other cells, which are no longer the metric itself.
    fn mapped(self, title: String, change: RowFn) -> Self {
        let table = self.table.dropping_name();
        Self { plan: Map::plan(self.plan, title, change), table, sorted: self.sorted }
    }
}

/// When the whole query is evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// 0 for an instant query.
    pub(crate) step_ms: i64,
}

/// A plan in the making.
type Planning<'a> = Pin<Box<dyn Future<Output = Result<Planned, PromqlError>> + Send + 'a>>;

/// Makes plans over one snapshot for one query.
pub(crate) struct Planner {
    pub(crate) snapshot: Snapshot,
    pub(crate) task: QueryTask,
    pub(crate) annotations: Arc<Annotations>,
    pub(crate) lookback_ms: i64,
    pub(crate) max_source_resolution: SourceResolution,
    pub(crate) rollup_costs: RollupCosts,
    /// Whether `rate` and its kin look at start timestamps.
    pub(crate) use_start_timestamps: bool,
    /// Where raw samples have expired.
    pub(crate) rounding: Rounding,
    pub(crate) times: Times,
}

impl Planner {
    /// Plans an expression of any type but range vector.
    pub(crate) fn plan<'a>(&'a self, expr: &'a Expr, grid: Grid) -> Planning<'a> {
        Box::pin(async move {
            let computes = matches!(
                expr.kind,
                ExprKind::Call(_) | ExprKind::Aggregate(_) | ExprKind::Binary(_)
            );
            if computes && grid.steps() > 1 && expr.is_step_invariant() {
                let once = self.plan(expr, Grid::instant(grid.start())).await?;
                return Ok(once.repeated(grid.steps()));
            }
            Ok(match &expr.kind {
                ExprKind::Number(literal) => Planned::Scalar(Scalar::Const(literal.value)),
                ExprKind::String(text) => Planned::Text(text.clone()),
                ExprKind::Bytes(bytes) => {
                    Planned::Text(String::from_utf8_lossy(bytes).into_owned())
                }
                ExprKind::Paren(inner) => return self.plan(inner, grid).await,
                ExprKind::VectorSelector(selector) => {
                    Planned::Vector(self.plan_instant(selector, grid).await?)
                }
                ExprKind::Unary(unary) => {
                    let operand = self.plan(&unary.operand, grid).await?;
                    if unary.op == UnaryOp::Plus {
                        return Ok(operand);
                    }
                    match operand {
                        Planned::Scalar(scalar) => Planned::Scalar(scalar.map(|value| -value)),
                        Planned::Vector(vector) => {
                            Planned::Vector(vector.mapped("-".to_owned(), cell_by_cell(|v| -v)))
                        }
                        Planned::Text(_) => return Err(mistyped(expr)),
                    }
                }
                ExprKind::Binary(binary) => self.plan_binary(binary, grid).await?,
                ExprKind::Aggregate(aggregate) => {
                    Planned::Vector(self.plan_aggregate(aggregate, grid).await?)
                }
                ExprKind::Call(call) => self.plan_call(call, expr, grid).await?,
                ExprKind::MatrixSelector(_) | ExprKind::Subquery(_) => return Err(mistyped(expr)),
            })
        })
    }

    async fn vector(&self, expr: &Expr, grid: Grid) -> Result<Vector, PromqlError> {
        match self.plan(expr, grid).await? {
            Planned::Vector(vector) => Ok(vector),
            Planned::Scalar(_) | Planned::Text(_) => Err(mistyped(expr)),
        }
    }

    async fn scalar(&self, expr: &Expr, grid: Grid) -> Result<Scalar, PromqlError> {
        match self.plan(expr, grid).await? {
            Planned::Scalar(scalar) => Ok(scalar),
            Planned::Vector(_) | Planned::Text(_) => Err(mistyped(expr)),
        }
    }

    /// A duration of this query, in milliseconds.
    fn millis(&self, duration: &DurationExpr, sign: DurationSign) -> Result<i64, PromqlError> {
        let range_ms = self.times.end.saturating_sub(self.times.start);
        duration
            .millis(self.times.step_ms, range_ms, sign)
            .map_err(|error| PromqlError::Parse(error.to_string()))
    }

    /// Computes every duration of an expression: one that makes no sense is told before all else.
    pub(crate) fn check_durations(&self, expr: &Expr) -> Result<(), PromqlError> {
        match &expr.kind {
            ExprKind::VectorSelector(selector) => self.shift(&selector.shift).map(drop)?,
            ExprKind::MatrixSelector(matrix) => {
                self.millis(&matrix.range, DurationSign::Positive)?;
                self.shift(&matrix.selector.shift)?;
            }
            ExprKind::Subquery(subquery) => {
                self.shift(&subquery.shift)?;
                if let Some(step) = &subquery.step {
                    self.millis(step, DurationSign::Positive)?;
                }
                self.millis(&subquery.range, DurationSign::Positive)?;
            }
            _ => {}
        }
        expr.children().into_iter().try_for_each(|child| self.check_durations(child))
    }

    /// Runs a plan to its end: numbers and cells of its rows.
    pub(crate) async fn run(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
    ) -> Result<Vec<(u32, Vec<f64>)>, PromqlError> {
        let reservation = self.task.reserve("result");
        let mut batches = gather(plan, &self.task.context).map_err(QueryError::from)?;
        let mut rows = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(QueryError::from)?;
            for (number, cells) in VectorRows::of(&batch)?.iter() {
                reservation.try_grow(cells.len() * 8).map_err(QueryError::from)?;
                rows.push((number, cells.to_vec()));
            }
            // Between batches a dropped query ends.
            tokio::task::yield_now().await;
        }
        Ok(rows)
    }

    /// A scalar as the one element of a vector.
    fn vector_of(&self, scalar: &Scalar, grid: Grid) -> Vector {
        let cells: Arc<[f64]> = (0..grid.steps()).map(|step| scalar.at(step)).collect();
        let plan = Rows::plan("scalar", grid.steps(), vec![(0, cells)]);
        Vector::new(plan, SeriesTable::of_one(Labels::empty()))
    }
}

/// The parser checks types, so this is our own mistake.
fn mistyped(expr: &Expr) -> PromqlError {
    PromqlError::Query(QueryError::Internal(format!("{expr} has an unexpected type")))
}
