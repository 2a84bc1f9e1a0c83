//! The page at `/`: a query, its table and its plot. One file, no other server is asked.

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

use crate::http::respond;

/// `GET|HEAD /`. Client libraries ping it and expect a 2xx.
pub(crate) async fn page() -> Response {
    const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
    respond::typed(StatusCode::OK, HTML, include_bytes!("ui.html").to_vec())
}
