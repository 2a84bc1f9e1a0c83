//! Which source answers which stretch of time: raw samples, or rollups that give the same.
//!
//! Read walk: plan → here → `query::rollup_scan`. Pure: windows and spans in, stretches out.
//!
//! A *cut* is an instant at which a window starts or ends. A bucket may stand for its samples
//! if no cut lies strictly inside it: then every window holds all of it or nothing of it. Cut
//! buckets, and buckets whose rows may differ from the samples, are read from a finer resolution
//! or raw: raw edges around rollup middles.
//!
//! Invariant: stretches are disjoint and ascend; each is made of whole, clean, uncut buckets of its
//! resolution, or is raw; together they hold everything that any window looks at.

mod choice;
mod cost;
mod rounding;
mod slices;
mod source;
mod window;

pub use choice::{Choice, Stored, choose};
pub use cost::RollupCosts;
pub use rounding::Rounding;
pub(crate) use rounding::fewest_rows;
pub use slices::{Slice, slices};
pub use source::{Source, SourceResolution, Stretch, UnknownSourceResolution};
pub use window::{Demand, WindowShape};

#[cfg(test)]
mod tests;
