//! Is the process alive, may it be asked, and what it counts about itself.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::http::respond;
use crate::http::service::{NotReady, Service};

/// `GET|HEAD /health`: 200 once requests are answered, 503 while the log is replayed.
pub(crate) async fn health(State(service): State<Arc<Service>>) -> Response {
    if service.engine().is_some() {
        return respond::json(StatusCode::OK, br#"{"status":"ok"}"#.to_vec());
    }
    let mut response = NotReady.into_response();
    let starting = respond::json(response.status(), br#"{"status":"starting"}"#.to_vec());
    let (parts, body) = starting.into_parts();
    response.headers_mut().extend(parts.headers);
    *response.body_mut() = body;
    response
}

/// `GET|HEAD /-/healthy`: 200 as long as the process answers at all.
pub(crate) async fn healthy() -> Response {
    respond::text(StatusCode::OK, "AetherDB is Healthy.\n")
}

/// `GET|HEAD /-/ready`: 200 once requests are answered, 503 before.
pub(crate) async fn ready(State(service): State<Arc<Service>>) -> Response {
    match service.engine() {
        Some(_) => respond::text(StatusCode::OK, "AetherDB is Ready.\n"),
        None => NotReady.into_response(),
    }
}

/// `GET /metrics`: our own metrics as text exposition.
pub(crate) async fn metrics(State(service): State<Arc<Service>>) -> Response {
    const TEXT_FORMAT: HeaderValue =
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let mut text = String::new();
    service.telemetry.expose(&mut text);
    respond::typed(StatusCode::OK, TEXT_FORMAT, text.into_bytes())
}
