//! `max_source_resolution`, and what answers say of the rollups they came from.

use aetherdb::http::HttpOptions;
use aetherdb::query::{QueryOptions, RollupCosts};
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
