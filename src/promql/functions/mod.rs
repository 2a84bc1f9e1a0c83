//! What PromQL's functions compute: plain functions over numbers, labels and buckets.
//!
//! They know no plan, no row and no step; `exec` calls them.

pub(crate) mod elementary;
pub mod histogram;
pub mod instant;
pub mod label;
pub(crate) mod range;
pub mod time;
