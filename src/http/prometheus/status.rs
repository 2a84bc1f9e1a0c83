//! What the server says of itself in Prometheus' words. Grafana and promtool read these.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::respond;
use crate::http::service::{Ready, Service};
use crate::model::{METRIC_NAME, TimeRange};
use crate::query::QueryError;

/// The Prometheus whose API and language we speak; clients choose their calls by it.
const PROMETHEUS_VERSION: &str = "3.14.0";
/// Entries of each list of `status/tsdb`.
const TOP_DEFAULT: usize = 10;
const TOP_MAX: usize = 10_000;

/// `GET /api/v1/status/buildinfo`. There must be no `features` here: Grafana takes a server that
/// has any for Mimir.
pub(crate) async fn build_info() -> Response {
    respond::success(&json!({
        "version": PROMETHEUS_VERSION,
        "revision": env!("CARGO_PKG_VERSION"),
        "branch": "AetherDB",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}

/// `GET /api/v1/status/runtimeinfo`.
pub(crate) async fn runtime_info(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
) -> Response {
    let status = engine.status();
    let directory = std::env::current_dir().unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let started = rfc3339(service.started_ms);
    respond::success(&json!({
        "startTime": started,
        "CWD": directory.display().to_string(),
        "hostname": host.trim(),
        "serverTime": rfc3339(service.clock.now_ms()),
        "reloadConfigSuccess": true,
        "lastConfigTime": started,
        "timeSeriesCount": status.head.series,
        "corruptionCount": status.quarantined.len(),
        "goroutineCount": 0,
        "GOMAXPROCS": threads,
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": retention(&service.options.flags),
    }))
}

/// How long and how much is kept, as Prometheus words it.
fn retention(flags: &BTreeMap<String, String>) -> String {
    let flag = |name: &str| flags.get(name).map_or("", String::as_str);
    match (flag("retention"), flag("retention-bytes")) {
        ("", _) => "forever".to_owned(),
        (time, "" | "0") => time.to_owned(),
        (time, bytes) => format!("{time} or {bytes}"),
    }
}

/// `GET /api/v1/status/flags`.
pub(crate) async fn flags(State(service): State<Arc<Service>>) -> Response {
    respond::success(&service.options.flags)
}

/// `GET /api/v1/status/config`: we have flags only, so this is they as YAML.
pub(crate) async fn config(State(service): State<Arc<Service>>) -> Response {
    let mut yaml = String::new();
    for (name, value) in &service.options.flags {
        // A JSON string is a YAML string.
        yaml.push_str(&format!("{name}: {}\n", Value::from(value.as_str())));
    }
    respond::success(&json!({"yaml": yaml}))
}

/// `GET /api/v1/features`: what a client may use, by category; absent means no.
pub(crate) async fn features() -> Response {
    respond::success(&json!({
        "api": {
            "exclude_alerts": true,
            "label_values_match": true,
            "query_stats": true,
            "remote_write_receiver": true,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "promql": {
            "anchored": true,
            "at_modifier": true,
            "bool": true,
            "by": true,
            "duration_expr": true,
            "experimental_functions": true,
            "fill": true,
            "group_left": true,
            "group_right": true,
            "ignoring": true,
            "negative_offset": true,
            "offset": true,
            "on": true,
            "per_query_lookback_delta": true,
            "per_step_stats": false,
            "range_vector_aggregation": true,
            "smoothed": true,
            "subqueries": true,
            "without": true,
        },
        "tsdb": {"native_histograms": false, "out_of_order_ingestion": true},
    }))
}

/// `GET /api/v1/status/walreplay`, served while the store opens. Segments are not counted there,
/// so these are mebibytes of log.
pub(crate) async fn wal_replay(State(service): State<Arc<Service>>) -> Response {
    let (done, total) = (service.progress.bytes_done(), service.progress.bytes_total());
    let state = match service.engine() {
        Some(_) => "done",
        None if total == 0 => "waiting",
        None => "in progress",
    };
    respond::success(&json!({
        "min": 0,
        "max": total >> 20,
        "current": done >> 20,
        "state": state,
    }))
}

/// `GET /api/v1/status/tsdb/blocks`.
pub(crate) async fn blocks(Ready(engine): Ready) -> Response {
    let status = engine.status();
    let blocks: Vec<Value> = status
        .blocks
        .iter()
        .map(|block| {
            json!({
                "ulid": block.file,
                "minTime": block.time_range.start(),
                // Prometheus' ranges do not contain their end.
                "maxTime": block.time_range.end().saturating_add(1),
                "stats": {
                    "numSamples": block.samples,
                    "numSeries": block.series,
                    "numChunks": block.series,
                },
                "compaction": {"level": u16::from(block.level) + 1, "sources": [block.file]},
                "version": 1,
            })
        })
        .collect();
    respond::success(&json!({"blocks": blocks}))
}

/// `GET /api/v1/status/tsdb`: which metrics, labels and values make up the series.
pub(crate) async fn tsdb(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    params: Params,
) -> Result<Response, ApiError> {
    let top = match params.integer("limit")? {
        None => TOP_DEFAULT,
        Some(limit) => match usize::try_from(limit) {
            Ok(limit) if (1..=TOP_MAX).contains(&limit) => limit,
            _ => {
                let reason = format!("limit must be a number between 1 and {TOP_MAX}");
                return Err(ApiError::invalid_parameter("limit", reason));
            }
        },
    };
    let status = engine.status();
    let snapshot = engine.snapshot();
    let timeout = service.queries.limits().timeout;
    let ran = service.queries.run(timeout, async move {
        let series = snapshot.select(&[], TimeRange::ALL).map_err(QueryError::from)?;
        let mut cardinality = Cardinality::default();
        for one in &series {
            for (name, value) in one.labels.iter() {
                cardinality.count(name, value);
            }
        }
        Ok((cardinality.lists(top), cardinality.pairs.len(), series.len()))
    });
    let (mut document, pairs, series) = ran.await?.value;
    let range = status.head.time_range.or(status.time_range);
    document["headStats"] = json!({
        "numSeries": series,
        "numLabelPairs": pairs,
        "chunkCount": status.head.series,
        "minTime": range.map_or(i64::MAX, TimeRange::start),
        "maxTime": range.map_or(i64::MIN, TimeRange::end),
    });
    Ok(respond::success(&document))
}

/// Series by label pair; the rest follows from it.
#[derive(Default)]
struct Cardinality {
    pairs: BTreeMap<(String, String), u64>,
}

impl Cardinality {
    fn count(&mut self, name: &str, value: &str) {
        *self.pairs.entry((name.to_owned(), value.to_owned())).or_default() += 1;
    }

    fn lists(&self, top: usize) -> Value {
        let mut values: BTreeMap<&str, u64> = BTreeMap::new();
        let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, value) in self.pairs.keys() {
            *values.entry(name).or_default() += 1;
            *bytes.entry(name).or_default() += value.len() as u64;
        }
        let pairs = self.pairs.iter().map(|((name, value), count)| (name, value, *count));
        let metrics = pairs.clone().filter(|(name, _, _)| *name == METRIC_NAME);
        json!({
            "seriesCountByMetricName":
                largest(metrics.map(|(_, value, count)| (value.clone(), count)), top),
            "labelValueCountByLabelName": largest(owned(values), top),
            "memoryInBytesByLabelName": largest(owned(bytes), top),
            "seriesCountByLabelValuePair":
                largest(pairs.map(|(name, value, count)| (format!("{name}={value}"), count)), top),
        })
    }
}

fn owned(counts: BTreeMap<&str, u64>) -> impl Iterator<Item = (String, u64)> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count))
}

/// The `top` largest counts, largest first.
fn largest(counts: impl Iterator<Item = (String, u64)>, top: usize) -> Value {
    let mut counts: Vec<_> = counts.collect();
    counts.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    counts.truncate(top);
    counts.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

fn rfc3339(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
        .unwrap_or_default()
}
