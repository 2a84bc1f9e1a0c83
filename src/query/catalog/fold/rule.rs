//! Which aggregations become folds.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::projection::ProjectionExec;

use crate::query::catalog::fold::aggregate::Folded;
use crate::query::catalog::fold::keys::Keys;
use crate::query::catalog::fold::node::SampleFold;
use crate::query::catalog::sample_cursor::sample_columns;
use crate::query::catalog::sample_scan::SampleScan;
use crate::query::node::NodeExec;

/// Puts folds in place of partial aggregations. Comes before the rule that lets distribution fit,
/// while partial and final aggregation stand one over the other.
#[derive(Debug)]
pub(crate) struct FoldSamples;

impl PhysicalOptimizerRule for FoldSamples {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| match fold(&plan)? {
            Some(folded) => Ok(Transformed::yes(folded)),
            None => Ok(Transformed::no(plan)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "fold_samples"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The fold that a plan is as good as, if it is a partial aggregation of raw samples.
fn fold(plan: &Arc<dyn ExecutionPlan>) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
    let Some(aggregation) = plan.downcast_ref::<AggregateExec>() else { return Ok(None) };
    let group_by = aggregation.group_expr();
    let is_plain = *aggregation.mode() == AggregateMode::Partial
        && !group_by.has_grouping_set()
        && aggregation.limit_options().is_none();
    let mut projections = Vec::new();
    let mut input = aggregation.input();
    while let Some(projection) = input.downcast_ref::<ProjectionExec>() {
        projections.push(projection);
        input = projection.input();
    }
    let Some(scan) = input.downcast_ref::<NodeExec<SampleScan>>().filter(|_| is_plain) else {
        return Ok(None);
    };
    let scan = scan.node();
    if scan.limit.is_some() {
        return Ok(None);
    }
    let resolve = |expr: &Arc<dyn PhysicalExpr>| {
        projections.iter().try_fold(Arc::clone(expr), |expr, projection| below(expr, projection))
    };
    let samples = sample_columns();
    let expressions: Vec<_> =
        group_by.expr().iter().map(|(expr, _)| resolve(expr)).collect::<Result<_, _>>()?;
    let Some(keys) = Keys::new(&expressions, &scan.columns, &samples)? else { return Ok(None) };
    let mut folded = Vec::new();
    for (expr, filter) in aggregation.aggr_expr().iter().zip(aggregation.filter_expr()) {
        match Folded::new(expr, filter.as_ref(), resolve, &samples)? {
            Some(one) => folded.push(one),
            None => return Ok(None),
        }
    }
    let source = Arc::new(scan.source.clone());
    let partitions = source.partitions.len();
    let by = group_by.expr().iter().map(|(_, name)| name.clone()).collect();
    let node = SampleFold { source, keys, folded, by };
    Ok(Some(NodeExec::leaf(node, aggregation.schema(), partitions)))
}

/// An expression over a projection's columns, over those of its input.
fn below(
    expr: Arc<dyn PhysicalExpr>,
    projection: &ProjectionExec,
) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
    expr.transform_down(|expr| {
        Ok(match expr.downcast_ref::<Column>() {
            Some(column) => {
                let replaced = Arc::clone(&projection.expr()[column.index()].expr);
                Transformed::new(
                    replaced,
                    true,
                    datafusion::common::tree_node::TreeNodeRecursion::Jump,
                )
            }
            None => Transformed::no(expr),
        })
    })
    .data()
}
