//! The keys of an aggregation: of labels, or of buckets of time.
//!
//! Invariant: between two edges of a time key's strides its expression has one value. Finer
//! strides than needed do no harm: equal keys meet again in the final aggregation.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;

use crate::columnar::parquet::columns::TIME;
use crate::model::{TimeRange, Timestamp};
use crate::query::catalog::columns::SampleColumns;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// One key, over columns of its own.
#[derive(Debug, Clone)]
pub(super) enum Key {
    /// One value per series, over the columns of [`Keys::labels`].
    Series(Arc<dyn PhysicalExpr>),
    /// One value per bucket, over the columns of samples.
    Time(Arc<dyn PhysicalExpr>),
}

/// All keys of an aggregation.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) keys: Vec<Key>,
    /// The columns that the keys of series speak of.
    pub(super) labels: SampleColumns,
    pub(super) strides: Vec<Stride>,
}

/// Buckets of equal length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stride {
    length_ms: i64,
    origin_ms: i64,
}

impl Stride {
    /// The first time after the bucket that holds `at`.
    fn end_of(self, at: Timestamp) -> Timestamp {
        let into = at.wrapping_sub(self.origin_ms).rem_euclid(self.length_ms);
        at.saturating_sub(into).saturating_add(self.length_ms)
    }
}

impl Keys {
    /// The keys that expressions over the columns of a scan are; `None` if one is of another kind.
    pub(super) fn new(
        expressions: &[Arc<dyn PhysicalExpr>],
        columns: &SampleColumns,
        samples: &SchemaRef,
    ) -> DataFusionResult<Option<Self>> {
        let is_label = |index: &usize| columns.columns[*index].is_of_series();
        let labels: Vec<_> = (0..columns.columns.len()).filter(is_label).collect();
        let labels = columns.project(&labels);
        let (mut keys, mut strides) = (Vec::new(), Vec::new());
        for expr in expressions {
            if is_volatile(expr) {
                return Ok(None);
            }
            let names = collect_columns(expr);
            if names.iter().all(|column| is_label(&column.index())) {
                let expr = reassign_expr_columns(Arc::clone(expr), &labels.schema)?;
                keys.push(Key::Series(expr));
            } else if names.iter().all(|column| column.name() == TIME)
                && add_strides(expr, &mut strides)
            {
                keys.push(Key::Time(reassign_expr_columns(Arc::clone(expr), samples)?));
            } else {
                return Ok(None);
            }
        }
        Ok(Some(Self { keys, labels, strides }))
    }

    /// Whether all times of a range are of one run.
    pub(super) fn is_one_run(&self, times: TimeRange) -> bool {
        self.strides.iter().all(|stride| times.end() < stride.end_of(times.start()))
    }

    /// The ends of the runs of ascending times, each the number of the row after its last.
    pub(super) fn cut(&self, times: &[Timestamp], ends: &mut Vec<usize>) {
        let mut start = 0;
        while start < times.len() {
            let bound = self.strides.iter().map(|stride| stride.end_of(times[start])).min();
            let rest = &times[start..];
            let rows = bound.map_or(rest.len(), |bound| run_before(rest, bound));
            // A bucket may end beyond the last time that there is.
            start += rows.max(1);
            ends.push(start);
        }
    }
}

/// How many ascending times are before `bound`. The first few are looked at one by one, in steps
/// that double: runs are often short.
fn run_before(times: &[Timestamp], bound: Timestamp) -> usize {
    let mut reach = 1;
    while reach < times.len() && times[reach] < bound {
        reach *= 2;
    }
    let from = reach / 2;
    from + times[from..times.len().min(reach + 1)].partition_point(|at| *at < bound)
}

/// Adds the strides between whose edges an expression of time is constant; says whether it is.
fn add_strides(expr: &Arc<dyn PhysicalExpr>, strides: &mut Vec<Stride>) -> bool {
    if let Some(stride) = stride_of(expr) {
        if !strides.contains(&stride) {
            strides.push(stride);
        }
        return true;
    }
    // Whatever is computed of buckets is constant where they are. Time itself is in none.
    !expr.is::<Column>() && expr.children().into_iter().all(|child| add_strides(child, strides))
}

/// The buckets that a call makes of the time column.
fn stride_of(expr: &Arc<dyn PhysicalExpr>) -> Option<Stride> {
    let of_length = |length_ms| Some(Stride { length_ms, origin_ms: 0 });
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let is_date = matches!(cast.cast_type(), DataType::Date32 | DataType::Date64);
        return if is_date && is_time(cast.expr()) { of_length(DAY_MS) } else { None };
    }
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    match (call.fun().name(), call.args()) {
        ("date_bin", [width, time, origin @ ..]) if is_time(time) => {
            let length_ms = interval_ms(literal(width)?)?;
            let origin_ms = match origin.first() {
                Some(origin) => whole_ms(literal(origin)?)?,
                None => 0,
            };
            Some(Stride { length_ms, origin_ms })
        }
        ("date_trunc" | "date_part", [unit, time]) if is_time(time) => {
            let unit = literal(unit)?.try_as_str()??.to_ascii_lowercase();
            match unit.as_str() {
                "minute" => of_length(MINUTE_MS),
                "hour" => of_length(HOUR_MS),
                "day" | "dow" | "doy" | "week" | "month" | "quarter" | "year" => of_length(DAY_MS),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The time column as it is, or in another unit; in another zone days begin elsewhere.
fn is_time(expr: &Arc<dyn PhysicalExpr>) -> bool {
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let is_utc = matches!(
            cast.cast_type(),
            DataType::Timestamp(_, zone) if zone.as_ref().is_none_or(|zone| zone.as_ref() == "UTC")
        );
        return is_utc && is_time(cast.expr());
    }
    expr.downcast_ref::<Column>().is_some_and(|column| column.name() == TIME)
}

fn literal(expr: &Arc<dyn PhysicalExpr>) -> Option<&ScalarValue> {
    Some(expr.downcast_ref::<Literal>()?.value())
}

/// The length of an interval of whole milliseconds.
fn interval_ms(value: &ScalarValue) -> Option<i64> {
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = value else { return None };
    if interval.months != 0 || interval.nanoseconds % 1_000_000 != 0 {
        return None;
    }
    let ms = i64::from(interval.days) * DAY_MS + interval.nanoseconds / 1_000_000;
    (ms > 0).then_some(ms)
}

fn whole_ms(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampNanosecond(Some(at), _) if at % 1_000_000 == 0 => {
            Some(at / 1_000_000)
        }
        ScalarValue::TimestampMillisecond(Some(at), _) => Some(*at),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_any_bucket_ends() {
        let keys = |strides: &[(i64, i64)]| {
            let strides = strides.iter();
            let strides = strides.map(|&(length_ms, origin_ms)| Stride { length_ms, origin_ms });
            let labels = SampleColumns::of_all().project(&[]);
            Keys { keys: Vec::new(), labels, strides: strides.collect() }
        };
        let cut = |strides: &[(i64, i64)], times: &[i64]| {
            let mut ends = Vec::new();
            keys(strides).cut(times, &mut ends);
            ends
        };
        let is_one = |strides: &[(i64, i64)], start, end| {
            keys(strides).is_one_run(TimeRange::new(start, end).unwrap())
        };
        assert!(is_one(&[], i64::MIN, i64::MAX));
        assert!(is_one(&[(10, 0)], 10, 19) && !is_one(&[(10, 0)], 10, 20));
        assert!(is_one(&[(10, 3)], -7, 2) && !is_one(&[(10, 3), (4, 0)], -7, 2));
        assert_eq!(cut(&[], &[1, 5, 9]), [3]);
        assert_eq!(cut(&[], &[]), [0; 0]);
        assert_eq!(cut(&[(10, 0)], &[-11, -10, -1, 0, 9, 10]), [1, 3, 5, 6]);
        assert_eq!(cut(&[(10, 3)], &[-11, -8, -7, 2, 3, 12, 13]), [2, 4, 6, 7]);
        assert_eq!(cut(&[(10, 0), (4, 0)], &[0, 3, 4, 8, 9, 10]), [2, 3, 5, 6]);
        assert_eq!(cut(&[(10, 0)], &[i64::MIN, 0, i64::MAX - 1, i64::MAX]), [1, 2, 3, 4]);
        let many: Vec<i64> = (0..1_000).collect();
        assert_eq!(
            cut(&[(100, 50)], &many),
            [50, 150, 250, 350, 450, 550, 650, 750, 850, 950, 1000]
        );
    }
}
