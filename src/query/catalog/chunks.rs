//! What a condition makes of a chunk, by what the chunk's directory says of its values.
//!
//! Comparisons are DataFusion's: zeros of both signs are equal, and NaN is greater than all
//! numbers. Nothing is said of chunks with a NaN, nor of comparisons with one.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal, NotExpr};

use crate::columnar::block::ChunkSummary;
use crate::columnar::parquet::columns::VALUE;

/// For which of some rows a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    Always,
    Never,
    /// Or nobody knows.
    Sometimes,
}

/// What a condition says of values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ValueTest {
    Compare(Operator, f64),
    And(Box<[ValueTest; 2]>),
    Or(Box<[ValueTest; 2]>),
    Not(Box<ValueTest>),
    /// Something else.
    Unknown,
}

impl ValueTest {
    /// `condition` is over the columns of a sample.
    pub(crate) fn new(condition: &Arc<dyn PhysicalExpr>) -> Self {
        if let Some(not) = condition.downcast_ref::<NotExpr>() {
            return Self::Not(Box::new(Self::new(not.arg())));
        }
        let Some(binary) = condition.downcast_ref::<BinaryExpr>() else { return Self::Unknown };
        let both = || Box::new([Self::new(binary.left()), Self::new(binary.right())]);
        match binary.op() {
            Operator::And => Self::And(both()),
            Operator::Or => Self::Or(both()),
            op => {
                let (left, right) = (binary.left(), binary.right());
                let compared = match (is_value(left), is_value(right)) {
                    (true, _) => number(right).map(|number| (*op, number)),
                    (_, true) => op.swap().zip(number(left)),
                    _ => None,
                };
                match compared {
                    Some((op, number)) if is_comparison(op) => Self::Compare(op, number),
                    _ => Self::Unknown,
                }
            }
        }
    }

    /// Whether it may be decided for some chunk.
    pub(crate) fn says_anything(&self) -> bool {
        match self {
            Self::Compare(..) => true,
            Self::And(both) | Self::Or(both) => both.iter().any(Self::says_anything),
            Self::Not(test) => test.says_anything(),
            Self::Unknown => false,
        }
    }

    /// For which rows of a chunk it holds, of which there is at least one.
    pub(crate) fn holds(&self, summary: &ChunkSummary) -> Holds {
        use Holds::{Always, Never, Sometimes};
        match self {
            Self::Compare(op, number) if !summary.has_nan => {
                compare(*op, *number, summary.min, summary.max)
            }
            Self::And(both) => match both.each_ref().map(|test| test.holds(summary)) {
                [Never, _] | [_, Never] => Never,
                [Always, Always] => Always,
                _ => Sometimes,
            },
            Self::Or(both) => match both.each_ref().map(|test| test.holds(summary)) {
                [Always, _] | [_, Always] => Always,
                [Never, Never] => Never,
                _ => Sometimes,
            },
            Self::Not(test) => match test.holds(summary) {
                Always => Never,
                Never => Always,
                Sometimes => Sometimes,
            },
            Self::Compare(..) | Self::Unknown => Sometimes,
        }
    }
}

/// For which values from `min` to `max`, both of which occur, `value op number` holds.
fn compare(op: Operator, number: f64, min: f64, max: f64) -> Holds {
    let (all, none) = match op {
        Operator::Eq => (min == number && max == number, number < min || max < number),
        Operator::NotEq => (number < min || max < number, min == number && max == number),
        Operator::Lt => (max < number, number <= min),
        Operator::LtEq => (max <= number, number < min),
        Operator::Gt => (number < min, max <= number),
        Operator::GtEq => (number <= min, max < number),
        _ => (false, false),
    };
    match (all, none) {
        (true, _) => Holds::Always,
        (_, true) => Holds::Never,
        _ => Holds::Sometimes,
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

fn is_value(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Column>().is_some_and(|column| column.name() == VALUE)
}

/// A number that can be compared with any other.
fn number(expr: &Arc<dyn PhysicalExpr>) -> Option<f64> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::Float64(Some(number)) => Some(*number).filter(|number| !number.is_nan()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, TimestampMillisecondArray};
    use datafusion::common::DFSchema;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::logical_expr::Expr;
    use datafusion::prelude::{col, lit};

    use super::*;
    use crate::query::catalog::sample_cursor::sample_columns;

    /// The summary of some values, as a directory has it.
    fn summary(values: &[f64]) -> ChunkSummary {
        let numbers = || values.iter().copied().filter(|value| !value.is_nan());
        ChunkSummary {
            count: u32::try_from(values.len()).unwrap(),
            stale: 0,
            first: values[0],
            last: values[values.len() - 1],
            min: numbers().reduce(f64::min).unwrap_or(0.0),
            max: numbers().reduce(f64::max).unwrap_or(0.0),
            sum: values.iter().sum(),
            has_nan: values.iter().any(|value| value.is_nan()),
            is_ordered: false,
            resets: None,
        }
    }

    #[test]
    fn what_is_said_of_a_chunk_is_true_of_its_rows() {
        let state = SessionStateBuilder::new().with_default_features().build();
        let schema = sample_columns();
        let columns = DFSchema::try_from(Arc::clone(&schema)).unwrap();
        let numbers = [0.0, -0.0, 1.0, -1.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN];
        let value = || col(VALUE);
        let mut filters: Vec<Expr> = Vec::new();
        for number in numbers {
            let all = [
                value().gt(lit(number)),
                value().gt_eq(lit(number)),
                value().lt(lit(number)),
                lit(number).lt_eq(value()),
                value().eq(lit(number)),
                value().not_eq(lit(number)),
                !(value().gt(lit(number)).and(value().lt_eq(lit(number)))),
                value().lt(lit(number)).or(value().gt(lit(1.0))),
                value().between(lit(-1.0), lit(number)),
                value().gt(lit(number)).and((value() + lit(1.0)).gt(lit(0.0))),
            ];
            filters.extend(all);
        }
        let (mut all, mut none) = (0, 0);
        for filter in filters {
            let condition = state.create_physical_expr(filter.clone(), &columns).unwrap();
            let test = ValueTest::new(&condition);
            for one in numbers {
                for other in numbers {
                    let values = [one, other, one];
                    let times = TimestampMillisecondArray::from(vec![0; 3]).with_timezone("UTC");
                    let arrays: Vec<ArrayRef> =
                        vec![Arc::new(times), Arc::new(Float64Array::from(values.to_vec()))];
                    let rows = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
                    let mask = condition.evaluate(&rows).unwrap().into_array(3).unwrap();
                    let holds = mask.as_boolean().true_count();
                    match test.holds(&summary(&values)) {
                        Holds::Always => assert_eq!(holds, 3, "{filter} of {values:?}"),
                        Holds::Never => assert_eq!(holds, 0, "{filter} of {values:?}"),
                        Holds::Sometimes => continue,
                    }
                    all += usize::from(holds == 3);
                    none += usize::from(holds == 0);
                }
            }
        }
        assert!(all > 500 && none > 500, "{all} and {none} were decided");
    }
}
