//! Runs one evaluation and compares the answer with what is expected.
//!
//! As Prometheus' own runner does, an instant query is asked again with `@` on every selector at
//! other times, and as the middle step of a range query: all must agree.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use aetherdb::model::{Labels, Matcher, is_stale};
use aetherdb::promql::ast::At;
use aetherdb::promql::{Expr, ExprKind, FunctionId, QueryKind, RangeSeries, Value, parse};

use crate::promqltest::script::{Eval, Expect, Message, Time};
use crate::promqltest::series::Item;
use crate::promqltest::store::Store;
use crate::promqltest::target::Target;

/// Relative error that values may have.
const TOLERANCE: f64 = 1e-6;
const MINUTE_MS: i64 = 60_000;

#[derive(Debug)]
pub(crate) enum Verdict {
    Passed,
    /// Of a kind that the engine does not have yet.
    Skipped(&'static str),
    Failed(String),
}

/// Asks for an evaluation's answers and judges them.
pub(crate) struct Judge<'a> {
    pub(crate) target: &'a dyn Target,
    /// Whether to ask at other times and for ranges too.
    pub(crate) in_variations: bool,
}

impl Judge<'_> {
    pub(crate) fn judge(&self, eval: &Eval, store: &Store) -> Verdict {
        let ran = catch_unwind(AssertUnwindSafe(|| self.check(eval)));
        // What is refused with the right words is refused whatever the data are.
        let is_refused =
            eval.expect.fail.as_ref().is_some_and(|text| !matches!(text, Message::Any));
        if !(is_refused && matches!(ran, Ok(Ok(()))))
            && let Some(reason) = not_yet(eval, store)
        {
            return Verdict::Skipped(reason);
        }
        match ran {
            Ok(Ok(())) => Verdict::Passed,
            Ok(Err(why)) => Verdict::Failed(why),
            Err(_) => Verdict::Failed("panicked".to_owned()),
        }
    }

    fn check(&self, eval: &Eval) -> Result<(), String> {
        match eval.time {
            Time::Range { start, end, step_ms } => {
                let kind = QueryKind::Range { start, end, step_ms };
                self.check_one(&eval.query, kind, &eval.expect).map(|_| ())
            }
            Time::Instant(time) => {
                let time = eval.expect.range.map_or(time, |(_, end, _)| end);
                let mut queries = vec![(eval.query.clone(), time)];
                if self.in_variations {
                    queries.extend(pinned(&eval.query, time));
                }
                for (query, time) in queries {
                    self.check_instant(&query, time, eval)
                        .map_err(|why| format!("{query} at {time}: {why}"))?;
                }
                Ok(())
            }
        }
    }

    fn check_instant(&self, query: &str, time: i64, eval: &Eval) -> Result<(), String> {
        let expect = &eval.expect;
        let kind = QueryKind::Instant { time };
        let Some(answer) = self.check_one(query, kind, expect)? else { return Ok(()) };
        let depends_on_query = ["start()", "end()", "range()", "step()"];
        if expect.range.is_some()
            || expect.text.is_some()
            || expect.ordered
            || depends_on_query.iter().any(|call| query.contains(call))
        {
            return Ok(());
        }
        let (start, end) = (time - MINUTE_MS, time + MINUTE_MS);
        let kind = QueryKind::Range { start, end, step_ms: MINUTE_MS };
        let in_range = |why: String| format!("as a range query: {why}");
        let outcome = self.target.ask(query, kind).map_err(in_range)?;
        let Value::Matrix(matrix) = outcome.value else {
            return Err(in_range(format!("answers a {}", outcome.value.type_name())));
        };
        check_sorted(&matrix).map_err(in_range)?;
        let at_time = |series: &RangeSeries| {
            let place = series.timestamps.iter().position(|at| *at == time)?;
            Some((series.labels.clone(), series.values[place]))
        };
        let cells: Vec<(Labels, f64)> = matrix.iter().filter_map(at_time).collect();
        if matches!(answer, Value::Scalar { .. }) {
            let value = cells.first().map(|(_, value)| *value);
            return check_scalar(value.unwrap_or(f64::NAN), expect).map_err(in_range);
        }
        check_vector(&cells, expect).map_err(in_range)
    }

    /// The answer, unless the query was to fail and did.
    fn check_one(
        &self,
        query: &str,
        kind: QueryKind,
        expect: &Expect,
    ) -> Result<Option<Value>, String> {
        let outcome = match (self.target.ask(query, kind), &expect.fail) {
            (Ok(_), Some(_)) => return Err("should have failed".to_owned()),
            (Ok(outcome), None) => outcome,
            (Err(error), None) => return Err(format!("failed: {error}")),
            (Err(error), Some(message)) if message.fits(&error) => return Ok(None),
            (Err(error), Some(message)) => {
                return Err(format!("failed, but not with {message:?}: {error}"));
            }
        };
        check_messages("warnings", &outcome.warnings, &expect.warnings, expect.no_warning)?;
        check_messages("infos", &outcome.infos, &expect.infos, expect.no_info)?;
        match &outcome.value {
            Value::Scalar { value, .. } => check_scalar(*value, expect)?,
            Value::String { text, .. } => {
                if expect.text.as_ref() != Some(text) {
                    return Err(format!("answers {text:?}, expected {:?}", expect.text));
                }
            }
            Value::Vector(samples) => {
                let cells: Vec<(Labels, f64)> =
                    samples.iter().map(|sample| (sample.labels.clone(), sample.value)).collect();
                check_vector(&cells, expect)?;
            }
            Value::Matrix(matrix) => {
                let (start, end, step_ms) = match (expect.range, kind) {
                    (Some(range), _) => range,
                    (None, QueryKind::Range { start, end, step_ms }) => (start, end, step_ms),
                    (None, QueryKind::Instant { .. }) => {
                        return Err("answers a range vector".to_owned());
                    }
                };
                check_sorted(matrix)?;
                check_matrix(matrix, start, end, step_ms, expect)?;
            }
        }
        Ok(Some(outcome.value))
    }
}

/// Whether the evaluation needs what the engine does not have yet.
fn not_yet(eval: &Eval, store: &Store) -> Option<&'static str> {
    const HISTOGRAMS: &str = "native histograms";
    if eval.expect.series.iter().any(|(_, items)| items.contains(&Item::Histogram)) {
        return Some(HISTOGRAMS);
    }
    let expr = parse(&eval.query).ok()?;
    let mut selectors = Vec::new();
    collect_selectors(&expr, &mut selectors);
    if selectors.iter().any(|matchers| store.selects_histograms(matchers)) {
        return Some(HISTOGRAMS);
    }
    None
}

fn collect_selectors<'a>(expr: &'a Expr, selectors: &mut Vec<&'a [Matcher]>) {
    match &expr.kind {
        ExprKind::VectorSelector(selector) => selectors.push(&selector.matchers),
        ExprKind::MatrixSelector(matrix) => selectors.push(&matrix.selector.matchers),
        _ => expr.children().into_iter().for_each(|child| collect_selectors(child, selectors)),
    }
}

/// The query with every selector pinned to `time`, to be asked at other times; nothing if it
/// depends on the time in other ways.
fn pinned(query: &str, time: i64) -> Vec<(String, i64)> {
    let Ok(mut expr) = parse(query) else { return Vec::new() };
    if !pin(&mut expr, At::Time(time)) {
        return Vec::new();
    }
    let times = match time {
        0 => vec![-1_000, 0, 1_000],
        time => vec![-10 * time, 0, time / 5, time, 10 * time],
    };
    times.into_iter().map(|at| (expr.to_string(), at)).collect()
}

/// Whether the pinned expression answers the same at all times.
fn pin(expr: &mut Expr, to: At) -> bool {
    let pin_to = |at: &mut Option<At>| {
        if !matches!(at, Some(At::Time(_))) {
            *at = Some(to);
        }
        true
    };
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Bytes(_) => true,
        ExprKind::VectorSelector(selector) => pin_to(&mut selector.shift.at),
        ExprKind::MatrixSelector(matrix) => pin_to(&mut matrix.selector.shift.at),
        // What is below a pinned subquery is evaluated at its times.
        ExprKind::Subquery(subquery) => pin_to(&mut subquery.shift.at),
        ExprKind::Unary(unary) => pin(&mut unary.operand, to),
        ExprKind::Paren(inner) => pin(inner, to),
        ExprKind::Binary(binary) => pin(&mut binary.left, to) & pin(&mut binary.right, to),
        ExprKind::Aggregate(aggregate) => {
            let param = aggregate.param.as_mut().is_none_or(|param| pin(param, to));
            pin(&mut aggregate.operand, to) & param
        }
        ExprKind::Call(call) => {
            let depends_on_time = matches!(
                call.function.id,
                FunctionId::DaysInMonth
                    | FunctionId::DayOfMonth
                    | FunctionId::DayOfWeek
                    | FunctionId::DayOfYear
                    | FunctionId::Hour
                    | FunctionId::Minute
                    | FunctionId::Month
                    | FunctionId::Year
                    | FunctionId::PredictLinear
                    | FunctionId::Time
                    | FunctionId::Timestamp
                    | FunctionId::Start
                    | FunctionId::End
                    | FunctionId::Step
                    | FunctionId::Range
            );
            call.args.iter_mut().fold(!depends_on_time, |all, arg| pin(arg, to) & all)
        }
    }
}

fn check_messages(
    kind: &str,
    got: &[String],
    expected: &[Message],
    none: bool,
) -> Result<(), String> {
    if none && !got.is_empty() {
        return Err(format!("{kind} without need: {got:?}"));
    }
    if let Some(missing) = expected.iter().find(|message| !got.iter().any(|got| message.fits(got)))
    {
        return Err(format!("{kind} {got:?} lack {missing:?}"));
    }
    let fits = |got: &String| expected.iter().any(|message| message.fits(got));
    match got.iter().find(|got| !expected.is_empty() && !fits(got)) {
        Some(more) => Err(format!("{kind} have {more:?} too many")),
        None => Ok(()),
    }
}

fn check_scalar(value: f64, expect: &Expect) -> Result<(), String> {
    match expect.scalar {
        Some(expected) if almost_equal(value, expected) => Ok(()),
        expected => Err(format!("answers the scalar {value}, expected {expected:?}")),
    }
}

fn check_vector(cells: &[(Labels, f64)], expect: &Expect) -> Result<(), String> {
    if expect.scalar.is_some() || expect.text.is_some() {
        return Err(format!("answers a vector: {cells:?}"));
    }
    // A series that is given twice counts as it is given last.
    let expected: BTreeMap<&Labels, (usize, &Item)> = expect
        .series
        .iter()
        .enumerate()
        .filter_map(|(place, (labels, items))| Some((labels, (place, items.first()?))))
        .collect();
    for (place, (labels, value)) in cells.iter().enumerate() {
        let Some((expected_place, item)) = expected.get(labels) else {
            return Err(format!("unexpected series {labels} with {value}"));
        };
        if expect.ordered && *expected_place != place {
            return Err(format!("{labels} is number {place}, expected {expected_place}"));
        }
        match item {
            Item::Value(expected) if almost_equal(*value, *expected) => {}
            item => return Err(format!("{labels} is {value}, expected {item:?}")),
        }
    }
    let missing = expected.keys().find(|labels| !cells.iter().any(|(got, _)| got == **labels));
    missing.map_or(Ok(()), |labels| Err(format!("series {labels} is missing")))
}

fn check_matrix(
    matrix: &[RangeSeries],
    start: i64,
    end: i64,
    step_ms: i64,
    expect: &Expect,
) -> Result<(), String> {
    if expect.scalar.is_some() || expect.text.is_some() || expect.ordered {
        return Err(format!("answers a matrix: {matrix:?}"));
    }
    let expected: BTreeMap<&Labels, &Vec<Item>> =
        expect.series.iter().map(|(labels, items)| (labels, items)).collect();
    for series in matrix {
        let labels = &series.labels;
        let Some(items) = expected.get(labels) else {
            return Err(format!("unexpected series {series:?}"));
        };
        let mut points = Vec::new();
        let mut time = start;
        for item in *items {
            if time > end {
                return Err(format!("more values of {labels} expected than there are steps"));
            }
            if let Item::Value(value) = item {
                points.push((time, *value));
            }
            time += step_ms;
        }
        let got: Vec<(i64, f64)> =
            series.timestamps.iter().copied().zip(series.values.iter().copied()).collect();
        let same = points.len() == got.len()
            && points
                .iter()
                .zip(&got)
                .all(|(one, two)| one.0 == two.0 && almost_equal(one.1, two.1));
        if !same {
            return Err(format!("{labels} is {got:?}, expected {points:?}"));
        }
    }
    let missing =
        expected.keys().find(|labels| !matrix.iter().any(|series| &series.labels == **labels));
    missing.map_or(Ok(()), |labels| Err(format!("series {labels} is missing")))
}

fn check_sorted(matrix: &[RangeSeries]) -> Result<(), String> {
    let sorted = matrix.is_sorted_by(|one, two| one.labels.prometheus_cmp(&two.labels).is_le());
    if sorted { Ok(()) } else { Err(format!("series are not sorted: {matrix:?}")) }
}

fn almost_equal(one: f64, two: f64) -> bool {
    if is_stale(one) || is_stale(two) {
        return is_stale(one) && is_stale(two);
    }
    if one == two || (one.is_nan() && two.is_nan()) {
        return true;
    }
    let sum = one.abs() + two.abs();
    let difference = (one - two).abs();
    if one == 0.0 || two == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}
