//! `/api/v1/export`: the samples of the series that match, or their rollups, as a stream.
//!
//! `request` reads what is asked for → a first pass selects the series and their labels, as a
//! query does → `raw` or `rollups` read series after series from one snapshot on a thread of its
//! own, an encoder turns them into bytes, and `stream` hands these to the connection, no faster
//! than the client takes them.
//!
//! Invariant: a body that ends well is whole; whatever goes wrong behind its first byte breaks the
//! connection instead. Memory is bounded by a slice of one series, one row group and the chunks
//! in flight, however much is exported.

mod csv;
mod format;
mod job;
mod json_lines;
mod openmetrics;
mod raw;
mod request;
mod rollups;
pub(crate) mod running;
mod stream;
mod table;
mod value;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use crate::http::error::{ApiError, ErrorType};
use crate::http::export::job::Plan;
use crate::http::export::request::ExportRequest;
use crate::http::params::Params;
use crate::http::respond;
use crate::http::service::{HttpOptions, Ready, Service};

/// By which name a client asks how far its export is.
const ID: HeaderName = HeaderName::from_static("x-aetherdb-export-id");
/// How many series the export holds, for a client that shows progress.
const SERIES: HeaderName = HeaderName::from_static("x-aetherdb-export-series");
/// What is missing from the export, one header for each warning.
const WARNING: HeaderName = HeaderName::from_static("x-aetherdb-warning");

/// `GET|POST /api/v1/export`.
pub(crate) async fn export(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let request = ExportRequest::parse(&params, &headers)?;
    let format = request.format;
    let turn = service.exports.enter().ok_or_else(|| {
        let max = service.options.exports_max;
        let setting = HttpOptions::EXPORTS_SETTING;
        let message = format!("{max} exports are running already (setting {setting})");
        ApiError::new(ErrorType::Unavailable, message)
    })?;
    let limits = *service.queries.limits();
    let planning = service
        .queries
        .run(limits.timeout, async move { Plan::prepare(&engine, &request, limits).await });
    let plan = planning.await?.value;

    let mut response = respond::empty(StatusCode::OK);
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, format.content_type());
    answer.insert(SERIES, HeaderValue::from(plan.series_count()));
    answer.insert(ID, HeaderValue::from(turn.id));
    for warning in plan.warnings() {
        // Control characters, of which there are none, have no place in a header.
        answer.extend(HeaderValue::from_str(&warning).ok().map(|warning| (WARNING, warning)));
    }
    let (sender, body) = stream::channel(service.options.export_timeout);
    *response.body_mut() = Body::from_stream(body);
    tokio::task::spawn_blocking(move || {
        plan.run(sender, &turn.progress);
        drop(turn);
    });
    Ok(response)
}

/// `GET /api/v1/export/{id}`: how far a running export has come.
pub(crate) async fn progress(
    State(service): State<Arc<Service>>,
    Path(id): Path<u64>,
) -> Result<Response, ApiError> {
    let progress = service.exports.progress(id).ok_or_else(|| {
        ApiError::new(ErrorType::NotFound, format!("there is no export {id}, or it has ended"))
    })?;
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (series, rows) = (load(&progress.series), load(&progress.rows));
    Ok(respond::success(&json!({"series": series, "rows": rows})))
}
