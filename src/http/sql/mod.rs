//! `/api/v1/sql`: a statement in, rows out, as they come.
//!
//! ```text
//! GET  ?query=…                          POST  query=… as a form
//! POST {"query": "…", "format": "csv"}   POST  the statement itself (application/sql, text/plain)
//! ```
//! `q` is another name of `query`; `format`, `timeout` and `stats` may stand beside it. An answer
//! that fails after its first bytes were sent is cut off, so that it never looks complete.
//!
//! With `stats=all`, JSON is `{"data": […], "stats": {…}}`, and any answer has the header
//! `x-aetherdb-stats`; a long one, which begins before that is known, has it as a trailer, for
//! clients that say `TE: trailers`.

mod encoder;
mod format;
mod request;
mod stats;
mod stream;

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::http::error::ApiError;
use crate::http::service::{Ready, Service};
use crate::http::sql::request::SqlRequest;

/// `GET|POST /api/v1/sql`.
pub(crate) async fn sql(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    headers: HeaderMap,
    request: SqlRequest,
) -> Result<Response, ApiError> {
    let telemetry = &service.telemetry;
    telemetry.queries.inc();
    let started = service.clock.monotonic();
    let rows = service.sql.query(&service.queries, &engine.snapshot(), &request.query).await;
    let answered = match rows {
        Ok(rows) => stream::answer(&service, rows, &request, &headers, started).await,
        Err(error) => Err(error),
    };
    answered.map_err(|error| {
        telemetry.query_failures.inc();
        ApiError::from(error)
    })
}
