//! The memtable against a plain map, and against itself while it is written to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::model::{Labels, METRIC_NAME, Matcher, Samples, SeriesRef, stale_nan};
use crate::storage::series::{RegistrationLog, SeriesRegistry};

#[derive(Debug)]
struct NoLog;

impl RegistrationLog for NoLog {
    fn log_series(&self, _: u64, _: &[u8]) {}
}

fn table(series: u32) -> Arc<SeriesTable> {
    let table = SeriesTable::new(Arc::new(NoLog), u32::MAX);
    for number in 0..series {
        // Label order is not the order of ids.
        let name = format!("s{:05}", (number * 7_919) % 65_536);
        let labels = Labels::from_pairs([(METRIC_NAME, "m"), ("n", name.as_str())]).unwrap();
        assert_eq!(table.get_or_register(&labels).unwrap(), SeriesRef(number));
    }
    Arc::new(table)
}

fn seed() -> u64 {
    let seed = std::env::var("AETHER_MODEL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(7);
    println!("AETHER_MODEL_SEED={seed}");
    seed
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

type Model = BTreeMap<u32, BTreeMap<i64, u64>>;

fn check(memtable: &Memtable, model: &Model, range: TimeRange) {
    let part = memtable.snapshot();
    let selected = part.select(&[], range).unwrap();
    assert!(selected.windows(2).all(|two| two[0].labels < two[1].labels));
    let mut reader = Arc::clone(&part).reader();
    let mut left = model.clone();
    for series in selected {
        let mut samples = Samples::default();
        reader.read(series.local, range, &mut samples).unwrap();
        let found: BTreeMap<i64, u64> = samples
            .timestamps
            .iter()
            .copied()
            .zip(samples.values.iter().map(|value| value.to_bits()))
            .collect();
        assert_eq!(found.len(), samples.len(), "a timestamp twice");
        assert!(samples.timestamps.is_sorted());
        let mut wanted = left.remove(&series.local).unwrap_or_default();
        wanted.retain(|timestamp, _| range.contains(*timestamp));
        assert_eq!(found, wanted, "series {}", series.local);
    }
    let forgotten =
        left.values().flat_map(|samples| samples.keys()).find(|ts| range.contains(**ts));
    assert_eq!(forgotten, None, "a series with samples was not selected");
}

#[test]
fn reads_equal_those_of_a_plain_map() {
    let mut state = seed();
    for _ in 0..40 {
        let memtable = Memtable::new(table(20));
        let mut model = Model::new();
        for step in 0..60 {
            let mut batch = SampleBatch::default();
            for _ in 0..random(&mut state) % 200 {
                let series = u32::try_from(random(&mut state) % 20).unwrap();
                let timestamp = match random(&mut state) % 10 {
                    0 => {
                        i64::try_from(random(&mut state) % 100).unwrap() * WINDOW_MS / 3 - WINDOW_MS
                    }
                    1 => step * 1_000,
                    _ => step * 1_000 + i64::try_from(random(&mut state) % 3_000).unwrap(),
                };
                let value = match random(&mut state) % 8 {
                    0 => stale_nan(),
                    1 => f64::from_bits(0x7ff8_0000_dead_beef),
                    2 => -0.0,
                    _ => (random(&mut state) % 50) as f64 / 4.0,
                };
                batch.push(SeriesRef(series), timestamp, value);
                model.entry(series).or_default().insert(timestamp, value.to_bits());
            }
            memtable.append(&batch);
            match random(&mut state) % 12 {
                0 => memtable.seal(),
                1 => check(&memtable, &model, TimeRange::ALL),
                2 => check(&memtable, &model, TimeRange::new(step * 500, step * 1_000).unwrap()),
                _ => {}
            }
        }
        check(&memtable, &model, TimeRange::ALL);
        memtable.seal_all();
        check(&memtable, &model, TimeRange::ALL);
        let starts: BTreeSet<i64> =
            model.values().flat_map(|s| s.keys()).map(|at| window_start(*at)).collect();
        let windows = memtable.windows();
        assert!(windows.iter().map(|window| window.start()).eq(starts));
        for window in windows {
            check(&memtable, &model, window);
        }
    }
}

#[test]
fn a_snapshot_never_changes_while_samples_are_written_and_sealed() {
    const SERIES: u32 = 50;
    let memtable = Memtable::new(table(SERIES));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0..4_000i64 {
                let mut batch = SampleBatch::default();
                for series in 0..SERIES {
                    batch.push(SeriesRef(series), step, step as f64);
                }
                memtable.append(&batch);
            }
            done.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                memtable.seal();
                std::thread::yield_now();
            }
        });
        let mut least = 0;
        while !done.load(Ordering::Acquire) {
            let part = memtable.snapshot();
            let mut reader = Arc::clone(&part).reader();
            let mut samples = Samples::default();
            let mut lengths = Vec::new();
            for series in 0..SERIES {
                samples.clear();
                reader.read(series, TimeRange::ALL, &mut samples).unwrap();
                assert!(samples.timestamps.iter().copied().eq(0..samples.len() as i64));
                lengths.push(samples.len());
            }
            // A batch may be cut by the edge of a chunk, so series differ by one step at most.
            let (min, max) = (lengths.iter().min().unwrap(), lengths.iter().max().unwrap());
            assert!(max - min <= 1, "{lengths:?}");
            assert!(*min >= least, "a later snapshot shows less");
            least = *min;
        }
    });
    assert_eq!(memtable.samples(), 4_000 * u64::from(SERIES));
}

#[test]
fn regular_samples_are_small_when_sealed() {
    let memtable = Memtable::new(table(1_000));
    let mut state = seed();
    let mut values = vec![50i64; 1_000];
    for step in 0..200i64 {
        let mut batch = SampleBatch::default();
        for (series, value) in (0..).zip(&mut values) {
            *value = (*value + i64::try_from(random(&mut state) % 5).unwrap() - 2).clamp(0, 100);
            batch.push(SeriesRef(series), step * 10_000, *value as f64);
        }
        memtable.append(&batch);
    }
    memtable.seal_all();
    let per_sample = memtable.bytes() as f64 / memtable.samples() as f64;
    println!("{per_sample:.3} bytes per sample");
    assert!(per_sample < 1.0, "{per_sample}");
}

#[test]
fn labels_are_those_of_series_with_samples() {
    let memtable = Memtable::new(table(10));
    let mut batch = SampleBatch::default();
    batch.push(SeriesRef(3), 1_000, 1.0);
    memtable.append(&batch);
    let part = memtable.snapshot();
    let mut values = BTreeSet::new();
    part.label_values("n", &[], TimeRange::ALL, &mut values).unwrap();
    assert_eq!(values.len(), 1);
    let other = Matcher::equal("n", "s00000");
    values.clear();
    part.label_values("n", &[other], TimeRange::ALL, &mut values).unwrap();
    assert!(values.is_empty());
    let mut names = BTreeSet::new();
    part.label_names(&[], TimeRange::ALL, &mut names).unwrap();
    assert!(names.into_iter().eq([METRIC_NAME.to_owned(), "n".to_owned()]));
}
