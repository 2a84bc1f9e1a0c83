//! Text to tree: the complete grammar of PromQL 3.x, and AetherDB's one addition to it.

pub mod error;

pub use error::ParseError;

use crate::promql::ast::{Expr, Span};

/// Most nodes between the root of a tree and any leaf.
pub const DEPTH_MAX: usize = 256;

/// Parses and checks a query.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    Err(ParseError::new("the parser lands next", Span::new(0, text.len()), text))
}
