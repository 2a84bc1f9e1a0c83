//! A query ends when the client that asked it goes away.

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
const FREED_WITHIN: Duration =
    if cfg!(debug_assertions) { Duration::from_secs(10) } else { Duration::from_millis(100) };
const SERIES: i64 = 400;
const SAMPLES: i64 = 250;

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_with_its_connection() {
    // One thread, and one query at a time: another gets neither before the first has ended.
    let queries = QueryOptions { concurrent_max: 1, threads: 1, ..QueryOptions::default() };
    let api = Api::start_with(HttpOptions::default(), queries).await;
    let mut lines = String::new();
    for row in 0..SAMPLES {
        let (at, value) = (NOW_MS - (SAMPLES - row) * 1_000, (row * 7_919) % 1_009);
        (0..SERIES).for_each(|one| lines.push_str(&format!("m,i={one} {value} {at}\n")));
    }
    api.write(&lines).await;
    // Quantiles of windows of all samples at eleven thousand steps: seconds of work.
    let (end, step) = (NOW_MS / 1_000, 0.1);
    let heavy = form(&[
        ("query", "sum(quantile_over_time(0.9, m[30m]))"),
        ("start", &(end - 1_100).to_string()),
        ("end", &end.to_string()),
        ("step", &step.to_string()),
    ]);
    let mut stream = TcpStream::connect(api.url.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "GET /api/v1/query_range?{heavy} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    // On a busy machine it may take a while until the heavy query has its turn.
    let mut runs = false;
    for _ in 0..100 {
        runs = tokio::time::timeout(Duration::from_millis(100), api.query("1")).await.is_err();
        if runs {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(runs, "the heavy query should hold the only turn");

    drop(stream);
    let gone = Instant::now();
    api.query("1").await;
    let freed = gone.elapsed();
    println!("the next query was answered {freed:?} after the connection had gone");
    assert!(freed < FREED_WITHIN, "{freed:?}");
}
