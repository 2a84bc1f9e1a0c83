//! `time_bucket`, which is `date_bin` by another name.

use std::sync::Arc;

use datafusion::functions::datetime::date_bin;
use datafusion::logical_expr::{Expr, ScalarUDF};

/// `date_bin` that also answers to `time_bucket`.
pub(super) fn with_alias() -> Arc<ScalarUDF> {
    Arc::new(date_bin().as_ref().clone().with_aliases(["time_bucket"]))
}

/// A call of it.
pub(crate) fn bin(args: Vec<Expr>) -> Expr {
    date_bin().call(args)
}
