//! PromQL and AetherDB's superset of it: text to physical plan to value.

pub mod engine;
pub mod error;
pub mod value;

pub use engine::{Explain, Query, QueryKind, evaluate};
pub use error::{PromqlError, PromqlErrorKind};
pub use value::{QueryOutcome, QueryStats, RangeSeries, Value, VectorSample};
