//! Calls of functions.

use std::sync::Arc;

use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};
use crate::promql::ast::{Call, Expr, ExprKind};
use crate::promql::error::PromqlError;
use crate::promql::exec::map::{Relabel, cell_by_cell, step_by_step};
use crate::promql::exec::select::{Absent, Sort, SortBy};
use crate::promql::exec::table::{SeriesRow, SeriesTable, TableBuilder};
use crate::promql::functions::label::{LabelJoin, LabelReplace};
use crate::promql::functions::range::{
    Edges, InstantValue, RangeFunction, RangeKernel, Window, seconds,
};
use crate::promql::functions::{elementary, instant, time};
use crate::promql::plan::selector::{Wanted, edges};
use crate::promql::plan::{Planned, Planner, Vector, mistyped};
use crate::promql::scalar::Scalar;
use crate::promql::types::{FunctionId, ValueType};
use crate::query::{ABSENT, Grid, WindowKernel};

impl Planner {
    pub(super) async fn plan_call(
        &self,
        call: &Call,
        expr: &Expr,
        grid: Grid,
    ) -> Result<Planned, PromqlError> {
        let args = &call.args;
        let function = call.function;
        if let Some(change) = instant::function(function.id) {
            let vector = self.vector(&args[0], grid).await?;
            return Ok(Planned::Vector(vector.mapped(title(call), cell_by_cell(change))));
        }
        if let Some(part) = time::function(function.id) {
            let vector = match args.first() {
                Some(arg) => self.vector(arg, grid).await?,
                None => self.vector_of(&step_times(grid), grid),
            };
            return Ok(Planned::Vector(vector.mapped(title(call), cell_by_cell(part))));
        }
        if let Some(function) = RangeFunction::named(function.name) {
            return Ok(Planned::Vector(self.plan_range_function(function, call, grid).await?));
        }
        let vector = match function.id {
            FunctionId::Time => return Ok(Planned::Scalar(step_times(grid))),
            FunctionId::Pi => return Ok(constant(std::f64::consts::PI)),
            FunctionId::Start => return Ok(constant(seconds(self.times.start))),
            FunctionId::End => return Ok(constant(seconds(self.times.end))),
            FunctionId::Step if self.times.start == self.times.end => return Ok(constant(0.0)),
            FunctionId::Step => return Ok(constant(seconds(self.times.step_ms))),
            FunctionId::Range => {
                return Ok(constant(seconds(self.times.end.saturating_sub(self.times.start))));
            }
            FunctionId::MinOf | FunctionId::MaxOf => {
                let (one, two) =
                    (self.scalar(&args[0], grid).await?, self.scalar(&args[1], grid).await?);
                let choose = if function.id == FunctionId::MinOf {
                    elementary::min
                } else {
                    elementary::max
                };
                return Ok(Planned::Scalar(one.zip(two, choose)));
            }
            FunctionId::Scalar => {
                return Ok(Planned::Scalar(self.scalar_of(&args[0], grid).await?));
            }
            FunctionId::Vector => {
                let scalar = self.scalar(&args[0], grid).await?;
                self.vector_of(&scalar, grid)
            }
            FunctionId::Round => {
                let nearest = match args.get(1) {
                    Some(arg) => self.scalar(arg, grid).await?,
                    None => Scalar::Const(1.0),
                };
                let change =
                    step_by_step(move |step, value| instant::round(value, nearest.at(step)));
                self.vector(&args[0], grid).await?.mapped(title(call), change)
            }
            FunctionId::Clamp => {
                let (min, max) =
                    (self.scalar(&args[1], grid).await?, self.scalar(&args[2], grid).await?);
                let change = step_by_step(move |step, value| {
                    instant::clamp(value, min.at(step), max.at(step)).unwrap_or(ABSENT)
                });
                self.vector(&args[0], grid).await?.mapped(title(call), change)
            }
            FunctionId::ClampMin | FunctionId::ClampMax => {
                let bound = self.scalar(&args[1], grid).await?;
                let clamp = if function.id == FunctionId::ClampMin {
                    instant::clamp_min
                } else {
                    instant::clamp_max
                };
                let change = step_by_step(move |step, value| clamp(value, bound.at(step)));
                self.vector(&args[0], grid).await?.mapped(title(call), change)
            }
            FunctionId::Timestamp => self.plan_timestamp(&args[0], grid).await?,
            FunctionId::Absent => {
                let vector = self.vector(&args[0], grid).await?;
                absent(vector, &args[0], grid)
            }
            FunctionId::AbsentOverTime => {
                check_edges(RangeFunction::Present, "absent_over_time", &args[0])?;
                let no_params = (Vec::new(), args[0].span.start);
                let present = self.plan_windows(RangeFunction::Present, &args[0], no_params, grid);
                absent(present.await?, &args[0], grid)
            }
            FunctionId::Sort | FunctionId::SortDesc => {
                let vector = self.vector(&args[0], grid).await?;
                self.check_sort(expr, grid);
                let by = match function.id {
                    FunctionId::Sort => SortBy::Ascending,
                    _ => SortBy::Descending,
                };
                let ranks = vector.table.ranks();
                sorted(vector, by, ranks, call, grid)
            }
            FunctionId::SortByLabel | FunctionId::SortByLabelDesc => {
                let vector = self.vector(&args[0], grid).await?;
                self.check_sort(expr, grid);
                let names = texts(&args[1..])?;
                let descending = function.id == FunctionId::SortByLabelDesc;
                let ranks = label_ranks(&vector.table, &names, descending);
                sorted(vector, SortBy::Rank, ranks, call, grid)
            }
            FunctionId::LabelReplace => {
                let texts = texts(&args[1..])?;
                let replace = LabelReplace::new(texts[0], texts[1], texts[2], texts[3])
                    .map_err(PromqlError::execution)?;
                let vector = self.vector(&args[0], grid).await?;
                let names = replace.sets_metric_name();
                relabeled(vector, call, grid, names, |labels| replace.apply(labels))?
            }
            FunctionId::LabelJoin => {
                let texts = texts(&args[1..])?;
                let join = LabelJoin::new(texts[0], texts[1], &texts[2..])
                    .map_err(PromqlError::execution)?;
                let vector = self.vector(&args[0], grid).await?;
                let names = join.sets_metric_name();
                relabeled(vector, call, grid, names, |labels| Some(join.apply(labels)))?
            }
            FunctionId::HistogramQuantile
            | FunctionId::HistogramQuantiles
            | FunctionId::HistogramFraction => self.plan_histogram(call, grid).await?,
            FunctionId::StartTimestamp => self.plan_start_timestamp(&args[0], grid).await?,
            // Of native histograms only, which no series holds; other samples are left out.
            FunctionId::HistogramAvg
            | FunctionId::HistogramCount
            | FunctionId::HistogramSum
            | FunctionId::HistogramStddev
            | FunctionId::HistogramStdvar => {
                let vector = self.vector(&args[0], grid).await?;
                vector.mapped(title(call), cell_by_cell(|_| ABSENT))
            }
            FunctionId::Info => self.plan_info(call, grid).await?,
            _ => return Err(mistyped(expr)),
        };
        Ok(Planned::Vector(vector))
    }

    async fn plan_range_function(
        &self,
        function: RangeFunction,
        call: &Call,
        grid: Grid,
    ) -> Result<Vector, PromqlError> {
        let mut range = None;
        let mut params = Vec::new();
        for arg in &call.args {
            if arg.value_type() == ValueType::Range {
                range = Some(arg);
            } else {
                params.push(self.scalar(arg, grid).await?);
            }
        }
        let range = range.ok_or_else(|| mistyped(&call.args[0]))?;
        // Remarks point at the first argument, whichever that is. Prometheus forgets where a
        // subquery stood.
        let first = call.args[0].without_parens();
        let position = match first.kind {
            ExprKind::Subquery(_) => 0,
            _ => first.span.start,
        };
        self.plan_windows(function, range, (params, position), grid).await
    }

    /// A function of each window of a range vector.
    async fn plan_windows(
        &self,
        function: RangeFunction,
        range: &Expr,
        (params, position): (Vec<Scalar>, usize),
        grid: Grid,
    ) -> Result<Vector, PromqlError> {
        check_edges(function, function.name(), range)?;
        let annotations = &self.annotations;
        let make = |window: Window| -> Arc<dyn WindowKernel> {
            Arc::new(RangeKernel {
                function,
                window,
                params: params.clone(),
                annotations: Arc::clone(annotations),
                position,
                use_starts: self.use_start_timestamps,
            })
        };
        let planned = self.plan_range(range, grid, Wanted::Kernel(&make)).await?;
        let table = if function.keeps_metric_name() {
            planned.table
        } else {
            planned.table.dropping_name()
        };
        Ok(Vector::new(planned.plan, table))
    }

    async fn plan_timestamp(&self, arg: &Expr, grid: Grid) -> Result<Vector, PromqlError> {
        if let ExprKind::VectorSelector(selector) = &arg.without_parens().kind {
            let times = self.plan_latest(selector, grid, InstantValue::Timestamp).await?;
            let table = times.table.dropping_name();
            return Ok(Vector { table, ..times });
        }
        let change = step_by_step(move |step, _| seconds(grid.at(step)));
        Ok(self.vector(arg, grid).await?.mapped("timestamp".to_owned(), change))
    }

    async fn plan_start_timestamp(&self, arg: &Expr, grid: Grid) -> Result<Vector, PromqlError> {
        if let ExprKind::VectorSelector(selector) = &arg.without_parens().kind {
            let starts = self.plan_latest(selector, grid, InstantValue::Start).await?;
            let table = starts.table.dropping_name();
            return Ok(Vector { table, ..starts });
        }
        // What is computed has none.
        let vector = self.vector(arg, grid).await?;
        Ok(vector.mapped("start_timestamp".to_owned(), cell_by_cell(|_| ABSENT)))
    }

    fn check_sort(&self, call: &Expr, grid: Grid) {
        if grid.steps() > 1 {
            let text = "sort is ineffective for range queries since results are always ordered by \
                        labels";
            self.annotations.warn(text, call.span.start);
        }
    }

    /// The one element of a vector at each step, NaN where there is not exactly one.
    async fn scalar_of(&self, arg: &Expr, grid: Grid) -> Result<Scalar, PromqlError> {
        let vector = self.vector(arg, grid).await?;
        let mut values = vec![f64::NAN; grid.steps()];
        let mut counts = vec![0u32; grid.steps()];
        for (_, cells) in self.run(&vector.plan).await? {
            for ((value, count), cell) in values.iter_mut().zip(&mut counts).zip(cells) {
                if !crate::model::is_stale(cell) {
                    *count += 1;
                    *value = if *count == 1 { cell } else { f64::NAN };
                }
            }
        }
        Ok(Scalar::Steps(values.into()))
    }
}

fn constant(value: f64) -> Planned {
    Planned::Scalar(Scalar::Const(value))
}

fn step_times(grid: Grid) -> Scalar {
    Scalar::Steps(grid.timestamps().map(seconds).collect())
}

fn title(call: &Call) -> String {
    call.function.name.to_owned()
}

/// Arguments that are strings, which are for labels and so must be text.
pub(super) fn texts(args: &[Expr]) -> Result<Vec<&str>, PromqlError> {
    args.iter()
        .map(|arg| match &arg.without_parens().kind {
            ExprKind::String(text) => Ok(text.as_str()),
            ExprKind::Bytes(_) => Err(PromqlError::execution(format!("{arg} is not valid UTF-8"))),
            _ => Err(mistyped(arg)),
        })
        .collect()
}

/// Refuses edges that a function, which the query calls `name`, does not accept.
fn check_edges(function: RangeFunction, name: &str, range: &Expr) -> Result<(), PromqlError> {
    let ExprKind::MatrixSelector(matrix) = &range.without_parens().kind else { return Ok(()) };
    let edges = edges(matrix.selector.extension);
    if function.accepts(edges) {
        return Ok(());
    }
    let (modifier, allowed) = match edges {
        Edges::Anchored => ("anchored", "changes, delta, increase, rate, resets"),
        Edges::Plain | Edges::Smoothed => ("smoothed", "delta, increase, rate"),
    };
    Err(PromqlError::execution(format!(
        "{modifier} modifier can only be used with: {allowed} - not with {name}"
    )))
}

fn absent(vector: Vector, arg: &Expr, grid: Grid) -> Vector {
    let labels = labels_of_absent(arg);
    Vector::new(Absent::plan(vector.plan, grid.steps()), SeriesTable::of_one(labels))
}

/// The labels that a missing series surely would have: those that the selector sets once, equal.
fn labels_of_absent(arg: &Expr) -> Labels {
    let selector = match &arg.without_parens().kind {
        ExprKind::VectorSelector(selector) => selector,
        ExprKind::MatrixSelector(matrix) => &matrix.selector,
        _ => return Labels::empty(),
    };
    let mut builder = LabelsBuilder::new();
    let mut seen: Vec<&str> = Vec::new();
    let labels = selector.matchers.iter().filter(|matcher| matcher.name() != METRIC_NAME);
    for matcher in labels {
        let name = Matcher::name(matcher);
        if matcher.op() == MatchOp::Equal && !seen.contains(&name) {
            builder.set(name, matcher.value());
            seen.push(name);
        } else {
            builder.remove(name);
        }
    }
    builder.build()
}

/// Order matters only to an instant query; a range query is ordered by labels.
fn sorted(vector: Vector, by: SortBy, ranks: Arc<[u32]>, call: &Call, grid: Grid) -> Vector {
    if grid.steps() > 1 {
        return vector;
    }
    let plan = Sort::plan(vector.plan, by, ranks, title(call));
    Vector { plan, table: vector.table, sorted: true }
}

/// The place of each row when sorted by the values of labels, as people count: `n2` before `n10`.
fn label_ranks(table: &SeriesTable, names: &[&str], descending: bool) -> Arc<[u32]> {
    let mut order: Vec<u32> = (0u32..).take(table.len()).collect();
    order.sort_by(|one, two| {
        let (one, two) = (table.labels(*one), table.labels(*two));
        let value = |labels: &Labels, name: &str| labels.get(name).unwrap_or_default().to_owned();
        let by_names = names
            .iter()
            .map(|name| natural_cmp(&value(one, name), &value(two, name)))
            .find(|order| order.is_ne());
        let order = by_names.unwrap_or_else(|| one.prometheus_cmp(two));
        if descending { order.reverse() } else { order }
    });
    let mut ranks = vec![0; order.len()];
    for (rank, row) in (0u32..).zip(order) {
        ranks[row as usize] = rank;
    }
    ranks.into()
}

/// Compares runs of digits as numbers, unless one has too many, and all else as text.
fn natural_cmp(one: &str, two: &str) -> std::cmp::Ordering {
    let mut pieces = (pieces(one), pieces(two));
    loop {
        let order = match (pieces.0.next(), pieces.1.next()) {
            (None, None) => return one.cmp(two),
            (None, Some(_)) => return std::cmp::Ordering::Less,
            (Some(_), None) => return std::cmp::Ordering::Greater,
            (Some(left), Some(right)) => match (is_digits(left), is_digits(right)) {
                (true, true) => {
                    let numbers = (left.parse::<i64>().ok()).zip(right.parse::<i64>().ok());
                    numbers.map_or_else(|| left.cmp(right), |(left, right)| left.cmp(&right))
                }
                _ => left.cmp(right),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn is_digits(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// Runs of digits and runs of everything else.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let digits = is_digits(rest);
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (piece, left) = rest.split_at(end);
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Rows under other labels, or under their own where `change` gives none. Rows that get the same
/// ones become one, if they never meet.
pub(super) fn relabeled(
    vector: Vector,
    call: &Call,
    grid: Grid,
    sets_metric_name: bool,
    change: impl Fn(&Labels) -> Option<Labels>,
) -> Result<Vector, PromqlError> {
    let mut table = TableBuilder::default();
    let mut numbers = Vec::with_capacity(vector.table.len());
    for row in &vector.table.rows {
        let row = match change(&row.labels) {
            Some(labels) => SeriesRow { labels, drop_name: row.drop_name && !sets_metric_name },
            None => row.clone(),
        };
        numbers.push(table.number(row)?);
    }
    let rows = table.len();
    let plan = Relabel::plan(vector.plan, title(call), numbers.into(), rows, grid.steps());
    Ok(Vector { plan, table: table.build(), sorted: vector.sorted })
}
