//! A dashboard's question about a long time, answered from raw samples and from rollups.
//!
//! `AETHER_BENCH_SERIES` and `AETHER_BENCH_DAYS` (100 and 10) set the size; a sample every 15 s. The store
//! lies below `TMPDIR` and goes afterwards, or in `AETHER_BENCH_DIR`, where a second run finds it loaded.

#![expect(clippy::unwrap_used, reason = "a bench that panics has failed")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aetherdb::clock::SystemClock;
use aetherdb::ingest::SeriesResolver;
use aetherdb::model::{Labels, METRIC_NAME, SampleBatch};
use aetherdb::promql::{Query, QueryKind, QueryOutcome, Value, evaluate};
use aetherdb::query::{QueryOptions, QuerySession, SourceResolution};
use aetherdb::storage::vfs::RealVfs;
use aetherdb::storage::{Engine, ReplayProgress, StorageOptions, WalSync};
use aetherdb::telemetry::Telemetry;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A midnight.
const START_MS: i64 = 1_699_920_000_000;
const INTERVAL_MS: i64 = 15_000;
const HOUR_MS: i64 = 3_600_000;
/// Targets, whose series are scraped at the same moments.
const GROUPS: u32 = 20;
/// Hours of data between two flushes.
const FLUSH_HOURS: u32 = 48;

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn open(dir: &Path, rollups: bool) -> Arc<Engine> {
    let options = StorageOptions { wal_sync: WalSync::Never, rollups, ..StorageOptions::new(dir) };
    let telemetry = Arc::new(Telemetry::default());
    let (clock, progress) = (Arc::new(SystemClock::new()), ReplayProgress::default());
    Engine::open(options, Arc::new(RealVfs), clock, telemetry, &progress).unwrap()
}

async fn load(engine: &Engine, series: u32, days: u32) {
    let labels = |number: u32| {
        let (group, number) = (format!("g{}", number % GROUPS), format!("{number:05}"));
        let pairs = [(METRIC_NAME, "m_total"), ("g", group.as_str()), ("n", number.as_str())];
        Labels::from_pairs(pairs).unwrap()
    };
    let all: Vec<Labels> = (0..series).map(labels).collect();
    let mut given = Vec::new();
    engine.resolver().register(None, &[], &all, &mut given).unwrap();
    let mut values = vec![0u64; given.len()];
    let mut state = 1u64;
    let mut at = START_MS;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 33
    };
    let mut late = [0; GROUPS as usize];
    for hour in 1..=days * 24 {
        let mut batch = SampleBatch::default();
        for _ in 0..HOUR_MS / INTERVAL_MS {
            at += INTERVAL_MS;
            late.fill_with(|| i64::try_from(random() % 50).unwrap());
            for ((series, value), late) in given.iter().zip(&mut values).zip(late.iter().cycle()) {
                let random = random();
                // A restart every few days.
                *value = if random.is_multiple_of(40_000) { 0 } else { *value + random % 30 };
                batch.push(*series, at + late, *value as f64);
            }
        }
        engine.append(batch).await.unwrap();
        if hour.is_multiple_of(FLUSH_HOURS) {
            engine.flush().await.unwrap();
        }
    }
}

fn values(outcome: &QueryOutcome) -> Vec<u64> {
    let Value::Matrix(rows) = &outcome.value else { panic!("not a matrix") };
    rows.iter().flat_map(|row| row.values.iter().map(|value| value.to_bits())).collect()
}

fn rollups(c: &mut Criterion) {
    let (series, days) = (setting("AETHER_BENCH_SERIES", 100), setting("AETHER_BENCH_DAYS", 10));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("AETHER_BENCH_DIR").map(PathBuf::from);
    let data = kept.unwrap_or_else(|| directory.path().join("data"));
    let loaded = data.exists();
    let samples = u64::from(series) * u64::from(days) * 5_760;
    let timed = |what: &str, started: Instant| {
        let took = started.elapsed().as_secs_f64();
        println!("{what}: {took:.1} s, {:.1} M samples/s", samples as f64 / took / 1e6);
    };
    if !loaded {
        let engine = open(&data, false);
        let started = started_now();
        runtime.block_on(load(&engine, series, days));
        runtime.block_on(engine.flush()).unwrap();
        timed("load and flush", started);
        let started = started_now();
        runtime.block_on(engine.compact()).unwrap();
        timed("compact what the background left", started);
        runtime.block_on(engine.close()).unwrap();
    }
    let engine = open(&data, true);
    let started = started_now();
    runtime.block_on(engine.downsample(Arc::default())).unwrap();
    timed("downsample", started);

    let session = QuerySession::new(QueryOptions::default(), Arc::new(SystemClock::new())).unwrap();
    let end = START_MS + i64::from(days) * 24 * HOUR_MS;
    for text in ["sum by (g) (rate(m_total[1h]))", "max by (g) (m_total)"] {
        let kind = QueryKind::Range { start: START_MS + HOUR_MS, end, step_ms: HOUR_MS };
        let mut group = c.benchmark_group(format!("rollups/{series} series, {days} days"));
        group.throughput(Throughput::Elements(samples));
        group.sample_size(10).measurement_time(Duration::from_secs(3));
        let mut answers = Vec::new();
        for (name, resolution) in [("raw", SourceResolution::Raw), ("auto", SourceResolution::Auto)]
        {
            let mut query = Query::new(text, kind, session.limits());
            query.limits.samples_max = u64::MAX;
            query.max_source_resolution = resolution;
            let ask = || runtime.block_on(evaluate(&engine.snapshot(), &query, &session)).unwrap();
            let outcome = ask();
            println!("{text}, {name}: {:?} {:?}", outcome.infos, outcome.stats);
            answers.push(values(&outcome));
            group.bench_function(format!("{text}, {name}"), |b| b.iter(ask));
        }
        assert!(answers[0] == answers[1], "{text}: rollups answer something else");
        group.finish();
    }
    runtime.block_on(engine.close()).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn started_now() -> Instant {
    Instant::now()
}

criterion_group!(benches, rollups);
criterion_main!(benches);
