//! Expressions as text and as trees: `format_query` and `parse_query`.

use axum::response::Response;

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::respond;
use crate::promql::{Expr, describe, parse, pretty};

/// `GET|POST /api/v1/format_query`.
pub(crate) async fn format_query(params: Params) -> Result<Response, ApiError> {
    Ok(respond::success(&pretty(&expression(&params)?)))
}

/// `GET|POST /api/v1/parse_query`.
pub(crate) async fn parse_query(params: Params) -> Result<Response, ApiError> {
    Ok(respond::success(&describe(&expression(&params)?)))
}

fn expression(params: &Params) -> Result<Expr, ApiError> {
    parse(params.get("query")).map_err(|error| ApiError::invalid_parameter("query", error))
}
