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

#[tokio::test(flavor = "multi_thread")]
async fn start_timestamps_are_told_and_where_they_are_kept_is_not() {
    let api = Api::start().await;
    let mut request = Request::default();
    for host in ["a", "b"] {
        let labels = [("__name__", "c_total"), ("host", host)];
        request.push(&labels, &[(NOW_MS - 10_000, 1.0), (NOW_MS, 2.0)], (1, "", ""));
    }
    for sample in &mut request.timeseries[0].samples {
        sample.start_timestamp = NOW_MS - 60_000;
    }
    let answer = api.post("/api/v1/write", V2_HEADERS, packed(&request)).await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), "4");

    let start = ((NOW_MS - 60_000) as f64 / 1_000.0).to_string();
    let check = async |left: &[(&str, &str)]| {
        let starts = api.query("sort_by_label(start_timestamp(c_total), \"host\")").await;
        let starts = starts.as_array().unwrap().iter();
        let starts: Vec<_> = starts
            .map(|element| {
                let text = |json: &serde_json::Value| json.as_str().unwrap().to_owned();
                (text(&element["metric"]["host"]), text(&element["value"][1]))
            })
            .collect();
        let starts: Vec<_> = starts.iter().map(|(host, start)| (&**host, &**start)).collect();
        assert_eq!(starts, left);
        let hosts: Vec<_> = left.iter().map(|(host, _)| *host).collect();
        assert_eq!(
            api.query("count({__name__=~\".+\"})").await[0]["value"][1],
            hosts.len().to_string()
        );
        let names = api.get("/api/v1/label/__name__/values").await.json();
        assert_eq!(names["data"], json!(["c_total"]));
        let series = api.get("/api/v1/series?match[]={host!=\"\"}").await.json();
        let series: Vec<_> = series["data"].as_array().unwrap().iter().collect();
        assert_eq!(series.len(), hosts.len(), "{series:?}");
        let exported = api.get("/api/v1/export?match[]={host!=\"\"}&format=jsonl").await;
        assert_eq!(exported.text().lines().count(), hosts.len(), "{}", exported.text());
        let sql = "SELECT count(*) AS n FROM raw.samples";
        let counted = api.get(&format!("/api/v1/sql?query={sql}&format=jsonl")).await;
        assert_eq!(counted.text().trim(), format!("{{\"n\":{}}}", 2 * hosts.len()));
    };
    check(&[("a", &start), ("b", "0")]).await;
    api.post("/api/v1/admin/flush", &[], "").await;
    check(&[("a", &start), ("b", "0")]).await;

    // A sample that comes again without one keeps the one it has.
    for sample in &mut request.timeseries[0].samples {
        sample.start_timestamp = 0;
    }
    assert_eq!(api.post("/api/v1/write", V2_HEADERS, packed(&request)).await.status, 204);
    check(&[("a", &start), ("b", "0")]).await;

    // They are deleted with their samples, and what is written later has its own.
    let path = "/api/v1/admin/tsdb/delete_series?match[]=c_total{host=\"a\"}";
    let counted = api.post(&format!("{path}&dry_run=true"), &[], "").await.json();
    assert_eq!(counted["data"][0]["samples"], 2, "{counted}");
    assert_eq!(api.post(path, &[], "").await.status, 204);
    check(&[("b", "0")]).await;
    assert_eq!(api.post("/api/v1/write", V2_HEADERS, packed(&request)).await.status, 204);
    check(&[("a", "0"), ("b", "0")]).await;
    assert_eq!(api.post("/api/v1/admin/tsdb/clean_tombstones", &[], "").await.status, 204);
    check(&[("a", "0"), ("b", "0")]).await;
}
