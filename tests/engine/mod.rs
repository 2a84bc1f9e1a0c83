//! The whole store on a simulated disk, against a plain map.

mod compaction;
mod damage;
mod model;
mod retention;
mod salvage;
mod simulation;

use std::collections::BTreeMap;
use std::sync::Arc;

use aetherdb::clock::{Clock, ManualClock};
use aetherdb::ingest::SeriesResolver;
use aetherdb::model::{
    Labels, METRIC_NAME, MatchOp, Matcher, SampleBatch, Samples, SeriesRef, TimeRange,
};
use aetherdb::storage::vfs::Vfs;
use aetherdb::storage::{Deletion, Engine, ReplayProgress, Snapshot, StorageError, StorageOptions};
use aetherdb::telemetry::Telemetry;

use crate::support::Random;

/// What a store should hold: bits of values by series number and timestamp.
type Model = BTreeMap<(u32, i64), u64>;

const NOW_MS: i64 = 1_700_000_000_000;

fn options() -> StorageOptions {
    StorageOptions {
        wal_segment_bytes: 64 << 10,
        disk_free_bytes_min: 0,
        // Steps of the simulated disk are counted.
        rollups: false,
        ..StorageOptions::new("/data")
    }
}

fn open(options: StorageOptions, vfs: Arc<dyn Vfs>) -> Result<Arc<Engine>, StorageError> {
    open_at(options, vfs, Arc::new(ManualClock::at(NOW_MS)))
}

/// The same with a clock that the caller may set.
fn open_at(
    options: StorageOptions,
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Engine>, StorageError> {
    let telemetry = Arc::new(Telemetry::default());
    Engine::open(options, vfs, clock, telemetry, &ReplayProgress::default())
}

fn labels(series: u32) -> Labels {
    let name = format!("s{}", (series * 7) % 10);
    let number = series.to_string();
    Labels::from_pairs([(METRIC_NAME, name.as_str()), ("n", number.as_str())]).unwrap()
}

fn series_ref(engine: &Engine, series: u32) -> Result<SeriesRef, String> {
    let mut given = Vec::new();
    engine
        .resolver()
        .register(None, &[], &[labels(series)], &mut given)
        .map_err(|error| format!("{error:?}"))?;
    Ok(given[0])
}

/// A batch by series number, in order of its rows.
type Rows = Vec<(u32, i64, u64)>;

fn random_rows(random: &mut Random, series: u64) -> Rows {
    let base = 1_699_000_000_000 + i64::try_from(random.below(40)).unwrap() * 1_000;
    (0..1 + random.below(30))
        .map(|_| {
            let late = if random.below(12) == 0 { 3 * 3_600_000 } else { 0 };
            let at = base + i64::try_from(random.below(20)).unwrap() * 500 - late;
            let value = match random.below(6) {
                0 => 0x7ff0_0000_0000_0002,
                1 => random.next(),
                _ => (random.below(1_000) as f64 / 10.0).to_bits(),
            };
            (u32::try_from(random.below(series)).unwrap(), at, value)
        })
        .collect()
}

fn batch(engine: &Engine, rows: &Rows) -> Result<SampleBatch, String> {
    let mut batch = SampleBatch::default();
    for (series, at, bits) in rows {
        batch.push(series_ref(engine, *series)?, *at, f64::from_bits(*bits));
    }
    Ok(batch)
}

fn add(model: &mut Model, rows: &Rows) {
    model.extend(rows.iter().map(|(series, at, bits)| ((*series, *at), *bits)));
}

/// A deletion of some of `series` series' samples, somewhere in the time that [`random_rows`] has.
fn random_deletion(random: &mut Random, series: u64) -> Deletion {
    let number = u32::try_from(random.below(series)).unwrap();
    let matchers = match random.below(4) {
        0 => vec![Matcher::equal(METRIC_NAME, labels(number).metric_name())],
        1 => vec![Matcher::equal("n", number.to_string())],
        2 => vec![Matcher::new(MatchOp::NotRegex, "n", format!("{number}|1")).unwrap()],
        _ => Vec::new(),
    };
    let base = 1_699_000_000_000;
    let start = base + i64::try_from(random.below(50_000)).unwrap();
    let end = start + i64::try_from(random.below(30_000)).unwrap();
    let range = match random.below(5) {
        0 => TimeRange::ALL,
        1 => TimeRange::new(i64::MIN, start).unwrap(),
        _ => TimeRange::new(start, end).unwrap(),
    };
    Deletion { matchers, range }
}

/// Whether a deletion deletes this sample.
fn is_deleted(series: u32, at: i64, Deletion { matchers, range }: &Deletion) -> bool {
    range.contains(at) && matchers.iter().all(|matcher| matcher.matches_labels(&labels(series)))
}

fn remove(model: &mut Model, deletions: &[Deletion]) {
    model.retain(|(series, at), _| {
        !deletions.iter().any(|deletion| is_deleted(*series, *at, deletion))
    });
}

/// Everything in a snapshot; a warning is an error.
fn contents(snapshot: &Snapshot) -> Result<Model, String> {
    selection(snapshot, &[], TimeRange::ALL)
}

/// What a query for these series and this time reads.
fn selection(snapshot: &Snapshot, matchers: &[Matcher], range: TimeRange) -> Result<Model, String> {
    let mut found = Model::new();
    let mut samples = Samples::default();
    let selected = snapshot.select(matchers, range).map_err(|error| error.to_string())?;
    let mut reader = snapshot.reader();
    for series in &selected {
        let number: u32 = series.labels.get("n").unwrap().parse().unwrap();
        assert_eq!(series.labels, labels(number));
        reader.read(series, range, &mut samples).map_err(|error| error.to_string())?;
        assert!(samples.timestamps.windows(2).all(|two| two[0] < two[1]));
        for (at, value) in samples.timestamps.iter().zip(&samples.values) {
            found.insert((number, *at), value.to_bits());
        }
    }
    match snapshot.warnings().first() {
        Some(warning) => Err(format!("warning: {warning}")),
        None => Ok(found),
    }
}
