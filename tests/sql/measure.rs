//! Not a test: what SQL costs over many samples, for the closing note.
//!
//! `AETHER_SQL_ROWS=100000000 AETHER_SQL_DIR=/tmp/x cargo test --release --test it -- --ignored
//! --nocapture sql::measure` loads them, rolls them up and prints times; the rollups stay in the
//! directory for other tools to read.

use std::sync::Arc;
use std::time::Duration;

use aetherdb::clock::{Clock, ManualClock, SystemClock};
use aetherdb::ingest::SeriesResolver;
use aetherdb::model::{Labels, METRIC_NAME, SampleBatch};
use aetherdb::query::{QueryOptions, QuerySession};
use aetherdb::sql::{SqlEngine, SqlQuery};
use aetherdb::storage::vfs::RealVfs;
use aetherdb::storage::{Engine, ReplayProgress, StorageOptions, WalSync};
use aetherdb::telemetry::Telemetry;

use crate::support::{Random, setting};

const SERIES: u64 = 1_000;
const STEP_MS: i64 = 15_000;
const WINDOW_MS: i64 = 7_200_000;
/// Midnight, so that windows are whole.
const START_MS: i64 = 1_699_488_000_000;
const RUNS: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, and wants a release build"]
async fn measure() {
    let rows = setting("AETHER_SQL_ROWS", 1_000_000);
    let dir = std::env::var("AETHER_SQL_DIR").unwrap();
    let end_ms = START_MS + i64::try_from(rows / SERIES).unwrap() * STEP_MS;
    let clock = Arc::new(ManualClock::at(end_ms + 4 * WINDOW_MS));
    let mut options = StorageOptions::new(std::path::Path::new(&dir));
    options.wal_sync = WalSync::Never;
    let engine = Engine::open(
        options,
        Arc::new(RealVfs),
        clock,
        Arc::new(Telemetry::default()),
        &ReplayProgress::default(),
    )
    .unwrap();
    let real: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let started = real.monotonic();
    if engine.snapshot().time_range().is_none() {
        load(&engine, end_ms).await;
        engine.flush().await.unwrap();
        println!("loaded in {:?}", real.monotonic() - started);
        let before = real.monotonic();
        engine.downsample(Arc::default()).await.unwrap();
        println!("rolled up in {:?}", real.monotonic() - before);
    }
    let session = QuerySession::new(QueryOptions::default(), Arc::clone(&real)).unwrap();
    let sql = SqlEngine::new(&session);
    let snapshot = engine.snapshot();
    for text in [
        "SELECT 1",
        "SELECT value FROM cpu WHERE host = 'h1' AND cpu = 'c1' LIMIT 1",
        "SELECT host, avg(value) FROM cpu GROUP BY host",
        "SELECT count(*), sum(value) FROM cpu",
        "SELECT host, avg(value) FROM cpu WHERE host IN ('h1', 'h2') GROUP BY host",
        "SELECT date_bin(INTERVAL '1 hour', time) AS t, max(value) FROM cpu GROUP BY t",
        "SELECT host, sum(sum) / sum(count) FROM rollup_1m.cpu GROUP BY host",
        "SELECT host, sum(sum) / sum(count) FROM rollup_1h.cpu GROUP BY host",
        "SELECT host, max(max) FROM rollup_1m.cpu WHERE host IN ('h1', 'h2') GROUP BY host",
        "SELECT count(*) FROM information_schema.tables",
    ] {
        let mut best = Duration::MAX;
        let (mut result, mut read) = (0, 0);
        for _ in 0..RUNS {
            let before = real.monotonic();
            let query = SqlQuery::new(text, session.limits());
            let mut rows = sql.query(&session, &snapshot, &query).await.unwrap();
            result = 0;
            while let Some(batch) = rows.next().await.unwrap() {
                result += batch.num_rows();
            }
            best = best.min(real.monotonic() - before);
            read = rows.read().bytes;
        }
        println!("{best:>12?}  {result:>8} rows, {read} bytes of blocks  {text}");
    }
    let explain =
        "EXPLAIN ANALYZE SELECT host, sum(sum) / sum(count) FROM rollup_1m.cpu GROUP BY host";
    let query = SqlQuery::new(explain, session.limits());
    let mut rows = sql.query(&session, &snapshot, &query).await.unwrap();
    while let Some(batch) = rows.next().await.unwrap() {
        println!("{}", arrow::util::pretty::pretty_format_batches(&[batch]).unwrap());
    }
    engine.close().await.unwrap();
}

/// A random walk in hundredths for each of a hundred hosts' ten cores, window after window.
async fn load(engine: &Engine, end_ms: i64) {
    let labels: Vec<_> = (0..SERIES)
        .map(|number| {
            let (host, cpu) = (format!("h{}", number / 10), format!("c{}", number % 10));
            let pairs = [(METRIC_NAME, "cpu"), ("cpu", cpu.as_str()), ("host", host.as_str())];
            Labels::from_pairs(pairs).unwrap()
        })
        .collect();
    let mut ids = Vec::new();
    engine.resolver().register(None, &[], &labels, &mut ids).unwrap();
    let mut random = Random(7);
    let mut values = vec![5_000_i64; labels.len()];
    let mut window = START_MS;
    while window < end_ms {
        let mut batch = SampleBatch::default();
        for (id, value) in ids.iter().zip(&mut values) {
            let mut at = window;
            while at < (window + WINDOW_MS).min(end_ms) {
                *value += i64::try_from(random.below(101)).unwrap() - 50;
                batch.push(*id, at, *value as f64 / 100.0);
                at += STEP_MS;
            }
        }
        engine.append(batch).await.unwrap();
        window += WINDOW_MS;
    }
}
