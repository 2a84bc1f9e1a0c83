//! Deletions and snapshots as Prometheus' clients ask for them.

use std::path::PathBuf;
use std::sync::Arc;

use aetherdb::clock::ManualClock;
use aetherdb::storage::vfs::RealVfs;
use aetherdb::storage::{Engine, ReplayProgress, StorageOptions};
use aetherdb::telemetry::Telemetry;
use serde_json::{Value, json};

use crate::http::{Answer, Api, NOW_MS};

const DELETE: &str = "/api/v1/admin/tsdb/delete_series";
const CLEAN: &str = "/api/v1/admin/tsdb/clean_tombstones";
const SNAPSHOT: &str = "/api/v1/admin/tsdb/snapshot";

/// Three series: `m{a="1"}` and `m{a="2"}` with samples at 1699500000, …10, …20, `n` with one.
async fn filled() -> Api {
    let api = Api::start().await;
    for at in [0, 10, 20] {
        let ms = 1_699_500_000_000i64 + at * 1_000 - 20_000;
        api.write(&format!("m,a=1 1{at} {ms}\nm,a=2 2{at} {ms}")).await;
    }
    api.write("n 5 1699500000000").await;
    api
}

async fn values(api: &Api, query: &str) -> Value {
    let result = api.query(query).await;
    result.as_array().unwrap().iter().map(|series| series["value"][1].clone()).collect()
}

fn error(answer: &Answer) -> (u16, String, String) {
    let json = answer.json();
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    (answer.status, text("errorType"), text("error"))
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_samples_are_gone_from_every_answer_at_once() {
    let api = filled().await;
    let answer = api.post_form(DELETE, &[("match[]", "m{a=\"1\"}"), ("dry_run", "true")]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({"status": "success", "data": [{"match": "m{a=\"1\"}", "series": 1, "samples": 3}]})
    );
    assert_eq!(values(&api, "count(m[5m])").await, json!(["6"]), "a dry run deletes nothing");

    // A part of one series: before, the head; after, a block.
    let form = [("match[]", "m{a=\"1\"}"), ("start", "1699499985"), ("end", "1699499990")];
    let answer = api.post_form(DELETE, &form).await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    assert_eq!(values(&api, "count_over_time(m[5m])").await, json!(["2", "3"]));
    assert_eq!(values(&api, "sum(m{a=\"1\"}[5m])").await, json!(["130"]));

    // Several selectors at once, in the address as Prometheus' documentation has it.
    let path = format!("{DELETE}?match[]=n&match[]=m%7Ba%3D%221%22%7D");
    let answer = api.send(api.client.put(format!("{}{path}", api.url))).await;
    assert_eq!(answer.status, 204);
    assert_eq!(values(&api, "count_over_time({__name__=~\".+\"}[5m])").await, json!(["3"]));
    let series = api.get("/api/v1/series?match[]={__name__=~%22.%2B%22}").await.json();
    assert_eq!(series["data"], json!([{"__name__": "m", "a": "2"}]));
    let names = api.get("/api/v1/label/__name__/values").await.json();
    assert_eq!(names["data"], json!(["m"]));
    assert_eq!(api.get("/api/v1/label/a/values").await.json()["data"], json!(["2"]));
    assert_eq!(api.get("/api/v1/labels").await.json()["data"], json!(["__name__", "a"]));

    // What is written afterwards lives, also at the same timestamps.
    api.write("n 6 1699500000000\nm,a=1 7 1699499990000").await;
    assert_eq!(values(&api, "sum(n[5m])").await, json!(["6"]));
    assert_eq!(values(&api, "sum(m{a=\"1\"}[5m])").await, json!(["7"]));

    let answer = api.post_form(CLEAN, &[]).await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    assert_eq!(values(&api, "sum(m{a=\"1\"}[5m])").await, json!(["7"]));
    assert_eq!(values(&api, "count(m[5m])").await, json!(["4"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_deletions_delete_nothing_and_say_why() {
    let api = filled().await;
    for (form, message) in [
        (&[][..], "no match[] parameter provided"),
        (&[("match[]", "m{")], "invalid parameter \"match[]\": "),
        (&[("match[]", "m"), ("match[]", "{}")], "must contain at least one non-empty matcher"),
        (&[("match[]", "m"), ("start", "x")], "invalid parameter \"start\": Invalid time value"),
        (&[("match[]", "m"), ("start", "2"), ("end", "1")], "end timestamp must not be before"),
    ] {
        let (status, kind, text) = error(&api.post_form(DELETE, form).await);
        assert_eq!((status, kind.as_str()), (400, "bad_data"), "{text}");
        assert!(text.contains(message), "{text}");
    }
    assert_eq!(api.get(DELETE).await.status, 405);
    assert_eq!(values(&api, "count(m[5m])").await, json!(["6"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_on_a_snapshot() {
    let api = filled().await;
    assert_eq!(api.post_form(DELETE, &[("match[]", "n")]).await.status, 204);
    let name = |answer: &Answer| answer.json()["data"]["name"].as_str().unwrap().to_owned();
    let all = name(&api.post_form(SNAPSHOT, &[]).await);
    api.write("late 1 1699500000000").await;
    let flushed = name(&api.post_form(SNAPSHOT, &[("skip_head", "true")]).await);
    assert!(all < flushed || all[..16] == flushed[..16], "names are in order of time");
    // The copies need nothing of the first.
    let before = contents(&api, &all);
    assert_eq!(api.post_form(DELETE, &[("match[]", "m")]).await.status, 204);
    assert_eq!(api.post_form(CLEAN, &[]).await.status, 204);
    for copy in [&all, &flushed] {
        assert_eq!(contents(&api, copy), before);
        let engine = open(&api, copy);
        let names = engine
            .snapshot()
            .label_values("__name__", &[], aetherdb::model::TimeRange::ALL)
            .unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["m"]);
        engine.close().await.unwrap();
    }
    let answer = api.post_form(SNAPSHOT, &[("skip_head", "maybe")]).await;
    assert_eq!((answer.status, error(&answer).1.as_str()), (400, "bad_data"));
}

fn dir(api: &Api, name: &str) -> PathBuf {
    api.engine.options().data_dir.join("snapshots").join(name)
}

/// Names and sizes of a snapshot's blocks.
fn contents(api: &Api, name: &str) -> Vec<(String, u64)> {
    let mut files: Vec<_> = std::fs::read_dir(dir(api, name).join("blocks"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (entry.file_name().to_string_lossy().into_owned(), entry.metadata().unwrap().len())
        })
        .collect();
    files.sort();
    files
}

fn open(api: &Api, name: &str) -> Arc<Engine> {
    Engine::open(
        StorageOptions::new(dir(api, name)),
        Arc::new(RealVfs),
        Arc::new(ManualClock::at(NOW_MS)),
        Arc::new(Telemetry::default()),
        &ReplayProgress::default(),
    )
    .unwrap()
}
