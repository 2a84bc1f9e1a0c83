//! Puts gap filling into a plan, in place of the functions that stand for it.
//!
//! It comes after types were made to fit and before anything is optimised, so that the shape of
//! the plan is still that of the statement.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Expr, Extension, Filter, LogicalPlan, Projection};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use crate::model::TimeRange;
use crate::query::catalog::time_bounds;
use crate::sql::functions::{bin, fixed_ms, time_ms};
use crate::sql::gapfill::functions::{BUCKET, INTERPOLATE, LOCF};
use crate::sql::gapfill::node::{Buckets, Fill, Filled, GapFill, Layout};

/// The rule, for one query.
#[derive(Debug)]
pub(crate) struct GapFillRule {
    /// What `now()` is in bounds.
    pub(crate) now: Option<DateTime<Utc>>,
}

impl AnalyzerRule for GapFillRule {
    fn name(&self) -> &str {
        "gap_fill"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        let filled = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Aggregate(aggregate) => self.over(aggregate),
            LogicalPlan::Projection(projection) => columns(projection),
            other => Ok(Transformed::no(other.recompute_schema()?)),
        })?;
        Ok(filled.data)
    }
}

impl GapFillRule {
    /// The aggregation with a node over it, if it is grouped by the function.
    fn over(&self, aggregate: Aggregate) -> DataFusionResult<Transformed<LogicalPlan>> {
        let is_bucket = |expr: &Expr| call_of(expr, BUCKET).is_some();
        let mut places = (0..aggregate.group_expr.len())
            .filter(|index| is_bucket(&aggregate.group_expr[*index]));
        let Some(time) = places.next() else {
            let plan = LogicalPlan::Aggregate(aggregate).recompute_schema()?;
            return Ok(Transformed::no(plan));
        };
        if places.next().is_some() {
            return plan_err!("{BUCKET} may stand in GROUP BY only once");
        }
        let mut group = aggregate.group_expr.clone();
        let name = group[time].schema_name().to_string();
        let Some(call) = call_of(&group[time], BUCKET).cloned() else {
            return plan_err!("{BUCKET} must be called");
        };
        let buckets = self.buckets(&call, &aggregate.input)?;
        group[time] = bin(call.args).alias(name);
        let layout = Layout {
            time,
            group: (0..group.len()).filter(|index| *index != time).collect(),
            buckets,
            filled: Vec::new(),
        };
        let aggregate = Aggregate::try_new(aggregate.input, group, aggregate.aggr_expr)?;
        let node = GapFill::new(LogicalPlan::Aggregate(aggregate), layout)?;
        Ok(Transformed::yes(extension(node)))
    }

    fn buckets(&self, call: &ScalarFunction, input: &LogicalPlan) -> DataFusionResult<Buckets> {
        let [stride, time, origin @ ..] = call.args.as_slice() else {
            return plan_err!("{BUCKET} wants an interval and a time");
        };
        let schema = input.schema();
        let constant = |expr: &Expr| match self.simplified(expr.clone(), schema)? {
            Expr::Literal(value, _) => Ok(value),
            other => plan_err!("{BUCKET}: {other} must be a constant"),
        };
        let stride_ms = fixed_ms(&constant(stride)?)?;
        if stride_ms <= 0 {
            return plan_err!("{BUCKET}: the interval must be 1 ms or longer");
        }
        let origin_ms = match origin.first() {
            Some(origin) => time_ms(&constant(origin)?)?,
            None => 0,
        };
        let range = match time_column(time) {
            Some(column) => self.range(&column.name, input)?,
            None => TimeRange::ALL,
        };
        let set = |at: i64, open: i64| (at != open).then_some(at);
        Ok(Buckets {
            stride: stride_ms,
            origin: origin_ms,
            first: set(range.start(), i64::MIN),
            last: set(range.end(), i64::MAX),
        })
    }

    /// What the filters below say of the time column.
    fn range(&self, column: &str, mut plan: &LogicalPlan) -> DataFusionResult<TimeRange> {
        let mut range = TimeRange::ALL;
        loop {
            match plan {
                LogicalPlan::Filter(filter) => {
                    for condition in split_conjunction(&filter.predicate) {
                        let condition =
                            self.simplified(condition.clone(), filter.input.schema())?;
                        let bounds = time_bounds(&condition, column);
                        if let Some(more) = bounds.and_then(|bounds| bounds.range) {
                            range = range.intersect(more).unwrap_or(range);
                        }
                    }
                    plan = filter.input.as_ref();
                }
                LogicalPlan::SubqueryAlias(alias) => plan = alias.input.as_ref(),
                _ => return Ok(range),
            }
        }
    }

    fn simplified(&self, expr: Expr, schema: &DFSchemaRef) -> DataFusionResult<Expr> {
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(schema))
            .with_query_execution_start_time(self.now)
            .build();
        ExprSimplifier::new(context).simplify(expr)
    }
}

/// Takes `locf` and `interpolate` out of a projection; the node below makes their columns.
fn columns(projection: Projection) -> DataFusionResult<Transformed<LogicalPlan>> {
    let Some(node) = gap_fill_below(&projection.input) else {
        return Ok(Transformed::no(LogicalPlan::Projection(projection).recompute_schema()?));
    };
    let mut layout = node.layout.clone();
    let schema = Arc::clone(node.input.schema());
    let mut expressions = Vec::with_capacity(projection.expr.len());
    for expr in projection.expr {
        let replaced = expr.transform_down(|expr| {
            let fill = match (call_of(&expr, LOCF), call_of(&expr, INTERPOLATE)) {
                (Some(call), _) => Some((call, Fill::Last)),
                (_, Some(call)) => Some((call, Fill::Line)),
                _ => None,
            };
            let Some((call, fill)) = fill.filter(|_| matches!(expr, Expr::ScalarFunction(_)))
            else {
                return Ok(Transformed::no(expr));
            };
            let [argument] = call.args.as_slice() else { return Ok(Transformed::no(expr)) };
            let Expr::Column(column) = argument else {
                return plan_err!(
                    "{expr} must take an aggregate as it is, like {LOCF}(avg(value))"
                );
            };
            let name = expr.schema_name().to_string();
            let column = schema.index_of_column(column)?;
            if !layout.filled.iter().any(|filled| filled.name == name) {
                layout.filled.push(Filled { name: name.clone(), fill, column });
            }
            let made = Expr::Column(Column::new_unqualified(name));
            Ok(Transformed::new(made, true, TreeNodeRecursion::Jump))
        })?;
        expressions.push(replaced.data);
    }
    let node = GapFill::new(node.input.clone(), layout)?;
    let input = replace_below(&projection.input, node)?;
    let projection = Projection::try_new(expressions, Arc::new(input))?;
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}

/// The node under a projection, with at most the conditions of HAVING between.
fn gap_fill_below(plan: &LogicalPlan) -> Option<&GapFill> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        LogicalPlan::Filter(filter) => gap_fill_below(&filter.input),
        _ => None,
    }
}

fn replace_below(plan: &LogicalPlan, node: GapFill) -> DataFusionResult<LogicalPlan> {
    match plan {
        LogicalPlan::Filter(filter) => {
            let input = Arc::new(replace_below(&filter.input, node)?);
            Ok(LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), input)?))
        }
        _ => Ok(extension(node)),
    }
}

fn extension(node: GapFill) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(node) })
}

/// The call of a function that an expression is, by whatever name it goes.
fn call_of<'a>(expr: &'a Expr, name: &str) -> Option<&'a ScalarFunction> {
    match expr {
        Expr::ScalarFunction(call) if call.name() == name => Some(call),
        Expr::Alias(alias) => call_of(&alias.expr, name),
        _ => None,
    }
}

fn time_column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(cast) => time_column(&cast.expr),
        Expr::Alias(alias) => time_column(&alias.expr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;

    use super::*;

    #[test]
    fn calls_are_found_behind_names() {
        let call = bin(vec![Expr::Literal(ScalarValue::Null, None)]);
        assert!(call_of(&call.clone().alias("a"), "date_bin").is_some());
        assert!(call_of(&call, BUCKET).is_none());
    }
}
