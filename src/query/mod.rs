//! DataFusion over a snapshot of the storage. Knows no query language.
//!
//! A plan's leaf is the scan of a selector; what nodes exchange is one row per series
//! ([`batch`]). Every node reaches DataFusion through [`node::NodeExec`].
//!
//! Invariant: an answer does not depend on which parts happen to exist, nor on how many
//! partitions a plan has.

pub mod error;
pub mod limits;
pub mod session;

pub mod batch;
pub mod grid;
pub mod kernel;
pub mod node;
pub(crate) mod pace;
pub mod resolution;
pub mod rollup_scan;
pub mod scan;
pub(crate) mod stop;

pub mod catalog;

pub use batch::ABSENT;
pub use error::{QueryError, QueryErrorKind};
pub use grid::Grid;
pub use kernel::{StartTimestamps, StartedKernel, WindowKernel};
pub use limits::{QueryLimits, QueryOptions};
pub use resolution::{RollupCosts, SourceResolution, WindowShape};
pub use session::QuerySession;
