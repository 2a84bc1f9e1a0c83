//! The names that stand for gap filling until the rule has seen them.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionStateBuilder;
use datafusion::functions::datetime::date_bin;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub(super) const BUCKET: &str = "time_bucket_gapfill";
pub(super) const LOCF: &str = "locf";
pub(super) const INTERPOLATE: &str = "interpolate";

/// Adds the functions, which cannot be called but in their places.
pub(crate) fn register(builder: &mut SessionStateBuilder) {
    let any = || Signature::any(1, Volatility::Immutable);
    let markers = [
        Marker { name: BUCKET, signature: date_bin().signature().clone() },
        Marker { name: LOCF, signature: any() },
        Marker { name: INTERPOLATE, signature: any() },
    ];
    let scalars = builder.scalar_functions().get_or_insert_default();
    scalars.extend(markers.map(|marker| Arc::new(ScalarUDF::from(marker))));
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        match (self.name, arguments) {
            (BUCKET, arguments) => date_bin().return_type(arguments),
            (INTERPOLATE, _) => Ok(DataType::Float64),
            (_, [argument]) => Ok(argument.clone()),
            (name, _) => plan_err!("{name} has one argument"),
        }
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        match self.name {
            BUCKET => plan_err!("{BUCKET} stands in GROUP BY, once"),
            name => plan_err!(
                "{name} takes an aggregate of a SELECT that is grouped by {BUCKET}, as in \
                 {name}(avg(value))"
            ),
        }
    }
}
