//! Aggregations: over the series of an instant vector and, our addition, over all samples of a
//! range vector.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::{Labels, LabelsBuilder, METRIC_NAME, is_stale};
use crate::promql::ast::{AggregateExpr, AggregateOp, Expr, ExprKind, Grouping};
use crate::promql::error::PromqlError;
use crate::promql::exec::aggregate::{Aggregate, Aggregation};
use crate::promql::exec::leaf::Rows;
use crate::promql::exec::select::{Choice, Choose, Quantile, SampleQuantile};
use crate::promql::exec::table::{SeriesRow, SeriesTable, TableBuilder};
use crate::promql::functions::range::{
    RangeFunction, RangeKernel, SampleFold, SampleState, Window,
};
use crate::promql::plan::selector::Wanted;
use crate::promql::plan::{Planner, Vector, mistyped};
use crate::promql::printer::{format_general, format_number};
use crate::promql::scalar::Scalar;
use crate::promql::types::ValueType;
use crate::query::pace::Pace;
use crate::query::{ABSENT, Grid, WindowKernel};

/// What it costs to find a value's counter, in cells read.
const COUNTED_VALUE_LOOKS: usize = 128;

/// The groups of a table's rows.
struct Groups {
    of_row: Arc<[u32]>,
    table: Arc<SeriesTable>,
}

impl Planner {
    pub(super) async fn plan_aggregate(
        &self,
        aggregate: &AggregateExpr,
        grid: Grid,
    ) -> Result<Vector, PromqlError> {
        let clause = clause(&aggregate.grouping);
        if aggregate.operand.value_type() == ValueType::Range {
            return self.plan_of_samples(aggregate, clause, grid).await;
        }
        let input = self.vector(&aggregate.operand, grid).await?;
        let groups = group(&input.table, &aggregate.grouping);
        let steps = grid.steps();
        if let Some(aggregation) = folded(aggregate.op) {
            let count = groups.table.len();
            let plan =
                Aggregate::plan(input.plan, aggregation, groups.of_row, count, steps, clause);
            return Ok(Vector::new(plan, groups.table));
        }
        let param = aggregate.param.as_deref().ok_or_else(|| mistyped(&aggregate.operand))?;
        if aggregate.op == AggregateOp::CountValues {
            return self.plan_count_values(&input, &aggregate.grouping, param, grid).await;
        }
        let scalar = self.scalar(param, grid).await?;
        let title = format!("{}{clause}", aggregate.op.as_str());
        if aggregate.op == AggregateOp::Quantile {
            self.check_quantile(&scalar, param);
            let count = groups.table.len();
            let plan = Quantile::plan(input.plan, scalar, groups.of_row, count, steps, title);
            return Ok(Vector::new(plan, groups.table));
        }
        self.check_param(aggregate.op, &scalar, param)?;
        let choice = match aggregate.op {
            AggregateOp::Topk => Choice::Top(scalar),
            AggregateOp::Bottomk => Choice::Bottom(scalar),
            AggregateOp::Limitk => Choice::Limit(scalar),
            _ => Choice::Ratio(scalar, places(&input.table)),
        };
        let groups = (groups.of_row, groups.table.len());
        let ranks = input.table.ranks();
        let plan = Choose::plan(input.plan, choice, groups, ranks, steps, title);
        Ok(Vector { plan, table: input.table, sorted: true })
    }

    /// Told of the extremes only, however many values there are.
    fn check_quantile(&self, quantile: &Scalar, param: &Expr) {
        let (lowest, highest) = extremes(quantile);
        if lowest.is_nan() {
            self.annotations.check_quantile(f64::NAN, param.span.start);
        }
        for value in [highest, lowest].into_iter().filter(|value| !value.is_nan()) {
            self.annotations.check_quantile(value, param.span.start);
        }
    }

    /// A count must be a number, a ratio one of `[-1, 1]`. Where nothing is chosen at any step,
    /// all is well.
    fn check_param(
        &self,
        op: AggregateOp,
        scalar: &Scalar,
        param: &Expr,
    ) -> Result<(), PromqlError> {
        let fail = |text: String| Err(PromqlError::execution(text));
        let (lowest, highest) = extremes(scalar);
        if op == AggregateOp::LimitRatio {
            if lowest.is_nan() {
                return fail("Ratio value is NaN".to_owned());
            }
            for (value, cap) in [(highest, 1.0), (lowest, -1.0)] {
                if value * cap > 1.0 {
                    let got = format_general(value);
                    let text = format!(
                        "ratio value should be between -1 and 1, got {got}, capping to {cap}"
                    );
                    self.annotations.warn(text, param.span.start);
                }
            }
            return Ok(());
        }
        if lowest.is_nan() {
            return fail("Parameter value is NaN".to_owned());
        }
        if highest >= 1.0 && lowest <= i64::MIN as f64 {
            return fail(format!("Scalar value {} underflows int64", format_general(lowest)));
        }
        if highest >= i64::MAX as f64 {
            return fail(format!("Scalar value {} overflows int64", format_general(highest)));
        }
        Ok(())
    }

    /// The labels of the result depend on values, so the input is run here.
    async fn plan_count_values(
        &self,
        input: &Vector,
        grouping: &Grouping,
        param: &Expr,
        grid: Grid,
    ) -> Result<Vector, PromqlError> {
        let label = match &param.without_parens().kind {
            ExprKind::String(label) if !label.is_empty() => label,
            ExprKind::String(_) | ExprKind::Bytes(_) => {
                let text = format!("invalid label name {}", param.without_parens());
                return Err(PromqlError::execution(text));
            }
            _ => return Err(mistyped(param)),
        };
        // The value is a label like others: `by` keeps it, `without` may name it.
        let mut grouping = grouping.clone();
        if !grouping.without {
            grouping.labels.push(label.clone());
        }
        let mut table = TableBuilder::default();
        let mut counts: Vec<Vec<f64>> = Vec::new();
        let mut numbers: HashMap<(u32, u64), u32> = HashMap::new();
        let mut pace = Pace::default();
        for (row, cells) in self.run(&input.plan).await? {
            pace.look(cells.len() * COUNTED_VALUE_LOOKS).await;
            let labels = input.table.labels(row);
            for (step, cell) in cells.iter().enumerate().filter(|(_, cell)| !is_stale(**cell)) {
                let number = match numbers.get(&(row, cell.to_bits())) {
                    Some(number) => *number,
                    None => {
                        let valued = LabelsBuilder::from_labels(labels)
                            .set(label, &format_number(*cell))
                            .build();
                        let labels = grouped(&valued, &grouping);
                        let number = table.number(SeriesRow { labels, drop_name: false })?;
                        if number as usize == counts.len() {
                            counts.push(vec![ABSENT; grid.steps()]);
                        }
                        numbers.insert((row, cell.to_bits()), number);
                        number
                    }
                };
                let count = &mut counts[number as usize][step];
                *count = if is_stale(*count) { 1.0 } else { *count + 1.0 };
            }
        }
        let rows = (0u32..).zip(counts.into_iter().map(Arc::from)).collect();
        Ok(Vector::new(Rows::plan("count_values", grid.steps(), rows), table.build()))
    }

    /// Folds the samples of all series of a group that lie in the window, not their averages.
    async fn plan_of_samples(
        &self,
        aggregate: &AggregateExpr,
        clause: String,
        grid: Grid,
    ) -> Result<Vector, PromqlError> {
        let operand = &aggregate.operand;
        let steps = grid.steps();
        if aggregate.op == AggregateOp::Quantile {
            let param = aggregate.param.as_deref().ok_or_else(|| mistyped(operand))?;
            let quantile = self.scalar(param, grid).await?;
            self.check_quantile(&quantile, param);
            let range = self.plan_range(operand, grid, Wanted::Samples).await?;
            let groups = group(&range.table, &aggregate.grouping);
            let count = groups.table.len();
            let title = format!("quantile of samples{clause}");
            let plan = SampleQuantile::plan(
                range.plan,
                quantile,
                (groups.of_row, count),
                range.window,
                grid,
                title,
            );
            return Ok(Vector::new(plan, groups.table));
        }
        let fold = |function: RangeFunction| {
            let (annotations, position) = (Arc::clone(&self.annotations), operand.span.start);
            move |window: Window| -> Arc<dyn WindowKernel> {
                let annotations = Arc::clone(&annotations);
                Arc::new(RangeKernel {
                    function,
                    window,
                    params: Vec::new(),
                    annotations,
                    position,
                    use_starts: false,
                })
            }
        };
        let samples = |state| {
            move |window: Window| -> Arc<dyn WindowKernel> {
                Arc::new(SampleFold { state, window })
            }
        };
        let (range, aggregation) = match aggregate.op {
            AggregateOp::Sum => {
                let make = samples(SampleState::Sum);
                let range = self.plan_range(operand, grid, Wanted::Kernel(&make)).await?;
                (range, Aggregation::SumOfSamples)
            }
            AggregateOp::Count => {
                let make = fold(RangeFunction::Count);
                (self.plan_range(operand, grid, Wanted::Kernel(&make)).await?, Aggregation::Sum)
            }
            AggregateOp::Min => {
                let make = fold(RangeFunction::Min);
                (self.plan_range(operand, grid, Wanted::Kernel(&make)).await?, Aggregation::Min)
            }
            AggregateOp::Max => {
                let make = fold(RangeFunction::Max);
                (self.plan_range(operand, grid, Wanted::Kernel(&make)).await?, Aggregation::Max)
            }
            AggregateOp::Group => {
                let make = fold(RangeFunction::Present);
                (self.plan_range(operand, grid, Wanted::Kernel(&make)).await?, Aggregation::Group)
            }
            AggregateOp::Avg => {
                let make = samples(SampleState::Mean);
                let range = self.plan_range(operand, grid, Wanted::Kernel(&make)).await?;
                (range, Aggregation::AvgOfSamples)
            }
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                let aggregation = match aggregate.op {
                    AggregateOp::Stddev => Aggregation::StddevOfSamples,
                    _ => Aggregation::StdvarOfSamples,
                };
                let make = samples(SampleState::Spread);
                (self.plan_range(operand, grid, Wanted::Kernel(&make)).await?, aggregation)
            }
            _ => return Err(mistyped(operand)),
        };
        let groups = group(&range.table, &aggregate.grouping);
        let count = groups.table.len();
        let plan = Aggregate::plan(range.plan, aggregation, groups.of_row, count, steps, clause);
        Ok(Vector::new(plan, groups.table))
    }
}

/// The lowest and highest value; NaN if one is.
fn extremes(scalar: &Scalar) -> (f64, f64) {
    let values = scalar.values();
    let fold = |choose: fn(f64, f64) -> f64| values.iter().copied().reduce(choose);
    if values.iter().any(|value| value.is_nan()) {
        return (f64::NAN, f64::NAN);
    }
    (fold(f64::min).unwrap_or(f64::NAN), fold(f64::max).unwrap_or(f64::NAN))
}

fn folded(op: AggregateOp) -> Option<Aggregation> {
    Some(match op {
        AggregateOp::Sum => Aggregation::Sum,
        AggregateOp::Avg => Aggregation::Avg,
        AggregateOp::Count => Aggregation::Count,
        AggregateOp::Min => Aggregation::Min,
        AggregateOp::Max => Aggregation::Max,
        AggregateOp::Group => Aggregation::Group,
        AggregateOp::Stddev => Aggregation::Stddev,
        AggregateOp::Stdvar => Aggregation::Stdvar,
        AggregateOp::Topk
        | AggregateOp::Bottomk
        | AggregateOp::CountValues
        | AggregateOp::Quantile
        | AggregateOp::Limitk
        | AggregateOp::LimitRatio => return None,
    })
}

/// The grouping as EXPLAIN shows it.
fn clause(grouping: &Grouping) -> String {
    match (grouping.without, grouping.labels.is_empty()) {
        (false, true) => String::new(),
        (false, false) => format!(" by ({})", grouping.labels.join(", ")),
        (true, _) => format!(" without ({})", grouping.labels.join(", ")),
    }
}

fn group(table: &SeriesTable, grouping: &Grouping) -> Groups {
    let mut rows: Vec<SeriesRow> = Vec::new();
    let mut numbers: HashMap<Labels, u32> = HashMap::new();
    let mut of_row = Vec::with_capacity(table.len());
    for row in &table.rows {
        let labels = grouped(&row.labels, grouping);
        let next = u32::try_from(rows.len()).expect("no more groups than rows, which have u32");
        let number = *numbers.entry(labels).or_insert_with_key(|labels| {
            rows.push(SeriesRow { labels: labels.clone(), drop_name: false });
            next
        });
        // A name that goes away for one of a group's series goes away for the group.
        rows[number as usize].drop_name |= row.drop_name;
        of_row.push(number);
    }
    Groups { of_row: of_row.into(), table: Arc::new(SeriesTable { rows }) }
}

/// The labels of the group that a series belongs to.
fn grouped(labels: &Labels, grouping: &Grouping) -> Labels {
    if !grouping.without && grouping.labels.is_empty() {
        return Labels::empty();
    }
    labels.filter(|name| {
        let listed = grouping.labels.iter().any(|label| label == name);
        if grouping.without { !listed && name != METRIC_NAME } else { listed }
    })
}

/// A number in `[0, 1]` for each series: the hash by which Prometheus chooses.
fn places(table: &SeriesTable) -> Arc<[f64]> {
    let place = |row: &SeriesRow| row.labels.prometheus_hash() as f64 / u64::MAX as f64;
    table.rows.iter().map(place).collect()
}
