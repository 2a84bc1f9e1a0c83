//! `/api/v1/export` and `/api/v1/import`: formats, limits, and what a client sees when it goes
//! wrong.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use aetherdb::http::HttpOptions;
use aetherdb::query::{QueryLimits, QueryOptions};
use serde_json::json;

use crate::http::Api;

const SAMPLES: &str = "m,a=x 1 1000\nm,a=x 2 2000\nm,a=y 3 1000\nn 4 1000\n";

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_come_and_go_as_in_victoriametrics() {
    let api = Api::start().await;
    let line = concat!(
        r#"{"metric":{"__name__":"up","job":"é\"\n"},"values":[1,0.5,null,"Infinity"],"#,
        r#""timestamps":[1000,2000,3000,4000]}"#,
        "\n"
    );
    let answer = api.post("/api/v1/import", &[], line).await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), "4");
    let answer = api.get("/api/v1/export").await;
    assert_eq!((answer.status, answer.text()), (200, line));
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert_eq!(answer.header("x-aetherdb-export-series"), "1");
    let answer = api.get("/api/v1/export?max_rows_per_line=3").await;
    assert_eq!(answer.text().lines().count(), 2);

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(line.as_bytes()).unwrap();
    let headers = [("content-encoding", "gzip")];
    let path = "/api/v1/import?extra_label=from=vm";
    assert_eq!(api.post(path, &headers, gzip.finish().unwrap()).await.status, 204);
    let answer = api.get("/api/v1/export?match[]=up{from=\"vm\"}").await;
    assert!(answer.text().contains(r#""from":"vm","job""#), "{}", answer.text());

    let answer = api.post("/api/v1/import", &[], format!("{line}{{}}\n{line}")).await;
    assert_eq!(answer.status, 400);
    let report = answer.json();
    assert_eq!((&report["accepted"], &report["rejected"]), (&json!(8), &json!(1)), "{report}");
    assert_eq!(report["errors"][0]["line"], 2, "{report}");
    let answer = api.post("/api/v1/import?atomic=true", &[], format!("{line}x\n")).await;
    assert_eq!((answer.status, &answer.json()["accepted"]), (400, &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_format_is_what_is_asked_for() {
    let api = Api::start().await;
    api.write(SAMPLES).await;
    let csv = "metric,a,timestamp,value\r\nm,x,1000,1\r\nm,x,2000,2\r\nm,y,1000,3\r\nn,,1000,4\r\n";
    for path in ["/api/v1/export?format=csv", "/api/v1/export?format=csv&start=0&end=3"] {
        let answer = api.get(path).await;
        assert_eq!(answer.text(), csv, "{path}");
        assert!(answer.header("content-type").starts_with("text/csv"));
    }
    let form = [("format", "csv"), ("match[]", "m"), ("match[]", "n"), ("match[]", "{a=\"x\"}")];
    assert_eq!(api.post_form("/api/v1/export", &form).await.text(), csv);
    let request = api.client.get(format!("{}/api/v1/export", api.url)).header("accept", "text/csv");
    assert_eq!(api.send(request).await.text(), csv);
    let answer = api.get("/api/v1/export?format=parquet").await;
    assert_eq!(
        (&answer.body[..4], answer.header("content-type")),
        (&b"PAR1"[..], "application/vnd.apache.parquet")
    );
    let answer = api.get("/api/v1/export?start=5&end=4").await;
    assert_eq!((answer.status, answer.text()), (200, ""));

    for (parameters, reason) in [
        ("format=xml", "openmetrics"),
        ("resolution=2m", "1h"),
        ("resolution=1h&format=openmetrics", "rollups"),
        ("match[]=m{", "match[]"),
        ("start=yesterday", "start"),
        ("max_rows_per_line=-1", "max_rows_per_line"),
    ] {
        let answer = api.get(&format!("/api/v1/export?{parameters}")).await;
        assert_eq!(answer.status, 400, "{parameters}: {}", answer.text());
        assert!(answer.text().contains(reason), "{parameters}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openmetrics_stands_family_after_family() {
    let api = Api::start().await;
    let text = concat!(
        "# TYPE rpc histogram\n# HELP rpc How \"long\".\n",
        "rpc_bucket{le=\"1\"} 1 1000\nrpc_bucket{le=\"+Inf\"} 2 1000\nrpc_sum 3 1000\n",
        "rpc_count 2 1000\n# TYPE rpc_bytes gauge\n# UNIT rpc_bytes bytes\nrpc_bytes 7 1500\n",
        "# TYPE hits_total counter\nhits_total 5 1000\n{\"odd.name\",\"é\"=\"\\n\"} NaN 1000\n",
    );
    assert_eq!(api.post("/api/v1/import/prometheus", &[], text).await.status, 204);
    let exported = concat!(
        "# TYPE hits counter\nhits_total 5 1.000\n",
        "{\"odd.name\",\"é\"=\"\\n\"} NaN 1.000\n",
        "# TYPE rpc histogram\n# HELP rpc How \\\"long\\\".\n",
        "rpc_bucket{le=\"+Inf\"} 2 1.000\nrpc_bucket{le=\"1\"} 1 1.000\nrpc_count 2 1.000\n",
        "rpc_sum 3 1.000\n",
        "# TYPE rpc_bytes gauge\n# UNIT rpc_bytes bytes\nrpc_bytes 7 1.500\n# EOF\n",
    );
    let answer = api.get("/api/v1/export?format=openmetrics").await;
    assert_eq!(answer.text(), exported);
    let kind = [("content-type", "application/openmetrics-text; version=1.0.0")];
    let answer = api.post("/api/v1/import/prometheus", &kind, exported).await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    assert_eq!(api.get("/api/v1/export?format=openmetrics").await.text(), exported);
}

/// Lines of many series, with so much behind each sample that buffers on the way fill up.
async fn write_much(api: &Api) {
    let long = "x".repeat(2000);
    for batch in 0..10 {
        let lines = (0..1000).map(|step| format!("big,n={batch},long={long} {step} {step}\n"));
        api.write(&lines.collect::<String>()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_bounded_and_end_with_their_client() {
    let options = HttpOptions { exports_max: 1, ..HttpOptions::default() };
    let api = Api::start_with(options, QueryOptions::default()).await;
    write_much(&api).await;
    // A client that asks and does not read.
    let address = api.url.strip_prefix("http://").unwrap();
    let mut idle = TcpStream::connect(address).unwrap();
    write!(idle, "GET /api/v1/export?format=csv HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut head = [0; 400];
    idle.read_exact(&mut head).unwrap();
    let head = String::from_utf8_lossy(&head).into_owned();
    let id = head.split("x-aetherdb-export-id: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let progress = api.get(&format!("/api/v1/export/{id}")).await;
    assert!(progress.json()["data"]["rows"].is_u64(), "{}", progress.text());
    assert_eq!(api.get("/api/v1/export/999").await.status, 404);
    let answer = api.get("/api/v1/export").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
    assert!(answer.text().contains("--exports-max"), "{}", answer.text());
    drop(idle);
    for _ in 0..200 {
        if api.get("/api/v1/export?match[]=none").await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the export of a client that has gone still runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_export_is_never_taken_for_a_whole_one() {
    let options =
        HttpOptions { export_timeout: Duration::from_millis(300), ..HttpOptions::default() };
    let api = Api::start_with(options, QueryOptions::default()).await;
    write_much(&api).await;
    let request = api.client.get(format!("{}/api/v1/export?format=csv", api.url));
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.chunk().await.unwrap().is_some());
    tokio::time::sleep(Duration::from_millis(600)).await;
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken, "the body ended as if it were whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_queries_hold_for_the_first_pass() {
    let limits = QueryLimits { series_max: 2, ..QueryLimits::default() };
    let queries = QueryOptions { limits, ..QueryOptions::default() };
    let api = Api::start_with(HttpOptions::default(), queries).await;
    api.write(SAMPLES).await;
    let answer = api.get("/api/v1/export").await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("--query-series-max"), "{}", answer.text());
    assert_eq!(api.get("/api/v1/export?match[]=m").await.status, 200);
}
