//! What can go wrong between a statement's text and its rows.

use datafusion::common::Diagnostic;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

use crate::query::QueryError;

/// An error of an SQL query.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// The text is not SQL; begins with line and column.
    #[error("{0}")]
    Parse(String),
    /// The text means nothing here: an unknown table or column, types that do not fit.
    #[error("{0}")]
    Plan(String),
    /// The statement would change something.
    #[error(
        "{0} is not possible: SQL is read-only here (SELECT, WITH, VALUES, EXPLAIN, SHOW, DESCRIBE)"
    )]
    ReadOnly(String),
    /// The statement means something but cannot be evaluated, as a division by zero.
    #[error("{0}")]
    Execution(String),
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        if let Some(ours) = QueryError::within(&error) {
            return Self::Query(ours.clone());
        }
        match error {
            DataFusionError::SQL(error, _) => Self::Parse(parse_error(&error)),
            DataFusionError::Diagnostic(diagnostic, error) => match Self::from(*error) {
                Self::Plan(text) => Self::Plan(placed(&diagnostic, text)),
                other => other,
            },
            DataFusionError::Collection(errors) => match errors.into_iter().next() {
                Some(first) => Self::from(first),
                None => Self::Plan("the statement cannot be planned".to_owned()),
            },
            DataFusionError::Context(_, error) => Self::from(*error),
            DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) => {
                Self::Plan(without_backtrace(&text))
            }
            error @ (DataFusionError::SchemaError(..) | DataFusionError::Configuration(_)) => {
                let text = error.strip_backtrace();
                Self::Plan(text.trim_start_matches("Schema error: ").to_owned())
            }
            DataFusionError::Execution(text) => Self::Execution(without_backtrace(&text)),
            DataFusionError::ArrowError(error, _) => Self::Execution(error.to_string()),
            other => Self::Query(QueryError::from(other)),
        }
    }
}

fn without_backtrace(text: &str) -> String {
    text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().to_owned()
}

/// `1:8: parse error: …` from what the parser says: `… at Line: 1, Column: 8`.
fn parse_error(error: &ParserError) -> String {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "the statement is nested too deeply",
    };
    let place = text.rsplit_once(" at Line: ").and_then(|(reason, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some(format!("{line}:{column}: parse error: {reason}"))
    });
    place.unwrap_or_else(|| format!("parse error: {text}"))
}

/// The error with the place in the text that it is about, if that is known.
fn placed(diagnostic: &Diagnostic, text: String) -> String {
    match diagnostic.span {
        Some(span) => format!("{}:{}: {text}", span.start.line, span.start.column),
        None => text,
    }
}
