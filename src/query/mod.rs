//! DataFusion over a snapshot of the storage. Knows no query language.

#![expect(dead_code, reason = "the nodes that use it land next")]

pub mod error;
pub mod limits;
pub mod session;

pub use error::{QueryError, QueryErrorKind};
pub use limits::{QueryLimits, QueryOptions};
pub use session::QuerySession;
