//! What can go wrong between a query's text and its value.

use crate::promql::parser::ParseError;
use crate::query::{QueryError, QueryErrorKind};

/// How Prometheus' API names the fault; `http` turns it into a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromqlErrorKind {
    /// The text or a parameter is wrong: `bad_data`.
    BadData,
    /// The query cannot be evaluated, limits included: `execution`.
    Execution,
    /// `timeout`
    Timeout,
    /// `canceled`
    Canceled,
    /// Too many queries at once: `unavailable`.
    Busy,
    /// `internal`
    Internal,
}

/// An error of a PromQL query.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PromqlError {
    /// The text is not a query; says where and what to write instead.
    #[error("{0}")]
    Parse(String),
    /// A parameter beside the text is wrong.
    #[error("{0}")]
    Parameter(String),
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl PromqlError {
    pub(crate) fn execution(text: impl Into<String>) -> Self {
        PromqlError::Query(QueryError::Execution(text.into()))
    }

    pub fn kind(&self) -> PromqlErrorKind {
        match self {
            PromqlError::Parse(_) | PromqlError::Parameter(_) => PromqlErrorKind::BadData,
            PromqlError::Query(error) => match error.kind() {
                QueryErrorKind::Execution | QueryErrorKind::Limit => PromqlErrorKind::Execution,
                QueryErrorKind::Timeout => PromqlErrorKind::Timeout,
                QueryErrorKind::Canceled => PromqlErrorKind::Canceled,
                QueryErrorKind::Busy => PromqlErrorKind::Busy,
                QueryErrorKind::Internal => PromqlErrorKind::Internal,
            },
        }
    }
}

impl From<ParseError> for PromqlError {
    fn from(error: ParseError) -> Self {
        PromqlError::Parse(error.to_string())
    }
}
