//! What the tests of all formats need: a store that is nothing but a series list, and random text.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::ingest::{IngestError, IngestOutcome, Limits, ParseOptions};
use crate::model::{Labels, SampleBatch, SeriesRef};
use crate::storage::StorageError;
use crate::storage::series::{KeyCache, KeyResolver, SeriesRegistry};
use crate::telemetry::Telemetry;

/// The time it is in tests.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

pub(crate) fn options() -> ParseOptions {
    ParseOptions::new(NOW_MS, Limits::default())
}

/// Series by their labels, and nothing else.
#[derive(Default)]
pub(crate) struct Registry {
    series: Mutex<(HashMap<Labels, SeriesRef>, Vec<Labels>)>,
    pub(crate) series_max: Option<usize>,
}

impl Registry {
    pub(crate) fn labels(&self, series: SeriesRef) -> Labels {
        self.series.lock().1[series.index()].clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.series.lock().1.len()
    }
}

impl SeriesRegistry for Registry {
    fn get_or_register(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        let (ids, list) = &mut *self.series.lock();
        if let Some(id) = ids.get(labels) {
            return Ok(*id);
        }
        if self.series_max.is_some_and(|max| list.len() >= max) {
            let value = list.len() as u64;
            return Err(StorageError::LimitReached {
                limit: "series",
                setting: "series_max",
                value,
            });
        }
        let id = SeriesRef(u32::try_from(list.len()).unwrap());
        ids.insert(labels.clone(), id);
        list.push(labels.clone());
        Ok(id)
    }
}

/// One sample as tests compare it: labels, timestamp, the value's bits.
pub(crate) type Row = (String, i64, u64);

pub(crate) fn row(labels: &str, timestamp: i64, value: f64) -> Row {
    (labels.to_owned(), timestamp, value.to_bits())
}

/// A registry behind a key cache.
pub(crate) struct Store {
    pub(crate) registry: Registry,
    pub(crate) cache: KeyCache,
    pub(crate) telemetry: Arc<Telemetry>,
}

impl Default for Store {
    fn default() -> Self {
        Self::with_cache_bytes(1 << 20)
    }
}

impl Store {
    pub(crate) fn with_cache_bytes(bytes_max: usize) -> Self {
        let telemetry = Arc::new(Telemetry::default());
        let cache = KeyCache::new(bytes_max, Arc::clone(&telemetry));
        Self { registry: Registry::default(), cache, telemetry }
    }

    /// Runs a parser as one request.
    pub(crate) fn request(
        &self,
        parse: impl FnOnce(
            &mut KeyResolver<'_, Registry>,
            &mut SampleBatch,
        ) -> Result<IngestOutcome, IngestError>,
    ) -> Result<(Vec<Row>, IngestOutcome), IngestError> {
        let mut batch = SampleBatch::default();
        let outcome = parse(&mut self.cache.resolver(&self.registry), &mut batch)?;
        assert_eq!(batch.timestamps.len(), batch.series.len());
        assert_eq!(batch.values.len(), batch.series.len());
        let is_sample = |series: &&SeriesRef| !self.registry.labels(**series).is_companion();
        let samples = batch.series.iter().filter(is_sample).count();
        assert_eq!(outcome.accepted, samples as u64);
        let rows = (0..batch.len())
            .map(|index| {
                let labels = self.registry.labels(batch.series[index]).to_string();
                row(&labels, batch.timestamps[index], batch.values[index])
            })
            .collect();
        Ok((rows, outcome))
    }
}

/// A small random generator with a printed seed: `AETHER_TEST_SEED` changes it,
/// `AETHER_TEST_CASES` how often tests draw.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(test: &str) -> Self {
        let seed = std::env::var("AETHER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(0x5eed);
        println!("{test}: AETHER_TEST_SEED={seed}");
        Self(seed)
    }

    /// Another generator, for another thread.
    pub(crate) fn fork(&self, number: u64) -> Self {
        Self(self.0 ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn next(&mut self) -> u64 {
        // Source: Steele, Lea, Flood: SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

pub(crate) fn cases(default: usize) -> usize {
    std::env::var("AETHER_TEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default)
}
