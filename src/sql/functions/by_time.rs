//! `first(value, time)` and `last(value, time)`: aggregates of the earliest and the latest value.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::internal_err;
use datafusion::error::Result as DataFusionResult;
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility,
};

/// Written as `first_value(value IGNORE NULLS ORDER BY time)` before anything runs: that compares
/// times while it goes and needs no sorted input.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ByTime {
    name: &'static str,
    ordered: Arc<AggregateUDF>,
    signature: Signature,
}

impl ByTime {
    pub(super) fn first() -> Arc<AggregateUDF> {
        Self::named("first", first_value_udaf())
    }

    pub(super) fn last() -> Arc<AggregateUDF> {
        Self::named("last", last_value_udaf())
    }

    fn named(name: &'static str, ordered: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
        let signature = Signature::any(2, Volatility::Immutable);
        Arc::new(AggregateUDF::from(Self { name, ordered, signature }))
    }
}

impl AggregateUDFImpl for ByTime {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        match arguments {
            [value, _] => Ok(value.clone()),
            _ => internal_err!("{} has two arguments", self.name),
        }
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> DataFusionResult<Box<dyn Accumulator>> {
        internal_err!("{} is rewritten before it runs", self.name)
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        let ordered = Arc::clone(&self.ordered);
        Some(Box::new(move |mut call: AggregateFunction, _| {
            if let Some(time) = call.params.args.pop() {
                call.params.order_by = vec![Sort::new(time, true, false)];
            }
            call.params.null_treatment = Some(NullTreatment::IgnoreNulls);
            call.func = Arc::clone(&ordered);
            Ok(Expr::AggregateFunction(call))
        }))
    }
}
