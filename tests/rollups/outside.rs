//! Rollups as DuckDB, Polars, pyarrow and pandas see them, without the server. Skipped where
//! Python does not have them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use aetherdb::clock::ManualClock;
use aetherdb::model::{Resolution, SampleBatch, stale_nan};
use aetherdb::storage::vfs::RealVfs;
use aetherdb::storage::{Engine, ReplayProgress, StorageOptions};
use aetherdb::telemetry::Telemetry;
use serde_json::{Value, json};

use super::{HOUR, Model, T0, labels, naive, series_ref};

const SCRIPT: &str = include_str!("../data/rollups/outside.py");
const MODULES: [&str; 4] = ["duckdb", "polars", "pyarrow", "pandas"];

/// Whether Python can import the module.
fn has(module: &str) -> bool {
    let import = Command::new("python3").args(["-c", &format!("import {module}")]).output();
    import.is_ok_and(|output| output.status.success())
}

/// What the tools should find: for each resolution, metric and host the number of rows, the sum
/// of `count` and `changes`, the least `min` and the greatest `max`.
fn expected(model: &Model) -> Value {
    let mut groups = serde_json::Map::new();
    for resolution in Resolution::ALL {
        for ((labels, _), row) in naive(model, resolution) {
            let host = labels.get("host").unwrap_or("-");
            let key = format!("{resolution} {} {host}", labels.metric_name());
            let group = groups.entry(key).or_insert_with(
                || json!({"rows": 0, "count": 0, "changes": 0, "min": 1e300, "max": -1e300}),
            );
            let add = |group: &mut Value, name: &str, by: u64| {
                group[name] = json!(group[name].as_u64().unwrap() + by);
            };
            add(group, "rows", 1);
            add(group, "count", row.count);
            add(group, "changes", row.changes);
            if row.count > 0 {
                group["min"] = json!(group["min"].as_f64().unwrap().min(row.min));
                group["max"] = json!(group["max"].as_f64().unwrap().max(row.max));
            }
        }
    }
    Value::Object(groups)
}

async fn fill(dir: &Path) -> Model {
    // More than a day later, so that one day is a merged file and the other is not.
    let clock = Arc::new(ManualClock::at(T0 + 30 * HOUR));
    let telemetry = Arc::new(Telemetry::default());
    let options = StorageOptions::new(dir);
    let progress = ReplayProgress::default();
    let engine = Engine::open(options, Arc::new(RealVfs), clock, telemetry, &progress).unwrap();
    let mut model = Model::new();
    for part in 0..3 {
        let mut batch = SampleBatch::default();
        for number in 0..6_i64 {
            let host = format!("h{number}");
            let pairs = [("Host", "other"), ("day", "x"), ("host", host.as_str()), ("sum", "y")];
            let labels =
                labels("requests_total", &pairs[..4 - usize::try_from(number % 2).unwrap()]);
            let series = series_ref(&engine, &labels);
            for step in 0..200_i64 {
                let at = T0 + (part * 200 + step) * 97_000;
                let value = if step == 199 { stale_nan() } else { ((step * number) % 17) as f64 };
                batch.push(series, at, value);
                model.insert((labels.clone(), at), value);
            }
        }
        engine.append(batch).await.unwrap();
        engine.downsample(Arc::default()).await.unwrap();
    }
    engine.close().await.unwrap();
    model
}

#[tokio::test(flavor = "multi_thread")]
async fn other_tools_read_what_we_wrote() {
    let missing: Vec<&str> = MODULES.into_iter().filter(|module| !has(module)).collect();
    if !missing.is_empty() {
        println!("skipped: python3 does not have {missing:?}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let model = fill(dir.path()).await;
    let expected = expected(&model).to_string();
    let output = Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(dir.path().join("rollups"))
        .arg(expected)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    println!("{}", text(&output.stdout));
}
