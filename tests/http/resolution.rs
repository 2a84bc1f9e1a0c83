//! `max_source_resolution`, and what answers say of the rollups they came from.

use std::path::Path;
use std::sync::Arc;

use aetherdb::http::HttpOptions;
use aetherdb::query::{QueryOptions, RollupCosts};
use aetherdb::storage::{Retention, StorageOptions};
use serde_json::json;

use crate::http::{Api, NOW_MS};

const HOUR_MS: i64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_which_rollup_gave_them() {
    let queries = QueryOptions { rollup_costs: RollupCosts::FREE, ..QueryOptions::default() };
    let api = Api::start_with(HttpOptions::default(), queries).await;
    let midnight = NOW_MS - NOW_MS.rem_euclid(24 * HOUR_MS);
    let lines: Vec<String> = (1..=180)
        .map(|minute| format!("requests_total {minute} {}", midnight - minute * 60_000))
        .collect();
    api.write(&lines.join("\n")).await;
    assert_eq!(api.post("/api/v1/admin/downsample", &[], "").await.status, 200);
    let ask = async |more: &[(&str, &str)]| {
        let at = |ms: i64| (ms / 1_000).to_string();
        let (start, end) = (at(midnight - HOUR_MS), at(midnight));
        let mut form = vec![
            ("query", "count_over_time(requests_total[1h])"),
            ("start", &start),
            ("end", &end),
            ("step", "1h"),
        ];
        form.extend(more);
        api.post_form("/api/v1/query_range", &form).await
    };
    let rolled = ask(&[]).await.json();
    let said = "requests_total: answered from rollup 1h for \
                2023-11-08T22:00:00Z..2023-11-09T00:00:00Z";
    assert_eq!(rolled["infos"], json!([said]));
    let finer = ask(&[("max_source_resolution", "5m")]).await.json();
    assert_eq!(finer["infos"], json!([said.replace("1h", "5m")]));
    let raw = ask(&[("max_source_resolution", "0s")]).await.json();
    assert_eq!(raw["infos"], json!(null));
    for answer in [&rolled, &finer] {
        assert_eq!(answer["data"], raw["data"]);
    }
    let explained = ask(&[("explain", "analyze")]).await.json();
    let plan = explained["data"]["explain"].as_str().unwrap().to_owned();
    assert!(plan.contains("RollupScanExec") && plan.contains("rows=2"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_resolution_is_refused_with_the_choices() {
    let api = Api::start().await;
    for path in ["query?query=1", "query_range?query=1&start=0&end=1&step=1"] {
        let answer = api.get(&format!("/api/v1/{path}&max_source_resolution=2m")).await;
        assert_eq!(answer.status, 400);
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert_eq!(
            error,
            "invalid parameter \"max_source_resolution\": \"2m\" is no source resolution: choose \
             0s, 1m, 5m, 1h or auto"
        );
    }
}

/// A dashboard's variables go on working where its queries do: after the raw samples have gone.
#[tokio::test(flavor = "multi_thread")]
async fn series_whose_samples_have_expired_are_listed() {
    const DAY_MS: i64 = 24 * HOUR_MS;
    let retention = Retention { raw_ms: Some(2 * DAY_MS), ..Retention::default() };
    let storage = |dir: &Path| StorageOptions { retention, ..StorageOptions::new(dir) };
    let api = Api::start_over(HttpOptions::default(), QueryOptions::default(), storage).await;
    api.service.set_ready(Arc::clone(&api.engine));
    let then = NOW_MS - NOW_MS.rem_euclid(DAY_MS) - 4 * DAY_MS;
    api.write(&format!("old,host=a 1 {then}\nnew,host=b 2 {}", NOW_MS - HOUR_MS)).await;
    api.write(&format!("other,zone=z 1 {}", then + 10 * HOUR_MS)).await;
    assert_eq!(api.post("/api/v1/admin/downsample", &[], "").await.status, 200);
    assert_eq!(api.post("/api/v1/admin/compact", &[], "").await.status, 200);
    let raw = api.engine.snapshot().time_range().unwrap();
    assert!(raw.start() > then + DAY_MS, "raw samples are still there");

    let data = async |path: &str| api.get(path).await.json()["data"].clone();
    let names = data("/api/v1/label/__name__/values").await;
    assert_eq!(names, json!(["new", "old", "other"]));
    assert_eq!(data("/api/v1/label/host/values").await, json!(["a", "b"]));
    assert_eq!(data("/api/v1/labels").await, json!(["__name__", "host", "zone"]));
    assert_eq!(data("/api/v1/labels?match[]=other").await, json!(["__name__", "zone"]));
    let old = json!([{"__name__": "old", "host": "a"}]);
    assert_eq!(data("/api/v1/series?match[]=old").await, old);
    // Only where the buckets of its samples lie.
    let around = format!("start={}&end={}", then / 1000 - 60, then / 1000 + 60);
    assert_eq!(data(&format!("/api/v1/series?{around}")).await, old);
    let later = format!("start={}", then / 1000 + 7_200);
    assert_eq!(data(&format!("/api/v1/label/host/values?{later}")).await, json!(["b"]));

    let form = [("match[]", "old")];
    assert_eq!(api.post_form("/api/v1/admin/tsdb/delete_series", &form).await.status, 204);
    assert_eq!(data("/api/v1/label/host/values").await, json!(["b"]));
}
