//! How DataFusion's own nodes end when nobody waits for their rows any more.
//!
//! A dropped query ends where it next waits. A join by a condition may look at billions of pairs
//! before it finds a row to hand on, and waits for nothing meanwhile: so its condition asks now and
//! then whether anybody is still interested. Joins that do find rows give way between batches.
//! Window functions are computed one partition after the other ([`window`]).

mod window;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use futures::StreamExt;

use crate::query::error::QueryError;
use crate::query::node::{BatchStream, Node, NodeExec, Run};

/// Whether anybody still waits for a query's answer.
#[derive(Debug, Default)]
pub(crate) struct Stop(OnceLock<QueryError>);

impl Stop {
    /// The first reason stays.
    pub(crate) fn set(&self, reason: QueryError) {
        let _ = self.0.set(reason);
    }

    fn check(&self) -> Result<(), QueryError> {
        self.0.get().map_or(Ok(()), |reason| Err(reason.clone()))
    }
}

/// The same plan, whose long nodes end when they are told to.
pub(crate) fn stoppable(
    plan: Arc<dyn ExecutionPlan>,
    stop: &Arc<Stop>,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        if let Some(window) = plan.downcast_ref::<WindowAggExec>() {
            return Ok(Transformed::yes(window::in_turn(window)?));
        }
        let asking = match plan.downcast_ref::<NestedLoopJoinExec>() {
            Some(join) => asking(join, stop)?,
            None => None,
        };
        let is_long = plan.is::<NestedLoopJoinExec>()
            || plan.is::<CrossJoinExec>()
            || plan.is::<HashJoinExec>()
            || plan.is::<SortMergeJoinExec>()
            || plan.is::<SortExec>()
            || plan.is::<BoundedWindowAggExec>();
        if !is_long {
            return Ok(Transformed::no(plan));
        }
        let schema = plan.schema();
        Ok(Transformed::yes(NodeExec::plan(GiveWay, schema, vec![asking.unwrap_or(plan)])))
    })
    .data()
}

/// A join whose condition asks.
fn asking(
    join: &NestedLoopJoinExec,
    stop: &Arc<Stop>,
) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
    let Some(filter) = join.filter() else { return Ok(None) };
    let holds = Arc::clone(filter.expression());
    let expr = Arc::new(WhileWanted { holds, stop: Arc::clone(stop) });
    let filter =
        JoinFilter::new(expr, filter.column_indices().to_vec(), Arc::clone(filter.schema()));
    let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
    let asking = NestedLoopJoinExecBuilder::new(left, right, *join.join_type())
        .with_filter(Some(filter))
        .with_projection_ref(join.projection().clone())
        .build()?;
    Ok(Some(Arc::new(asking)))
}

/// Hands batches on as they come; like all our nodes it waits now and then.
#[derive(Debug)]
struct GiveWay;

impl Node for GiveWay {
    fn name(&self) -> &'static str {
        "GiveWayExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("between batches")
    }

    fn gathers(&self) -> bool {
        false
    }

    fn hands_on(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        Ok(run.input()?.boxed())
    }
}

/// An expression that fails once nobody waits for it.
#[derive(Debug)]
struct WhileWanted {
    holds: Arc<dyn PhysicalExpr>,
    stop: Arc<Stop>,
}

impl PartialEq for WhileWanted {
    fn eq(&self, other: &Self) -> bool {
        self.holds.eq(&other.holds)
    }
}

impl Eq for WhileWanted {}

impl Hash for WhileWanted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.holds.hash(state);
    }
}

impl fmt::Display for WhileWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.holds.fmt(f)
    }
}

impl PhysicalExpr for WhileWanted {
    fn return_field(&self, schema: &Schema) -> DataFusionResult<FieldRef> {
        self.holds.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DataFusionResult<ColumnarValue> {
        self.stop.check()?;
        self.holds.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.holds]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        let holds = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.holds));
        Ok(Arc::new(Self { holds, stop: Arc::clone(&self.stop) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.holds.fmt_sql(f)
    }
}
