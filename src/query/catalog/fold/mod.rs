//! Aggregation of raw samples where they are read.
//!
//! ```text
//! AggregateExec: Final                         AggregateExec: Final
//!   AggregateExec: Partial                       SampleFoldExec
//!     SampleScanExec             becomes
//! ```
//! A general aggregation looks up the group of every row. Here the rows of a series come one
//! after the other and in order of time, so a group ends only where a series ends or a bucket of
//! time does: what lies between is a run, which is folded at once by plain kernels ([`reduce`]).
//! No column of labels is made but one row per run. What leaves the node is what the partial
//! aggregation would have given, states of DataFusion's accumulators, and its final aggregation
//! merges them.
//!
//! [`rule`] takes an aggregation if its keys are of labels or of buckets of time ([`keys`]) and
//! its aggregates are known to be quick this way ([`aggregate`]); any other stays as it is.

mod aggregate;
mod keys;
mod node;
mod reduce;
mod rule;

pub(crate) use rule::FoldSamples;
