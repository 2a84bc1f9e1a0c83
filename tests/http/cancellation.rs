//! A query ends when the client that asked it goes away, or when its time is over, whatever it is
//! doing then.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use aetherdb::http::HttpOptions;
use aetherdb::query::QueryOptions;
use tokio::time::Instant;

use crate::http::{Api, NOW_MS};
use crate::support::form;

/// The promise is 100 ms, of a release build on a machine that has time; this build is slower and
/// other tests run beside it.
const ENDED_WITHIN: Duration =
    if cfg!(debug_assertions) { Duration::from_secs(2) } else { Duration::from_millis(100) };
/// So long a query runs before nobody waits for it any more.
const RUNS: Duration = Duration::from_millis(if cfg!(debug_assertions) { 400 } else { 100 });

/// Many series with few samples: `m`; one with many: `long`.
const SERIES: i64 = 600;
const SAMPLES: i64 = 100;
const LONG: i64 = 20_000;
/// As many as a query may have.
const STEPS: i64 = 11_000;

/// Each takes seconds in another kind of node.
const SLOW: &[&str] = &[
    // Kernels that look at all of a window, on many series and on one.
    "sum(quantile_over_time(0.9, m[30m]))",
    "mad_over_time(long[30m])",
    "stddev_over_time(long[30m])",
    "deriv(long[30m])",
    "double_exponential_smoothing(long[30m], 0.5, 0.5)",
    "mad_over_time(long[30m:100ms])",
    "quantile(0.9, m[30m])",
    // Nodes that choose, match, or fold.
    "topk(300, m)",
    "quantile(0.9, m)",
    r#"count_values("v", m)"#,
    "limitk(5, m)",
    "m + on (i) m ^ m",
    "m * on (i) group_left m",
    "m and on (i) m or m",
    r#"histogram_quantile(0.9, label_replace(m, "le", "$1", "i", "(.*)"))"#,
];

/// The same for SQL: joins that find nothing for long or much at once, sorts, groups, windows.
const SLOW_SQL: &[&str] = &[
    "SELECT count(*) FROM m a, m b WHERE a.value + b.value < 0",
    "SELECT count(*) FROM m a JOIN m b ON a.value < b.value",
    "SELECT count(*) FROM m a JOIN m b ON a.time = b.time AND a.value + b.value > 5",
    "SELECT a.value FROM m a CROSS JOIN m b ORDER BY a.value + b.value LIMIT 5",
    "SELECT sum(v) FROM (SELECT value % 1000 AS k, median(value) AS v FROM generate_series(1, \
     20000000) GROUP BY k)",
    "SELECT value FROM generate_series(1, 20000000) ORDER BY sin(value)",
    // Windows of many partitions, which take much longer than their rows do to come: those that
    // need all rows of each, and those that do not.
    "SELECT sum(s) FROM (SELECT sum(value) OVER (PARTITION BY value) AS s FROM \
     generate_series(1, 1000000))",
    "SELECT sum(s) FROM (SELECT avg(value) OVER (PARTITION BY value % 1000 ORDER BY value ROWS \
     BETWEEN 100 PRECEDING AND CURRENT ROW) AS s FROM generate_series(1, 20000000))",
];

async fn start() -> Api {
    let queries = QueryOptions { threads: 2, ..QueryOptions::default() };
    let api = Api::start_with(HttpOptions::default(), queries).await;
    let mut lines = String::new();
    for row in 0..SAMPLES {
        let (at, value) = (NOW_MS - (SAMPLES - row) * 10_000, (row * 7_919) % 1_009);
        (0..SERIES).for_each(|one| lines.push_str(&format!("m,i={one} {value} {at}\n")));
    }
    for row in 0..LONG {
        let (at, value) = (NOW_MS - (LONG - row) * 100, (row * 7_919) % 1_009);
        lines.push_str(&format!("long {value} {at}\n"));
    }
    api.write(&lines).await;
    api
}

/// A range query over as many steps as there may be.
fn range_query(query: &str, timeout: &str) -> String {
    let (end, step) = (NOW_MS / 1_000, 0.1);
    form(&[
        ("query", query),
        ("start", &(end - STEPS / 10).to_string()),
        ("end", &end.to_string()),
        ("step", &step.to_string()),
        ("timeout", timeout),
    ])
}

/// Waits until all tasks of all queries are gone, whatever they did.
async fn all_ended(api: &Api) -> Duration {
    let since = Instant::now();
    while api.service.queries().running_tasks() > 0 {
        assert!(since.elapsed() < Duration::from_secs(60), "a query does not end");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_with_its_connection() {
    let api = start().await;
    for query in SLOW {
        let asked = range_query(query, "60s");
        let mut stream = TcpStream::connect(api.url.strip_prefix("http://").unwrap()).unwrap();
        write!(stream, "GET /api/v1/query_range?{asked} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        tokio::time::sleep(RUNS).await;
        assert!(api.service.queries().running_tasks() > 0, "{query} should still be running");
        // Others are served meanwhile.
        let since = Instant::now();
        api.query("1").await;
        let waited = since.elapsed();
        assert!(waited < ENDED_WITHIN, "{query}: another query waited {waited:?}");

        drop(stream);
        let ended = all_ended(&api).await;
        println!("{query} ended {ended:?} after its connection; another query took {waited:?}");
        assert!(ended < ENDED_WITHIN, "{query}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_ends_with_its_connection() {
    let api = start().await;
    for query in SLOW_SQL {
        let asked = form(&[("query", query), ("timeout", "60s")]);
        let mut stream = TcpStream::connect(api.url.strip_prefix("http://").unwrap()).unwrap();
        write!(stream, "GET /api/v1/sql?{asked} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        tokio::time::sleep(RUNS).await;
        assert!(api.service.queries().running_tasks() > 0, "{query} should still be running");
        drop(stream);
        let ended = all_ended(&api).await;
        println!("{query} ended {ended:?} after its connection");
        assert!(ended < ENDED_WITHIN, "{query}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_when_its_time_is_over() {
    let api = start().await;
    for query in ["mad_over_time(long[30m])", "quantile(0.9, m)"] {
        let since = Instant::now();
        let answer = api.get(&format!("/api/v1/query_range?{}", range_query(query, "300ms"))).await;
        let late = since.elapsed().saturating_sub(Duration::from_millis(300));
        assert_eq!(answer.status, 503, "{query}: {}", answer.text());
        assert_eq!(answer.json()["errorType"], "timeout", "{query}");
        let ended = all_ended(&api).await;
        assert!(late < ENDED_WITHIN && ended < ENDED_WITHIN, "{query}: {late:?}, {ended:?}");
    }
    for query in SLOW_SQL {
        let since = Instant::now();
        let asked = form(&[("query", query), ("timeout", "300ms")]);
        let answer = api.get(&format!("/api/v1/sql?{asked}")).await;
        let late = since.elapsed().saturating_sub(Duration::from_millis(300));
        assert_eq!(answer.status, 503, "{query}: {}", answer.text());
        assert_eq!(answer.json()["errorType"], "timeout", "{query}");
        let ended = all_ended(&api).await;
        println!("{query} was {late:?} late, and ended {ended:?} later");
        assert!(late < ENDED_WITHIN && ended < ENDED_WITHIN, "{query}: {late:?}, {ended:?}");
    }
}
