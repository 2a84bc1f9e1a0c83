//! SQL over raw samples in memory: statements that are folded where samples are read, the same left
//! to DataFusion, and listing what there is.

#![expect(clippy::unwrap_used, reason = "a bench that panics has failed")]

mod memory;

use std::sync::Arc;
use std::time::Duration;

use aetherdb::clock::SystemClock;
use aetherdb::model::Samples;
use aetherdb::query::{QueryOptions, QuerySession};
use aetherdb::sql::{SqlEngine, SqlQuery};
use aetherdb::storage::Snapshot;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use memory::{Memory, Random, counter, labels};

const SERIES: usize = 1_000;
const SAMPLES: usize = 5_000;
const INTERVAL_MS: i64 = 15_000;
const GROUPS: usize = 20;
const METRICS: usize = 100_000;

/// All rows of a statement are made and dropped.
async fn run(engine: &SqlEngine, session: &QuerySession, snapshot: &Snapshot, text: &str) {
    let query = SqlQuery::new(text, session.limits());
    let mut rows = engine.query(session, snapshot, &query).await.unwrap();
    while rows.next().await.unwrap().is_some() {}
}

fn ask(c: &mut Criterion, name: &str, snapshot: &Snapshot, rows: usize, statements: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = QueryOptions { threads: 2, ..QueryOptions::default() };
    let session = QuerySession::new(options, Arc::new(SystemClock::new())).unwrap();
    let engine = SqlEngine::new(&session);
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(rows as u64));
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for text in statements {
        group.bench_function(*text, |b| {
            b.iter(|| runtime.block_on(run(&engine, &session, snapshot, text)));
        });
    }
    group.finish();
}

fn raw(c: &mut Criterion) {
    let mut random = Random::new(1);
    let series = (0..SERIES).map(|number| {
        (labels("m", number % GROUPS, number), counter(&mut random, SAMPLES, INTERVAL_MS))
    });
    let memory = Memory::new(series.collect());
    let rows = memory.series().iter().map(|(_, samples)| samples.len()).sum();
    let snapshot = memory.snapshot();
    let statements = [
        "SELECT g, avg(value) FROM m GROUP BY g",
        "SELECT g, min(value), max(value) FROM m GROUP BY g",
        "SELECT time_bucket('1 hour', time) AS t, g, avg(value) FROM m GROUP BY t, g",
        "SELECT g, last(value, time) FROM m GROUP BY g",
        "SELECT g, stddev(value) FROM m WHERE value > 100 GROUP BY g",
        "SELECT * FROM m ORDER BY time DESC LIMIT 10",
        // A condition on labels and values at once is DataFusion's.
        "SELECT g, avg(value) FROM m WHERE value >= 0 OR g = 'none' GROUP BY g",
    ];
    ask(c, "sql/raw", &snapshot, rows, &statements);
}

fn listing(c: &mut Criterion) {
    let one = || Samples { timestamps: vec![0], values: vec![1.0] };
    let series = (0..METRICS).map(|number| (labels(&format!("m{number}"), 0, 0), one()));
    let snapshot = Memory::new(series.collect()).snapshot();
    let statements = [
        "SELECT count(*) FROM information_schema.tables",
        "SELECT * FROM information_schema.columns WHERE table_name = 'm7'",
    ];
    ask(c, "sql/listing", &snapshot, METRICS, &statements);
}

criterion_group!(benches, raw, listing);
criterion_main!(benches);
