//! PromQL and AetherDB's superset of it: text to physical plan to value.

pub mod ast;
pub mod engine;
pub mod error;
pub mod parser;
pub mod types;
pub mod value;

pub use ast::{Expr, ExprKind, Span};
pub use engine::{Explain, Query, QueryKind, evaluate};
pub use error::{PromqlError, PromqlErrorKind};
pub use parser::{ParseError, parse};
pub use types::{Function, FunctionId, ValueType};
pub use value::{QueryOutcome, QueryStats, RangeSeries, Value, VectorSample};
