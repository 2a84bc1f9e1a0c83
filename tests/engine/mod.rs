//! The whole store on a simulated disk, against a plain map.

mod damage;
mod model;
mod simulation;

use std::collections::BTreeMap;
use std::sync::Arc;

use aetherdb::clock::{Clock, ManualClock};
use aetherdb::ingest::SeriesResolver;
use aetherdb::model::{Labels, METRIC_NAME, SampleBatch, Samples, SeriesRef, TimeRange};
use aetherdb::storage::vfs::Vfs;
use aetherdb::storage::{Engine, ReplayProgress, Snapshot, StorageError, StorageOptions};
use aetherdb::telemetry::Telemetry;

use crate::support::Random;

/// What a store should hold: bits of values by series number and timestamp.
type Model = BTreeMap<(u32, i64), u64>;

fn options() -> StorageOptions {
    StorageOptions {
        wal_segment_bytes: 64 << 10,
        disk_free_bytes_min: 0,
        ..StorageOptions::new("/data")
    }
}

fn open(options: StorageOptions, vfs: Arc<dyn Vfs>) -> Result<Arc<Engine>, StorageError> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_700_000_000_000));
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

/// Everything in a snapshot; a warning is an error.
fn contents(snapshot: &Snapshot) -> Result<Model, String> {
    let mut found = Model::new();
    let mut samples = Samples::default();
    let selected = snapshot.select(&[], TimeRange::ALL).map_err(|error| error.to_string())?;
    let mut reader = snapshot.reader();
    for series in &selected {
        let number: u32 = series.labels.get("n").unwrap().parse().unwrap();
        assert_eq!(series.labels, labels(number));
        reader.read(series, TimeRange::ALL, &mut samples).map_err(|error| error.to_string())?;
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
