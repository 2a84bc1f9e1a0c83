//! Samples go when rollups that are kept longer have them, and rows stay what they were.

use std::sync::Arc;
use std::time::Duration;

use aetherdb::clock::ManualClock;
use aetherdb::model::{Labels, Matcher, Resolution, SampleBatch, TimeRange};
use aetherdb::storage::vfs::{SimVfs, Vfs};
use aetherdb::storage::{Deletion, Engine, GivenStore, ReplayProgress, Retention, StorageOptions};
use aetherdb::telemetry::Telemetry;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};

use crate::sql::script::{Sql, cells};

use super::{EVERYTHING, HOUR, Model, T0, labels, naive, rows, same, series_ref};

const DAY: i64 = 24 * HOUR;
/// How long an upload takes: long enough that samples would go before it, if they did not wait.
const UPLOAD: Duration = Duration::from_millis(150);

fn open(disk: &SimVfs, io: &Arc<dyn ObjectStore>, retention: Retention, now: i64) -> Arc<Engine> {
    open_within(disk, io, retention, 0, now)
}

/// The same with a bound of the total size.
fn open_within(
    disk: &SimVfs,
    io: &Arc<dyn ObjectStore>,
    retention: Retention,
    retention_bytes: u64,
    now: i64,
) -> Arc<Engine> {
    let options = StorageOptions {
        retention_bytes,
        wal_segment_bytes: 64 << 10,
        disk_free_bytes_min: 0,
        rollup_store: Some(GivenStore(Arc::clone(io))),
        retention,
        ..StorageOptions::new("/data")
    };
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let (clock, telemetry) = (Arc::new(ManualClock::at(now)), Arc::new(Telemetry::default()));
    Engine::open(options, vfs, clock as _, telemetry, &ReplayProgress::default()).unwrap()
}

async fn write(engine: &Engine, model: &mut Model, rows: &[(Labels, i64, f64)]) {
    let mut batch = SampleBatch::default();
    for (labels, at, value) in rows {
        batch.push(series_ref(engine, labels), *at, *value);
        model.insert((labels.clone(), *at), *value);
    }
    engine.append(batch).await.unwrap();
}

/// Every ten minutes of a day's first hours, its very end included.
fn day(start: i64) -> Vec<(Labels, i64, f64)> {
    let at = |row: i64| if row == 20 { start + DAY } else { start + row * 600_000 };
    let row = |row: i64| {
        let series = if row % 2 == 0 { "even" } else { "odd" };
        (labels("m", &[("s", series)]), at(row), (row * row % 7) as f64)
    };
    (0..=20).map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_wait_for_the_rollups_that_outlive_them() {
    let disk = SimVfs::new(1);
    let config = ThrottleConfig { wait_put_per_call: UPLOAD, ..ThrottleConfig::default() };
    let io: Arc<dyn ObjectStore> = Arc::new(ThrottledStore::new(InMemory::new(), config));
    let retention =
        Retention { raw_ms: Some(2 * DAY), one_minute_ms: Some(3 * DAY), ..Retention::default() };
    let first = T0.div_euclid(DAY) * DAY;
    let engine = open(&disk, &io, retention, first + 4 * DAY + HOUR);
    let mut model = Model::new();
    for number in 0..4 {
        write(&engine, &mut model, &day(first + number * DAY)).await;
    }
    let before = model.clone();
    engine.compact().await.unwrap();
    let status = engine.status();
    assert_eq!(status.retention.samples, 0, "{:?}", status.retention);
    let waiting = status.retention.waiting.unwrap();
    assert!(waiting.contains("rollups"), "{waiting}");

    engine.downsample(Arc::default()).await.unwrap();
    engine.compact().await.unwrap();
    let status = engine.status();
    assert_eq!(status.retention.waiting, None);
    assert_eq!(status.time_range.unwrap().start(), first + 2 * DAY, "two days are gone");
    let check = async |engine: &Engine| {
        let snapshot = engine.snapshot();
        for resolution in [Resolution::FiveMinutes, Resolution::OneHour] {
            let found = rows(&snapshot, resolution, &[], EVERYTHING).await;
            same(&naive(&before, resolution), &found, resolution);
            let clean = snapshot.rollups().unwrap().clean(resolution);
            assert!(clean.iter().any(|span| span.contains(first + 600_000)), "{clean:?}");
        }
        let minutes = rows(&snapshot, Resolution::OneMinute, &[], EVERYTHING).await;
        assert!(!minutes.is_empty() && minutes.len() < naive(&before, Resolution::OneMinute).len());
    };
    check(&engine).await;

    // Late for a day whose samples are gone: rows must not be made of what is left of it.
    write(&engine, &mut model, &[(labels("m", &[("s", "even")]), first + HOUR, 99.0)]).await;
    engine.downsample(Arc::default()).await.unwrap();
    check(&engine).await;
    engine.compact().await.unwrap();
    assert_eq!(engine.status().time_range.unwrap().start(), first + 2 * DAY);
    engine.close().await.unwrap();
    let engine = open(&disk, &io, retention, first + 4 * DAY + HOUR);
    engine.downsample(Arc::default()).await.unwrap();
    check(&engine).await;
    engine.close().await.unwrap();
}

/// A metric that ended long ago is listed where it still has rows, and nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metric_that_only_rows_still_know_is_listed() {
    let (disk, io) = (SimVfs::new(1), Arc::new(InMemory::new()) as Arc<dyn ObjectStore>);
    let retention =
        Retention { raw_ms: Some(2 * DAY), one_minute_ms: Some(3 * DAY), ..Retention::default() };
    let first = T0.div_euclid(DAY) * DAY;
    let engine = open(&disk, &io, retention, first + 4 * DAY + HOUR);
    let mut model = Model::new();
    let ended = labels("ended", &[("s", "x"), ("only", "then")]);
    write(&engine, &mut model, &[(ended, first + HOUR, 1.0)]).await;
    for number in 0..4 {
        write(&engine, &mut model, &day(first + number * DAY)).await;
    }
    engine.downsample(Arc::default()).await.unwrap();
    engine.compact().await.unwrap();
    let (sql, snapshot) = (Sql::new(), engine.snapshot());
    let names = async |query: &str| {
        let rows = cells(&sql.query(&snapshot, query).await.unwrap());
        rows.iter().map(|row| row[2].clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names("SHOW TABLES FROM raw").await, "samples m");
    assert_eq!(names("SHOW TABLES FROM rollup_1m").await, "samples m");
    assert_eq!(names("SHOW TABLES FROM rollup_1h").await, "samples ended m");
    assert_eq!(names("SHOW TABLES FROM rollup_1h LIKE 'e%'").await, "ended");
    let columns = async |of: &str| {
        let query = format!(
            "SELECT table_name, column_name, table_schema FROM information_schema.columns \
             WHERE column_name = 'max' {of} ORDER BY table_schema"
        );
        names(&query).await
    };
    assert_eq!(columns("AND table_name = 'ended'").await, "rollup_1h rollup_5m");
    assert_eq!(columns("AND table_name LIKE 'end%'").await, "rollup_1h rollup_5m");
    assert_eq!(columns("AND table_name = 'm'").await, "rollup_1h rollup_1m rollup_5m");
    assert_eq!(columns("AND table_name = 'never'").await, "");
    assert!(snapshot.warnings().is_empty(), "{:?}", snapshot.warnings());
    engine.close().await.unwrap();
}

/// What is left of a bucket can no longer be told once its samples are gone: it goes as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_takes_whole_buckets_where_samples_are_gone() {
    let disk = SimVfs::new(1);
    let io: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let retention = Retention { raw_ms: Some(2 * DAY), ..Retention::default() };
    let first = T0.div_euclid(DAY) * DAY;
    let engine = open(&disk, &io, retention, first + 4 * DAY + HOUR);
    let mut model = Model::new();
    for number in 0..4 {
        write(&engine, &mut model, &day(first + number * DAY)).await;
    }
    engine.downsample(Arc::default()).await.unwrap();
    engine.compact().await.unwrap();
    assert_eq!(engine.status().time_range.unwrap().start(), first + 2 * DAY, "two days are gone");

    // From the middle of a bucket to the middle of another, at every resolution.
    let range = TimeRange::new(first + HOUR + 20_001, first + 3 * HOUR - 1).unwrap();
    let even = labels("m", &[("s", "even")]);
    let matchers = vec![Matcher::equal("s", "even")];
    engine.delete(vec![Deletion { matchers, range }]).await.unwrap();
    let left = |resolution: Resolution| {
        let mut wanted = naive(&model, resolution);
        wanted.retain(|(labels, end), _| {
            let bucket = TimeRange::new(end - resolution.ms() + 1, *end).unwrap();
            *labels != even || !bucket.overlaps(range)
        });
        assert!(wanted.len() < naive(&model, resolution).len(), "nothing was deleted");
        wanted
    };
    let is_clean = |resolution| {
        let view = engine.snapshot().rollups().unwrap().clone();
        view.clean(resolution).iter().any(|span| span.contains(first + 2 * HOUR))
    };
    for resolution in Resolution::ALL {
        assert!(!is_clean(resolution), "{resolution}: hidden rows are served");
    }
    engine.downsample(Arc::default()).await.unwrap();
    for resolution in Resolution::ALL {
        assert!(is_clean(resolution), "{resolution}");
        let found = rows(&engine.snapshot(), resolution, &[], EVERYTHING).await;
        same(&left(resolution), &found, resolution);
    }
    // Neither a restart nor another look brings them back.
    engine.close().await.unwrap();
    let engine = open(&disk, &io, retention, first + 4 * DAY + HOUR);
    engine.downsample(Arc::default()).await.unwrap();
    for resolution in Resolution::ALL {
        let found = rows(&engine.snapshot(), resolution, &[], EVERYTHING).await;
        same(&left(resolution), &found, resolution);
    }
    engine.close().await.unwrap();
}

/// `--retention=1m=none`: coarser rows are made of rows that are never stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolution_that_is_not_kept_is_not_written() {
    let disk = SimVfs::new(1);
    let io: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let retention =
        Retention { raw_ms: Some(2 * DAY), one_minute_ms: Some(0), ..Retention::default() };
    let first = T0.div_euclid(DAY) * DAY;
    let engine = open(&disk, &io, retention, first + 4 * DAY + HOUR);
    let mut model = Model::new();
    for number in 0..4 {
        write(&engine, &mut model, &day(first + number * DAY)).await;
    }
    // In the window that is still being written, too.
    write(&engine, &mut model, &[(labels("m", &[]), first + 4 * DAY + HOUR, 1.0)]).await;
    let built = engine.downsample(Arc::default()).await.unwrap();
    assert!(built.spans > 0);
    let check = async |engine: &Engine| {
        let snapshot = engine.snapshot();
        assert!(snapshot.rollups().unwrap().files(Resolution::OneMinute).is_empty());
        for resolution in [Resolution::FiveMinutes, Resolution::OneHour] {
            let found = rows(&snapshot, resolution, &[], EVERYTHING).await;
            same(&naive(&model, resolution), &found, resolution);
        }
    };
    check(&engine).await;
    assert_eq!(engine.downsample(Arc::default()).await.unwrap().spans, 0, "nothing is missing");
    engine.compact().await.unwrap();
    assert_eq!(engine.status().retention.waiting, None);
    assert_eq!(engine.status().time_range.unwrap().start(), first + 2 * DAY);
    check(&engine).await;

    // Who wants them after all gets them from where raw samples are left.
    engine.close().await.unwrap();
    let retention = Retention { one_minute_ms: None, ..retention };
    let engine = open(&disk, &io, retention, first + 6 * DAY);
    write(&engine, &mut model, &day(first + 5 * DAY)).await;
    engine.downsample(Arc::default()).await.unwrap();
    let found = rows(&engine.snapshot(), Resolution::OneMinute, &[], EVERYTHING).await;
    assert!(found.keys().all(|(_, end)| *end > first + 4 * DAY) && !found.is_empty());
    engine.close().await.unwrap();
}

/// Every half hour of four days.
fn half_hours(first: i64) -> Vec<(Labels, i64, f64)> {
    (1..4 * 48).map(|row| (labels("m", &[]), first + row * HOUR / 2, (row % 7) as f64)).collect()
}

/// A day's file whose first half is past its time stays until all of it is, and nobody sees that half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_past_their_time_are_out_of_sight() {
    let disk = SimVfs::new(1);
    let io: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    // No file goes, so that only what is out of sight makes the manifest remember it.
    let retention = Retention { one_minute_ms: Some(3 * DAY + 12 * HOUR), ..Retention::default() };
    let first = T0.div_euclid(DAY) * DAY;
    let floor = first + 12 * HOUR;
    let now = first + 4 * DAY + HOUR;
    let engine = open(&disk, &io, retention, now);
    let mut model = Model::new();
    write(&engine, &mut model, &half_hours(first)).await;
    engine.downsample(Arc::default()).await.unwrap();
    engine.compact().await.unwrap();
    engine.downsample(Arc::default()).await.unwrap();
    let check = async |engine: &Engine| {
        let snapshot = engine.snapshot();
        let view = snapshot.rollups().unwrap();
        let minute = Resolution::OneMinute;
        let starts = view.files(minute).into_iter().map(|file| file.span().start);
        assert!(starts.min().unwrap() < floor - HOUR, "the file is gone");
        let mut wanted = naive(&model, minute);
        wanted.retain(|(_, end), _| *end > floor);
        same(&wanted, &rows(&snapshot, minute, &[], EVERYTHING).await, minute);
        for spans in [view.clean(minute), view.covered(minute)] {
            assert_eq!(spans.first().unwrap().start, floor, "{spans:?}");
        }
        let fives = Resolution::FiveMinutes;
        same(&naive(&model, fives), &rows(&snapshot, fives, &[], EVERYTHING).await, fives);
    };
    check(&engine).await;
    engine.close().await.unwrap();
    // Nothing comes back when they are to be kept longer, not even where raw samples are left.
    let engine = open(&disk, &io, Retention::default(), now);
    check(&engine).await;
    assert_eq!(engine.downsample(Arc::default()).await.unwrap().spans, 0);
    check(&engine).await;
    engine.close().await.unwrap();
    // They hold up nothing either.
    let raw_ms = Some(2 * DAY);
    let engine = open(&disk, &io, Retention { raw_ms, ..Retention::default() }, now);
    engine.compact().await.unwrap();
    assert_eq!(engine.status().retention.waiting, None);
    assert_eq!(engine.status().time_range.unwrap().start(), first + 2 * DAY);
    check(&engine).await;
    engine.close().await.unwrap();
}

/// At every moment of the trimming a sample is seen, or is in the rows that outlive it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_are_hidden_after_the_rollups_have_them() {
    let disk = SimVfs::new(1);
    let config = ThrottleConfig { wait_put_per_call: UPLOAD, ..ThrottleConfig::default() };
    let io: Arc<dyn ObjectStore> = Arc::new(ThrottledStore::new(InMemory::new(), config));
    let first = T0.div_euclid(DAY) * DAY;
    let now = first + 4 * DAY + HOUR;
    let engine = open(&disk, &io, Retention::default(), now);
    let mut model = Model::new();
    write(&engine, &mut model, &half_hours(first)).await;
    engine.downsample(Arc::default()).await.unwrap();
    // Late, and not in the rollups when the retention is cut down.
    let late = (labels("m", &[]), first + DAY + 5 * HOUR + 1, 99.0);
    write(&engine, &mut model, &[late]).await;
    engine.close().await.unwrap();
    let retention = Retention { raw_ms: Some(2 * DAY + 12 * HOUR), ..Retention::default() };
    let engine = open(&disk, &io, retention, now);
    let floor = first + DAY + 12 * HOUR;
    let mut floors = Vec::new();
    for round in 0.. {
        let snapshot = engine.snapshot();
        let raw = snapshot.time_range().unwrap().start();
        if floors.last() != Some(&raw) {
            floors.push(raw);
        }
        let mut hidden = model.clone();
        hidden.retain(|(_, at), _| *at < raw);
        for resolution in Resolution::ALL {
            let mut found = rows(&snapshot, resolution, &[], EVERYTHING).await;
            let mut wanted = naive(&hidden, resolution);
            // A bucket that ends at the first visible sample's time has that sample in it.
            wanted.retain(|(_, end), _| *end < raw);
            found.retain(|key, _| wanted.contains_key(key));
            same(&wanted, &found, resolution);
        }
        if raw == floor {
            break;
        }
        assert!(round < 100, "{floors:?}");
        engine.compact().await.unwrap();
    }
    assert!(floors.is_sorted());
    assert_eq!(engine.status().retention.raw_floor_ms, Some(floor));
    engine.close().await.unwrap();
}

/// Rollups that were off while samples went are not built from what is left of a span, and rows of
/// what has gone stand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_stand_when_samples_went_while_rollups_were_off() {
    let disk = SimVfs::new(1);
    let io: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let first = T0.div_euclid(DAY) * DAY;
    let now = first + 4 * DAY + HOUR;
    let engine = open(&disk, &io, Retention::default(), now);
    let mut model = Model::new();
    write(&engine, &mut model, &half_hours(first)).await;
    engine.downsample(Arc::default()).await.unwrap();
    let before = model.clone();
    engine.close().await.unwrap();

    let without_rollups = |retention| {
        let options = StorageOptions {
            wal_segment_bytes: 64 << 10,
            disk_free_bytes_min: 0,
            rollups: false,
            retention,
            ..StorageOptions::new("/data")
        };
        let (clock, telemetry) = (Arc::new(ManualClock::at(now)), Arc::new(Telemetry::default()));
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        Engine::open(options, vfs, clock as _, telemetry, &ReplayProgress::default()).unwrap()
    };
    // Makes rows of its span out of date, in one block with the others.
    let engine = without_rollups(Retention::default());
    write(&engine, &mut model, &[(labels("m", &[]), first + DAY + 5 * HOUR + 1, 99.0)]).await;
    engine.compact().await.unwrap();
    engine.close().await.unwrap();
    let retention = Retention { raw_ms: Some(2 * DAY + 12 * HOUR), ..Retention::default() };
    let engine = without_rollups(retention);
    engine.compact().await.unwrap();
    let floor = first + DAY + 12 * HOUR;
    assert_eq!(engine.status().retention.raw_floor_ms, Some(floor));
    engine.close().await.unwrap();

    let engine = open(&disk, &io, retention, now);
    for _ in 0..2 {
        let snapshot = engine.snapshot();
        for resolution in Resolution::ALL {
            let found = rows(&snapshot, resolution, &[], EVERYTHING).await;
            same(&naive(&before, resolution), &found, resolution);
            let expired = snapshot.rollups().unwrap().expired(resolution);
            assert!(expired.iter().any(|span| span.contains(first + DAY + 5 * HOUR)));
        }
        engine.downsample(Arc::default()).await.unwrap();
    }
    engine.close().await.unwrap();
}

/// Starts of the days that raw samples and rollups of each resolution begin with, once nothing more
/// is to go.
async fn first_days(engine: &Engine, first: i64) -> (i64, Vec<i64>) {
    for _ in 0..3 {
        engine.compact().await.unwrap();
        engine.downsample(Arc::default()).await.unwrap();
    }
    let day = |at: i64| (at - first).div_euclid(DAY);
    let snapshot = engine.snapshot();
    let view = snapshot.rollups().unwrap();
    let start = |resolution| view.covered(resolution).first().map(|span| span.start);
    let rollups = Resolution::ALL.map(|resolution| start(resolution).map_or(99, day));
    (day(snapshot.time_range().unwrap().start()), rollups.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_go_of_blocks_log_and_rollups_together() {
    let disk = SimVfs::new(1);
    let io: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let first = T0.div_euclid(DAY) * DAY;
    let now = first + 4 * DAY + 3 * HOUR;
    let engine = open(&disk, &io, Retention::default(), now);
    let mut model = Model::new();
    write(&engine, &mut model, &half_hours(first)).await;
    assert_eq!(first_days(&engine, first).await, (0, vec![0; 3]));
    let status = engine.status();
    let rollups = engine.rollup_status().unwrap();
    let rollup_bytes: u64 = rollups.resolutions.values().map(|of| of.bytes).sum();
    let all = status.block_bytes + status.wal.bytes + rollup_bytes;
    assert_eq!(status.retention.stored_bytes, all);
    assert!(rollup_bytes > 3 * status.block_bytes, "{rollup_bytes} of {all}");
    engine.close().await.unwrap();

    // All of it fits; the blocks alone would.
    let engine = open_within(&disk, &io, Retention::default(), all, now);
    assert_eq!(first_days(&engine, first).await, (0, vec![0; 3]));
    engine.close().await.unwrap();

    // A little less: the oldest day, samples and rollups.
    let bytes_max = all - all / 8;
    let engine = open_within(&disk, &io, Retention::default(), bytes_max, now);
    assert_eq!(first_days(&engine, first).await, (1, vec![1; 3]));
    let (status, rollups) = (engine.status(), engine.rollup_status().unwrap());
    assert!(status.retention.stored_bytes <= bytes_max);
    assert_eq!((status.retention.blocks, rollups.files_dropped), (1, 3));
    assert!(status.retention.bytes > 0 && rollups.bytes_dropped > status.retention.bytes);
    model.retain(|(_, at), _| *at >= first + DAY);
    for resolution in Resolution::ALL {
        let mut wanted = naive(&model, resolution);
        let found = rows(&engine.snapshot(), resolution, &[], EVERYTHING).await;
        // The first instant of the second day belongs to the first day's last bucket.
        wanted.retain(|(_, end), _| *end > first + DAY);
        same(&wanted, &found, resolution);
    }
    engine.close().await.unwrap();

    // Rollups of samples that expired are older than all samples, and go alone.
    let retention = Retention { raw_ms: Some(DAY + 3 * HOUR), ..Retention::default() };
    let engine = open(&disk, &io, retention, now);
    assert_eq!(first_days(&engine, first).await, (3, vec![1; 3]));
    let left = engine.status().retention.stored_bytes;
    engine.close().await.unwrap();
    let engine = open_within(&disk, &io, retention, left - left / 8, now);
    assert_eq!(first_days(&engine, first).await, (3, vec![2; 3]));
    assert_eq!(engine.status().retention.blocks, 0);
    engine.close().await.unwrap();

    // The newest stays.
    let engine = open_within(&disk, &io, Retention::default(), 1, now);
    assert_eq!(first_days(&engine, first).await, (3, vec![3; 3]));
    engine.close().await.unwrap();
}
