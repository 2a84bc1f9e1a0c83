//! Compaction beside everything else: answers stay as they are while blocks are merged, and files
//! go when nobody reads them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aetherdb::clock::{Clock, ManualClock};
use aetherdb::storage::vfs::{Fault, SimVfs, Vfs};
use aetherdb::storage::{Engine, ReplayProgress, StorageOptions};
use aetherdb::telemetry::Telemetry;

use super::{Model, add, batch, contents, open, options};
use crate::support::Random;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A midnight before the clock of these tests.
const FIRST_MS: i64 = 1_699_488_000_000;

fn block_files(disk: &SimVfs) -> usize {
    disk.list(Path::new("/data/blocks")).unwrap().len()
}

/// Writes and flushes `flushes` times into the hours `hours`, some samples over others.
async fn fill(engine: &Engine, model: &mut Model, flushes: u64, hours: u64, random: &mut Random) {
    for _ in 0..flushes {
        let rows = (0..200)
            .map(|_| {
                let minute = i64::try_from(random.below(hours * 60)).unwrap();
                let series = u32::try_from(random.below(10)).unwrap();
                (series, FIRST_MS + minute * 60_000, random.below(1_000))
            })
            .collect();
        engine.append(batch(engine, &rows).unwrap()).await.unwrap();
        add(model, &rows);
        engine.flush().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_day_becomes_one_block_and_old_files_go() {
    let disk = SimVfs::new(1);
    let engine = open(options(), Arc::new(disk.clone())).unwrap();
    let mut model = Model::new();
    fill(&engine, &mut model, 6, 60, &mut Random(1)).await;
    let before = engine.status();
    assert!(before.blocks.len() > 100, "{}", before.blocks.len());
    let old_view = engine.snapshot();

    let report = engine.compact().await.unwrap();
    assert_eq!((report.blocks_before, report.blocks_after), (before.blocks.len(), 3));
    assert!(report.bytes_after < report.bytes_before, "{report:?}");
    assert_eq!(report.samples, before.block_samples);
    let status = engine.status();
    assert_eq!(status.block_samples, model.len() as u64, "overwritten samples are gone");
    assert!(status.levels.iter().map(|level| (level.level, level.blocks)).eq([(2, 3)]));
    assert_eq!(contents(&engine.snapshot()).unwrap(), model);

    // A reader from before still reads the old files; they go with it.
    assert_eq!(block_files(&disk), before.blocks.len() + 3);
    assert_eq!(contents(&old_view).unwrap(), model);
    drop(old_view);
    assert_eq!(block_files(&disk), 3);
    let again = engine.compact().await.unwrap();
    assert_eq!((again.merges, again.blocks_after), (0, 3));
    engine.close().await.unwrap();

    let engine = open(options(), Arc::new(disk.clone())).unwrap();
    assert_eq!(engine.status().recovery.orphans_removed, 0);
    assert_eq!(contents(&engine.snapshot()).unwrap(), model);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_writers_do_not_notice() {
    let disk = SimVfs::new(2);
    let engine = open(options(), Arc::new(disk.clone())).unwrap();
    let mut model = Model::new();
    let mut random = Random(2);
    fill(&engine, &mut model, 8, 50, &mut random).await;
    let (model, done) = (Arc::new(model), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (engine, done) = (Arc::clone(&engine), Arc::clone(&done));
            let model = Arc::clone(&model);
            tokio::task::spawn_blocking(move || {
                let mut reads = 0;
                while !done.load(Ordering::Relaxed) {
                    // What is written meanwhile lies behind all that the model knows.
                    let mut found = contents(&engine.snapshot()).unwrap();
                    found.retain(|(_, at), _| *at < FIRST_MS + 4 * DAY_MS);
                    assert_eq!(found, *model);
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for round in 0..6i64 {
        let at = FIRST_MS + 4 * DAY_MS + round * 60_000;
        let rows = (0..3).map(|series| (series, at, round.unsigned_abs())).collect();
        engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
        engine.compact().await.unwrap();
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    engine.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_compaction_that_fails_leaves_everything_and_says_why() {
    let disk = SimVfs::new(3);
    let engine = open(options(), Arc::new(disk.clone())).unwrap();
    let mut model = Model::new();
    fill(&engine, &mut model, 3, 20, &mut Random(3)).await;
    let blocks = engine.status().blocks.len();
    let mut failures = 0;
    for operation in 1.. {
        // Each operation of a compaction in turn: its flush, its file, its edit.
        disk.fail_at(disk.operations() + operation, Fault::Io);
        let compacted = engine.compact().await;
        assert_eq!(contents(&engine.snapshot()).unwrap(), model, "operation {operation}");
        if compacted.is_ok() {
            break;
        }
        failures += 1;
        assert_eq!(engine.status().blocks.len(), blocks, "operation {operation}");
    }
    assert!(failures >= 4, "{failures} failures");
    assert_eq!(engine.status().compaction.error, None);
    assert_eq!(engine.status().blocks.len(), 1);
    engine.close().await.unwrap();
    let engine = open(options(), Arc::new(disk.clone())).unwrap();
    assert_eq!(contents(&engine.snapshot()).unwrap(), model);
    assert_eq!(block_files(&disk), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_full_disk_is_left_alone() {
    let disk = SimVfs::new(4);
    let options = StorageOptions { disk_free_bytes_min: 1 << 20, ..options() };
    let engine = open(options, Arc::new(disk.clone())).unwrap();
    let mut model = Model::new();
    fill(&engine, &mut model, 3, 20, &mut Random(4)).await;
    let blocks = engine.status().blocks.len();
    disk.set_capacity(Some((1 << 20) + 4096));
    let error = engine.compact().await.unwrap_err().to_string();
    assert!(error.contains("disk-free-bytes-min"), "{error}");
    assert_eq!(engine.status().blocks.len(), blocks);
    disk.set_capacity(None);
    engine.compact().await.unwrap();
    assert_eq!(contents(&engine.snapshot()).unwrap(), model);
}

/// The thread does by itself what is due, once the clock says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn windows_that_are_over_are_compacted_unasked() {
    let disk = SimVfs::new(5);
    let clock = Arc::new(ManualClock::at(FIRST_MS + 12 * HOUR_MS));
    let engine = Engine::open(
        options(),
        Arc::new(disk.clone()),
        Arc::clone(&clock) as Arc<dyn Clock>,
        Arc::new(Telemetry::default()),
        &ReplayProgress::default(),
    )
    .unwrap();
    let mut model = Model::new();
    fill(&engine, &mut model, 2, 12, &mut Random(5)).await;
    clock.advance(Duration::from_secs(3600));
    let levels = || engine.status().levels.iter().map(|l| (l.level, l.blocks)).collect::<Vec<_>>();
    for _ in 0..600 {
        if levels() == [(1, 2)] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(levels(), [(1, 2)]);
    assert_eq!(contents(&engine.snapshot()).unwrap(), model);
    engine.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_damaged_block_stays_where_it_is() {
    let disk = SimVfs::new(6);
    let engine = open(options(), Arc::new(disk.clone())).unwrap();
    let mut model = Model::new();
    fill(&engine, &mut model, 1, 6, &mut Random(6)).await;
    engine.close().await.unwrap();
    let file = disk.list(Path::new("/data/blocks")).unwrap()[1].path.clone();
    let mut bytes = disk.bytes(&file).unwrap();
    bytes[200] ^= 1;
    disk.set_bytes(&file, &bytes);

    let engine = open(options(), Arc::new(disk.clone())).unwrap();
    engine.compact().await.unwrap();
    let status = engine.status();
    assert_eq!((status.blocks.len(), status.quarantined.len()), (2, 1));
    // All three come of one flush: what stood before the damaged one in order must stay before it.
    let levels: Vec<_> = status.blocks.iter().map(|block| block.level).collect();
    assert_eq!(levels, [0, 2]);
    assert_eq!(disk.bytes(&file), Some(bytes), "a human may want to look at it");
    assert!(contents(&engine.snapshot()).unwrap_err().contains("may be missing"));
    engine.close().await.unwrap();
}
