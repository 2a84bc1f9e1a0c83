//! `/api/v1/sql`: every way to ask, every format, what is refused, what is cut off.

use std::io::{Cursor, Read, Write};
use std::net::TcpStream;

use aetherdb::http::HttpOptions;
use aetherdb::query::{QueryLimits, QueryOptions};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use crate::http::{Api, NOW_MS};

const LINES: &str = "cpu,host=a,dc=x 1.5 1699500000000\ncpu,host=b NaN 1699500000000\n";
const ALL: &str = "SELECT host, dc, time, value FROM cpu ORDER BY host";

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_comes_in_every_way() {
    let api = Api::start().await;
    api.write(LINES).await;
    let count = "SELECT count(*) AS n FROM cpu";
    let wanted = json!([{"n": 2}]);
    let get = api.get("/api/v1/sql?q=SELECT%20count(*)%20AS%20n%20FROM%20cpu").await;
    assert_eq!((get.status, get.json()), (200, wanted.clone()));
    assert_eq!(get.header("content-type"), "application/json");
    let form = api.post_form("/api/v1/sql", &[("query", count), ("format", "json")]).await;
    assert_eq!(form.json(), wanted);
    let document = json!({"query": count, "format": "jsonl"}).to_string();
    let json = api.post("/api/v1/sql", &[("content-type", "application/json")], document).await;
    assert_eq!(json.text(), "{\"n\":2}\n");
    for media_type in ["application/sql", "text/plain; charset=utf-8"] {
        let text = api.post("/api/v1/sql", &[("content-type", media_type)], count).await;
        assert_eq!(text.json(), wanted);
    }
    let unknown = api.post("/api/v1/sql", &[("content-type", "image/png")], count).await;
    assert_eq!(unknown.status, 415);
    for (path, status) in [("/api/v1/sql", 400), ("/api/v1/sql?query=SELECT+1&format=xml", 400)] {
        let answer = api.get(path).await;
        assert_eq!(
            (answer.status, answer.json()["errorType"].as_str()),
            (status, Some("bad_data"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_in_every_format() {
    let api = Api::start().await;
    api.write(LINES).await;
    let answer = |format: &'static str| {
        let api = &api;
        async move {
            let answer = api.post_form("/api/v1/sql", &[("query", ALL), ("format", format)]).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer
        }
    };
    let time = "2023-11-09T03:20:00Z";
    assert_eq!(
        answer("json").await.json(),
        json!([
            {"host": "a", "dc": "x", "time": time, "value": 1.5},
            {"host": "b", "dc": null, "time": time, "value": null},
        ])
    );
    assert_eq!(
        answer("jsonl").await.text().lines().next().unwrap(),
        format!(r#"{{"host":"a","dc":"x","time":"{time}","value":1.5}}"#)
    );
    assert_eq!(
        answer("csv").await.text(),
        format!("host,dc,time,value\na,x,{time},1.5\nb,,{time},NaN\n")
    );
    let checked = |batches: Vec<RecordBatch>| {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let values = batches[0].column_by_name("value").unwrap();
        assert_eq!((rows, values.as_primitive::<Float64Type>().value(0)), (2, 1.5));
    };
    let arrow = answer("arrow").await;
    assert_eq!(arrow.header("content-type"), "application/vnd.apache.arrow.stream");
    let reader = StreamReader::try_new(Cursor::new(arrow.body), None).unwrap();
    checked(reader.map(Result::unwrap).collect());
    let parquet = answer("parquet").await;
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(parquet.body)).unwrap();
    checked(reader.build().unwrap().map(Result::unwrap).collect());

    // Without rows, too, an answer is whole.
    let none = "SELECT time, value FROM cpu WHERE host = 'c'";
    for (format, text) in [("json", "[]"), ("jsonl", ""), ("csv", "time,value\n")] {
        let answer = api.post_form("/api/v1/sql", &[("query", none), ("format", format)]).await;
        assert_eq!((answer.status, answer.text()), (200, text), "{format}");
    }
    // Maps are objects in JSON, and their text in CSV.
    let maps = "SELECT labels FROM samples WHERE labels['host'] = 'a'";
    let json = api.post_form("/api/v1/sql", &[("query", maps)]).await;
    assert_eq!(json.json(), json!([{"labels": {"dc": "x", "host": "a"}}]));
    let csv = api.post("/api/v1/sql", &[("accept", "text/csv")], maps).await;
    assert_eq!(csv.text(), "labels\n\"{\"\"dc\"\":\"\"x\"\",\"\"host\"\":\"\"a\"\"}\"\n");
    let zipped = api.post("/api/v1/sql", &[("accept-encoding", "gzip")], ALL).await;
    assert_eq!(zipped.header("content-encoding"), "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_string(&mut text).unwrap();
    assert!(text.starts_with("[{") && text.ends_with("}]"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_a_status_a_type_and_a_place() {
    let api = Api::start().await;
    api.write(LINES).await;
    for (query, status, kind, part) in [
        ("SELECT 1 +", 400, "bad_data", "parse error"),
        ("SELECT\n nope FROM cpu", 400, "bad_data", "2:2: No field named nope"),
        (
            "SELECT * FROM cpi",
            400,
            "bad_data",
            "1:15: there is no metric \"cpi\" in raw; did you mean cpu?",
        ),
        ("DROP TABLE cpu", 400, "bad_data", "DROP TABLE is not possible"),
        ("COPY cpu TO '/tmp/never.csv'", 400, "bad_data", "COPY is not possible"),
        ("SELECT * FROM '/etc/passwd'", 400, "bad_data", "there is no metric"),
        ("SELECT 1; SELECT 2", 400, "bad_data", "one statement"),
        ("SELECT 1 / 0", 422, "execution", "Divide by zero"),
    ] {
        let answer = api.post_form("/api/v1/sql", &[("query", query)]).await;
        let document = answer.json();
        assert_eq!(
            (answer.status, document["errorType"].as_str()),
            (status, Some(kind)),
            "{query}"
        );
        let error = document["error"].as_str().unwrap();
        assert!(error.contains(part), "{query}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_keep_to_the_limits() {
    let limits = QueryLimits { samples_max: 1_000, series_max: 5, ..QueryLimits::default() };
    let queries = QueryOptions { limits, ..QueryOptions::default() };
    let api = Api::start_with(HttpOptions::default(), queries).await;
    let lines: String = (0..6).map(|host| format!("up,host={host} 1 1699500000000\n")).collect();
    api.write(&lines).await;
    let lines: String =
        (0..2_000).map(|step| format!("long 1 {}\n", 1_699_490_000_000_i64 + step)).collect();
    api.write(&lines).await;
    for (query, setting) in [
        ("SELECT count(*) FROM up", "--query-series-max"),
        ("SELECT count(*) FROM long", "--query-samples-max"),
    ] {
        let answer = api.post_form("/api/v1/sql", &[("query", query)]).await;
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == 422 && error.contains(setting), "{}: {error}", answer.status);
    }
    let endless = "SELECT sum(a.value * b.value) FROM generate_series(1, 1000000000) AS a(value) \
                   CROSS JOIN generate_series(1, 1000000000) AS b(value)";
    let answer = api.post_form("/api/v1/sql", &[("query", endless), ("timeout", "300ms")]).await;
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(answer.status == 503 && error.contains("--query-timeout"), "{error}");
}

/// What did not fit is refused, not written to some disk.
#[tokio::test(flavor = "multi_thread")]
async fn what_needs_more_memory_than_a_query_may_have_names_the_setting() {
    let limits = QueryLimits { bytes_max: 8 << 20, ..QueryLimits::default() };
    let queries = QueryOptions { limits, threads: 2, ..QueryOptions::default() };
    let api = Api::start_with(HttpOptions::default(), queries).await;
    for query in [
        "SELECT * FROM generate_series(1, 3000000) ORDER BY value % 1000, value",
        "SELECT value, count(*) FROM generate_series(1, 3000000) GROUP BY value ORDER BY 2",
        "SELECT count(*) FROM generate_series(1, 3000000) a(v) JOIN generate_series(1, 3000000) b(v) USING (v)",
        "SELECT sum(value) OVER (ORDER BY value % 10) FROM generate_series(1, 3000000)",
        "SELECT sum(s) FROM (SELECT sum(value) OVER () AS s FROM generate_series(1, 3000000))",
        // In no order, so that equal values do not come together.
        "SELECT count(DISTINCT value * 7 % 3000017) FROM generate_series(1, 3000000)",
        "SELECT count(DISTINCT value * 7 % 3000017), count(*) FROM generate_series(1, 3000000)",
        "SELECT count(DISTINCT sqrt(value)), count(*) FROM generate_series(1, 3000000)",
        "SELECT count(DISTINCT value::text), count(*) FROM generate_series(1, 3000000)",
        "SELECT value % 3, count(DISTINCT value * 7 % 3000017), count(*) FROM generate_series(1, 3000000) GROUP BY 1",
        "SELECT value % 3, count(DISTINCT sqrt(value)), count(*) FROM generate_series(1, 3000000) GROUP BY 1",
        "SELECT value % 3, count(DISTINCT value::text), count(*) FROM generate_series(1, 3000000) GROUP BY 1",
    ] {
        let answer = api.post_form("/api/v1/sql", &[("query", query), ("format", "csv")]).await;
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 422, "{query}: {error}");
        assert!(error.contains("--query-bytes-max"), "{query}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_tells_what_it_took_if_it_is_asked() {
    let api = Api::start().await;
    let lines: String = (0..20_000)
        .map(|step| format!("cpu,host={} {step} {}\n", step % 3, NOW_MS - 20_000 + step))
        .collect();
    api.write(&lines).await;
    let short = "SELECT count(*) AS n FROM cpu WHERE host = '1'";
    let form = [("query", short), ("stats", "all")];
    let document = api.post_form("/api/v1/sql", &form).await.json();
    assert_eq!(document["data"], json!([{"n": 6_667}]));
    assert_eq!(document["stats"]["samples"], 6_667);
    assert_eq!(document["stats"]["series"], 1);
    assert!(document["stats"]["bytesPeak"].as_u64().unwrap() > 0, "{document}");
    let form = [("query", short), ("stats", "true"), ("format", "csv")];
    let csv = api.post_form("/api/v1/sql", &form).await;
    assert_eq!(csv.text(), "n\n6667\n");
    let stats: serde_json::Value = serde_json::from_str(csv.header("x-aetherdb-stats")).unwrap();
    assert_eq!(stats["samples"], 6_667);
    // A long answer begins before that is known.
    let mut stream = TcpStream::connect(api.url.strip_prefix("http://").unwrap()).unwrap();
    let asked = "query=SELECT+*+FROM+cpu&format=jsonl&stats=all";
    let head = "HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: close, te\r\n\r\n";
    let text = tokio::task::spawn_blocking(move || {
        write!(stream, "GET /api/v1/sql?{asked} {head}").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let text = text.await.unwrap().to_lowercase();
    let (_, trailers) = text.rsplit_once("\r\n0\r\n").unwrap();
    assert!(trailers.starts_with("x-aetherdb-stats: {\"seconds\":"), "{trailers}");
    assert!(trailers.contains("\"samples\":20000"), "{trailers}");
    let wrong = api.post_form("/api/v1/sql", &[("query", short), ("stats", "some")]).await;
    assert_eq!(wrong.status, 400);
}

/// What every client library makes of a statement in an address.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_decoded_and_values_that_json_lacks_are_told() {
    let api = Api::start().await;
    api.write("odd,host=a+b -0 1699500000000\nodd,host=c Inf 1699500000000\n").await;
    for query in [
        "SELECT+value+FROM+odd+WHERE+host+%3D+'a%2Bb'",
        "SELECT%20value%20FROM%20odd%20WHERE%20host%20=%20%27a%2bb%27",
    ] {
        let answer = api.get(&format!("/api/v1/sql?query={query}&format=csv")).await;
        assert_eq!((answer.status, answer.text()), (200, "value\n-0.0\n"), "{query}");
    }
    let all = "SELECT host, value, 18446744073709551615 AS wide FROM odd ORDER BY host";
    let json = api.post_form("/api/v1/sql", &[("query", all)]).await;
    assert_eq!(
        json.text(),
        r#"[{"host":"a+b","value":-0.0,"wide":18446744073709551615},{"host":"c","value":null,"wide":18446744073709551615}]"#
    );
    for (accept, kind) in [
        ("application/x-ndjson", "application/jsonl"),
        ("text/csv", "text/csv; charset=utf-8; header=present"),
        ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("text/html, */*;q=0.1", "application/json"),
    ] {
        let answer = api.post("/api/v1/sql", &[("accept", accept)], all).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{accept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_fails_midway_is_cut_off() {
    let api = Api::start().await;
    // A million rows pass before the division fails.
    let query = "SELECT value, 1 / (value - 1000000) AS x FROM generate_series(1, 1000000)";
    for format in ["json", "csv", "arrow", "parquet"] {
        let request = api
            .client
            .post(format!("{}/api/v1/sql?format={format}", api.url))
            .header("content-type", "application/sql")
            .body(query);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{format}");
        assert!(answer.bytes().await.is_err(), "{format} looked whole");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rollups_are_tables_that_agree_with_raw_samples() {
    const MINUTE_MS: i64 = 60_000;
    let limits = QueryLimits { samples_max: 3_000, ..QueryLimits::default() };
    let queries = QueryOptions { limits, ..QueryOptions::default() };
    let api = Api::start_with(HttpOptions::default(), queries).await;
    let midnight = NOW_MS - NOW_MS.rem_euclid(24 * 60 * MINUTE_MS);
    let mut lines = String::new();
    for step in 1..=5 * 120 {
        let at = midnight - step * 30_000 + 15_000;
        lines += &format!("cpu,host=a,sum=x {step} {at}\ncpu,host=b {} {at}\n", step * 2);
        lines += &format!("mem,host=a {step} {at}\n");
    }
    api.write(&lines).await;
    assert_eq!(api.post("/api/v1/admin/downsample", &[], "").await.status, 200);
    let rows = async |query: &str| {
        let answer = api.post_form("/api/v1/sql", &[("query", query)]).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()
    };
    let counted = rows("SELECT count(*) AS n, sum(count) AS samples FROM rollup_1m.cpu").await;
    assert_eq!(counted, json!([{"n": 600, "samples": 1200}]));
    let hours = rows("SELECT count(*) AS n FROM rollup_1h.samples").await;
    assert_eq!(hours, json!([{"n": 15}]));
    // A label that collides with a column, and one that only some series have.
    let columns = rows(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'mem' AND \
         table_schema = 'rollup_5m' ORDER BY ordinal_position LIMIT 3",
    )
    .await;
    let names: Vec<_> = columns.as_array().unwrap().iter().map(|c| &c["column_name"]).collect();
    assert_eq!(names, ["host", "bucket_start", "bucket_end"]);
    let labels = rows("SELECT DISTINCT host, label_sum FROM rollup_5m.cpu ORDER BY host").await;
    assert_eq!(labels, json!([{"host": "a", "label_sum": "x"}, {"host": "b", "label_sum": null}]));

    // A bucket of rollups is open on the left: a millisecond earlier date_bin says the same.
    let of_rollups = "SELECT host, bucket_end AS t, sum, min, max, count AS n FROM rollup_5m.cpu \
                      WHERE bucket_end > TIMESTAMP '2023-11-08T21:00:00Z' ORDER BY host, t";
    let of_samples = "SELECT host, date_bin(INTERVAL '5 minutes', time - INTERVAL '1 millisecond') + INTERVAL \
         '5 minutes' AS t, sum(value) AS sum, min(value) AS min, max(value) AS max, count(*) AS n \
         FROM cpu WHERE time > '2023-11-08T21:00:00Z' GROUP BY host, t ORDER BY host, t";
    let (of_rollups, of_samples) = (rows(of_rollups).await, rows(of_samples).await);
    assert_eq!(of_rollups.as_array().unwrap().len(), 72);
    assert_eq!(of_rollups, of_samples);

    // The answer tells which rows were read; here those of both metrics are in one page.
    let form = [("query", "SELECT sum(count) AS n FROM rollup_1m.cpu"), ("stats", "all")];
    let stats = api.post_form("/api/v1/sql", &form).await.json()["stats"].clone();
    assert_eq!((&stats["rollupRows"], &stats["samples"]), (&json!(900), &json!(0)), "{stats}");
    assert!(stats["rollupFiles"].as_u64().unwrap() > 0, "{stats}");
    assert!(stats["bytesRead"].as_u64().unwrap() > 0, "{stats}");

    // Rows count as samples do.
    let often = ["SELECT sum(count) FROM rollup_1m.samples"; 4].join(" UNION ALL ");
    let refused = api.post_form("/api/v1/sql", &[("query", &often)]).await;
    let error = refused.json()["error"].as_str().unwrap().to_owned();
    assert_eq!(refused.status, 422, "{error}");
    assert!(error.contains("--query-samples-max"), "{error}");

    // Two spans of two hours hold nothing that late: their files are not even opened.
    let late =
        "FROM rollup_1m.cpu WHERE bucket_end > TIMESTAMP '2023-11-08T22:30:00Z' AND host = 'a'";
    assert_eq!(rows(&format!("SELECT count(*) AS n {late}")).await, json!([{"n": 90}]));
    let explained = rows(&format!("EXPLAIN ANALYZE SELECT sum(max) {late}")).await.to_string();
    assert!(explained.contains("bytes_scanned="), "{explained}");
    assert_eq!(explained.matches(".parquet").count(), 1, "{explained}");
    let other = rows("EXPLAIN SELECT * FROM rollup_1m.samples WHERE metric LIKE 'x%'").await;
    assert!(!other.to_string().contains(".parquet"), "{other}");
}
