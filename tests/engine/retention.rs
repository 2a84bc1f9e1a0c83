//! Retention: old days go, a day half past its time is trimmed, and the oldest of too many go; what
//! stays is untouched.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use aetherdb::clock::{Clock, ManualClock};
use aetherdb::model::{Matcher, TimeRange};
use aetherdb::storage::vfs::{SimVfs, Vfs};
use aetherdb::storage::{Deletion, Engine, Head, Retention, StorageOptions};

use super::{
    Model, NOW_MS, Rows, add, batch, contents, labels, open, open_at, options, random_deletion,
    remove, selection,
};
use crate::support::{Random, setting};

const HOUR_MS: i64 = 3_600_000;
/// The floor rises in such steps.
const STEP_MS: i64 = 2 * HOUR_MS;
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
    // Four days back from the evening: of the second day two hours are left.
    model.retain(|(_, at), _| *at >= FIRST_MS + DAY_MS + 22 * HOUR_MS);
    assert!(contents(&engine.snapshot()).unwrap() == model);
    let status = engine.status();
    assert_eq!(status.retention.blocks, 2);
    assert!(status.retention.samples >= 144 && status.retention.bytes > 0);
    let files = || disk.list(Path::new("/data/blocks")).unwrap().len();
    assert_eq!(files(), status.blocks.len());
    engine.close().await.unwrap();

    let engine = open(keep(raw(1)), Arc::new(disk.clone())).unwrap();
    engine.compact().await.unwrap();
    model.retain(|(_, at), _| *at >= FIRST_MS + 4 * DAY_MS + 22 * HOUR_MS);
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

    // Flushed, the log is as short as it can be, and it counts.
    let log = all.wal.bytes;
    assert_eq!(all.retention.stored_bytes, all.block_bytes + log);
    let options = |bytes: u64| StorageOptions { retention_bytes: log + bytes, ..options() };
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

    let left = status.block_bytes;
    let engine = open(options(left - 1), Arc::new(disk.clone())).unwrap();
    engine.compact().await.unwrap();
    assert!(engine.status().blocks.len() < status.blocks.len());
    engine.close().await.unwrap();

    let engine = open(options(1), Arc::new(disk.clone())).unwrap();
    engine.compact().await.unwrap();
    assert_eq!(engine.status().blocks.len(), 1, "the newest stays");
}

/// Everything that a snapshot lists, and counts for a deletion, is what the model has.
async fn lists(engine: &Engine, model: &Model) {
    let snapshot = engine.snapshot();
    assert!(contents(&snapshot).unwrap() == *model);
    let numbers: BTreeSet<u32> = model.keys().map(|(series, _)| *series).collect();
    let texts: BTreeSet<String> = numbers.iter().map(u32::to_string).collect();
    let selected = snapshot.select(&[], TimeRange::ALL).unwrap();
    let selected: BTreeSet<_> = selected.into_iter().map(|series| series.labels).collect();
    assert_eq!(selected, numbers.iter().map(|number| labels(*number)).collect());
    assert_eq!(snapshot.label_values("n", &[], TimeRange::ALL).unwrap(), texts);
    for number in 0..8u32 {
        let matchers = [Matcher::equal("n", number.to_string())];
        let names = snapshot.label_names(&matchers, TimeRange::ALL).unwrap();
        assert_eq!(names.is_empty(), !numbers.contains(&number), "series {number}");
    }
    let all = Deletion { matchers: Vec::new(), range: TimeRange::ALL };
    let counted = engine.count_deletions(vec![all]).await.unwrap()[0];
    assert_eq!((counted.series, counted.samples), (numbers.len() as u64, model.len() as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_day_half_past_its_time_is_trimmed() {
    let disk = SimVfs::new(3);
    let engine = open(options(), Arc::new(disk.clone())).unwrap();
    let mut model = six_days(&engine).await;
    let day = FIRST_MS + DAY_MS;
    // Ends before the floor, begins after it, and has a sample on either side of it.
    let floor = day + 22 * HOUR_MS;
    let rows = vec![(3, day + HOUR_MS, 1), (4, floor, 2), (5, floor - 1, 3), (5, floor + 1, 4)];
    write(&engine, &mut model, rows).await;
    engine.compact().await.unwrap();
    engine.close().await.unwrap();

    let engine = open(keep(raw(4)), Arc::new(disk.clone())).unwrap();
    engine.compact().await.unwrap();
    let all = model.len() as u64;
    model.retain(|(_, at), _| *at >= floor);
    assert!(!model.keys().any(|(series, _)| *series == 3));
    lists(&engine, &model).await;
    let status = engine.status();
    assert_eq!(status.retention.raw_floor_ms, Some(floor));
    assert_eq!(status.time_range.unwrap().start(), floor);
    assert_eq!(status.retention.samples, 144, "the first day is dropped");
    assert_eq!(status.block_samples, all - 144, "the second is as it was");
    let before = TimeRange::new(day, floor - 1).unwrap();
    assert!(selection(&engine.snapshot(), &[], before).unwrap().is_empty());
    let copy = engine.checkpoint(Head::Flushed).await.unwrap();
    engine.close().await.unwrap();

    // Neither a restart nor a longer retention, nor a copy, brings anything back.
    for options in [
        options(),
        keep(raw(6)),
        StorageOptions { data_dir: format!("/data/snapshots/{copy}").into(), ..options() },
    ] {
        let engine = open(options, Arc::new(disk.clone())).unwrap();
        lists(&engine, &model).await;
        engine.close().await.unwrap();
    }

    // What writes the day anew leaves out what is out of sight.
    let engine = open(keep(raw(6)), Arc::new(disk.clone())).unwrap();
    write(&engine, &mut model, vec![(1, floor + 5, 5)]).await;
    engine.compact().await.unwrap();
    lists(&engine, &model).await;
    assert_eq!(engine.status().block_samples, model.len() as u64);
    engine.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn samples_in_memory_are_trimmed_too_and_a_lost_clock_keeps_nobody_out() {
    let disk = SimVfs::new(4);
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let engine = open_at(keep(raw(1)), Arc::new(disk.clone()), Arc::clone(&clock) as _).unwrap();
    let mut model = Model::new();
    let start = NOW_MS - NOW_MS.rem_euclid(STEP_MS) - DAY_MS;
    let rows: Rows = vec![(0, start - 1, 1), (1, start, 2), (2, NOW_MS, 3)];
    engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
    add(&mut model, &rows);
    engine.flush().await.unwrap();
    let rows: Rows = vec![(3, start - 2, 4), (4, start + 1, 5)];
    engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
    add(&mut model, &rows);
    engine.compact().await.unwrap();
    model.retain(|(_, at), _| *at >= start);
    lists(&engine, &model).await;

    // The clock was a year ahead for a while: the floor stands behind the last sample, no further.
    clock.set(NOW_MS + 365 * DAY_MS);
    engine.compact().await.unwrap();
    lists(&engine, &Model::new()).await;
    clock.set(NOW_MS);
    assert!(engine.dropped_before() <= NOW_MS + STEP_MS, "{}", engine.dropped_before());
    let at = engine.dropped_before();
    let rows: Rows = vec![(0, at, 1)];
    engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
    engine.compact().await.unwrap();
    lists(&engine, &Model::from([((0, at), 1)])).await;
    engine.close().await.unwrap();
}

/// Writes, deletions, flushes, compactions and restarts while time goes on and retention changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_with_retention_equals_a_map_without_what_is_past_its_time() {
    let seed = setting("AETHER_MODEL_SEED", 11);
    for case in 0..setting("AETHER_MODEL_CASES", 200) / 4 {
        let mut random = Random(seed.wrapping_add(case));
        let mut disk = SimVfs::new(seed);
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let mut days = 1 + i64::try_from(random.below(3)).unwrap();
        let open = |disk: &SimVfs, days| {
            open_at(keep(raw(days)), Arc::new(disk.clone()), Arc::clone(&clock) as _).unwrap()
        };
        let mut engine = open(&disk, days);
        let (mut model, mut floor) = (Model::new(), i64::MIN);
        for step in 0..20 {
            match random.below(10) {
                0 => _ = engine.flush().await.unwrap(),
                restart @ (1 | 2) => {
                    match restart {
                        1 => engine.close().await.unwrap(),
                        // As after `kill -9`; what background threads still do, they do elsewhere.
                        _ => disk = disk.copy(),
                    }
                    drop(engine);
                    days = 1 + i64::try_from(random.below(3)).unwrap();
                    engine = open(&disk, days);
                }
                3 => {
                    let mut deletion = random_deletion(&mut random, 8);
                    deletion.range = TimeRange::new(floor, clock.now_ms() - DAY_MS / 2).unwrap();
                    engine.delete(vec![deletion.clone()]).await.unwrap();
                    remove(&mut model, &[deletion]);
                }
                _ => {
                    // As a server takes them: not past their time, nor what is dropped already.
                    let oldest = (clock.now_ms() - days * DAY_MS).max(floor);
                    let length = (clock.now_ms() - oldest).unsigned_abs();
                    let row = |_| {
                        let at = oldest + i64::try_from(random.below(length)).unwrap();
                        (u32::try_from(random.below(8)).unwrap(), at, random.below(9))
                    };
                    let mut rows: Rows = (0..20).map(row).collect();
                    rows.push((7, clock.now_ms(), 1));
                    engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
                    add(&mut model, &rows);
                }
            }
            if random.below(3) == 0 && !model.is_empty() {
                let hours = i64::try_from(random.below(40)).unwrap();
                let newest = clock.now_ms();
                let now_ms = newest + hours * HOUR_MS;
                clock.set(now_ms);
                engine.compact().await.unwrap();
                let wanted = now_ms - days * DAY_MS;
                let wanted = wanted - wanted.rem_euclid(STEP_MS);
                assert!(engine.dropped_before() >= floor, "case {case}, step {step}");
                floor = engine.dropped_before();
                model.retain(|(_, at), _| *at >= wanted);
                let rows: Rows = vec![(7, now_ms, 1)];
                engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
                add(&mut model, &rows);
            }
            let snapshot = engine.snapshot();
            assert!(contents(&snapshot).unwrap() == model, "case {case}, step {step}");
            let numbers: BTreeSet<_> = model.keys().map(|(series, _)| series.to_string()).collect();
            let listed = snapshot.label_values("n", &[], TimeRange::ALL).unwrap();
            assert_eq!(listed, numbers, "case {case}, step {step}");
        }
        engine.close().await.unwrap();
    }
}
