//! What an operator asks for: the store's status, and work that would otherwise wait its turn.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::http::error::{ApiError, ErrorType};
use crate::http::respond;
use crate::http::service::{Ready, Service};
use crate::model::TimeRange;
use crate::storage::{BlockStatus, FlushReport};

/// `GET /api/v1/status`: everything the store says of itself.
pub(crate) async fn status(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
) -> Result<Response, ApiError> {
    let status = engine.status();
    let uptime_ms = service.clock.now_ms().saturating_sub(service.started_ms);
    Ok(respond::success(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptimeSeconds": seconds(Duration::from_millis(uptime_ms.unsigned_abs())),
        "databaseUuid": status.database_uuid.to_string(),
        "dataDir": status.data_dir.display().to_string(),
        "durability": {
            "walSync": status.wal_sync.to_string(),
            "acknowledgedWritesSurvive": status.wal_sync.survives(),
        },
        "readOnly": status.read_only,
        "timeRange": range(status.time_range),
        "head": {
            "series": status.head.series,
            "samples": status.head.samples,
            "bytes": status.head.bytes,
            "timeRange": range(status.head.time_range),
            "frozenMemtables": status.head.frozen,
        },
        "wal": {
            "segments": status.wal.segments,
            "bytes": status.wal.bytes,
            "durableLsn": status.wal.durable_lsn,
            "flushedLsn": status.wal.flushed_lsn,
        },
        "blocks": {
            "count": status.blocks.len(),
            "bytes": status.block_bytes,
            "samples": status.block_samples,
            "quarantined": status
                .quarantined
                .iter()
                .map(|one| json!({"block": block(&one.block), "reason": one.reason}))
                .collect::<Vec<_>>(),
        },
        "lastFlush": status.last_flush.as_ref().map(flush_report),
        "flushError": status.flush_error,
        "recovery": {
            "blocks": status.recovery.blocks,
            "orphansRemoved": status.recovery.orphans_removed,
            "walSegments": status.recovery.segments,
            "walRecords": status.recovery.records,
            "samples": status.recovery.samples,
            "series": status.recovery.series,
            "tornTail": status.recovery.torn_tail,
            "flushes": status.recovery.flushes,
            "seconds": seconds(status.recovery.took),
        },
    })))
}

/// `POST /api/v1/admin/flush`: moves what is in memory to blocks; answers when they are durable.
pub(crate) async fn flush(Ready(engine): Ready) -> Result<Response, ApiError> {
    let report = engine.flush().await?;
    Ok(respond::success(&flush_report(&report)))
}

/// `POST /api/v1/admin/compact`.
pub(crate) async fn compact(_: Ready) -> Response {
    not_implemented("compaction")
}

/// `POST /api/v1/admin/downsample`.
pub(crate) async fn downsample(_: Ready) -> Response {
    not_implemented("downsampling")
}

fn not_implemented(what: &str) -> Response {
    let message = format!("{what} is not part of this version: nothing was done");
    ApiError::new(ErrorType::NotImplemented, message).into_response()
}

fn flush_report(report: &FlushReport) -> Value {
    json!({
        "blocks": report.blocks,
        "samples": report.samples,
        "series": report.series,
        "bytes": report.bytes,
        "seconds": seconds(report.took),
        "finishedMs": report.finished_ms,
    })
}

fn block(block: &BlockStatus) -> Value {
    json!({
        "file": block.file,
        "level": block.level,
        "timeRange": range(Some(block.time_range)),
        "series": block.series,
        "samples": block.samples,
        "bytes": block.bytes,
    })
}

fn range(range: Option<TimeRange>) -> Value {
    range.map_or(Value::Null, |range| json!({"minMs": range.start(), "maxMs": range.end()}))
}

fn seconds(time: Duration) -> f64 {
    // Milliseconds are exact enough for people, and short.
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
