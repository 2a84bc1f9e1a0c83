//! `ORDER BY time LIMIT n` over raw samples: a scan that knows of it reads little.
//!
//! The scan keeps the times of the best rows so far and never reads beyond the worst of them;
//! the sort above stays and has the last word.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;

use crate::columnar::parquet::columns::TIME;
use crate::query::catalog::sample_cursor::Ends;
use crate::query::catalog::sample_scan::SampleScan;
use crate::query::node::{NodeExec, with_inputs};

/// Tells scans which end of time is wanted.
#[derive(Debug)]
pub(crate) struct LatestRows;

impl PhysicalOptimizerRule for LatestRows {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| match narrowed(&plan)? {
            Some(narrowed) => Ok(Transformed::yes(narrowed)),
            None => Ok(Transformed::no(plan)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "latest_rows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn narrowed(plan: &Arc<dyn ExecutionPlan>) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
    let Some(sort) = plan.downcast_ref::<SortExec>() else { return Ok(None) };
    let Some(rows) = sort.fetch().filter(|rows| (1..=Ends::ROWS_MAX).contains(rows)) else {
        return Ok(None);
    };
    let first = sort.expr().first();
    let Some(column) = first.expr.downcast_ref::<Column>() else { return Ok(None) };
    let ends = Ends::new(rows, first.options.descending);
    let Some(input) = below(sort.input(), column.index(), &ends)? else { return Ok(None) };
    with_inputs(plan, vec![input]).map(Some)
}

/// The plan with a narrower scan, if column `index` of it is a scan's time.
fn below(
    plan: &Arc<dyn ExecutionPlan>,
    index: usize,
    ends: &Ends,
) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let Some(column) = projection.expr()[index].expr.downcast_ref::<Column>() else {
            return Ok(None);
        };
        return match below(projection.input(), column.index(), ends)? {
            Some(input) => with_inputs(plan, vec![input]).map(Some),
            None => Ok(None),
        };
    }
    let Some(scan) = plan.downcast_ref::<NodeExec<SampleScan>>() else { return Ok(None) };
    let scan = scan.node();
    let is_time = scan.columns.schema.field(index).name() == TIME;
    Ok((is_time && scan.limit.is_none()).then(|| scan.with_ends(ends.clone()).plan()))
}
