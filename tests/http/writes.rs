//! Text formats: encodings, partial writes, limits, Influx and exposition.

use std::io::{Read, Write};
use std::net::TcpStream;

use aetherdb::http::HttpOptions;
use aetherdb::ingest::Limits;
use aetherdb::query::QueryOptions;
use serde_json::json;

use crate::http::Api;

const LINE: &str = "cpu_usage,host=server1 45.2\n";

fn gzip(plain: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zlib(plain: &str) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_come_in_every_encoding() {
    let api = Api::start().await;
    for (encoding, body) in [
        ("identity", LINE.as_bytes().to_vec()),
        ("gzip", gzip(LINE)),
        ("deflate", zlib(LINE)),
        ("zstd", zstd::encode_all(LINE.as_bytes(), 1).unwrap()),
        ("snappy", snap::raw::Encoder::new().compress_vec(LINE.as_bytes()).unwrap()),
    ] {
        let headers = [("content-encoding", encoding)];
        let answer = api.post("/api/v1/write", &headers, body).await;
        assert_eq!((answer.status, answer.text()), (204, ""), "{encoding}");
    }
    let answer = api.post("/api/v1/write", &[("content-encoding", "br")], LINE).await;
    assert_eq!(answer.status, 415, "{}", answer.text());
    let answer = api.post("/api/v1/write", &[("content-encoding", "gzip")], LINE).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn good_lines_are_stored_and_bad_ones_told() {
    let api = Api::start().await;
    let lines = "a,host=x 1\na,host=y one\n# a comment\n\r\na,host=z 3\r\n";
    let answer = api.post("/api/v1/write", &[], lines).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("content-type"), "application/json");
    let report = answer.json();
    assert_eq!((&report["accepted"], &report["rejected"]), (&json!(2), &json!(1)), "{report}");
    assert_eq!(report["errors"].as_array().unwrap().len(), 1);
    let error = &report["errors"][0];
    assert_eq!((&error["line"], &error["column"]), (&json!(2), &json!(10)), "{report}");
    assert_eq!((&error["code"], &error["text"]), (&json!("bad_value"), &json!("a,host=y one")));
    assert!(!error["message"].as_str().unwrap().is_empty());
    assert_eq!((&report["status"], &report["errorType"]), (&json!("error"), &json!("bad_data")));
    assert_eq!(api.query("count(a)").await[0]["value"][1], "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_atomic_write_stores_all_or_nothing() {
    let api = Api::start().await;
    let answer = api.post("/api/v1/write?atomic=true", &[], "a 1\na one\na 3").await;
    let report = answer.json();
    assert_eq!((answer.status, &report["accepted"]), (400, &json!(0)), "{report}");
    assert_eq!(report["rejected"], 3, "{report}");
    assert_eq!(api.query("a").await, json!([]));
    assert_eq!(api.post("/api/v1/write?atomic=true", &[], "a 1").await.status, 204);
    assert_eq!(api.query("a").await[0]["value"][1], "1");
    assert_eq!(api.post("/api/v1/write?atomic=perhaps", &[], "a 1").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_hundred_errors_are_listed() {
    let api = Api::start().await;
    let report = api.post("/api/v1/write", &[], "a one\n".repeat(250)).await.json();
    assert_eq!((&report["accepted"], &report["rejected"]), (&json!(0), &json!(250)));
    assert_eq!(report["errors"].as_array().unwrap().len(), 100);
    assert_eq!(report["errors"][99]["line"], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_a_limit_are_refused_before_they_are_read() {
    let limits = Limits { body_bytes_max: 1000, decompressed_bytes_max: 2000, ..Limits::default() };
    let options = HttpOptions { limits, ..HttpOptions::default() };
    let api = Api::start_with(options, QueryOptions::default()).await;
    let answer = api.post("/api/v1/write", &[], LINE.repeat(100)).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(answer.text().contains("--body-bytes-max"), "{}", answer.text());
    let bomb = gzip(&LINE.repeat(100));
    assert!(bomb.len() < 1000);
    let answer = api.post("/api/v1/write", &[("content-encoding", "gzip")], bomb).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(api.post("/api/v1/write", &[], LINE.repeat(10)).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_far_ahead_is_refused_and_any_past_is_taken() {
    let api = Api::start().await;
    let lines = "a,n=now 1\na,n=old 1 0\na,n=ahead 1 1699500600000\na,n=far 1 1699500610001";
    let report = api.post("/api/v1/write", &[], lines).await.json();
    assert_eq!((&report["accepted"], &report["rejected"]), (&json!(3), &json!(1)), "{report}");
    assert_eq!(report["errors"][0]["code"], "timestamp_too_far_ahead");
    assert_eq!(report["errors"][0]["line"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn influx_clients_write_and_are_greeted() {
    let api = Api::start().await;
    let v1 = "/write?db=telegraf&precision=s&u=a&p=b";
    let body = "cpu,host=a usage=1.5,value=2,name=\"text\" 1699500000";
    let answer = api.post(v1, &[], body).await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    let v2 = "/api/v2/write?bucket=b&org=o&precision=ms";
    let token = [("authorization", "Token secret"), ("content-encoding", "gzip")];
    let answer = api.post(v2, &token, gzip("cpu,host=b usage=3i 1699500000000")).await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    // The default precision is nanoseconds.
    assert_eq!(api.post("/write", &[], "cpu,host=c usage=4 1699500000000000000").await.status, 204);
    let result = api.query("sort(cpu_usage)").await;
    let values: Vec<_> = (0..3).map(|at| result[at]["value"][1].as_str().unwrap()).collect();
    assert_eq!(values, ["1.5", "3", "4"]);
    assert_eq!(api.query("cpu").await[0]["metric"], json!({"__name__": "cpu", "host": "a"}));
    assert_eq!(api.post("/write?precision=d", &[], body).await.status, 400);
    assert_eq!(api.post("/write", &[], "cpu,host=a usage=x").await.status, 400);

    let ping = api.get("/ping").await;
    assert_eq!(ping.status, 204);
    assert!(!ping.header("x-influxdb-version").is_empty());
    assert_eq!(api.head("/ping").await.status, 204);
    let answer = api.post_form("/query", &[("q", "CREATE DATABASE \"telegraf\"")]).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"results": [{"statement_id": 0}]})));
}

#[tokio::test(flavor = "multi_thread")]
async fn text_exposition_is_imported_with_its_metadata() {
    let api = Api::start().await;
    let text = "# HELP requests_total Requests served.\n# TYPE requests_total counter\n\
                requests_total{code=\"200\"} 17 1699500000000\nrequests_total{code=\"500\"} 1\n";
    let path = "/api/v1/import/prometheus?extra_label=job%3Dtest&timestamp=1699500005000";
    let answer = api.post(path, &[], text).await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    let result = api.query("requests_total[1m]").await;
    let labels = json!({"__name__": "requests_total", "code": "200", "job": "test"});
    assert_eq!(result[0], json!({"metric": labels, "values": [[1_699_500_000, "17"]]}));
    assert_eq!(result[1]["values"], json!([[1_699_500_005, "1"]]));
    let metadata = api.get("/api/v1/metadata").await;
    assert_eq!(
        metadata.text(),
        concat!(
            r#"{"status":"success","data":{"requests_total":[{"type":"counter","#,
            r#""help":"Requests served.","unit":""}]}}"#
        )
    );
    let one = api.get("/api/v1/metadata?metric=requests_total&limit=1&limit_per_metric=1").await;
    assert_eq!(one.text(), metadata.text());
    assert_eq!(api.get("/api/v1/metadata?metric=x").await.json()["data"], json!({}));
    assert_eq!(api.get("/api/v1/metadata?limit=x").await.status, 400);
}

/// A client that sends all of its body before it reads, as Python's `requests` does, used to meet
/// a reset connection instead of the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_seen_by_a_client_that_is_still_sending() {
    let limits = Limits { body_bytes_max: 1 << 20, ..Limits::default() };
    let options = HttpOptions { limits, ..HttpOptions::default() };
    let api = Api::start_with(options, QueryOptions::default()).await;
    let address = api.url.strip_prefix("http://").unwrap().to_owned();
    let send = move |path: &str, framing: &str, body: &[u8]| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "POST {path} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n").unwrap();
        stream.write_all(body).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let body = vec![b'x'; 40 << 20];
    let declared = format!("content-length: {}", body.len());
    assert_eq!(send("/api/v1/write", &declared, &body), "HTTP/1.1 413");
    assert_eq!(send("/api/v1/write?atomic=perhaps", &declared, &body), "HTTP/1.1 400");
    assert_eq!(send("/no/such/path", &declared, &body), "HTTP/1.1 404");
    let mut chunked = format!("{:x}\r\n", body.len()).into_bytes();
    chunked.extend_from_slice(&body);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    assert_eq!(send("/api/v1/write", "transfer-encoding: chunked", &chunked), "HTTP/1.1 413");
    // One that asks first is refused before it sends.
    let asks = format!("{declared}\r\nexpect: 100-continue");
    assert_eq!(send("/api/v1/write", &asks, b""), "HTTP/1.1 413");
}
