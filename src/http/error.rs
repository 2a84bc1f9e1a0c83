//! Every folder's errors as HTTP: the one place where a kind of error becomes a status.
//!
//! Names and statuses are Prometheus'. Grafana reads the bodies of 400, 422 and 503 only, so what
//! a user should see gets one of these.
//! Source: prometheus/web/api/v1/api.go, `respondError`.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::http::respond;
use crate::ingest::{self, IngestError};
use crate::promql::{PromqlError, PromqlErrorKind};
use crate::query::QueryError;
use crate::sql::SqlError;
use crate::storage::StorageError;
use crate::storage::error::ErrorKind;

/// How long clients are asked to wait before they try again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What an error is called in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorType {
    /// A parameter, a query or a body is wrong.
    BadData,
    /// The query means something but cannot be evaluated.
    Execution,
    /// Nobody waits for the answer any more.
    Canceled,
    Timeout,
    /// Not now; the same request may pass later.
    Unavailable,
    /// The body is larger than it may be.
    TooLarge,
    /// The body did not come in time.
    RequestTimeout,
    /// The body's type or encoding is not one of ours.
    UnsupportedMediaType,
    NotFound,
    MethodNotAllowed,
    Internal,
}

impl ErrorType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ErrorType::BadData | ErrorType::TooLarge | ErrorType::UnsupportedMediaType => {
                "bad_data"
            }
            ErrorType::Execution => "execution",
            ErrorType::Canceled => "canceled",
            ErrorType::Timeout | ErrorType::RequestTimeout => "timeout",
            ErrorType::Unavailable => "unavailable",
            ErrorType::NotFound => "not_found",
            ErrorType::MethodNotAllowed => "method_not_allowed",
            ErrorType::Internal => "internal",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            ErrorType::BadData => StatusCode::BAD_REQUEST,
            ErrorType::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorType::Canceled => {
                StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
            }
            ErrorType::Timeout | ErrorType::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorType::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorType::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            ErrorType::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ErrorType::NotFound => StatusCode::NOT_FOUND,
            ErrorType::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorType::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) kind: ErrorType,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(kind: ErrorType, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn bad_data(message: impl Into<String>) -> Self {
        Self::new(ErrorType::BadData, message)
    }

    pub(crate) fn invalid_parameter(name: &str, reason: impl fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {reason}"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.kind == ErrorType::Internal {
            tracing::error!(error = self.message, "request failed");
        }
        let mut response = respond::json(self.kind.status(), respond::error_body(&self));
        if self.kind == ErrorType::Unavailable {
            let seconds = HeaderValue::from(RETRY_AFTER.as_secs());
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        let kind = match error.kind() {
            ErrorKind::Caller => ErrorType::BadData,
            ErrorKind::Resources => ErrorType::Unavailable,
            ErrorKind::Data | ErrorKind::Internal => ErrorType::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<PromqlError> for ApiError {
    fn from(error: PromqlError) -> Self {
        let kind = match error.kind() {
            PromqlErrorKind::BadData => ErrorType::BadData,
            PromqlErrorKind::Execution => ErrorType::Execution,
            PromqlErrorKind::Timeout => ErrorType::Timeout,
            PromqlErrorKind::Canceled => ErrorType::Canceled,
            PromqlErrorKind::Busy => ErrorType::Unavailable,
            PromqlErrorKind::Internal => ErrorType::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        Self::from(PromqlError::from(error))
    }
}

impl From<SqlError> for ApiError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Query(error) => Self::from(error),
            SqlError::Execution(text) => Self::new(ErrorType::Execution, text),
            other => Self::bad_data(other.to_string()),
        }
    }
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        let message = error.to_string();
        match (error.kind(), error) {
            (ingest::ErrorKind::TooLarge, _) => Self::new(ErrorType::TooLarge, message),
            (ingest::ErrorKind::Storage, IngestError::Registration(source)) => {
                match source.downcast::<StorageError>() {
                    Ok(storage) => Self::from(*storage),
                    Err(_) => Self::new(ErrorType::Unavailable, message),
                }
            }
            (ingest::ErrorKind::Storage, _) => Self::new(ErrorType::Unavailable, message),
            (ingest::ErrorKind::Caller, _) => Self::bad_data(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_s_errors_become_prometheus_errors() {
        let status = |error: ApiError| error.kind.status().as_u16();
        assert_eq!(status(StorageError::ReadOnly("full".to_owned()).into()), 503);
        assert_eq!(status(StorageError::ShuttingDown.into()), 503);
        assert_eq!(status(StorageError::Internal("bug".to_owned()).into()), 500);
        assert_eq!(status(QueryError::Execution("many-to-many".to_owned()).into()), 422);
        assert_eq!(status(QueryError::Canceled { phase: "execution" }.into()), 499);
        assert_eq!(status(PromqlError::Parse("1:1: parse error".to_owned()).into()), 400);
        let malformed =
            |reason: &str| IngestError::Malformed { format: "protobuf", reason: reason.to_owned() };
        assert_eq!(status(malformed("cut").into()), 400);
        let registration = IngestError::Registration(Box::new(StorageError::ShuttingDown));
        assert_eq!(status(registration.into()), 503);
    }
}
