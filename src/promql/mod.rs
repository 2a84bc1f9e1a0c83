//! PromQL and AetherDB's superset of it: text to physical plan to value.

pub mod ast;
pub mod describe;
pub mod engine;
pub mod error;
pub mod functions;
pub mod parser;
pub mod printer;
pub mod types;
pub mod value;

mod annotations;
mod exec;
mod lexer;
mod plan;
mod scalar;

pub use ast::{Expr, ExprKind, Span};
pub use describe::{Description, describe};
pub(crate) use engine::evaluate_within;
pub use engine::{Explain, Query, QueryKind, evaluate};
pub use error::{PromqlError, PromqlErrorKind};
pub(crate) use parser::parse_deep;
pub use parser::{ParseError, parse, parse_selector};
pub(crate) use printer::format_general;
pub use printer::pretty;
pub use types::{Function, FunctionId, ValueType};
pub use value::{QueryOutcome, QueryStats, RangeSeries, Value, VectorSample};
