//! A day half past its time, as clients see it: what is before the floor is nowhere any more, though
//! the block and the rollup file that hold it are still there.

use std::path::Path;
use std::sync::Arc;

use aetherdb::http::HttpOptions;
use aetherdb::query::QueryOptions;
use aetherdb::storage::{Retention, StorageOptions};
use serde_json::{Value, json};

use crate::http::{Api, NOW_MS};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A day, of which the second half is kept.
const DAY: i64 = NOW_MS - NOW_MS.rem_euclid(DAY_MS) - 2 * DAY_MS;
const FLOOR: i64 = DAY + 12 * HOUR_MS;

async fn half_a_day(rollups: bool) -> Api {
    let later = NOW_MS + DAY_MS;
    let kept = Some(later - FLOOR - 1);
    let retention = Retention { raw_ms: kept, one_minute_ms: kept, ..Retention::default() };
    let storage = |dir: &Path| StorageOptions { retention, rollups, ..StorageOptions::new(dir) };
    let api = Api::start_over(HttpOptions::default(), QueryOptions::default(), storage).await;
    api.service.set_ready(Arc::clone(&api.engine));
    let lines: Vec<String> = (0..24)
        .map(|hour| {
            let at = DAY + hour * HOUR_MS + HOUR_MS / 2;
            let other = if hour < 12 { "early,zone=x" } else { "late,zone=y" };
            format!("m,host=a {hour} {at}\n{other} {hour} {at}")
        })
        .collect();
    api.write(&lines.join("\n")).await;
    let admin = async |what: &str| {
        let answer = api.post(&format!("/api/v1/admin/{what}"), &[], "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    if rollups {
        admin("downsample").await;
    }
    admin("compact").await;
    // The day is one block when its first half goes.
    api.clock.set(later);
    admin("compact").await;
    if rollups {
        // Rows go with the next work on rollups.
        admin("downsample").await;
    }
    let status = api.get("/api/v1/status").await.json()["data"].clone();
    assert_eq!(status["retention"]["rawFloorMs"], FLOOR, "{status}");
    assert_eq!(
        (&status["blocks"]["samples"], &status["timeRange"]["minMs"]),
        (&48.into(), &FLOOR.into())
    );
    api
}

impl Api {
    async fn sql(&self, statement: &str) -> Value {
        let answer = self.post_form("/api/v1/sql", &[("query", statement)]).await;
        assert_eq!(answer.status, 200, "{statement}: {}", answer.text());
        answer.json()
    }

    async fn data(&self, path: &str) -> Value {
        self.get(path).await.json()["data"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_time_is_nowhere() {
    for rollups in [false, true] {
        let api = half_a_day(rollups).await;
        assert_eq!(api.sql("SELECT count(*) AS n FROM m").await, json!([{"n": 12}]));
        assert_eq!(api.sql("SELECT count(*) AS n FROM samples").await, json!([{"n": 24}]));
        let first = "SELECT min(value) AS v FROM m WHERE time < '2023-11-08'";
        assert_eq!(api.sql(first).await, json!([{"v": 12.0}]));
        assert_eq!(
            api.post_form("/api/v1/sql", &[("query", "SELECT * FROM early")]).await.status,
            400
        );
        let tables = "SELECT table_name FROM information_schema.tables \
                      WHERE table_schema = 'raw' ORDER BY 1";
        let names = [json!("late"), json!("m"), json!("samples")];
        let names = names.map(|name| json!({"table_name": name}));
        assert_eq!(api.sql(tables).await, json!(names));
        let exported = api.get("/api/v1/export?match[]={__name__!=\"\"}").await;
        assert!(!exported.text().contains("early"), "{}", exported.text());
        let line: Value = serde_json::from_str(exported.text().lines().next().unwrap()).unwrap();
        assert_eq!(line["timestamps"].as_array().unwrap().len(), 12, "{line}");
        let dry = [("match[]", "{__name__!=\"\"}"), ("dry_run", "true")];
        let counted = api.post_form("/api/v1/admin/tsdb/delete_series", &dry).await;
        assert!(counted.text().contains("24"), "{}", counted.text());

        let raw =
            [("query", "count_over_time({__name__=~\".+\"}[3d])"), ("max_source_resolution", "0s")];
        let answer = api.post_form("/api/v1/query", &raw).await.json();
        let found: Vec<_> = answer["data"]["result"].as_array().unwrap().iter().collect();
        assert_eq!(found.len(), 2, "{answer}");
        assert!(found.iter().all(|one| one["value"][1] == "12"), "{answer}");

        // Rollups that are kept longer go on knowing series that have no samples any more.
        let names = match rollups {
            true => json!(["early", "late", "m"]),
            false => json!(["late", "m"]),
        };
        assert_eq!(api.data("/api/v1/label/__name__/values").await, names);
        let zones = if rollups { json!(["x", "y"]) } else { json!(["y"]) };
        assert_eq!(api.data("/api/v1/label/zone/values").await, zones);
        let series = api.data("/api/v1/series?match[]=early").await;
        assert_eq!(series.as_array().unwrap().len(), usize::from(rollups), "{series}");

        let late = format!("m,host=a 1 {}\nm,host=a 2 {FLOOR}", FLOOR - 1);
        let answer = api.post("/api/v1/write", &[], late).await;
        let report = answer.json();
        assert_eq!((&report["accepted"], &report["rejected"]), (&json!(1), &json!(1)), "{report}");
        let said = format!("all before {FLOOR} has been dropped");
        assert!(answer.text().contains(&said), "{report}");
        let old = format!("/api/v1/import/prometheus?timestamp={}", FLOOR - 1);
        let answer = api.post(&old, &[], "m{host=\"a\"} 1\n").await;
        assert!(answer.status == 400 && answer.text().contains(&said), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_sees_rows_of_rollups_as_long_as_they_are_kept() {
    let api = half_a_day(true).await;
    let view = api.engine.snapshot().rollups().unwrap().clone();
    let files = view.files(aetherdb::model::Resolution::OneMinute);
    assert!(files[0].span().start < FLOOR && files[0].rows() == 48, "the file is whole");
    for (table, rows) in [
        ("rollup_1m.m", 12),
        ("rollup_1m.samples", 24),
        ("rollup_1m.late", 12),
        ("rollup_5m.m", 24),
        ("rollup_5m.samples", 48),
        ("rollup_5m.early", 12),
    ] {
        let count = api.sql(&format!("SELECT count(*) AS n FROM {table}")).await;
        assert_eq!(count, json!([{"n": rows}]), "{table}");
        let all = api.sql(&format!("SELECT last, bucket_start FROM {table}")).await;
        assert_eq!(all.as_array().unwrap().len(), rows, "{table}");
    }
    for unknown in ["rollup_1m.early", "rollup_5m.erly", "rollup_1h.\"\""] {
        let none = [("query", &*format!("SELECT * FROM {unknown}"))];
        let answer = api.post_form("/api/v1/sql", &none).await;
        assert_eq!(answer.status, 400, "{unknown}: {}", answer.text());
    }
    let hosts = "SELECT host, count(*) AS n, min(first) AS first FROM rollup_1m.m GROUP BY host";
    assert_eq!(api.sql(hosts).await, json!([{"host": "a", "n": 12, "first": 12.0}]));
    let some = "SELECT first FROM rollup_1m.m WHERE bucket_end < '2023-11-07T13:00:00Z' LIMIT 5";
    assert_eq!(api.sql(some).await, json!([{"first": 12.0}]));
    let exported = api.get("/api/v1/export?match[]=m&resolution=1m").await;
    let line: Value = serde_json::from_str(exported.text().lines().next().unwrap()).unwrap();
    assert_eq!(line["first"].as_array().unwrap().len(), 12, "{line}");
}
