//! What can go wrong while a plan is built or runs, sorted by whose fault it is.

use std::sync::Arc;
use std::time::Duration;

use datafusion::error::DataFusionError;

use crate::query::limits::QueryLimits;
use crate::storage::StorageError;

/// What an error means to the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryErrorKind {
    /// The question cannot be answered, whoever asks.
    Execution,
    /// A bound of the server was reached; a smaller question passes.
    Limit,
    /// The query ran longer than it may.
    Timeout,
    /// Nobody waits for the answer any more.
    Canceled,
    /// Too many queries at once; the same question passes later.
    Busy,
    /// The store failed, or we did.
    Internal,
}

/// An error of a running query. Cheap to clone: one failure may end several partitions.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The evaluation itself is impossible; the text is for the user.
    #[error("{0}")]
    Execution(String),
    #[error("query would {what}: more than {value} (limit {limit}, setting {setting})")]
    Limit { what: &'static str, limit: &'static str, setting: &'static str, value: u64 },
    #[error("query timed out after {}s in {phase} (limit timeout, setting {setting})", .limit.as_secs_f64())]
    Timeout { phase: &'static str, limit: Duration, setting: &'static str },
    #[error("query was canceled in {phase}")]
    Canceled { phase: &'static str },
    #[error(
        "too many queries: {running} run and {queued} wait (limit query queue, setting {setting})"
    )]
    Busy { running: usize, queued: usize, setting: &'static str },
    #[error("query memory: {0}")]
    Memory(String),
    #[error(transparent)]
    Storage(Arc<StorageError>),
    #[error("internal error: {0}")]
    Internal(String),
}

impl QueryError {
    pub fn kind(&self) -> QueryErrorKind {
        match self {
            QueryError::Execution(_) => QueryErrorKind::Execution,
            QueryError::Limit { .. } | QueryError::Memory(_) => QueryErrorKind::Limit,
            QueryError::Timeout { .. } => QueryErrorKind::Timeout,
            QueryError::Canceled { .. } => QueryErrorKind::Canceled,
            QueryError::Busy { .. } => QueryErrorKind::Busy,
            QueryError::Storage(_) | QueryError::Internal(_) => QueryErrorKind::Internal,
        }
    }

    /// What did not fit into memory. Not all of DataFusion's nodes pass on what the pool says.
    fn memory(text: &str) -> Self {
        let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default();
        if text.contains("setting --") {
            return QueryError::Memory(text.to_owned());
        }
        QueryError::Memory(format!("{text} (limit bytes, setting {})", QueryLimits::BYTES_SETTING))
    }

    /// Our own error, however deep in those of libraries: a Parquet file that is read by DataFusion
    /// wraps it several times.
    pub(crate) fn within<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(ours) = error.downcast_ref::<Self>() {
                return Some(ours);
            }
            // These two pass the cause of what they wrap on as their own.
            next = match error.downcast_ref::<DataFusionError>() {
                Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
                Some(DataFusionError::ArrowError(inner, _)) => Some(inner.as_ref()),
                Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
                _ => error.source(),
            };
        }
        None
    }
}

impl From<StorageError> for QueryError {
    fn from(error: StorageError) -> Self {
        QueryError::Storage(Arc::new(error))
    }
}

/// Our own errors travel through DataFusion's streams as `External`.
impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        if let Some(ours) = QueryError::within(&error) {
            return ours.clone();
        }
        match error {
            DataFusionError::External(other) => QueryError::Internal(other.to_string()),
            DataFusionError::Shared(inner) => match inner.as_ref() {
                DataFusionError::ResourcesExhausted(text) => QueryError::memory(text),
                other => QueryError::Internal(other.to_string()),
            },
            DataFusionError::Context(_, inner) => QueryError::from(*inner),
            DataFusionError::ResourcesExhausted(text) => QueryError::memory(&text),
            other => QueryError::Internal(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_errors_come_back_from_datafusion_as_they_went_in() {
        let limit = QueryError::Limit {
            what: "read too many samples",
            limit: "samples",
            setting: "--query-samples-max",
            value: 5,
        };
        let through = QueryError::from(DataFusionError::from(limit.clone()).context("scan"));
        assert_eq!(through.kind(), QueryErrorKind::Limit);
        assert_eq!(through.to_string(), limit.to_string());
        let shared = DataFusionError::Shared(Arc::new(DataFusionError::from(limit.clone())));
        assert_eq!(QueryError::from(shared).to_string(), limit.to_string());
    }
}
