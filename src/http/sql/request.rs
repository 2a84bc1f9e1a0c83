//! What a request for SQL asks, in any of its forms.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use serde::Deserialize;

use crate::http::body;
use crate::http::error::{ApiError, ErrorType};
use crate::http::params::{Params, parse_duration_ms};
use crate::http::service::Service;
use crate::http::sql::format::RowFormat;
use crate::sql::SqlQuery;

/// Largest body: the longest statement, and what JSON adds to it.
const BODY_BYTES_MAX: usize = 8 << 20;

/// A statement and how to answer it.
#[derive(Debug)]
pub(crate) struct SqlRequest {
    pub(super) query: SqlQuery,
    pub(super) format: RowFormat,
    /// Whether the answer tells what the query took.
    pub(super) stats: bool,
}

/// A request as JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(alias = "q")]
    query: Option<String>,
    format: Option<String>,
    timeout: Option<String>,
    stats: Option<String>,
}

impl FromRequest<Arc<Service>> for SqlRequest {
    type Rejection = ApiError;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, ApiError> {
        let headers = request.headers().clone();
        let media_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .map(|value| value.trim().to_ascii_lowercase())
            .unwrap_or_default();
        let (params, document) = match media_type.as_str() {
            _ if request.method().is_safe() => parameters(request, service).await?,
            "application/x-www-form-urlencoded" => parameters(request, service).await?,
            "application/json" => {
                let (params, text) = with_body(request, service).await?;
                let document = serde_json::from_str(&text)
                    .map_err(|error| ApiError::bad_data(format!("JSON body: {error}")))?;
                (params, document)
            }
            "application/sql" | "text/plain" | "" => {
                let (params, text) = with_body(request, service).await?;
                let query = Some(text).filter(|text| !text.is_empty());
                (params, Document { query, ..Document::default() })
            }
            other => {
                return Err(ApiError::new(
                    ErrorType::UnsupportedMediaType,
                    format!(
                        "Content-Type {other:?}: send a form, application/json or application/sql"
                    ),
                ));
            }
        };
        let either = |inside: Option<String>, name: &str| {
            inside.unwrap_or_else(|| params.get(name).to_owned())
        };
        let short = document.query.unwrap_or_else(|| params.get("q").to_owned());
        let text = Some(params.get("query")).filter(|text| !text.is_empty()).unwrap_or(&short);
        if text.is_empty() {
            let reason = "there is no statement: send it as query=… in a form, or as the body with \
                          Content-Type application/sql";
            return Err(ApiError::invalid_parameter("query", reason));
        }
        let mut query = SqlQuery::new(text, service.queries.limits());
        let timeout = either(document.timeout, "timeout");
        if !timeout.is_empty() {
            let ms = parse_duration_ms(&timeout)
                .map_err(|error| ApiError::invalid_parameter("timeout", error))?;
            let timeout = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            query.limits.timeout = query.limits.timeout.min(timeout);
        }
        let format = RowFormat::choose(&either(document.format, "format"), &headers)?;
        let stats = match either(document.stats, "stats").as_str() {
            "" => false,
            "true" | "all" => true,
            other => {
                let reason = format!("{other:?} is not true or all");
                return Err(ApiError::invalid_parameter("stats", reason));
            }
        };
        Ok(Self { query, format, stats })
    }
}

async fn parameters(
    request: Request,
    service: &Arc<Service>,
) -> Result<(Params, Document), ApiError> {
    Ok((Params::from_request(request, service).await?, Document::default()))
}

/// The parameters of the address, and the body as text.
async fn with_body(request: Request, service: &Service) -> Result<(Params, String), ApiError> {
    let (parts, body): (_, Body) = request.into_parts();
    let mut bytes = Vec::new();
    body::read(service, body, BODY_BYTES_MAX, &mut bytes).await?;
    let text = String::from_utf8(bytes)
        .map_err(|error| ApiError::bad_data(format!("the body is not UTF-8: {error}")))?;
    Ok((Params::parse(parts.uri.query().unwrap_or_default(), &[]), text))
}
