//! Compaction of one day: samples per second, and bytes per sample before and after and write
//! amplification on standard output.

#![expect(clippy::unwrap_used, reason = "a bench that panics has failed")]

#[expect(dead_code, reason = "other data sets are for other benches")]
#[path = "../tests/columnar/data.rs"]
mod data;
mod store;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use aetherdb::storage::{StorageOptions, WalSync};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

use data::DataSet;

fn options(dir: &Path) -> StorageOptions {
    StorageOptions {
        wal_sync: WalSync::Never,
        wal_segment_bytes: 1 << 20,
        rollups: false,
        ..StorageOptions::new(dir)
    }
}

/// A store with the set in one block for each two hours.
async fn fill(dir: &Path, set: &DataSet) {
    let engine = store::open(options(dir));
    store::fill(&engine, set).await;
    engine.close().await.unwrap();
}

fn compact(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("compact");
    for (name, set) in [
        ("node", data::node_exporter(1, 5760)),
        ("tsbs", data::tsbs_cpu(20, 8640)),
        ("sensor", data::sensors(100, 8640)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let filled = dir.path().join("filled");
        runtime.block_on(fill(&filled, &set));
        let samples = set.samples() as u64;
        drop(set);
        let mut sizes = (0, 0);
        group.throughput(Throughput::Elements(samples));
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    let work = dir.path().join("work");
                    store::copy(&filled, &work);
                    let engine = store::open(options(&work));
                    #[expect(clippy::disallowed_methods, reason = "a bench measures")]
                    let started = Instant::now();
                    let report = runtime.block_on(engine.compact()).unwrap();
                    took += started.elapsed();
                    assert_eq!((report.samples, report.blocks_after), (samples, 1));
                    sizes = (report.bytes_before, report.bytes_after);
                    runtime.block_on(engine.close()).unwrap();
                    fs::remove_dir_all(&work).unwrap();
                }
                took
            });
        });
        let per_sample = |bytes: u64| bytes as f64 / samples as f64;
        let (before, after) = (per_sample(sizes.0), per_sample(sizes.1));
        println!("compact/{name}: {before:.4} B/sample before, {after:.4} after");
        // Each byte that stays was written once by a flush and once by the compaction to a day.
        println!("compact/{name}: write amplification {:.2}", (before + after) / after);
    }
    group.finish();
}

criterion_group! {
    name = compaction;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = compact
}
criterion_main!(compaction);
