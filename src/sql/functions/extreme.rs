//! `min` and `max` that do not depend on the order of rows.
//!
//! With GROUP BY DataFusion compares floats by `<`, which a NaN makes forget all that came before
//! it; without, by total order, as ORDER BY does. Here it is total order always: `max` of values
//! with a NaN is NaN, `min` is not.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

/// DataFusion's function, but for groups of floats.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Extreme {
    of_datafusion: Arc<AggregateUDF>,
    is_max: bool,
}

impl Extreme {
    pub(super) fn min() -> Arc<AggregateUDF> {
        Arc::new(AggregateUDF::from(Self { of_datafusion: min_udaf(), is_max: false }))
    }

    pub(super) fn max() -> Arc<AggregateUDF> {
        Arc::new(AggregateUDF::from(Self { of_datafusion: max_udaf(), is_max: true }))
    }

    fn inner(&self) -> &dyn AggregateUDFImpl {
        self.of_datafusion.inner().as_ref()
    }
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.inner().name()
    }

    fn signature(&self) -> &Signature {
        self.inner().signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        self.inner().return_type(arguments)
    }

    fn state_fields(
        &self,
        args: StateFieldsArgs<'_>,
    ) -> DataFusionResult<Vec<arrow::datatypes::FieldRef>> {
        self.inner().state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> DataFusionResult<Box<dyn Accumulator>> {
        self.inner().accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> DataFusionResult<Box<dyn GroupsAccumulator>> {
        let data_type = args.return_field.data_type().clone();
        if data_type != DataType::Float64 {
            return self.inner().create_groups_accumulator(args);
        }
        let better = if self.is_max { Ordering::Greater } else { Ordering::Less };
        let keep = move |kept: &mut f64, value: f64| {
            if value.total_cmp(kept) == better {
                *kept = value;
            }
        };
        // The last of all values that there are in the order, so that any takes its place.
        let sign = if self.is_max { 1 << 63 } else { 0 };
        let last = f64::from_bits((u64::MAX >> 1) | sign);
        let groups = PrimitiveGroupsAccumulator::<Float64Type, _>::new(&data_type, keep);
        Ok(Box::new(groups.with_starting_value(last)))
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> DataFusionResult<Box<dyn Accumulator>> {
        self.inner().create_sliding_accumulator(args)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner().is_descending()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner().order_sensitivity()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        self.inner().coerce_types(arguments)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner().reverse_expr()
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.inner().value_from_stats(statistics)
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner().documentation()
    }
}
