//! A consistent view of all parts at one moment, merged into one set of series.
//!
//! Parts are held in order of their writes: where two have the same (series, timestamp), the
//! later part's sample wins, which makes "last acknowledged write wins" hold over all parts.
//!
//! Tombstones take away from each part what they hide there, before parts are merged. Without
//! tombstones nothing is looked at. What is before the floor of retention is not there for anybody.
//!
//! Companion series, which hold start timestamps (`model/start_timestamps`), are in the parts but
//! never among the series of a view.
//!
//! A damaged part does not fail the view: what can be read is served, and the view's warnings
//! say what is missing. Ask for them after reading.

mod reader;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::model::start_timestamps::{
    companion_matchers, is_companion_name, may_select_companions,
};
use crate::model::{Labels, METRIC_NAME, Matcher, Samples, TimeRange, Timestamp};
use crate::storage::error::{ErrorKind, StorageError};
use crate::storage::part::{Part, PartSeries};
use crate::storage::rollup::RollupView;
use crate::storage::tombstone::{Cover, Mask, Tombstone};

pub use reader::SnapshotReader;
pub(crate) use reader::merge_pieces;

/// What exists at one moment. Files of its parts stay readable until it is dropped.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Oldest writes first; the head is last.
    parts: Vec<Arc<dyn Part>>,
    tombstones: Vec<Arc<Tombstone>>,
    /// Samples before it are past their retention.
    raw_floor: Option<Timestamp>,
    warnings: Arc<Warnings>,
    rollups: Option<RollupView>,
}

/// What is missing from a view and why, each once. Grows when reading meets damage.
#[derive(Debug, Default)]
struct Warnings(Mutex<BTreeSet<String>>);

/// Warnings that one view keeps; a thousand damaged blocks need not all be named.
const WARNINGS_MAX: usize = 20;

impl Warnings {
    fn add(&self, warning: String) {
        let mut warnings = self.0.lock();
        if warnings.len() < WARNINGS_MAX {
            warnings.insert(warning);
        }
    }

    /// Passes `result` on, but turns damage of one part into a warning.
    fn tolerate<T>(
        &self,
        part: &dyn Part,
        result: Result<T, StorageError>,
    ) -> Result<Option<T>, StorageError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::Data => {
                self.add(format!("{}: samples may be missing: {error}", part.name()));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// A series of the snapshot and where its samples are.
#[derive(Debug, Clone)]
pub struct SelectedSeries {
    pub labels: Labels,
    /// Part number and number inside the part, oldest part first.
    sources: SmallVec<[(u32, u32); 2]>,
}

impl SelectedSeries {
    /// A series that only rollups still know.
    pub fn without_samples(labels: Labels) -> Self {
        Self { labels, sources: SmallVec::new() }
    }
}

impl Snapshot {
    /// `parts` in order of their writes, without what `tombstones` hide.
    pub fn new(
        parts: Vec<Arc<dyn Part>>,
        tombstones: Vec<Arc<Tombstone>>,
        warnings: Vec<String>,
    ) -> Self {
        let known = Warnings::default();
        for warning in warnings {
            known.add(warning);
        }
        Self { parts, tombstones, raw_floor: None, warnings: Arc::new(known), rollups: None }
    }

    /// Without the samples before `floor`, which parts may still hold.
    pub(crate) fn without_before(self, floor: Option<Timestamp>) -> Self {
        Self { raw_floor: floor, ..self }
    }

    pub(crate) fn with_rollups(self, rollups: Option<RollupView>) -> Self {
        Self { rollups, ..self }
    }

    /// What the samples are summed up to; `None` if rollups are off.
    pub fn rollups(&self) -> Option<&RollupView> {
        self.rollups.as_ref()
    }

    pub fn parts(&self) -> &[Arc<dyn Part>] {
        &self.parts
    }

    /// Deletions whose samples some part still holds.
    pub fn tombstones(&self) -> &[Arc<Tombstone>] {
        &self.tombstones
    }

    /// What is missing and why, to be told with the answer; complete once all is read.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.0.lock().iter().cloned().collect()
    }

    /// Something that is missing from an answer for a reason that no part knows.
    pub(crate) fn warn(&self, warning: String) {
        self.warnings.add(warning);
    }

    /// Where samples lie; `None` if there are none.
    pub fn time_range(&self) -> Option<TimeRange> {
        let ranges = self.parts.iter().filter_map(|part| part.time_range());
        ranges.filter_map(|of_part| of_part.intersect(self.visible())).reduce(TimeRange::hull)
    }

    /// Where samples may be seen.
    fn visible(&self) -> TimeRange {
        let all = TimeRange::ALL;
        self.raw_floor.and_then(|floor| TimeRange::new(floor, all.end())).unwrap_or(all)
    }

    /// Whether the part holds samples that nobody may see any more.
    fn is_trimmed(&self, part: &Arc<dyn Part>) -> bool {
        part.time_range().is_some_and(|of_part| of_part.start() < self.visible().start())
    }

    /// The series that satisfy all matchers and may have samples in `range`, ascending by labels.
    pub fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<SelectedSeries>, StorageError> {
        let mut selected = self.select_stored(matchers, range)?;
        if may_select_companions(matchers) {
            selected.retain(|series| !series.labels.is_companion());
        }
        Ok(selected)
    }

    /// Where the start timestamps of series that `select` would give are stored: for each label
    /// set that has any, its companion's samples.
    pub fn select_start_timestamps(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<HashMap<Labels, SelectedSeries>, StorageError> {
        let selected = self.select_stored(&companion_matchers(matchers), range)?;
        let counted = |series: SelectedSeries| {
            let labels = series.labels.without_mark()?;
            let is_selected = matchers.iter().all(|matcher| matcher.matches_labels(&labels));
            is_selected.then_some((labels, series))
        };
        Ok(selected.into_iter().filter_map(counted).collect())
    }

    /// The series as they are stored, companions among them: for those who write files.
    pub(crate) fn select_stored(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<SelectedSeries>, StorageError> {
        let Some(range) = range.intersect(self.visible()) else { return Ok(Vec::new()) };
        let mut lists: Vec<(u32, std::vec::IntoIter<PartSeries>)> = Vec::new();
        for (number, part) in (0u32..).zip(self.overlapping(range)) {
            if let Some(part) = part {
                let series = self.select_in(part, &self.mask(part), matchers, range)?;
                if !series.is_empty() {
                    lists.push((number, series.into_iter()));
                }
            }
        }
        Ok(merge(lists))
    }

    /// Label names of the series that `select` would give, sorted.
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<BTreeSet<String>, StorageError> {
        let mut names = BTreeSet::new();
        let Some(range) = range.intersect(self.visible()) else { return Ok(names) };
        for part in self.overlapping(range).flatten() {
            let mask = self.mask(part);
            if mask.is_empty() && !self.is_trimmed(part) {
                let added = part.label_names(matchers, range, &mut names);
                self.warnings.tolerate(part.as_ref(), added)?;
                continue;
            }
            for series in self.select_in(part, &mask, matchers, range)? {
                for (name, _) in series.labels.iter() {
                    if !names.contains(name) {
                        names.insert(name.to_owned());
                    }
                }
            }
        }
        Ok(names)
    }

    /// Values of label `name` in the series that `select` would give, sorted.
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<BTreeSet<String>, StorageError> {
        let mut values = BTreeSet::new();
        let Some(range) = range.intersect(self.visible()) else { return Ok(values) };
        for part in self.overlapping(range).flatten() {
            let mask = self.mask(part);
            if mask.is_empty() && !self.is_trimmed(part) {
                let added = part.label_values(name, matchers, range, &mut values);
                self.warnings.tolerate(part.as_ref(), added)?;
                continue;
            }
            for series in self.select_in(part, &mask, matchers, range)? {
                if let Some(value) = series.labels.get(name)
                    && !values.contains(value)
                {
                    values.insert(value.to_owned());
                }
            }
        }
        if name == METRIC_NAME {
            values.retain(|value| !is_companion_name(value));
        }
        Ok(values)
    }

    /// A cursor for one scan; see [`SnapshotReader::read`].
    pub fn reader(&self) -> SnapshotReader {
        SnapshotReader::new(self)
    }

    fn mask(&self, part: &Arc<dyn Part>) -> Mask {
        Mask::new(part.as_ref(), &self.tombstones)
    }

    /// The series of one part, without those of which nothing is left in `range`.
    fn select_in(
        &self,
        part: &Arc<dyn Part>,
        mask: &Mask,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<PartSeries>, StorageError> {
        let selected = self.warnings.tolerate(part.as_ref(), part.select(matchers, range))?;
        let series = selected.unwrap_or_default();
        let held = part.time_range().and_then(|of_part| of_part.intersect(range));
        let is_trimmed = self.is_trimmed(part);
        let is_whole = mask.is_empty() && !is_trimmed;
        let Some(held) = held.filter(|_| !is_whole) else { return Ok(series) };
        let mut visible = Vec::with_capacity(series.len());
        let mut reader = None;
        let mut samples = Samples::default();
        for series in series {
            let is_visible = match mask.cover(&series.labels, held) {
                Cover::Nothing if !is_trimmed => true,
                Cover::Nothing => {
                    let reader = reader.get_or_insert_with(|| Arc::clone(part).reader());
                    let holds = reader.holds(series.local, held);
                    self.warnings.tolerate(part.as_ref(), holds)?.unwrap_or(true)
                }
                Cover::All => false,
                // Whether the rest of the range has samples, only they can tell.
                Cover::Part => {
                    let reader = reader.get_or_insert_with(|| Arc::clone(part).reader());
                    samples.clear();
                    let read = reader.read(series.local, held, &mut samples);
                    let is_read = self.warnings.tolerate(part.as_ref(), read)?.is_some();
                    mask.cut(&series.labels, 0, &mut samples);
                    !is_read || !samples.is_empty()
                }
            };
            if is_visible {
                visible.push(series);
            }
        }
        Ok(visible)
    }

    /// One entry for each part, `None` if it has nothing in `range`.
    fn overlapping(&self, range: TimeRange) -> impl Iterator<Item = Option<&Arc<dyn Part>>> {
        self.parts.iter().map(move |part| {
            let overlaps = part.time_range().is_some_and(|of_part| of_part.overlaps(range));
            overlaps.then_some(part)
        })
    }
}

/// Merges lists that ascend by labels; a series of several parts becomes one entry.
fn merge(mut lists: Vec<(u32, std::vec::IntoIter<PartSeries>)>) -> Vec<SelectedSeries> {
    let first = |number: u32, series: PartSeries| SelectedSeries {
        labels: series.labels,
        sources: SmallVec::from_iter([(number, series.local)]),
    };
    if let [(number, list)] = &mut lists[..] {
        let number = *number;
        return list.map(|series| first(number, series)).collect();
    }
    let longest = lists.iter().map(|(_, list)| list.len()).max().unwrap_or(0);
    let mut merged: Vec<SelectedSeries> = Vec::with_capacity(longest);
    let mut heads = BinaryHeap::with_capacity(lists.len());
    for (index, (_, list)) in lists.iter_mut().enumerate() {
        heads.extend(list.next().map(|series| Reverse((series.labels, index, series.local))));
    }
    while let Some(Reverse((labels, index, local))) = heads.pop() {
        let (number, list) = &mut lists[index];
        heads.extend(list.next().map(|series| Reverse((series.labels, index, series.local))));
        match merged.last_mut() {
            Some(last) if last.labels == labels => last.sources.push((*number, local)),
            _ => merged.push(first(*number, PartSeries { labels, local })),
        }
    }
    merged
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::part::{ReadStats, SeriesReader};
    use crate::storage::wal::Lsn;

    /// One series `m`, whose samples are fine or damaged.
    #[derive(Debug)]
    struct OneSeries {
        name: &'static str,
        at: i64,
        damaged: bool,
    }

    impl Part for OneSeries {
        fn name(&self) -> String {
            self.name.to_owned()
        }

        fn time_range(&self) -> Option<TimeRange> {
            Some(TimeRange::at(self.at))
        }

        fn select(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<PartSeries>, StorageError> {
            let labels = Labels::from_pairs([("__name__", "m")]).unwrap();
            Ok(vec![PartSeries { labels, local: 0 }])
        }

        fn reader(self: Arc<Self>) -> Box<dyn SeriesReader> {
            Box::new(OneReader(self))
        }
    }

    struct OneReader(Arc<OneSeries>);

    impl SeriesReader for OneReader {
        fn read(
            &mut self,
            _: u32,
            _: TimeRange,
            out: &mut Samples,
        ) -> Result<ReadStats, StorageError> {
            out.push(self.0.at, 1.0);
            if self.0.damaged {
                let reason = "bad checksum".to_owned();
                return Err(StorageError::Corrupt { path: "b".into(), offset: 7, reason });
            }
            Ok(ReadStats::default())
        }
    }

    /// One part with one series `m`, all of whose samples were written up to `lsn`.
    #[derive(Debug)]
    struct Written {
        lsn: Lsn,
        samples: Samples,
    }

    impl Part for Written {
        fn name(&self) -> String {
            format!("written up to {}", self.lsn)
        }

        fn time_range(&self) -> Option<TimeRange> {
            TimeRange::new(*self.samples.timestamps.first()?, *self.samples.timestamps.last()?)
        }

        fn lsn_last(&self) -> Lsn {
            self.lsn
        }

        fn select(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<PartSeries>, StorageError> {
            let labels = Labels::from_pairs([("__name__", "m")]).unwrap();
            Ok(vec![PartSeries { labels, local: 0 }])
        }

        fn reader(self: Arc<Self>) -> Box<dyn SeriesReader> {
            Box::new(WrittenReader(self))
        }
    }

    struct WrittenReader(Arc<Written>);

    impl SeriesReader for WrittenReader {
        fn read(
            &mut self,
            _: u32,
            range: TimeRange,
            out: &mut Samples,
        ) -> Result<ReadStats, StorageError> {
            let samples = &self.0.samples;
            for (at, value) in samples.timestamps.iter().zip(&samples.values) {
                if range.contains(*at) {
                    out.push(*at, *value);
                }
            }
            Ok(ReadStats::default())
        }
    }

    #[test]
    fn a_tombstone_hides_what_was_written_before_it_and_nothing_later() {
        let part = |lsn, value: f64, timestamps: &[i64]| {
            let values = vec![value; timestamps.len()];
            let samples = Samples { timestamps: timestamps.to_vec(), values };
            Arc::new(Written { lsn, samples }) as Arc<dyn Part>
        };
        let parts =
            vec![part(5, 1.0, &[10, 20, 30]), part(9, 2.0, &[25, 40]), part(10, 3.0, &[20])];
        let tombstone = |lsn, start, end| {
            let range = TimeRange::new(start, end).unwrap();
            let matchers = vec![Matcher::equal("__name__", "m")];
            Arc::new(Tombstone { id: 1, lsn, range, matchers })
        };
        let shown = |parts: &[Arc<dyn Part>], tombstones, range| {
            let view = Snapshot::new(parts.to_vec(), tombstones, Vec::new());
            let mut samples = Samples::default();
            let series = view.select(&[], range).unwrap();
            let names = view.label_names(&[], range).unwrap();
            let values = view.label_values("__name__", &[], range).unwrap();
            assert_eq!((names.len(), values.len()), (series.len(), series.len()));
            let series = series.first()?;
            view.reader().read(series, range, &mut samples).unwrap();
            Some((samples.timestamps, samples.values))
        };
        let all = TimeRange::ALL;
        let deleted = vec![tombstone(9, 15, 30)];
        let left = Some((vec![10, 20, 40], vec![1.0, 3.0, 2.0]));
        assert_eq!(shown(&parts, deleted.clone(), all), left);
        // Wholly hidden in the range asked for: not there at all.
        let range = TimeRange::new(16, 30).unwrap();
        assert_eq!(shown(&parts[..2], deleted.clone(), range), None);
        // The range reaches further, but there is nothing.
        let range = TimeRange::new(11, 30).unwrap();
        assert_eq!(shown(&parts[..2], deleted, range), None);
        assert_eq!(shown(&parts[..2], vec![tombstone(9, 0, 19), tombstone(9, 20, 99)], all), None);
        assert_eq!(shown(&parts[..1], vec![tombstone(4, 0, 99)], all).unwrap().0, [10, 20, 30]);
    }

    #[test]
    fn a_damaged_part_is_left_out_and_told() {
        let good = OneSeries { name: "good", at: 5, damaged: false };
        let bad = OneSeries { name: "bad", at: 9, damaged: true };
        let view = Snapshot::new(vec![Arc::new(good), Arc::new(bad)], Vec::new(), Vec::new());
        let series = view.select(&[], TimeRange::ALL).unwrap();
        let mut out = Samples::default();
        let mut reader = view.reader();
        for _ in 0..2 {
            reader.read(&series[0], TimeRange::ALL, &mut out).unwrap();
            assert_eq!(out.timestamps, [5]);
        }
        let warnings = view.warnings();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("bad: samples may be missing: b is damaged at offset 7"));
    }
}
