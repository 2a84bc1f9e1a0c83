//! A consistent view of all parts at one moment, merged into one set of series.
//!
//! Parts are held in order of their writes: where two have the same (series, timestamp), the
//! later part's sample wins, which makes "last acknowledged write wins" hold over all parts.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::{Labels, Matcher, Samples, TimeRange};
use crate::storage::error::StorageError;
use crate::storage::part::{Part, PartSeries, ReadStats, SeriesReader};

/// What exists at one moment. Files of its parts stay readable until it is dropped.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Oldest writes first; the head is last.
    parts: Vec<Arc<dyn Part>>,
    /// What is missing from the view and why, to be told with every answer.
    warnings: Vec<String>,
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
        Self { parts, warnings }
    }

    pub fn parts(&self) -> &[Arc<dyn Part>] {
        &self.parts
    }

    pub fn warnings(&self) -> &[String] {
        &self.warnings
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
                let series = part.select(matchers, range)?;
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
        for part in self.overlapping(range).flatten() {
            part.label_names(matchers, range, &mut names)?;
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
            part.label_values(name, matchers, range, &mut values)?;
        }
        Ok(values)
    }

    /// A cursor for one scan; see [`SnapshotReader::read`].
    pub fn reader(&self) -> SnapshotReader {
        SnapshotReader {
            parts: self.parts.clone(),
            readers: self.parts.iter().map(|_| None).collect(),
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
            stats.add(reader.read(local, range, out)?);
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
fn merge_pieces(input: &Samples, ends: &[usize], merged: &mut Samples) {
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
}
