//! Expressions as text and as trees: `format_query` and `parse_query`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::respond;
use crate::http::service::Service;
use crate::promql::{Expr, ParseError, describe, parse, parse_deep, pretty};

/// `GET|POST /api/v1/format_query`.
pub(crate) async fn format_query(
    State(service): State<Arc<Service>>,
    params: Params,
) -> Result<Response, ApiError> {
    answer(&service, &params, |expr| respond::success(&pretty(expr))).await
}

/// `GET|POST /api/v1/parse_query`.
pub(crate) async fn parse_query(
    State(service): State<Arc<Service>>,
    params: Params,
) -> Result<Response, ApiError> {
    answer(&service, &params, |expr| respond::success(&describe(expr))).await
}

/// Answers of the expression in question; a deep one on the query threads, which have the stack.
async fn answer(
    service: &Service,
    params: &Params,
    respond: impl Fn(&Expr) -> Response + Send + 'static,
) -> Result<Response, ApiError> {
    let wrong = |error: ParseError| ApiError::invalid_parameter("query", error);
    let text = params.get("query").to_owned();
    match parse(&text) {
        Err(error) if error.is_too_deep() => {
            let work = async move { Ok(parse_deep(&text).map(|expr| respond(&expr))) };
            let ran = service.queries.run(service.queries.limits().timeout, work).await?;
            ran.value.map_err(wrong)
        }
        parsed => parsed.map(|expr| respond(&expr)).map_err(wrong),
    }
}
