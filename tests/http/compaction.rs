//! `POST /api/v1/admin/compact` and what the status says of it.

use serde_json::json;

use crate::http::Api;

/// Where the day before the clock's begins.
const FIRST_S: u64 = 1_699_401_600;

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_merged_and_answers_stay() {
    let api = Api::start().await;
    for window in 0..12 {
        for host in ["a", "b"] {
            let ms = (FIRST_S + window * 7_200) * 1_000;
            let first = format!("m,host={host} {window} {ms}\n");
            // The second stands over the first.
            api.write(&format!("{first}m,host={host} {} {ms}\n", window * 3)).await;
        }
        assert_eq!(api.post("/api/v1/admin/flush", &[], "").await.status, 200);
    }
    let path =
        format!("/api/v1/query_range?query=m&start={FIRST_S}&end={}&step=1800", FIRST_S + 86_400);
    let before = api.get(&path).await.json()["data"].clone();
    assert!(!before["result"][1]["values"].as_array().unwrap().is_empty(), "{before}");

    let answer = api.post("/api/v1/admin/compact", &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let report = answer.json()["data"].clone();
    assert_eq!((&report["blocksBefore"], &report["blocksAfter"]), (&json!(12), &json!(1)));
    assert_eq!((&report["compactions"], &report["samples"]), (&json!(1), &json!(24)), "{report}");
    assert!(report["bytesAfter"].as_u64() < report["bytesBefore"].as_u64(), "{report}");
    assert!(report["seconds"].is_number(), "{report}");
    assert_eq!(api.get(&path).await.json()["data"], before);

    let status = api.get("/api/v1/status").await.json()["data"].clone();
    assert_eq!(status["blocks"]["levels"]["2"]["samples"], 24, "{status}");
    assert_eq!(status["compaction"]["last"]["blocks"], 12, "{status}");
    assert_eq!(status["compaction"]["error"], json!(null), "{status}");
    assert_eq!(status["retention"]["blocksDropped"], 0, "{status}");
    let metrics = api.get("/metrics").await;
    assert!(metrics.text().contains("\naether_compactions_total 1\n"), "{}", metrics.text());

    let answer = api.post("/api/v1/admin/compact?wait=false", &[], "").await;
    assert_eq!((answer.status, &answer.json()["data"]), (200, &json!({"started": true})));
    let answer = api.post_form("/api/v1/admin/compact", &[("wait", "true")]).await;
    assert_eq!(answer.json()["data"]["compactions"], 0, "{}", answer.text());
    let answer = api.post("/api/v1/admin/compact?wait=perhaps", &[], "").await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(api.get("/api/v1/admin/compact").await.status, 405);
}
