//! The front door of PromQL: a query and a snapshot in, a value out.
//!
//! Read walk: `http` → here → parser → plan → exec over `query::scan` → value.

use std::collections::{HashMap, HashSet, hash_map::Entry};
use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use futures::StreamExt;

use crate::clock::Clock;
use crate::model::{Labels, Timestamp, is_stale};
use crate::promql::annotations::Annotations;
use crate::promql::ast::Expr;
use crate::promql::error::PromqlError;
use crate::promql::exec::map::SAME_LABELSET;
use crate::promql::exec::table::{SeriesRow, SeriesTable};
use crate::promql::functions::range::{Edges, with_edges};
use crate::promql::parser::{parse, parse_deep};
use crate::promql::plan::{Planned, Planner, RangePlan, Times, Wanted};
use crate::promql::types::ValueType;
use crate::promql::value::{QueryOutcome, QueryStats, RangeSeries, Value, VectorSample};
use crate::query::batch::for_each_sample_row;
use crate::query::node::gather;
use crate::query::pace::Pace;
use crate::query::resolution::Rounding;
use crate::query::rollup_scan::expired;
use crate::query::session::QueryTask;
use crate::query::{Grid, QueryError, QueryLimits, QueryOptions, QuerySession, SourceResolution};
use crate::storage::Snapshot;

/// What it costs to copy, hash or compare a label set, in cells read.
const LABELS_LOOKS: usize = 128;

/// How far back a selector looks for a sample, unless the query says otherwise.
pub const LOOKBACK_MS: i64 = 300_000;

/// One question.
///
/// ```no_run
/// # use aetherdb::promql::{Query, QueryKind, evaluate};
/// # async fn ask(session: &aetherdb::query::QuerySession, snapshot: &aetherdb::storage::Snapshot) {
/// let kind = QueryKind::Instant { time: 1_699_500_000_000 };
/// let query = Query::new("sum by (host) (rate(requests_total[5m]))", kind, session.limits());
/// let outcome = evaluate(snapshot, &query, session).await;
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub text: String,
    pub kind: QueryKind,
    pub lookback_ms: i64,
    pub limits: QueryLimits,
    /// The coarsest rollup that may answer. Whatever answers gives what raw samples would give.
    pub max_source_resolution: SourceResolution,
    pub explain: Explain,
}

impl Query {
    pub fn new(text: impl Into<String>, kind: QueryKind, limits: &QueryLimits) -> Self {
        Self {
            text: text.into(),
            kind,
            lookback_ms: LOOKBACK_MS,
            limits: *limits,
            max_source_resolution: SourceResolution::Auto,
            explain: Explain::Off,
        }
    }
}

/// When a query is evaluated, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    Instant { time: Timestamp },
    Range { start: Timestamp, end: Timestamp, step_ms: i64 },
}

/// Whether the outcome carries the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Explain {
    #[default]
    Off,
    /// The plan alone: nothing is read, the value is empty.
    Plan,
    /// The plan with what every node did.
    Analyze,
}

/// Answers a query over a snapshot. Dropping the future cancels the query.
pub async fn evaluate(
    snapshot: &Snapshot,
    query: &Query,
    session: &QuerySession,
) -> Result<QueryOutcome, PromqlError> {
    let started = session.clock().monotonic();
    // What is wrong with a text is told at once. A deep one needs the stack of a query thread.
    let parsed = match parse(&query.text) {
        Err(error) if error.is_too_deep() => None,
        parsed => Some(parsed?),
    };
    if let Some(expr) = &parsed {
        check_type(expr, query.kind)?;
    }
    let (grid, times) = grid(query)?;
    let task = session.task(query.limits);
    let planner = planner(snapshot, query, &task, session.options(), times);
    let annotations = Arc::clone(&planner.annotations);
    let clock = Arc::clone(session.clock());
    let asked = query.clone();
    let work = async move {
        let answered = async {
            let expr = match parsed {
                Some(expr) => expr,
                None => parse_deep(&asked.text)?,
            };
            check_type(&expr, asked.kind)?;
            let is_range = matches!(asked.kind, QueryKind::Range { .. });
            answer(&planner, &expr, grid, is_range, asked.explain, clock.as_ref()).await
        };
        // An error of ours is an answer to the session, which knows only errors of execution.
        Ok(answered.await)
    };
    let ran = session.run(query.limits.timeout, work).await?;
    let Answer { value, plan, planned_at } = ran.value?;
    let mut warnings = annotations.warnings();
    warnings.extend(snapshot.warnings());
    let read = task.usage.total();
    Ok(QueryOutcome {
        value,
        warnings,
        infos: annotations.infos(),
        stats: QueryStats {
            queued: ran.queued,
            prepared: planned_at.saturating_sub(started).saturating_sub(ran.queued),
            executed: ran.ran,
            series: task.usage.series(),
            samples: read.samples,
            chunks: read.chunks,
            bytes: read.bytes,
            bytes_peak: task.bytes_peak() as u64,
        },
        plan,
    })
}

/// Only numbers and instant vectors have a value at each step.
fn check_type(expr: &Expr, kind: QueryKind) -> Result<(), PromqlError> {
    let value_type = expr.value_type();
    let has_steps = matches!(value_type, ValueType::Scalar | ValueType::Instant);
    if has_steps || matches!(kind, QueryKind::Instant { .. }) {
        return Ok(());
    }
    Err(PromqlError::Parameter(format!(
        "invalid expression type \"{value_type}\" for range query, must be Scalar or instant Vector"
    )))
}

/// Answers a query as a part of another one, which has its turn, its time and its memory.
pub(crate) async fn evaluate_within(
    snapshot: &Snapshot,
    query: &Query,
    task: &QueryTask,
    options: &QueryOptions,
    clock: &dyn Clock,
) -> Result<Value, PromqlError> {
    let expr = parse_deep(&query.text)?;
    check_type(&expr, query.kind)?;
    let (grid, times) = grid(query)?;
    let planner = planner(snapshot, query, task, options, times);
    let is_range = matches!(query.kind, QueryKind::Range { .. });
    Ok(answer(&planner, &expr, grid, is_range, query.explain, clock).await?.value)
}

fn planner(
    snapshot: &Snapshot,
    query: &Query,
    task: &QueryTask,
    options: &QueryOptions,
    times: Times,
) -> Planner {
    Planner {
        snapshot: snapshot.clone(),
        task: task.clone(),
        annotations: Arc::new(Annotations::new(&query.text)),
        lookback_ms: query.lookback_ms,
        max_source_resolution: query.max_source_resolution,
        rollup_costs: options.rollup_costs,
        use_start_timestamps: options.use_start_timestamps,
        rounding: Rounding::new(&expired(snapshot), query.max_source_resolution),
        times,
    }
}

/// The steps of a query.
fn grid(query: &Query) -> Result<(Grid, Times), PromqlError> {
    match query.kind {
        QueryKind::Instant { time } => {
            Ok((Grid::instant(time), Times { start: time, end: time, step_ms: 0 }))
        }
        QueryKind::Range { start, end, step_ms } => {
            let grid = Grid::range(start, end, step_ms).ok_or_else(|| {
                PromqlError::Parameter(format!("no steps of {step_ms} ms from {start} to {end}"))
            })?;
            let points = query.limits.points_max;
            // As Prometheus counts: the steps after the first.
            if grid.steps() as u64 - 1 > points {
                let setting = QueryLimits::POINTS_SETTING;
                return Err(PromqlError::Parameter(format!(
                    "exceeded maximum resolution of {points} points per timeseries. Try a larger \
                     step (?step=XX) or a shorter range (limit points, setting {setting})"
                )));
            }
            Ok((grid, Times { start, end, step_ms }))
        }
    }
}

struct Answer {
    value: Value,
    plan: Option<String>,
    /// When the plan was made, on the session's clock.
    planned_at: Duration,
}

/// Plans and runs an expression.
async fn answer(
    planner: &Planner,
    expr: &Expr,
    grid: Grid,
    is_range: bool,
    explain: Explain,
    clock: &dyn Clock,
) -> Result<Answer, PromqlError> {
    let planless = |value| Ok(Answer { value, plan: None, planned_at: clock.monotonic() });
    planner.check_durations(expr)?;
    if expr.value_type() == ValueType::Range {
        let range = planner.plan_range(expr, grid, Wanted::Samples).await?;
        let planned_at = clock.monotonic();
        let series = raw_samples(planner, &range, grid.start(), explain).await?;
        let plan = shown(&range.plan, explain);
        return Ok(Answer { value: Value::Matrix(series), plan, planned_at });
    }
    let vector = match planner.plan(expr, grid).await? {
        Planned::Text(text) => {
            return planless(Value::String { timestamp: grid.start(), text });
        }
        Planned::Scalar(scalar) if !is_range => {
            let value = scalar.at(0);
            return planless(Value::Scalar { timestamp: grid.start(), value });
        }
        Planned::Scalar(scalar) => {
            let timestamps: Vec<_> = grid.timestamps().collect();
            let values = (0..grid.steps()).map(|step| scalar.at(step)).collect();
            let series = RangeSeries { labels: Labels::empty(), timestamps, values };
            return planless(Value::Matrix(vec![series]));
        }
        Planned::Vector(vector) => vector,
    };
    let planned_at = clock.monotonic();
    let rows = match explain {
        Explain::Plan => Vec::new(),
        Explain::Off | Explain::Analyze => planner.run(&vector.plan).await?,
    };
    let plan = shown(&vector.plan, explain);
    let value = if is_range {
        Value::Matrix(matrix(&vector.table, rows, grid).await?)
    } else {
        Value::Vector(instant(&vector.table, rows, grid, vector.sorted).await?)
    };
    Ok(Answer { value, plan, planned_at })
}

/// A range vector as it is: the samples of an instant query's one window.
async fn raw_samples(
    planner: &Planner,
    range: &RangePlan,
    at: Timestamp,
    explain: Explain,
) -> Result<Vec<RangeSeries>, PromqlError> {
    let window = range.window;
    let ends = (window.start(at), window.end(at));
    let mut series = Vec::new();
    if explain != Explain::Plan {
        let context = &planner.task.context;
        let mut batches = gather(&range.plan, context).map_err(QueryError::from)?;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(QueryError::from)?;
            for_each_sample_row(&batch, |number, timestamps, values| {
                let labels = shown_labels(&range.table.rows[number as usize]);
                let (timestamps, values) = if window.edges == Edges::Plain {
                    (timestamps.to_vec(), values.to_vec())
                } else {
                    let smoothed = window.edges == Edges::Smoothed;
                    with_edges(timestamps, values, ends, smoothed).into_iter().unzip()
                };
                if !timestamps.is_empty() {
                    series.push(RangeSeries { labels, timestamps, values });
                }
                Ok(())
            })?;
        }
    }
    joined(by_labels(series, |series| &series.labels, &mut Pace::default()).await)
}

/// Neighbours that have the same labels without their names become one, unless they meet.
fn joined(series: Vec<RangeSeries>) -> Result<Vec<RangeSeries>, PromqlError> {
    let mut joined: Vec<RangeSeries> = Vec::with_capacity(series.len());
    for one in series {
        let Some(last) = joined.last_mut().filter(|last| last.labels == one.labels) else {
            joined.push(one);
            continue;
        };
        let timestamps = std::mem::take(&mut last.timestamps).into_iter().chain(one.timestamps);
        let values = std::mem::take(&mut last.values).into_iter().chain(one.values);
        let mut samples: Vec<(Timestamp, f64)> = timestamps.zip(values).collect();
        samples.sort_unstable_by_key(|(at, _)| *at);
        if samples.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(PromqlError::execution(SAME_LABELSET));
        }
        (last.timestamps, last.values) = samples.into_iter().unzip();
    }
    Ok(joined)
}

/// Puts an answer's elements in Prometheus' order of label sets.
async fn by_labels<T>(items: Vec<T>, labels: fn(&T) -> &Labels, pace: &mut Pace) -> Vec<T> {
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        keyed.push((labels(&item).prometheus_key(), item));
        pace.look(LABELS_LOOKS).await;
    }
    keyed.sort_unstable_by(|one, two| one.0.cmp(&two.0));
    keyed.into_iter().map(|(_, item)| item).collect()
}

/// The plan as text, if it was asked for.
fn shown(plan: &Arc<dyn ExecutionPlan>, explain: Explain) -> Option<String> {
    match explain {
        Explain::Off => None,
        Explain::Plan => {
            Some(DisplayableExecutionPlan::new(plan.as_ref()).indent(false).to_string())
        }
        Explain::Analyze => {
            Some(DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(false).to_string())
        }
    }
}

fn shown_labels(row: &SeriesRow) -> Labels {
    if row.drop_name { row.labels.without_metadata() } else { row.labels.clone() }
}

async fn instant(
    table: &SeriesTable,
    rows: Vec<(u32, Vec<f64>)>,
    grid: Grid,
    sorted: bool,
) -> Result<Vec<VectorSample>, PromqlError> {
    let mut seen = HashSet::with_capacity(rows.len());
    let mut samples = Vec::with_capacity(rows.len());
    let mut pace = Pace::default();
    for (number, cells) in rows {
        pace.look(LABELS_LOOKS).await;
        if is_stale(cells[0]) {
            continue;
        }
        let labels = shown_labels(&table.rows[number as usize]);
        if !seen.insert(labels.clone()) {
            return Err(PromqlError::execution(SAME_LABELSET));
        }
        samples.push(VectorSample { labels, timestamp: grid.start(), value: cells[0] });
    }
    if sorted {
        return Ok(samples);
    }
    Ok(by_labels(samples, |sample| &sample.labels, &mut pace).await)
}

/// Rows that have the same labels without their names become one, unless they meet.
async fn matrix(
    table: &SeriesTable,
    rows: Vec<(u32, Vec<f64>)>,
    grid: Grid,
) -> Result<Vec<RangeSeries>, PromqlError> {
    let mut merged: HashMap<Labels, Vec<f64>> = HashMap::with_capacity(rows.len());
    let mut pace = Pace::default();
    for (number, cells) in rows {
        pace.look(LABELS_LOOKS + cells.len()).await;
        match merged.entry(shown_labels(&table.rows[number as usize])) {
            Entry::Vacant(place) => {
                place.insert(cells);
            }
            Entry::Occupied(mut known) => {
                for (known, cell) in known.get_mut().iter_mut().zip(cells) {
                    if !is_stale(cell) {
                        if !is_stale(*known) {
                            return Err(PromqlError::execution(SAME_LABELSET));
                        }
                        *known = cell;
                    }
                }
            }
        }
    }
    let mut series = Vec::with_capacity(merged.len());
    for (labels, cells) in merged {
        pace.look(4 * cells.len()).await;
        let present = || cells.iter().zip(grid.timestamps()).filter(|(cell, _)| !is_stale(**cell));
        let timestamps: Vec<_> = present().map(|(_, at)| at).collect();
        let values = present().map(|(cell, _)| *cell).collect();
        if !timestamps.is_empty() {
            series.push(RangeSeries { labels, timestamps, values });
        }
    }
    Ok(by_labels(series, |series| &series.labels, &mut pace).await)
}
