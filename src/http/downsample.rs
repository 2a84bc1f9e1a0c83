//! Rollups as an operator sees them: what they cost, and building them now.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::respond;
use crate::http::service::Ready;
use crate::storage::{ResolutionStatus, RollupStatus};

/// `POST /api/v1/admin/downsample`: flushes, and sums up everything that is in blocks. Answers
/// when that is durable; with `wait=false` at once, and `/api/v1/status` shows how far it is.
pub(crate) async fn downsample(Ready(engine): Ready, params: Params) -> Result<Response, ApiError> {
    let waits = params.get("wait").is_empty() || params.switch("wait")?;
    if !waits {
        tokio::spawn(async move {
            // The status tells the error, too.
            if let Err(error) = engine.downsample(Arc::default()).await {
                tracing::warn!(%error, "downsampling on request failed");
            }
        });
        let mut answer = respond::success(&json!({"started": true}));
        *answer.status_mut() = StatusCode::ACCEPTED;
        return Ok(answer);
    }
    let report = engine.downsample(Arc::default()).await?;
    Ok(respond::success(&json!({
        "spans": report.spans,
        "samples": report.samples,
        "rows": report.rows,
        "bytes": report.bytes,
        "seconds": report.took.as_secs_f64(),
    })))
}

/// The part of `/api/v1/status` about rollups; null if they are off.
pub(crate) fn status(status: Option<&RollupStatus>) -> Value {
    let Some(status) = status else { return Value::Null };
    let resolutions: Map<String, Value> = status
        .resolutions
        .iter()
        .map(|(resolution, status)| (resolution.name().to_owned(), one(status)))
        .collect();
    json!({
        "url": status.url,
        "ready": status.ready,
        "resolutions": resolutions,
        "dirtySpans": status.dirty_spans,
        "running": status.running.map(|running| json!({
            "spans": running.spans,
            "spansDone": running.spans_done,
            "samples": running.samples,
        })),
        "error": status.error,
    })
}

fn one(status: &ResolutionStatus) -> Value {
    json!({
        "files": status.files,
        "rows": status.rows,
        "bytes": status.bytes,
        "rawSamples": status.samples,
        "bytesPerRawSample": status.bytes_per_sample(),
        "watermarkMs": status.watermark_ms,
    })
}
