//! Remote write of both versions: samples, metadata, and what senders look for in the answer.

use serde_json::json;

use crate::http::{Api, NOW_MS};
use crate::remote_write::{
    MetricMetadata, V1_HEADERS, V2_HEADERS, WriteRequest, packed, v1,
    v2::{self, Request},
};

#[tokio::test(flavor = "multi_thread")]
async fn version_1_brings_samples_and_metadata() {
    let api = Api::start().await;
    let labels = vec![("__name__", "requests_total"), ("job", "web")];
    let body = v1([(labels, vec![(NOW_MS - 1_000, 7.0), (NOW_MS, f64::INFINITY)])]);
    let answer = api.post("/api/v1/write", V1_HEADERS, body).await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    let metadata = MetricMetadata {
        metric_type: 1,
        metric: "requests_total".to_owned(),
        help: "Requests \"so far\".".to_owned(),
        unit: "requests".to_owned(),
    };
    let body = packed(&WriteRequest { timeseries: Vec::new(), metadata: vec![metadata] });
    assert_eq!(api.post("/api/v1/write", V1_HEADERS, body).await.status, 204);

    let result = api.query("requests_total").await;
    assert_eq!(result[0]["metric"], json!({"__name__": "requests_total", "job": "web"}));
    assert_eq!(result[0]["value"][1], "+Inf");
    let known = api.get("/api/v1/metadata?metric=requests_total").await.json();
    let expected = json!([{"type": "counter", "help": "Requests \"so far\".", "unit": "requests"}]);
    assert_eq!(known["data"]["requests_total"], expected, "{known}");
}

#[tokio::test(flavor = "multi_thread")]
async fn version_2_brings_both_at_once_and_counts_what_it_wrote() {
    let api = Api::start().await;
    let mut request = Request::default();
    let labels = [("__name__", "room_celsius"), ("room", "hall")];
    request.push(&labels, &[(NOW_MS - 1_000, 20.5), (NOW_MS, 21.0)], (2, "Warmth.", "celsius"));
    let answer = api.post("/api/v1/write", V2_HEADERS, packed(&request)).await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    let counts = ["samples", "histograms", "exemplars"]
        .map(|what| answer.header(&format!("x-prometheus-remote-write-{what}-written")).to_owned());
    assert_eq!(counts, ["2", "0", "0"]);

    let result = api.query("room_celsius").await;
    assert_eq!(result[0]["value"][1], "21");
    let known = api.get("/api/v1/metadata").await.json();
    let expected = json!([{"type": "gauge", "help": "Warmth.", "unit": "celsius"}]);
    assert_eq!(known["data"]["room_celsius"], expected, "{known}");

    // Native histograms are refused by name, and what is good is written.
    request.push(&[("__name__", "h"), ("a", "b")], &[], (5, "", ""));
    request.timeseries[1].histograms.push(v2::Histogram { sum: 1.0 });
    let answer = api.post("/api/v1/write", V2_HEADERS, packed(&request)).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("native histogram"), "{}", answer.text());
    assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), "2");
    assert_eq!(answer.header("x-prometheus-remote-write-histograms-written"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protobufs_and_encodings_are_unsupported() {
    let api = Api::start().await;
    let body = packed(&Request::default());
    let send = async |content_type: &str, encoding: &str, body: Vec<u8>| {
        let headers = [("content-type", content_type), ("content-encoding", encoding)];
        api.post("/api/v1/write", &headers, body).await.status
    };
    let v2_type = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    assert_eq!(send(v2_type, "snappy", body.clone()).await, 204);
    assert_eq!(
        send("application/x-protobuf;proto=other.Request", "snappy", body.clone()).await,
        415
    );
    assert_eq!(
        send("Application/X-Protobuf; proto=\"prometheus.WriteRequest\"", "snappy", body).await,
        204
    );
    assert_eq!(send(v2_type, "br", Vec::new()).await, 415);
    assert_eq!(send(v2_type, "snappy", b"not snappy".to_vec()).await, 400);
}
