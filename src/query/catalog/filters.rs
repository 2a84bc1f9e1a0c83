//! What a WHERE clause says of series and of time.
//!
//! Three things are taken from a filter: bounds of the time column, matchers for the index of
//! series, and whether the filter speaks of series only. A filter of the last kind is evaluated
//! once per series instead of once per row, so its matchers need only be implied by it: that an
//! absent label is null in SQL and empty in a matcher makes no difference.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::columnar::parquet::columns::{TIME, VALUE};
use crate::model::{METRIC_NAME, MatchOp, Matcher, TimeRange};

/// Which columns of a table say what a series is.
pub(crate) trait SeriesColumns {
    /// The label that stands in a column.
    fn label(&self, column: &str) -> Option<&str>;

    /// Whether a column holds all labels as a map.
    fn is_map(&self, column: &str) -> bool;
}

/// What time must be for a filter to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeBounds {
    /// `None` if no time will do.
    pub(crate) range: Option<TimeRange>,
    /// Whether the filter says nothing else.
    pub(crate) exact: bool,
}

/// The bounds that a filter puts on the column `time`; `None` if it puts none.
pub(crate) fn time_bounds(filter: &Expr, time: &str) -> Option<TimeBounds> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            match (time_bounds(left, time), time_bounds(right, time)) {
                (Some(left), Some(right)) => Some(TimeBounds {
                    range: left.range.zip(right.range).and_then(|(l, r)| l.intersect(r)),
                    exact: left.exact && right.exact,
                }),
                (one, other) => Some(TimeBounds { exact: false, ..one.or(other)? }),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (left, right) = (time_bounds(left, time)?, time_bounds(right, time)?);
            let range = match (left.range, right.range) {
                (Some(left), Some(right)) => Some(left.hull(right)),
                (one, other) => one.or(other),
            };
            Some(TimeBounds { range, exact: false })
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if is_column(left, time) {
                compare(*op, millis(right)?)
            } else if is_column(right, time) {
                compare(op.swap()?, millis(left)?)
            } else {
                None
            }
        }
        Expr::Between(between) if !between.negated && is_column(&between.expr, time) => {
            let low = compare(Operator::GtEq, millis(&between.low)?)?;
            let high = compare(Operator::LtEq, millis(&between.high)?)?;
            let range = low.range.zip(high.range).and_then(|(low, high)| low.intersect(high));
            Some(TimeBounds { range, exact: true })
        }
        Expr::InList(InList { expr, list, negated: false }) if is_column(expr, time) => {
            let mut range: Option<TimeRange> = None;
            for item in list {
                if let Some(at) = compare(Operator::Eq, millis(item)?)?.range {
                    range = Some(range.map_or(at, |range| range.hull(at)));
                }
            }
            Some(TimeBounds { range, exact: list.len() == 1 })
        }
        _ => None,
    }
}

/// A literal time in whole milliseconds, rounded both ways.
struct Millis {
    floor: i64,
    ceil: i64,
}

fn millis(literal: &Expr) -> Option<Millis> {
    let Expr::Literal(literal, _) = literal else { return None };
    let scaled = |value: i64, unit: i64| {
        Some(Millis {
            floor: value.div_euclid(unit),
            ceil: value.div_euclid(unit) + i64::from(value.rem_euclid(unit) > 0),
        })
    };
    match literal {
        ScalarValue::TimestampSecond(Some(value), _) => scaled(value.checked_mul(1_000)?, 1),
        ScalarValue::TimestampMillisecond(Some(value), _) => scaled(*value, 1),
        ScalarValue::TimestampMicrosecond(Some(value), _) => scaled(*value, 1_000),
        ScalarValue::TimestampNanosecond(Some(value), _) => scaled(*value, 1_000_000),
        _ => None,
    }
}

fn compare(op: Operator, at: Millis) -> Option<TimeBounds> {
    let range = match op {
        Operator::Eq if at.floor == at.ceil => Some(TimeRange::at(at.floor)),
        Operator::Eq => None,
        Operator::Gt => at.floor.checked_add(1).and_then(|start| TimeRange::new(start, i64::MAX)),
        Operator::GtEq => TimeRange::new(at.ceil, i64::MAX),
        Operator::Lt => at.ceil.checked_sub(1).and_then(|end| TimeRange::new(i64::MIN, end)),
        Operator::LtEq => TimeRange::new(i64::MIN, at.floor),
        _ => return None,
    };
    Some(TimeBounds { range, exact: true })
}

/// The column, also if it is cast to a finer unit of time.
fn is_column(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Column(column) => column.name == name,
        Expr::Cast(cast) => cast.field.data_type().is_temporal() && is_column(&cast.expr, name),
        _ => false,
    }
}

/// Whether a filter can be decided from a series' labels alone.
pub(crate) fn is_of_series(filter: &Expr, table: &dyn SeriesColumns) -> bool {
    is_of(filter, |name| table.label(name).is_some() || table.is_map(name))
}

/// Whether a filter can be decided from a sample's time and value alone.
pub(crate) fn is_of_samples(filter: &Expr) -> bool {
    is_of(filter, |name| name == TIME || name == VALUE)
}

fn is_of(filter: &Expr, known: impl Fn(&str) -> bool) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty()
        && columns.iter().all(|column| known(&column.name))
        && !filter.is_volatile()
        && !filter.contains_outer()
        && !has_subquery(filter)
}

fn has_subquery(filter: &Expr) -> bool {
    let found = filter.exists(|expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::Placeholder(_)
        ))
    });
    // Only the closure could fail.
    found.unwrap_or(true)
}

/// Matchers that hold for every series of which some row can satisfy the filter.
pub(crate) fn implied_matchers(filter: &Expr, table: &dyn SeriesColumns) -> Vec<Matcher> {
    let mut matchers = Vec::new();
    for (label, values) in accepted(filter, table) {
        matchers.extend(one_of(&label, &values));
    }
    add_patterns(filter, table, &mut matchers);
    matchers
}

/// The values that labels must have, as far as they are listed.
fn accepted(filter: &Expr, table: &dyn SeriesColumns) -> BTreeMap<String, BTreeSet<String>> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            let mut all = accepted(left, table);
            for (label, values) in accepted(right, table) {
                match all.get_mut(&label) {
                    Some(known) => known.retain(|value| values.contains(value)),
                    None => drop(all.insert(label, values)),
                }
            }
            all
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (mut all, mut others) = (accepted(left, table), accepted(right, table));
            all.retain(|label, values| match others.remove(label) {
                Some(more) => {
                    values.extend(more);
                    true
                }
                None => false,
            });
            all
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let pair = |label: &Expr, value: &Expr| {
                Some((label_of(label, table)?, BTreeSet::from([text(value)?.to_owned()])))
            };
            pair(left, right).or_else(|| pair(right, left)).into_iter().collect()
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let values: Option<BTreeSet<_>> =
                list.iter().map(|item| text(item).map(str::to_owned)).collect();
            label_of(expr, table).zip(values).into_iter().collect()
        }
        _ => BTreeMap::new(),
    }
}

fn one_of(label: &str, values: &BTreeSet<String>) -> Option<Matcher> {
    // A label is never empty, except the metric's name.
    let present = |value: &&String| label == METRIC_NAME || !value.is_empty();
    let values: Vec<&String> = values.iter().filter(present).collect();
    match values.as_slice() {
        [] => None,
        [value] => Some(Matcher::equal(label, value.as_str())),
        values => {
            let choice: Vec<_> = values.iter().map(|value| regex::escape(value)).collect();
            // Too long a choice is left to the evaluation of the filter.
            Matcher::new(MatchOp::Regex, label, choice.join("|")).ok()
        }
    }
}

/// Matchers for conditions other than lists of values.
fn add_patterns(filter: &Expr, table: &dyn SeriesColumns, matchers: &mut Vec<Matcher>) {
    let mut add = |op, label: &str, value: String| {
        matchers.extend(Matcher::new(op, label, value).ok());
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            add_patterns(left, table, matchers);
            add_patterns(right, table, matchers);
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let Some((label, value)) = label_of(left, table).zip(text(right)) else { return };
            // A regular expression of SQL is found anywhere, and its dot stops at a line's end.
            let found = |flags| format!("(?s:.*)(?{flags}:{value})(?s:.*)");
            match op {
                Operator::NotEq => add(MatchOp::NotEqual, &label, value.to_owned()),
                Operator::RegexMatch => add(MatchOp::Regex, &label, found("-s")),
                Operator::RegexIMatch => add(MatchOp::Regex, &label, found("i-s")),
                Operator::RegexNotMatch => add(MatchOp::NotRegex, &label, found("-s")),
                Operator::RegexNotIMatch => add(MatchOp::NotRegex, &label, found("i-s")),
                _ => {}
            }
        }
        Expr::InList(InList { expr, list, negated: true }) => {
            let Some(label) = label_of(expr, table) else { return };
            for value in list.iter().filter_map(text) {
                add(MatchOp::NotEqual, &label, value.to_owned());
            }
        }
        Expr::Like(like) if !like.case_insensitive => {
            let Some((label, pattern)) = label_of(&like.expr, table).zip(like_regex(like)) else {
                return;
            };
            let op = if like.negated { MatchOp::NotRegex } else { MatchOp::Regex };
            add(op, &label, pattern);
        }
        Expr::IsNull(expr) => {
            if let Some(label) = label_of(expr, table) {
                add(MatchOp::Equal, &label, String::new());
            }
        }
        Expr::IsNotNull(expr) => {
            if let Some(label) = label_of(expr, table).filter(|label| label != METRIC_NAME) {
                add(MatchOp::NotEqual, &label, String::new());
            }
        }
        _ => {}
    }
}

/// The label whose value an expression is.
fn label_of(expr: &Expr, table: &dyn SeriesColumns) -> Option<String> {
    match expr {
        Expr::Column(column) => table.label(&column.name).map(str::to_owned),
        Expr::Cast(cast) if cast.field.data_type().is_string() => label_of(&cast.expr, table),
        // `labels['name']`
        Expr::ScalarFunction(call) if call.name() == "get_field" => match call.args.as_slice() {
            [Expr::Column(column), name] if table.is_map(&column.name) => {
                text(name).map(str::to_owned)
            }
            _ => None,
        },
        _ => None,
    }
}

fn text(literal: &Expr) -> Option<&str> {
    match literal {
        Expr::Literal(value, _) => value.try_as_str()?,
        _ => None,
    }
}

/// A LIKE pattern as a regular expression.
fn like_regex(like: &Like) -> Option<String> {
    let escape = like.escape_char.unwrap_or('\\');
    let mut pattern = String::new();
    let mut chars = text(&like.pattern)?.chars();
    while let Some(char) = chars.next() {
        match char {
            '%' => pattern.push_str(".*"),
            '_' => pattern.push('.'),
            _ => {
                let literal = if char == escape { chars.next().unwrap_or(char) } else { char };
                pattern.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
            }
        }
    }
    Some(pattern)
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;
    use crate::columnar::parquet::LabelColumns;
    use crate::query::catalog::columns::SampleColumns;

    fn at(value: i64) -> Expr {
        lit(ScalarValue::TimestampMillisecond(Some(value), Some("UTC".into())))
    }

    fn nanos(value: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(Some(value), None))
    }

    #[test]
    fn times_are_bounded_to_whole_milliseconds() {
        let bounds = |filter: Expr| {
            let found = time_bounds(&filter, "time").unwrap();
            (found.range.map(|range| (range.start(), range.end())), found.exact)
        };
        let time = || col("time");
        assert_eq!(bounds(time().gt(at(5))), (Some((6, i64::MAX)), true));
        assert_eq!(bounds(at(5).gt(time())), (Some((i64::MIN, 4)), true));
        assert_eq!(bounds(time().eq(at(5))), (Some((5, 5)), true));
        assert_eq!(bounds(time().between(at(5), at(9))), (Some((5, 9)), true));
        assert_eq!(bounds(time().gt_eq(at(5)).and(time().lt(at(5)))), (None, true));
        assert_eq!(bounds(time().gt(nanos(1_500_000))), (Some((2, i64::MAX)), true));
        assert_eq!(bounds(time().gt_eq(nanos(1_500_000))), (Some((2, i64::MAX)), true));
        assert_eq!(bounds(time().lt(nanos(1_500_000))), (Some((i64::MIN, 1)), true));
        assert_eq!(bounds(time().lt_eq(nanos(-1_500_000))), (Some((i64::MIN, -2)), true));
        assert_eq!(bounds(time().eq(nanos(1_500_000))), (None, true));
        let either = time().eq(at(2)).or(time().eq(at(7)));
        assert_eq!(bounds(either), (Some((2, 7)), false));
        let more = time().lt(at(5)).and(col("value").gt(lit(1.0)));
        assert_eq!(bounds(more), (Some((i64::MIN, 4)), false));
        assert_eq!(time_bounds(&time().lt(at(5)).or(col("value").gt(lit(1.0))), "time"), None);
        assert_eq!(time_bounds(&time().not_eq(at(5)), "time"), None);
    }

    #[test]
    fn conditions_on_labels_become_matchers() {
        let names = ["host", "job"].map(str::to_owned).into();
        let table = SampleColumns::of_metric(&names, &LabelColumns::new());
        let matchers = |filter: Expr| {
            let found = implied_matchers(&filter, &table);
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let host = || col("host");
        assert_eq!(matchers(host().eq(lit("a"))), r#"host="a""#);
        assert_eq!(matchers(lit("a").eq(host())), r#"host="a""#);
        assert_eq!(matchers(host().eq(lit(""))), "");
        let listed = r#"host=~"a\\.b|c""#;
        assert_eq!(matchers(host().in_list(vec![lit("c"), lit("a.b")], false)), listed);
        assert_eq!(matchers(host().eq(lit("a.b")).or(host().eq(lit("c")))), listed);
        let with_values = host().eq(lit("a.b")).and(col("value").gt(lit(1.0)));
        assert_eq!(matchers(with_values.or(host().eq(lit("c")))), listed);
        assert_eq!(matchers(host().eq(lit("a")).or(col("job").eq(lit("b")))), "");
        assert_eq!(matchers(host().like(lit("we_.%"))), r#"host=~"we.\\..*""#);
        assert_eq!(matchers(host().like(lit("a\\%"))), r#"host=~"a%""#);
        assert_eq!(matchers(host().is_null()), r#"host="""#);
        assert_eq!(matchers(host().not_eq(lit("a"))), r#"host!="a""#);
        assert!(is_of_series(&host().eq(col("job")), &table));
        assert!(!is_of_series(&host().eq(lit("a")).or(col("value").gt(lit(1.0))), &table));
    }
}
