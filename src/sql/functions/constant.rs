//! Arguments that must be known before a query runs.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, IntervalUnit, Schema, TimeUnit};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, Expr};
use std::sync::Arc;

/// The value of an expression without columns, such as `now() - INTERVAL '1 hour'`.
pub(super) fn value_of(session: &dyn Session, expr: &Expr) -> DataFusionResult<ScalarValue> {
    if expr.any_column_refs() || expr.is_volatile() {
        return plan_err!("{expr} must be a constant");
    }
    let value = session.create_physical_expr(expr.clone(), &DFSchema::empty())?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
    match value.evaluate(&row)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(values) => ScalarValue::try_from_array(&values, 0),
    }
}

/// A point in time in ms: a timestamp, RFC 3339, or seconds since 1970.
pub(crate) fn time_ms(value: &ScalarValue) -> DataFusionResult<i64> {
    if let Some(seconds) = seconds(value) {
        return Ok(seconds);
    }
    let ms = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    match value.cast_to(&ms)? {
        ScalarValue::TimestampMillisecond(Some(ms), _) => Ok(ms),
        _ => plan_err!("{value} is no time"),
    }
}

/// A length of time in ms: an interval, its text as `5m` or `1 hour`, or seconds.
pub(crate) fn fixed_ms(value: &ScalarValue) -> DataFusionResult<i64> {
    if let Some(seconds) = seconds(value) {
        return Ok(seconds);
    }
    match value.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano))? {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            let days = i64::from(interval.days).saturating_mul(86_400_000);
            Ok(days.saturating_add(interval.nanoseconds / 1_000_000))
        }
        ScalarValue::IntervalMonthDayNano(Some(_)) => {
            plan_err!("{value}: months differ in length, use days or less")
        }
        _ => plan_err!("{value} is no length of time"),
    }
}

/// A number of seconds, in ms.
fn seconds(value: &ScalarValue) -> Option<i64> {
    let number = match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => text.parse().ok()?,
        number if number.data_type().is_numeric() => {
            match number.cast_to(&DataType::Float64).ok()? {
                ScalarValue::Float64(Some(number)) => number,
                _ => return None,
            }
        }
        _ => return None,
    };
    // Beyond what i64 can hold the conversion takes the nearest.
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    Some((number * 1000.0).round() as i64)
}
