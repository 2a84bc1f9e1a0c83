//! SQL functions that time series want and DataFusion lacks.
//!
//! ```text
//! time_bucket(interval, time [, origin])           date_bin by the name that Timescale gives it
//! min(value), max(value)                           by total order, also when there are groups
//! first(value, time), last(value, time)            the value at the earliest, latest time
//! promql('query' [, time])                         a table: labels, time, value
//! promql('query', start, end, step)
//! time_bucket_gapfill(interval, time [, origin])   see `sql::gapfill`
//! ```

mod by_time;
mod constant;
mod extreme;
mod promql;
mod time_bucket;

use datafusion::execution::SessionStateBuilder;

pub(crate) use constant::{fixed_ms, time_ms};
pub(crate) use promql::PromqlContext;
pub(crate) use time_bucket::bin;

use crate::sql::functions::by_time::ByTime;
use crate::sql::functions::extreme::Extreme;
use crate::sql::functions::promql::PromqlFunction;

/// Adds our functions to those that are there.
pub(crate) fn register(builder: &mut SessionStateBuilder) {
    let scalars = builder.scalar_functions().get_or_insert_default();
    scalars.push(time_bucket::with_alias());
    let aggregates = builder.aggregate_functions().get_or_insert_default();
    aggregates.extend([ByTime::first(), ByTime::last(), Extreme::min(), Extreme::max()]);
    let tables = builder.table_functions().get_or_insert_default();
    tables.insert("promql".to_owned(), PromqlFunction::table_function());
}
