//! A consistent view of all parts at one moment, merged into one set of series.
//!
//! Parts are held in order of their writes: where two have the same (series, timestamp), the
//! later part's sample wins, which makes "last acknowledged write wins" hold over all parts.
//!
//! A damaged part does not fail the view: what can be read is served, and the view's warnings
//! say what is missing. Ask for them after reading.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::model::{Labels, Matcher, Samples, TimeRange};
use crate::storage::error::{ErrorKind, StorageError};
use crate::storage::part::{Part, PartSeries, ReadStats, SeriesReader};

/// What exists at one moment. Files of its parts stay readable until it is dropped.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Oldest writes first; the head is last.
    parts: Vec<Arc<dyn Part>>,
    warnings: Arc<Warnings>,
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

impl Snapshot {
    /// `parts` in order of their writes.
    pub fn new(parts: Vec<Arc<dyn Part>>, warnings: Vec<String>) -> Self {
        let known = Warnings::default();
        for warning in warnings {
            known.add(warning);
        }
        Self { parts, warnings: Arc::new(known) }
    }

    pub fn parts(&self) -> &[Arc<dyn Part>] {
        &self.parts
    }

    /// What is missing and why, to be told with the answer; complete once all is read.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.0.lock().iter().cloned().collect()
    }

    /// Where samples lie; `None` if there are none.
    pub fn time_range(&self) -> Option<TimeRange> {
        self.parts.iter().filter_map(|part| part.time_range()).reduce(TimeRange::hull)
    }

    /// The series that satisfy all matchers and may have samples in `range`, ascending by labels.
    pub fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<SelectedSeries>, StorageError> {
        let mut lists: Vec<(u32, std::vec::IntoIter<PartSeries>)> = Vec::new();
        for (number, part) in (0u32..).zip(self.overlapping(range)) {
            if let Some(part) = part {
                let series = part.select(matchers, range);
                match self.warnings.tolerate(part.as_ref(), series)? {
                    Some(series) if !series.is_empty() => lists.push((number, series.into_iter())),
                    _ => {}
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
        for part in self.overlapping(range).flatten() {
            let added = part.label_names(matchers, range, &mut names);
            self.warnings.tolerate(part.as_ref(), added)?;
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
        for part in self.overlapping(range).flatten() {
            let added = part.label_values(name, matchers, range, &mut values);
            self.warnings.tolerate(part.as_ref(), added)?;
        }
        Ok(values)
    }

    /// A cursor for one scan; see [`SnapshotReader::read`].
    pub fn reader(&self) -> SnapshotReader {
        SnapshotReader {
            parts: self.parts.clone(),
            readers: self.parts.iter().map(|_| None).collect(),
            warnings: Arc::clone(&self.warnings),
            pieces: Vec::new(),
            merged: Samples::default(),
        }
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

/// Reads series of a snapshot, one scan long.
pub struct SnapshotReader {
    parts: Vec<Arc<dyn Part>>,
    readers: Vec<Option<Box<dyn SeriesReader>>>,
    warnings: Arc<Warnings>,
    /// End of each source's samples in the output, kept to spare allocations.
    pieces: Vec<usize>,
    merged: Samples,
}

impl SnapshotReader {
    /// Replaces `out` with the series' samples in `range`: ascending, no timestamp twice, the
    /// latest write of each.
    pub fn read(
        &mut self,
        series: &SelectedSeries,
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<ReadStats, StorageError> {
        out.clear();
        self.pieces.clear();
        let mut stats = ReadStats::default();
        let mut in_order = true;
        for &(number, local) in &series.sources {
            let index = number as usize;
            let start = out.len();
            let part = &self.parts[index];
            let reader = self.readers[index].get_or_insert_with(|| Arc::clone(part).reader());
            let read = reader.read(local, range, out);
            match self.warnings.tolerate(part.as_ref(), read)? {
                Some(read) => stats.add(read),
                None => {
                    out.timestamps.truncate(start);
                    out.values.truncate(start);
                }
            }
            if out.len() > start {
                in_order &= start == 0 || out.timestamps[start - 1] < out.timestamps[start];
                self.pieces.push(out.len());
            }
        }
        if !in_order {
            merge_pieces(out, &self.pieces, &mut self.merged);
            std::mem::swap(out, &mut self.merged);
        }
        Ok(stats)
    }
}

/// Merges consecutive sorted pieces of `input`; of equal timestamps the last piece's stays.
pub(crate) fn merge_pieces(input: &Samples, ends: &[usize], merged: &mut Samples) {
    merged.clear();
    let mut start = 0;
    let mut heads: BinaryHeap<Reverse<(i64, usize, usize)>> = BinaryHeap::new();
    for (piece, &end) in ends.iter().enumerate() {
        heads.push(Reverse((input.timestamps[start], piece, start)));
        start = end;
    }
    while let Some(Reverse((timestamp, piece, row))) = heads.pop() {
        if merged.timestamps.last() == Some(&timestamp) {
            // Equal timestamps come out by piece, so this one was written later.
            *merged.values.last_mut().expect("as long as timestamps") = input.values[row];
        } else {
            merged.push(timestamp, input.values[row]);
        }
        if row + 1 < ends[piece] {
            heads.push(Reverse((input.timestamps[row + 1], piece, row + 1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_pieces_win_and_order_is_restored() {
        let input = Samples {
            timestamps: vec![10, 20, 30, 5, 20, 40, 20],
            values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
        };
        let mut merged = Samples::default();
        merge_pieces(&input, &[3, 6, 7], &mut merged);
        assert_eq!(merged.timestamps, [5, 10, 20, 30, 40]);
        assert_eq!(merged.values, [4.0, 1.0, 7.0, 3.0, 6.0]);
    }

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

    #[test]
    fn a_damaged_part_is_left_out_and_told() {
        let good = OneSeries { name: "good", at: 5, damaged: false };
        let bad = OneSeries { name: "bad", at: 9, damaged: true };
        let view = Snapshot::new(vec![Arc::new(good), Arc::new(bad)], Vec::new());
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
