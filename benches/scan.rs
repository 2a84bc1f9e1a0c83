//! Select and read: many series from the head and from blocks, through a snapshot.

#![expect(clippy::unwrap_used, reason = "a bench that panics has failed")]

use std::sync::Arc;

use aetherdb::clock::SystemClock;
use aetherdb::ingest::SeriesResolver;
use aetherdb::model::{Labels, METRIC_NAME, Matcher, SampleBatch, Samples, SeriesRef, TimeRange};
use aetherdb::storage::vfs::RealVfs;
use aetherdb::storage::{Engine, ReplayProgress, StorageOptions, WalSync};
use aetherdb::telemetry::Telemetry;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const METRICS: u32 = 10;
const HOSTS: u32 = 200;
const STEPS: i64 = 480;
const START: i64 = 1_700_006_400_000;

fn register(engine: &Engine) -> Vec<SeriesRef> {
    let mut resolver = engine.resolver();
    let mut all = Vec::new();
    for metric in 0..METRICS {
        for host in 0..HOSTS {
            let (metric, host) = (format!("metric_{metric}"), format!("host_{host}"));
            let pairs = [(METRIC_NAME, metric.as_str()), ("host", host.as_str())];
            let labels = Labels::from_pairs(pairs).unwrap();
            resolver.register(None, &[], &[labels], &mut all).unwrap();
        }
    }
    all
}

/// A store with eight hours of samples every fifteen seconds, in four windows.
async fn filled(dir: &tempfile::TempDir) -> Arc<Engine> {
    let options = StorageOptions { wal_sync: WalSync::Never, ..StorageOptions::new(dir.path()) };
    let telemetry = Arc::new(Telemetry::default());
    let progress = ReplayProgress::default();
    let clock = Arc::new(SystemClock::new());
    let engine = Engine::open(options, Arc::new(RealVfs), clock, telemetry, &progress).unwrap();
    let series = register(&engine);
    for step in 0..STEPS {
        let mut batch = SampleBatch::default();
        for (number, series) in (0i64..).zip(&series) {
            let value = (number * 31 + step * (number % 7)) % 1_000;
            batch.push(*series, START + step * 60_000, value as f64);
        }
        engine.append(batch).await.unwrap();
    }
    engine
}

/// Reads every sample that the matchers select; how many there were.
fn scan(engine: &Engine, matchers: &[Matcher]) -> u64 {
    let snapshot = engine.snapshot();
    let mut reader = snapshot.reader();
    let mut samples = Samples::default();
    let mut read = 0;
    for series in snapshot.select(matchers, TimeRange::ALL).unwrap() {
        reader.read(&series, TimeRange::ALL, &mut samples).unwrap();
        read += samples.len() as u64;
    }
    read
}

fn scans(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let engine = runtime.block_on(filled(&dir));
    let one = [Matcher::equal(METRIC_NAME, "metric_3"), Matcher::equal("host", "host_7")];
    let metric = [Matcher::equal(METRIC_NAME, "metric_3")];
    let mut group = c.benchmark_group("scan");
    for place in ["head", "blocks"] {
        for (name, matchers) in [("one_series", &one[..]), ("one_metric", &metric), ("all", &[])] {
            let samples = scan(&engine, matchers);
            group.throughput(Throughput::Elements(samples));
            group.bench_function(format!("{place}/{name}"), |b| {
                b.iter(|| assert_eq!(scan(&engine, matchers), samples));
            });
        }
        runtime.block_on(engine.flush()).unwrap();
    }
    group.finish();
    runtime.block_on(engine.close()).unwrap();
}

criterion_group!(benches, scans);
criterion_main!(benches);
