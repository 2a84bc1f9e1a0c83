//! The data of a script: a part in memory, and which of its series the engine cannot hold yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aetherdb::model::start_timestamps::to_value;
use aetherdb::model::{Labels, METRIC_NAME, Matcher, Samples, TimeRange};
use aetherdb::storage::{Part, PartSeries, ReadStats, SeriesReader, Snapshot, StorageError};

use crate::promqltest::script::Load;
use crate::promqltest::series::Item;

#[derive(Debug, Default)]
pub(crate) struct Store {
    series: BTreeMap<Labels, BTreeMap<i64, f64>>,
    histograms: BTreeSet<Labels>,
    starts: BTreeMap<Labels, BTreeMap<i64, i64>>,
}

impl Store {
    pub(crate) fn load(&mut self, load: &Load) {
        for (labels, items) in &load.series {
            let samples = self.series.entry(labels.clone()).or_default();
            let mut time = 0;
            for item in items {
                match item {
                    Item::Absent => {}
                    Item::Value(value) => {
                        samples.insert(time, *value);
                    }
                    Item::Histogram => {
                        self.histograms.insert(labels.clone());
                    }
                }
                time += load.step_ms;
            }
            if load.with_native {
                self.histograms.extend(native_twin(labels));
            }
        }
        for (labels, items) in &load.starts {
            let starts = self.starts.entry(labels.clone()).or_default();
            let times = (0..).map(|number| number * load.step_ms);
            starts.extend(times.zip(items).filter_map(|(at, from)| Some((at, at + (*from)?))));
        }
    }

    /// Whether the matchers select native histograms.
    pub(crate) fn selects_histograms(&self, matchers: &[Matcher]) -> bool {
        self.histograms.iter().any(|labels| fits(labels, matchers))
    }

    /// The start timestamps of a series, by the times of their samples.
    pub(crate) fn starts(&self, labels: &Labels) -> Option<&BTreeMap<i64, i64>> {
        self.starts.get(labels)
    }

    /// All series with their samples.
    pub(crate) fn series(&self) -> impl Iterator<Item = (&Labels, &BTreeMap<i64, f64>)> {
        self.series.iter()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let samples = |samples: &BTreeMap<i64, f64>| Samples {
            timestamps: samples.keys().copied().collect(),
            values: samples.values().copied().collect(),
        };
        let companion = |starts: &BTreeMap<i64, i64>| Samples {
            timestamps: starts.keys().copied().collect(),
            values: starts.values().map(|start| to_value(*start)).collect(),
        };
        let own = self.series.iter().map(|(labels, of)| (labels.clone(), samples(of)));
        let companions = self.starts.iter().map(|(labels, of)| (labels.companion(), companion(of)));
        let mut series: Vec<_> = own.chain(companions).collect();
        series.sort_by(|(one, _), (two, _)| one.cmp(two));
        Snapshot::new(vec![Arc::new(MemoryPart { series })], Vec::new(), Vec::new())
    }
}

fn fits(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| matcher.matches_labels(labels))
}

/// The native histogram that `load_with_nhcb` makes of a classic one.
fn native_twin(labels: &Labels) -> Option<Labels> {
    let metric = labels.metric_name();
    let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| metric.strip_suffix(end))?;
    let pairs = labels
        .iter()
        .filter(|(name, _)| *name != "le")
        .map(|(name, value)| (name, if name == METRIC_NAME { base } else { value }));
    Labels::from_pairs(pairs).ok()
}

/// Series in ascending order, in memory.
#[derive(Debug)]
pub(crate) struct MemoryPart {
    pub(crate) series: Vec<(Labels, Samples)>,
}

impl Part for MemoryPart {
    fn name(&self) -> String {
        "script".to_owned()
    }

    fn time_range(&self) -> Option<TimeRange> {
        let times = || self.series.iter().flat_map(|(_, samples)| &samples.timestamps);
        TimeRange::new(*times().min()?, *times().max()?)
    }

    fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<PartSeries>, StorageError> {
        let has_samples =
            |samples: &Samples| samples.timestamps.iter().any(|time| range.contains(*time));
        Ok((0u32..)
            .zip(&self.series)
            .filter(|(_, (labels, samples))| fits(labels, matchers) && has_samples(samples))
            .map(|(local, (labels, _))| PartSeries { labels: labels.clone(), local })
            .collect())
    }

    fn reader(self: Arc<Self>) -> Box<dyn SeriesReader> {
        Box::new(Reader(self))
    }
}

struct Reader(Arc<MemoryPart>);

impl SeriesReader for Reader {
    fn read(
        &mut self,
        local: u32,
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<ReadStats, StorageError> {
        let (_, samples) = &self.0.series[usize::try_from(local).unwrap()];
        let mut stats = ReadStats::default();
        for (time, value) in samples.timestamps.iter().zip(&samples.values) {
            if range.contains(*time) {
                out.push(*time, *value);
                stats.samples += 1;
            }
        }
        Ok(stats)
    }
}
