//! Rollups of a whole store against a plain map, summed up the naive way.

mod faults;
pub(crate) mod model;
mod outside;
mod retention;
mod s3;
mod sequences;

use std::collections::BTreeMap;
use std::sync::Arc;

use aetherdb::clock::ManualClock;
use aetherdb::columnar::parquet::RollupColumnSet;
use aetherdb::ingest::SeriesResolver;
use aetherdb::model::{
    Labels, METRIC_NAME, Matcher, Resolution, SampleBatch, SeriesRef, Span, is_stale,
};
use aetherdb::storage::vfs::{SimVfs, Vfs};
use aetherdb::storage::{
    DownsampleReport, Engine, GivenStore, Head, ReplayProgress, Snapshot, StorageError,
    StorageOptions,
};
use aetherdb::telemetry::Telemetry;
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;

/// 2023-11-14T20:00:00Z, where a two-hour window begins.
const T0: i64 = 1_699_992_000_000;
const HOUR: i64 = 3_600_000;
const EVERYTHING: Span = Span { start: i64::MIN, end: i64::MAX };

/// What a store should hold: values by labels and timestamp.
pub(crate) type Model = BTreeMap<(Labels, i64), f64>;

/// A store on a simulated disk with its rollups in an object store, and what should be in it.
pub(crate) struct Bed {
    disk: SimVfs,
    io: Arc<dyn ObjectStore>,
    clock: Arc<ManualClock>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) model: Model,
}

fn open(
    disk: &SimVfs,
    io: Option<&Arc<dyn ObjectStore>>,
    clock: &Arc<ManualClock>,
) -> Result<Arc<Engine>, StorageError> {
    open_in("/data", disk, io, clock)
}

fn open_in(
    dir: &str,
    disk: &SimVfs,
    io: Option<&Arc<dyn ObjectStore>>,
    clock: &Arc<ManualClock>,
) -> Result<Arc<Engine>, StorageError> {
    let options = StorageOptions {
        wal_segment_bytes: 64 << 10,
        disk_free_bytes_min: 0,
        rollup_store: io.map(|io| GivenStore(Arc::clone(io))),
        ..StorageOptions::new(dir)
    };
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let telemetry = Arc::new(Telemetry::default());
    Engine::open(options, vfs, Arc::clone(clock) as _, telemetry, &ReplayProgress::default())
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    fn over(io: Arc<dyn ObjectStore>) -> Self {
        let disk = SimVfs::new(1);
        let clock = Arc::new(ManualClock::at(T0));
        let engine = open(&disk, Some(&io), &clock).unwrap();
        Self { disk, io, clock, engine, model: Model::new() }
    }

    async fn restart(&mut self) {
        self.engine.close().await.unwrap();
        self.engine = open(&self.disk, Some(&self.io), &self.clock).unwrap();
    }

    pub(crate) async fn write(&mut self, rows: &[(Labels, i64, f64)]) {
        let mut batch = SampleBatch::default();
        for (labels, at, value) in rows {
            batch.push(series_ref(&self.engine, labels), *at, *value);
            self.model.insert((labels.clone(), *at), *value);
        }
        self.engine.append(batch).await.unwrap();
    }

    pub(crate) async fn downsample(&self) -> DownsampleReport {
        self.engine.downsample(Arc::default()).await.unwrap()
    }

    /// Every row of every resolution is what the model says, and clean.
    pub(crate) async fn check(&self) {
        let snapshot = self.engine.snapshot();
        for resolution in Resolution::ALL {
            let wanted = naive(&self.model, resolution);
            let found = rows(&snapshot, resolution, &[], EVERYTHING).await;
            same(&wanted, &found, resolution);
            let clean = snapshot.rollups().unwrap().clean(resolution);
            for (_, end) in wanted.keys() {
                assert!(clean.iter().any(|span| span.contains(*end)), "{end} is not clean");
            }
        }
    }
}

fn series_ref(engine: &Engine, labels: &Labels) -> SeriesRef {
    let mut given = Vec::new();
    engine.resolver().register(None, &[], std::slice::from_ref(labels), &mut given).unwrap();
    given[0]
}

fn labels(metric: &str, pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs([(METRIC_NAME, metric)].into_iter().chain(pairs.iter().copied())).unwrap()
}

/// A row, in the words of the file's columns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) first: f64,
    pub(crate) last: f64,
    pub(crate) first_ts: i64,
    pub(crate) last_ts: i64,
    pub(crate) reset_sum: f64,
    pub(crate) resets: u64,
    pub(crate) changes: u64,
    pub(crate) stale_ts: Option<i64>,
}

pub(crate) type Rows = BTreeMap<(Labels, i64), Row>;

/// Sums up the model bucket by bucket, without any cleverness.
pub(crate) fn naive(model: &Model, resolution: Resolution) -> Rows {
    let mut buckets: BTreeMap<(Labels, i64), Vec<(i64, f64)>> = BTreeMap::new();
    for ((labels, at), value) in model {
        let end = at.div_euclid(resolution.ms()) * resolution.ms();
        let end = if end == *at { end } else { end + resolution.ms() };
        buckets.entry((labels.clone(), end)).or_default().push((*at, *value));
    }
    buckets.into_iter().map(|(key, samples)| (key, sum_up(&samples))).collect()
}

fn sum_up(samples: &[(i64, f64)]) -> Row {
    let stale_ts = samples.last().filter(|(_, value)| is_stale(*value)).map(|(at, _)| *at);
    let real: Vec<_> = samples.iter().copied().filter(|(_, value)| !is_stale(*value)).collect();
    let values: Vec<f64> = real.iter().map(|(_, value)| *value).collect();
    let best = |better: fn(&f64, &f64) -> bool| {
        let numbers = values.iter().copied().filter(|value| !value.is_nan());
        numbers.reduce(|best, next| if better(&next, &best) { next } else { best })
    };
    let or_nan = |best: Option<f64>| best.or(values.first().copied()).unwrap_or(0.0);
    let pairs = || values.windows(2).map(|two| (two[0], two[1]));
    let drops = || pairs().filter(|(before, after)| after < before);
    let same = |(a, b): (f64, f64)| a == b || (a.is_nan() && b.is_nan());
    Row {
        count: values.len() as u64,
        sum: values.iter().copied().reduce(|sum, next| sum + next).unwrap_or(0.0),
        min: or_nan(best(|next, best| next < best)),
        max: or_nan(best(|next, best| next > best)),
        first: values.first().copied().unwrap_or(0.0),
        last: values.last().copied().unwrap_or(0.0),
        first_ts: real.first().map_or(0, |(at, _)| *at),
        last_ts: real.last().map_or(0, |(at, _)| *at),
        reset_sum: drops().map(|(before, _)| before).reduce(|a, b| a + b).unwrap_or(0.0),
        resets: drops().count() as u64,
        changes: pairs().filter(|pair| !same(*pair)).count() as u64,
        stale_ts,
    }
}

/// What the view reads.
async fn rows(
    snapshot: &Snapshot,
    resolution: Resolution,
    matchers: &[Matcher],
    span: Span,
) -> Rows {
    let view = snapshot.rollups().expect("rollups are on");
    let mut batches = view.read(resolution, matchers, span, RollupColumnSet::ALL);
    let mut found = Rows::new();
    while let Some(batch) = batches.next().await {
        let batch = batch.unwrap();
        assert!(batch.series.windows(2).all(|two| two[0].0 < two[1].0), "series do not ascend");
        let of = &batch.rows;
        for (labels, range) in batch.series {
            for at in range {
                let row = Row {
                    count: of.count[at],
                    sum: of.sum[at],
                    min: of.min[at],
                    max: of.max[at],
                    first: of.first[at],
                    last: of.last[at],
                    first_ts: of.first_ts[at],
                    last_ts: of.last_ts[at],
                    reset_sum: of.reset_sum[at],
                    resets: of.resets[at],
                    changes: of.changes[at],
                    stale_ts: of.stale_ts[at],
                };
                let twice = found.insert((labels.clone(), of.bucket_end[at]), row);
                assert!(twice.is_none(), "{labels} at {} twice", of.bucket_end[at]);
            }
        }
    }
    found
}

/// Bit for bit, but for which NaN a NaN is, and sums to 1e-12 of what was added up.
fn same(wanted: &Rows, found: &Rows, resolution: Resolution) {
    let keys = |rows: &Rows| rows.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(wanted), keys(found), "{resolution}: rows");
    for (key, wanted) in wanted {
        let found = &found[key];
        let bits = |row: &Row| {
            [row.min, row.max, row.first, row.last]
                .map(|value| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() })
        };
        let numbers = |row: &Row| {
            (row.count, row.first_ts, row.last_ts, row.resets, row.changes, row.stale_ts)
        };
        let at = format!("{resolution} {key:?}: {wanted:?} against {found:?}");
        assert_eq!(bits(wanted), bits(found), "{at}");
        assert_eq!(numbers(wanted), numbers(found), "{at}");
        for (a, b) in [(wanted.sum, found.sum), (wanted.reset_sum, found.reset_sum)] {
            let scale = wanted.max.abs().max(wanted.min.abs()) * wanted.count as f64;
            let near = (a - b).abs() <= 1e-12 * scale;
            assert!(near || a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()), "{at}");
        }
    }
}

#[tokio::test]
async fn all_resolutions_sum_up_what_was_written() {
    let mut bed = Bed::new();
    let (cpu, mem) =
        (labels("cpu", &[("host", "a"), ("sum", "x")]), labels("mem", &[("Host", "b")]));
    let mut written = Vec::new();
    for step in 0..1_000 {
        let at = T0 + step * 15_000;
        written.push((cpu.clone(), at, (step % 100) as f64));
        written.push((mem.clone(), at + 7, 0.1 * step as f64));
    }
    bed.write(&written).await;
    assert!(bed.engine.snapshot().rollups().unwrap().files(Resolution::OneMinute).is_empty());
    bed.downsample().await;
    bed.check().await;
    let status = bed.engine.rollup_status().unwrap();
    let samples = |resolution| status.resolutions[&resolution].samples;
    assert_eq!(Resolution::ALL.map(samples), [2_000; 3]);
    assert_eq!((status.dirty_spans, status.error), (0, None));
    // Nothing new: nothing to do.
    assert_eq!(bed.downsample().await.spans, 0);
    bed.restart().await;
    bed.check().await;

    let snapshot = bed.engine.snapshot();
    let matchers = [Matcher::equal(METRIC_NAME, "mem"), Matcher::equal("Host", "b")];
    let span = Span { start: T0 + HOUR, end: T0 + HOUR + 120_000 };
    let found = rows(&snapshot, Resolution::OneMinute, &matchers, span).await;
    assert_eq!(found.len(), 2);
    assert!(found.keys().all(|(labels, end)| *labels == mem && span.contains(*end)));
}

#[tokio::test]
async fn late_samples_make_a_span_dirty_until_it_is_built_anew() {
    let mut bed = Bed::new();
    let one = labels("m", &[]);
    // The second sample ends the first span and lies in the next window.
    bed.write(&[(one.clone(), T0 + 1, 1.0), (one.clone(), T0 + 2 * HOUR, 2.0)]).await;
    bed.downsample().await;
    bed.check().await;
    let clean = |bed: &Bed| bed.engine.snapshot().rollups().unwrap().clean(Resolution::OneHour);
    let whole = Span { start: T0, end: T0 + 2 * HOUR };
    assert!(clean(&bed).iter().any(|span| span.contains_span(whole)));

    bed.write(&[(one.clone(), T0 + 2 * HOUR + 1, 3.0)]).await;
    assert!(clean(&bed).iter().any(|span| span.contains_span(whole)), "it is not of that span");
    bed.write(&[(one.clone(), T0 + 2 * HOUR, 4.0)]).await;
    assert!(!clean(&bed).iter().any(|span| span.contains(T0 + HOUR)), "its last sample changed");
    bed.engine.flush().await.unwrap();
    assert!(!clean(&bed).iter().any(|span| span.contains(T0 + HOUR)));
    bed.downsample().await;
    bed.check().await;
}

#[tokio::test]
async fn the_store_of_another_database_is_refused_and_left_alone() {
    let mut bed = Bed::new();
    bed.write(&[(labels("m", &[]), T0 + 1, 1.0)]).await;
    bed.downsample().await;
    let error = open(&SimVfs::new(2), Some(&bed.io), &bed.clock).unwrap_err();
    assert!(matches!(error, StorageError::ForeignRollups { .. }), "{error}");
    // A checkpoint is another database: its log goes on with numbers that ours gives, too.
    let name = bed.engine.checkpoint(Head::Flushed).await.unwrap();
    let copy = format!("/data/snapshots/{name}");
    let error = open_in(&copy, &bed.disk, Some(&bed.io), &bed.clock).unwrap_err();
    assert!(matches!(error, StorageError::ForeignRollups { .. }), "{error}");
    let copy = open_in(&copy, &bed.disk, None, &bed.clock).unwrap();
    copy.downsample(Arc::default()).await.unwrap();
    let copied = rows(&copy.snapshot(), Resolution::OneMinute, &[], EVERYTHING).await;
    assert_eq!(copied.len(), 1);
    bed.check().await;
}

#[tokio::test]
async fn rollups_survive_power_cuts_in_a_directory() {
    let disk = SimVfs::new(3);
    let clock = Arc::new(ManualClock::at(T0));
    let engine = open(&disk, None, &clock).unwrap();
    let one = labels("m", &[]);
    let mut batch = SampleBatch::default();
    batch.push(series_ref(&engine, &one), T0 + 1, 1.0);
    engine.append(batch).await.unwrap();
    engine.downsample(Arc::default()).await.unwrap();
    let disk = disk.crash();
    drop(engine);
    let engine = open(&disk, None, &clock).unwrap();
    let found = rows(&engine.snapshot(), Resolution::OneMinute, &[], EVERYTHING).await;
    assert_eq!(found.len(), 1);
    assert_eq!(engine.rollup_status().unwrap().resolutions[&Resolution::OneHour].samples, 1);
}
