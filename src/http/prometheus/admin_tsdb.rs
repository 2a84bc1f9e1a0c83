//! Prometheus' admin API of its storage: deletions and snapshots.
//!
//! Source: prometheus/web/api/v1/api.go, `deleteSeries`, `snapshot`, `cleanTombstones`.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::http::error::ApiError;
use crate::http::params::{Params, named_selectors};
use crate::http::respond;
use crate::http::service::Ready;
use crate::storage::{Deletion, Head};

/// `POST|PUT /api/v1/admin/tsdb/delete_series`: 204 once it is deleted, durably. With `dry_run`
/// nothing is deleted, and the answer says how much each `match[]` would delete.
pub(crate) async fn delete_series(
    Ready(engine): Ready,
    params: Params,
) -> Result<Response, ApiError> {
    let selectors = named_selectors(&params)?;
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let range = params.range()?.ok_or_else(|| {
        ApiError::invalid_parameter("end", "end timestamp must not be before start time")
    })?;
    let deletions: Vec<Deletion> =
        selectors.into_iter().map(|matchers| Deletion { matchers, range }).collect();
    if !params.switch("dry_run")? {
        engine.delete(deletions).await?;
        return Ok(respond::empty(StatusCode::NO_CONTENT));
    }
    let counts = engine.count_deletions(deletions).await?;
    let counts: Vec<Value> = params
        .all("match[]")
        .zip(counts)
        .map(|(selector, count)| {
            json!({"match": selector, "series": count.series, "samples": count.samples})
        })
        .collect();
    Ok(respond::success(&counts))
}

/// `POST|PUT /api/v1/admin/tsdb/clean_tombstones`: 204 once no file holds what was deleted before.
pub(crate) async fn clean_tombstones(Ready(engine): Ready) -> Result<Response, ApiError> {
    engine.clean_tombstones().await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// `POST|PUT /api/v1/admin/tsdb/snapshot`: makes a copy below `snapshots/` in the data directory
/// that a server can be started on, and answers its name. `skip_head` leaves out what is in
/// memory only.
pub(crate) async fn snapshot(Ready(engine): Ready, params: Params) -> Result<Response, ApiError> {
    let head = if params.switch("skip_head")? { Head::Skipped } else { Head::Flushed };
    let name = engine.checkpoint(head).await?;
    Ok(respond::success(&json!({ "name": name })))
}
