//! SQL over a snapshot, read-only.
//!
//! Read walk: `http::sql` → here → DataFusion's planner → `query::catalog` → `storage`. A
//! statement is checked before it is planned ([`statement`]), planned and run on the threads of
//! the query session within its limits ([`engine`]), and its rows are handed on as they come.

pub mod engine;
pub mod error;

mod functions;
mod gapfill;
mod show;
mod statement;

pub use engine::{SqlEngine, SqlQuery, SqlRows, SqlStats};
pub use error::SqlError;
