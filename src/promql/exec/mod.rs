//! PromQL's operators as nodes of a DataFusion plan, over rows of one series each.
//!
//! Every node holds the table of label sets that its rows' numbers point into, or the map from
//! its input's rows to its own: labels are settled when the plan is made, nodes move numbers.
//!
//! Invariant: rows reach a folding node in order of their partitions, so answers are the same
//! however the work was spread.

pub(crate) mod aggregate;
pub(crate) mod binary;
pub(crate) mod histogram;
pub(crate) mod leaf;
pub(crate) mod map;
pub(crate) mod matrix;
pub(crate) mod repeat;
pub(crate) mod select;
pub(crate) mod set;
pub(crate) mod table;
pub(crate) mod window;
