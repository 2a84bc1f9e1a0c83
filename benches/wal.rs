//! The log: what a sample costs from the appending thread to the disk, and back at a restart.
//!
//! Writes to a temporary directory on the real disk, so commits are as fast as its syncs are.

#![expect(clippy::unwrap_used, reason = "a bench that panics has failed")]

use std::sync::Arc;

use aetherdb::clock::SystemClock;
use aetherdb::model::{Metadata, SampleBatch, SeriesRef};
use aetherdb::storage::vfs::RealVfs;
use aetherdb::storage::wal::{CommitSink, Lsn, ReplaySink, Wal, WalOptions};
use aetherdb::storage::{StorageError, WalSync};
use aetherdb::telemetry::Telemetry;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uuid::Uuid;

/// Rows of one write request.
const BATCH_ROWS: u32 = 10_000;
const WRITERS: usize = 4;

/// Takes everything and keeps nothing.
struct Nowhere;

impl CommitSink for Nowhere {
    fn apply(&self, _: Lsn, _: &SampleBatch) {}
    fn apply_metadata(&self, _: Lsn, _: &str, _: &Metadata) {}
    fn group_applied(&self, _: Lsn) {}
    fn rotated(&self, _: Lsn) {}
}

impl ReplaySink for Nowhere {
    fn series(&mut self, _: u64, _: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }
    fn samples(&mut self, _: Lsn, _: &SampleBatch) -> Result<(), StorageError> {
        Ok(())
    }
    fn metadata(&mut self, _: Lsn, _: &str, _: &Metadata) -> Result<(), StorageError> {
        Ok(())
    }
}

/// One scrape of ten thousand gauges with two decimals.
fn scrape(at: i64) -> SampleBatch {
    let mut batch = SampleBatch::default();
    for series in 0..BATCH_ROWS {
        let value = f64::from((series * 7_919 + u32::try_from(at % 997).unwrap()) % 10_000) / 100.0;
        batch.push(SeriesRef(series), 1_700_000_000_000 + at * 15_000, value);
    }
    batch
}

fn log(dir: &tempfile::TempDir, sync: WalSync) -> Wal {
    Wal::new(
        Arc::new(RealVfs),
        dir.path().join("wal"),
        Uuid::from_u128(1),
        WalOptions { sync, ..WalOptions::default() },
        Arc::new(SystemClock::new()),
        Arc::new(Telemetry::default()),
    )
}

fn started(dir: &tempfile::TempDir, sync: WalSync) -> Wal {
    let wal = log(dir, sync);
    wal.recover(0, &mut Nowhere).unwrap();
    wal.start(Arc::new(Nowhere)).unwrap();
    wal
}

fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal_commit");
    group.sample_size(10);
    for (name, sync) in [("always", WalSync::Always), ("none", WalSync::Never)] {
        for writers in [1, WRITERS] {
            let dir = tempfile::tempdir().unwrap();
            let wal = started(&dir, sync);
            let batches: Vec<SampleBatch> = (0..8).map(scrape).collect();
            let rows = writers as u64 * batches.len() as u64 * u64::from(BATCH_ROWS);
            group.throughput(Throughput::Elements(rows));
            group.bench_function(format!("{name}/{writers}x{BATCH_ROWS}"), |b| {
                b.iter(|| {
                    std::thread::scope(|scope| {
                        for _ in 0..writers {
                            scope.spawn(|| {
                                for batch in &batches {
                                    wal.append_blocking(batch.clone()).unwrap().wait().unwrap();
                                }
                            });
                        }
                    });
                    wal.truncate_through(wal.status().durable_lsn).unwrap();
                });
            });
        }
    }
    group.finish();
}

fn replay(c: &mut Criterion) {
    const BATCHES: i64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let wal = started(&dir, WalSync::Never);
    for at in 0..BATCHES {
        wal.append_blocking(scrape(at)).unwrap().wait().unwrap();
    }
    let rows = BATCHES.unsigned_abs() * u64::from(BATCH_ROWS);
    let bytes = wal.status().bytes;
    println!("wal: {:.2} bytes per sample", bytes as f64 / rows as f64);
    drop(wal);
    let mut group = c.benchmark_group("wal_replay");
    group.sample_size(10).throughput(Throughput::Elements(rows));
    group.bench_function("decode", |b| {
        b.iter(|| log(&dir, WalSync::Never).recover(0, &mut Nowhere).unwrap());
    });
    group.finish();
}

criterion_group!(benches, commit, replay);
criterion_main!(benches);
