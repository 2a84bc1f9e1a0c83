//! What an operator asks for: the store's status, and work that would otherwise wait its turn.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::http::downsample;
use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::respond;
use crate::http::service::{Ready, Service};
use crate::model::TimeRange;
use crate::storage::{
    BlockStatus, CompactReport, FlushReport, LevelStatus, MergeReport, RunningMerge,
};

/// `GET /api/v1/status`: everything the store says of itself.
pub(crate) async fn status(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
) -> Result<Response, ApiError> {
    let (status, rollups, options) = (engine.status(), engine.rollup_status(), engine.options());
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
            "levels": levels(&status.levels),
            "quarantined": status
                .quarantined
                .iter()
                .map(|one| json!({"block": block(&one.block), "reason": one.reason}))
                .collect::<Vec<_>>(),
        },
        "rollups": downsample::status(rollups.as_ref()),
        "lastFlush": status.last_flush.as_ref().map(flush_report),
        "flushError": status.flush_error,
        "compaction": {
            "running": status.compaction.running.as_ref().map(running_merge),
            "last": status.compaction.last.as_ref().map(merge_report),
            "error": status.compaction.error,
        },
        "retention": {
            "blocksDropped": status.retention.blocks,
            "samplesDropped": status.retention.samples,
            "bytesDropped": status.retention.bytes,
            "rollupFilesDropped": rollups.as_ref().map_or(0, |rollups| rollups.files_dropped),
            "rollupBytesDropped": rollups.as_ref().map_or(0, |rollups| rollups.bytes_dropped),
            "rawFloorMs": status.retention.raw_floor_ms,
            "storedBytes": status.retention.stored_bytes,
            "bytesMax": Some(options.retention_bytes).filter(|bytes_max| *bytes_max > 0),
            "waiting": status.retention.waiting,
        },
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

/// `POST /api/v1/admin/compact`: merges all blocks of windows that are over; answers when nothing
/// is left to merge, or at once with `wait=false`.
pub(crate) async fn compact(Ready(engine): Ready, params: Params) -> Result<Response, ApiError> {
    if params.get("wait").is_empty() || params.switch("wait")? {
        let report = engine.compact().await?;
        return Ok(respond::success(&compact_report(&report)));
    }
    tokio::spawn(async move {
        if let Err(error) = engine.compact().await {
            tracing::error!(%error, "a compaction that nobody waits for failed");
        }
    });
    Ok(respond::success(&json!({"started": true})))
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

/// By level, as an object: people read it as a table of paths.
fn levels(levels: &[LevelStatus]) -> Value {
    let entry = |level: &LevelStatus| {
        let counts = json!({"count": level.blocks, "samples": level.samples, "bytes": level.bytes});
        (level.level.to_string(), counts)
    };
    levels.iter().map(entry).collect::<serde_json::Map<_, _>>().into()
}

fn running_merge(merge: &RunningMerge) -> Value {
    json!({
        "level": merge.level,
        "window": range(Some(merge.window)),
        "blocks": merge.blocks,
        "bytes": merge.bytes,
        "samples": merge.samples,
        "samplesDone": merge.samples_done,
    })
}

fn merge_report(report: &MergeReport) -> Value {
    json!({
        "level": report.level,
        "window": range(Some(report.window)),
        "blocks": report.blocks,
        "samples": report.samples,
        "bytesBefore": report.bytes_before,
        "bytesAfter": report.bytes_after,
        "seconds": seconds(report.took),
        "finishedMs": report.finished_ms,
    })
}

fn compact_report(report: &CompactReport) -> Value {
    json!({
        "compactions": report.merges,
        "samples": report.samples,
        "blocksBefore": report.blocks_before,
        "blocksAfter": report.blocks_after,
        "bytesBefore": report.bytes_before,
        "bytesAfter": report.bytes_after,
        "seconds": seconds(report.took),
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
