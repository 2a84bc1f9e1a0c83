//! Gap filling: a row for every bucket of time, whether there are samples in it or not.
//!
//! ```sql
//! SELECT time_bucket_gapfill('5 minutes', time) AS t, host,
//!        avg(value), locf(avg(value)), interpolate(avg(value))
//! FROM cpu WHERE time >= '…' AND time < '…' GROUP BY t, host
//! ```
//! `time_bucket_gapfill` in GROUP BY becomes `date_bin`, and a [`node::GapFill`] is put over the
//! aggregation ([`rule`]), which adds the missing rows of each group ([`fill`]). Aggregates are
//! null in these. `locf` takes the last value that is not null, `interpolate` a line between the
//! values on both sides; both are columns that the same node adds.
//!
//! Buckets go from the first to the last that the WHERE clause allows; where it sets no bound,
//! from the first or to the last bucket of the result. A group without any row stays absent.

mod fill;
mod functions;
mod node;
mod planner;
mod rule;

pub(crate) use functions::register;
pub(crate) use planner::GapFillQueryPlanner;
pub(crate) use rule::GapFillRule;
