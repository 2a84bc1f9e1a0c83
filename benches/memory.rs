//! A part in memory, for benches of queries.

use std::sync::Arc;

use aetherdb::model::{Labels, METRIC_NAME, Matcher, Samples, TimeRange};
use aetherdb::storage::{Part, PartSeries, ReadStats, SeriesReader, Snapshot, StorageError};

/// Series in the order of their labels.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    series: Vec<(Labels, Samples)>,
}

impl Memory {
    pub(crate) fn new(mut series: Vec<(Labels, Samples)>) -> Arc<Self> {
        series.sort_by(|one, two| one.0.cmp(&two.0));
        Arc::new(Self { series })
    }

    pub(crate) fn snapshot(self: &Arc<Self>) -> Snapshot {
        Snapshot::new(vec![Arc::clone(self) as Arc<dyn Part>], Vec::new(), Vec::new())
    }

    pub(crate) fn series(&self) -> &[(Labels, Samples)] {
        &self.series
    }
}

/// `metric{g="…", i="…"}`.
pub(crate) fn labels(metric: &str, group: usize, instance: usize) -> Labels {
    let (group, instance) = (format!("g{group}"), format!("i{instance:06}"));
    let pairs = [(METRIC_NAME, metric), ("g", group.as_str()), ("i", instance.as_str())];
    Labels::from_pairs(pairs).unwrap()
}

impl Part for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn time_range(&self) -> Option<TimeRange> {
        let ends = |(_, samples): &(Labels, Samples)| {
            TimeRange::new(*samples.timestamps.first()?, *samples.timestamps.last()?)
        };
        self.series.iter().filter_map(ends).reduce(TimeRange::hull)
    }

    fn select(&self, matchers: &[Matcher], _: TimeRange) -> Result<Vec<PartSeries>, StorageError> {
        let fits = |labels: &Labels| matchers.iter().all(|matcher| matcher.matches_labels(labels));
        let all = (0u32..).zip(&self.series).filter(|(_, (labels, _))| fits(labels));
        Ok(all.map(|(local, (labels, _))| PartSeries { labels: labels.clone(), local }).collect())
    }

    fn reader(self: Arc<Self>) -> Box<dyn SeriesReader> {
        Box::new(Reader(self))
    }
}

struct Reader(Arc<Memory>);

impl SeriesReader for Reader {
    fn read(
        &mut self,
        local: u32,
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<ReadStats, StorageError> {
        let (_, samples) = &self.0.series[local as usize];
        let first = samples.timestamps.partition_point(|at| *at < range.start());
        let end = samples.timestamps.partition_point(|at| *at <= range.end());
        out.timestamps.extend_from_slice(&samples.timestamps[first..end]);
        out.values.extend_from_slice(&samples.values[first..end]);
        let read = (end - first) as u64;
        Ok(ReadStats { samples: read, chunks: 1, bytes: read * 16, ..ReadStats::default() })
    }
}

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound
    }

    pub(crate) fn range(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(to - from).unwrap())).unwrap()
    }
}

/// A counter: grows, and starts again from zero now and then.
pub(crate) fn counter(random: &mut Random, count: usize, interval_ms: i64) -> Samples {
    let mut samples = Samples::default();
    let (mut at, mut value) = (random.range(0, interval_ms), 0.0);
    for _ in 0..count {
        samples.push(at + random.range(0, interval_ms / 10 + 1), value);
        at += interval_ms;
        value = if random.below(500) == 0 { 0.0 } else { value + random.below(100) as f64 };
    }
    samples
}
