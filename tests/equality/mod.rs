//! Rollups must not change an answer: every query is asked of raw samples and of rollups of each
//! resolution, and the answers are compared bit for bit, or within 1e-12 where additions are
//! grouped otherwise.
//!
//! Every test looks at what the engine says of where its answer came from, so that none passes by
//! reading raw samples twice.

mod data;
mod expired;
mod queries;
mod traps;

use std::sync::Arc;

use aetherdb::clock::{Clock, ManualClock};
use aetherdb::ingest::SeriesResolver;
use aetherdb::model::{Labels, SampleBatch};
use aetherdb::promql::{
    Explain, Query, QueryKind, QueryOutcome, RangeSeries, Value, VectorSample, evaluate,
};
use aetherdb::query::{QueryOptions, QuerySession, RollupCosts};
use aetherdb::storage::vfs::SimVfs;
use aetherdb::storage::{Engine, GivenStore, ReplayProgress, Retention, StorageOptions};
use aetherdb::telemetry::Telemetry;
use object_store::memory::InMemory;

pub(crate) const MINUTE: i64 = 60_000;
pub(crate) const HOUR: i64 = 60 * MINUTE;
/// Midnight, so that every resolution's buckets begin here.
pub(crate) const START: i64 = 1_699_920_000_000;

/// One series' samples.
pub(crate) type Rows = Vec<(i64, f64)>;

/// A store and two ways to ask it.
struct World {
    clock: Arc<ManualClock>,
    engine: Arc<Engine>,
    /// Rollups answer whatever they can.
    session: QuerySession,
}

/// How close answers must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closeness {
    /// Every bit, but for those of a NaN.
    Bits,
    /// 1e-12 of the answer.
    Relative,
}

impl World {
    /// An empty store whose clock stands long after [`START`].
    fn new() -> Self {
        Self::keeping(Retention::default())
    }

    fn keeping(retention: Retention) -> Self {
        let manual = Arc::new(ManualClock::at(START + 10 * 24 * HOUR));
        let clock: Arc<dyn Clock> = Arc::clone(&manual) as _;
        let options = StorageOptions {
            wal_segment_bytes: 1 << 20,
            disk_free_bytes_min: 0,
            rollup_store: Some(GivenStore(Arc::new(InMemory::new()))),
            retention,
            ..StorageOptions::new("/data")
        };
        let vfs = Arc::new(SimVfs::new(1));
        let telemetry = Arc::new(Telemetry::default());
        let progress = ReplayProgress::default();
        let engine = Engine::open(options, vfs, Arc::clone(&clock), telemetry, &progress).unwrap();
        let options =
            QueryOptions { threads: 2, rollup_costs: RollupCosts::FREE, ..QueryOptions::default() };
        Self { clock: manual, engine, session: QuerySession::new(options, clock).unwrap() }
    }

    async fn write(&self, labels: &Labels, rows: &Rows) {
        let mut given = Vec::new();
        let labels = std::slice::from_ref(labels);
        self.engine.resolver().register(None, &[], labels, &mut given).unwrap();
        let mut batch = SampleBatch::default();
        for (at, value) in rows {
            batch.push(given[0], *at, *value);
        }
        self.engine.append(batch).await.unwrap();
    }

    /// Flushes, and brings rollups up to date.
    async fn downsample(&self) {
        self.engine.downsample(Arc::default()).await.unwrap();
    }

    async fn ask(&self, text: &str, kind: QueryKind, resolution: &str) -> QueryOutcome {
        let mut query = Query::new(text, kind, self.session.limits());
        query.max_source_resolution = resolution.parse().unwrap();
        let outcome = evaluate(&self.engine.snapshot(), &query, &self.session).await;
        let outcome = outcome.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(outcome.warnings, Vec::<String>::new(), "{text}");
        outcome
    }

    /// The plan of a query with what every node did.
    async fn explain(&self, text: &str, kind: QueryKind) -> String {
        let mut query = Query::new(text, kind, self.session.limits());
        query.explain = Explain::Analyze;
        let outcome = evaluate(&self.engine.snapshot(), &query, &self.session).await.unwrap();
        outcome.plan.unwrap()
    }

    /// Asks raw samples, then rollups up to `resolution`; the answers must agree. Returns the
    /// answer and which rollups took part.
    async fn compare(
        &self,
        text: &str,
        kind: QueryKind,
        resolution: &str,
        closeness: Closeness,
    ) -> (Value, Vec<&'static str>) {
        let raw = self.ask(text, kind, "0s").await;
        assert!(answered(&raw).is_empty(), "{text}: {:?}", raw.infos);
        let rolled = self.ask(text, kind, resolution).await;
        let context = format!("{text} {kind:?} up to {resolution}: {:?}", rolled.infos);
        assert_same(&raw.value, &rolled.value, closeness, &context);
        (rolled.value.clone(), answered(&rolled))
    }

    /// The same, and rollups of exactly these resolutions must have answered.
    async fn compare_from(
        &self,
        text: &str,
        kind: QueryKind,
        resolution: &'static str,
        closeness: Closeness,
    ) -> Value {
        let (value, answered) = self.compare(text, kind, resolution, closeness).await;
        assert!(answered.contains(&resolution), "{text} {kind:?}: {answered:?}");
        value
    }
}

/// The resolutions that an outcome says it was answered from.
fn answered(outcome: &QueryOutcome) -> Vec<&'static str> {
    let says =
        |name: &&str| outcome.infos.iter().any(|info| info.contains(&format!("rollup {name} for")));
    ["1m", "5m", "1h"].into_iter().filter(says).collect()
}

fn series(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

fn hourly(from_hour: i64, to_hour: i64) -> QueryKind {
    QueryKind::Range { start: START + from_hour * HOUR, end: START + to_hour * HOUR, step_ms: HOUR }
}

fn assert_same(raw: &Value, rolled: &Value, closeness: Closeness, context: &str) {
    let (raw, rolled) = (rows(raw), rows(rolled));
    let labels =
        |rows: &[RangeSeries]| rows.iter().map(|row| row.labels.clone()).collect::<Vec<_>>();
    assert_eq!(labels(&raw), labels(&rolled), "{context}");
    for (raw, rolled) in raw.iter().zip(&rolled) {
        assert_eq!(raw.timestamps, rolled.timestamps, "{context}: {:?}", raw.labels);
        for ((at, one), two) in raw.timestamps.iter().zip(&raw.values).zip(&rolled.values) {
            assert!(
                is_same(*one, *two, closeness),
                "{context}: {:?} at {at}: raw {one:?} ({:x}), rollups {two:?} ({:x})",
                raw.labels,
                one.to_bits(),
                two.to_bits()
            );
        }
    }
}

fn is_same(raw: f64, rolled: f64, closeness: Closeness) -> bool {
    let same = raw.to_bits() == rolled.to_bits() || raw.is_nan() && rolled.is_nan();
    same || closeness == Closeness::Relative
        && (raw - rolled).abs() <= 1e-12 * raw.abs().max(rolled.abs())
}

/// An answer as rows, whatever its type.
fn rows(value: &Value) -> Vec<RangeSeries> {
    let row = |labels: &Labels, timestamp: i64, value: f64| RangeSeries {
        labels: labels.clone(),
        timestamps: vec![timestamp],
        values: vec![value],
    };
    match value {
        Value::Matrix(rows) => rows.clone(),
        Value::Vector(samples) => samples
            .iter()
            .map(|VectorSample { labels, timestamp, value }| row(labels, *timestamp, *value))
            .collect(),
        Value::Scalar { timestamp, value } => vec![row(&Labels::empty(), *timestamp, *value)],
        Value::String { .. } => Vec::new(),
    }
}
