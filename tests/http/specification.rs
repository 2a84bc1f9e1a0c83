//! Every example and every row of the documented API, as a user types it.

use serde_json::json;

use crate::http::Api;

/// `curl -d` says that its body is a form.
const CURL: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_writing_and_asking() {
    let api = Api::start().await;
    let one = "cpu_usage,host=server1 45.2";
    let answer = api.post("/api/v1/write", CURL, one).await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    let several = "cpu_usage,host=server1,region=us-east value=45.2\n\
                   memory_used,host=server1 value=8589934592\n\
                   disk_io,host=server1,device=sda value=1024";
    assert_eq!(api.post("/api/v1/write", CURL, several).await.status, 204);
    api.write("memory_used,host=server1,region=us-east 8589934592 1699500000000").await;

    let answer = api.get("/api/v1/query?query=avg(cpu_usage[5m])").await;
    assert_eq!(
        (answer.status, answer.text()),
        (
            200,
            concat!(
                r#"{"status":"success","data":{"resultType":"vector","result":"#,
                r#"[{"metric":{},"value":[1699500010,"45.2"]}]}}"#
            )
        )
    );
    assert_eq!(answer.header("content-type"), "application/json");
    let posted = api.post_form("/api/v1/query", &[("query", "avg(cpu_usage[5m])")]).await;
    assert_eq!(posted.text(), answer.text());

    let range = "/api/v1/query_range?query=memory_used{region=%22us-east%22}\
                 &start=1699500000&end=1699510000&step=60";
    let answer = api.get(range).await;
    assert_eq!(
        answer.text(),
        concat!(
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":"#,
            r#"{"__name__":"memory_used","host":"server1","region":"us-east"},"values":"#,
            r#"[[1699500000,"8589934592"],[1699500060,"8589934592"],[1699500120,"8589934592"],"#,
            r#"[1699500180,"8589934592"],[1699500240,"8589934592"]]}]}}"#
        )
    );
    let answer = api.get("/api/v1/series").await;
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 5);
    assert_eq!(answer.json()["data"][0], json!({"__name__": "cpu_usage", "host": "server1"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_query_language() {
    let api = Api::start().await;
    for minute in 0..5_i64 {
        let at = 1_699_500_000_000 - minute * 60_000;
        let value = 100 - minute;
        api.write(&format!(
            "cpu_usage,host=server1 {value} {at}\n\
             http_requests,method=GET,status=200 {value} {at}\n\
             http_requests,method=POST,status=200 1000 {at}\n\
             network_bytes_total,host=server1 {} {at}",
            value * 60
        ))
        .await;
    }
    let value = async |query: &str| {
        let result = api.query(query).await;
        assert_eq!(result.as_array().unwrap().len(), 1, "{query}: {result}");
        result[0]["value"][1].as_str().unwrap().to_owned()
    };
    assert_eq!(value("sum(cpu_usage[1h])").await, "490");
    assert_eq!(value("avg(cpu_usage[5m])").await, "98");
    assert_eq!(value("max(cpu_usage[5m])").await, "100");
    assert_eq!(value("min(cpu_usage[5m])").await, "96");
    assert_eq!(value("count(cpu_usage[5m])").await, "5");
    assert_eq!(value("delta(cpu_usage[5m] anchored)").await, "4");
    assert_eq!(value(r#"sum(http_requests{method="GET", status="200"}[1h])"#).await, "490");
    assert_eq!(value("rate(network_bytes_total[5m])").await, "1");
    assert_eq!(value(r#"count(http_requests{method="GET", status=~"2.*"}[1h])"#).await, "5");
    let raw = api.query(r#"cpu_usage{host="server1"}[2m]"#).await;
    assert_eq!(raw[0]["values"], json!([[1_699_499_940, "99"], [1_699_500_000, "100"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_endpoint_table() {
    let api = Api::start().await;
    api.write("cpu_usage,host=server1 45.2").await;
    let query = "query?query=cpu_usage";
    for (method, path, status) in [
        ("GET", query, 200),
        ("POST", query, 200),
        ("GET", "query_range?query=cpu_usage&start=1699500000&end=1699510000&step=60", 200),
        ("GET", "series", 200),
        ("GET", "status", 200),
        ("POST", "admin/flush", 200),
        ("GET", "admin/flush", 405),
        ("GET", "write", 405),
    ] {
        let url = format!("{}/api/v1/{path}", api.url);
        let answer = api.send(api.client.request(method.parse().unwrap(), url)).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
    let answer = api.get("/health").await;
    assert_eq!((answer.status, answer.text()), (200, r#"{"status":"ok"}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_moves_samples_to_blocks_and_answers_stay() {
    let api = Api::start().await;
    api.write("cpu_usage,host=server1 45.2\ncpu_usage,host=server2 7").await;
    let before = api.query("cpu_usage").await;
    let report = api.post("/api/v1/admin/flush", &[], "").await.json();
    assert_eq!(report["data"]["samples"], 2, "{report}");
    let status = api.get("/api/v1/status").await.json()["data"].clone();
    assert_eq!(status["blocks"]["samples"], 2, "{status}");
    assert_eq!(status["head"]["samples"], 0, "{status}");
    assert_eq!(status["durability"]["walSync"], "always");
    assert_eq!(status["durability"]["acknowledgedWritesSurvive"], "a power cut");
    assert_eq!(api.query("cpu_usage").await, before);
    let series = api.get("/api/v1/series").await.json();
    assert_eq!(series["data"].as_array().unwrap().len(), 2, "{series}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_asks_nobody_else_and_its_links_lead_somewhere() {
    let api = Api::start().await;
    api.write("m 1\n").await;
    let page = api.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let text = page.text().replace("http://www.w3.org/2000/svg", "");
    assert!(!text.contains("://") && text.contains("<title>AetherDB</title>"));
    let links: Vec<&str> =
        text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.len() > 3, "{links:?}");
    for link in links {
        assert_eq!(api.get(link).await.status, 200, "{link}");
    }
}
