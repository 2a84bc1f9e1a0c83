//! Retention: old days go, and the oldest of too many; what stays is untouched.

use std::path::Path;
use std::sync::Arc;

use aetherdb::storage::vfs::{SimVfs, Vfs};
use aetherdb::storage::{Engine, Retention, StorageOptions};

use super::{Model, Rows, add, batch, contents, open, options};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A midnight, five days and 22 hours before the clock of these tests.
const FIRST_MS: i64 = 1_699_488_000_000;

async fn write(engine: &Engine, model: &mut Model, rows: Rows) {
    engine.append(batch(engine, &rows).unwrap()).await.unwrap();
    engine.flush().await.unwrap();
    add(model, &rows);
}

/// Six days, a sample every ten minutes.
async fn six_days(engine: &Engine) -> Model {
    let mut model = Model::new();
    for day in 0..6 {
        let at = |minute: i64| FIRST_MS + day * DAY_MS + minute * 60_000;
        let rows = (0..144).map(|row| (row as u32 % 3, at(row * 10), row as u64)).collect();
        write(engine, &mut model, rows).await;
    }
    model
}

fn keep(retention: Retention) -> StorageOptions {
    StorageOptions { retention, ..options() }
}

fn raw(days: i64) -> Retention {
    Retention { raw_ms: Some(days * DAY_MS), ..Retention::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn old_days_go_and_stay_away() {
    let disk = SimVfs::new(1);
    let engine = open(options(), Arc::new(disk.clone())).unwrap();
    let mut model = six_days(&engine).await;
    // Overwrites a sample of the second day: alone it would be older than what it stands over.
    write(&engine, &mut model, vec![(0, FIRST_MS + DAY_MS, 777)]).await;
    engine.compact().await.unwrap();
    assert_eq!(engine.status().retention.blocks, 0, "everything stays by default");
    assert!(contents(&engine.snapshot()).unwrap() == model);
    engine.close().await.unwrap();

    let engine = open(keep(raw(4)), Arc::new(disk.clone())).unwrap();
    // Late for a day that is about to go: it goes with it.
    write(&engine, &mut model, vec![(1, FIRST_MS + 5, 5)]).await;
    engine.compact().await.unwrap();
    // Four days back from the evening: the first day is gone, the second was not over.
    model.retain(|(_, at), _| *at >= FIRST_MS + DAY_MS);
    assert!(contents(&engine.snapshot()).unwrap() == model);
    let status = engine.status();
    assert_eq!(status.retention.blocks, 2);
    assert!(status.retention.samples >= 144 && status.retention.bytes > 0);
    let files = || disk.list(Path::new("/data/blocks")).unwrap().len();
    assert_eq!(files(), status.blocks.len());
    engine.close().await.unwrap();

    let engine = open(keep(raw(1)), Arc::new(disk.clone())).unwrap();
    engine.compact().await.unwrap();
    model.retain(|(_, at), _| *at >= FIRST_MS + 4 * DAY_MS);
    assert!(contents(&engine.snapshot()).unwrap() == model);
    assert_eq!(files(), engine.status().blocks.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_oldest_go_when_there_is_too_much() {
    let disk = SimVfs::new(2);
    let engine = open(options(), Arc::new(disk.clone())).unwrap();
    let mut model = six_days(&engine).await;
    engine.compact().await.unwrap();
    let all = engine.status();
    engine.close().await.unwrap();
    let largest = all.blocks.iter().map(|block| block.bytes).max().unwrap();

    let options = |retention_bytes| StorageOptions { retention_bytes, ..options() };
    let engine = open(options(all.block_bytes), Arc::new(disk.clone())).unwrap();
    engine.compact().await.unwrap();
    assert!(contents(&engine.snapshot()).unwrap() == model);
    engine.close().await.unwrap();

    let engine = open(options(2 * largest), Arc::new(disk.clone())).unwrap();
    engine.compact().await.unwrap();
    let status = engine.status();
    assert!(status.block_bytes <= 2 * largest, "{} of {largest}", status.block_bytes);
    assert!(status.retention.blocks > 0 && status.blocks.len() > 1);
    let oldest_ms = status.time_range.unwrap().start();
    model.retain(|(_, at), _| *at >= oldest_ms);
    assert!(contents(&engine.snapshot()).unwrap() == model);
    engine.close().await.unwrap();

    let engine = open(options(1), Arc::new(disk.clone())).unwrap();
    engine.compact().await.unwrap();
    assert_eq!(engine.status().blocks.len(), 1, "the newest stays");
}
