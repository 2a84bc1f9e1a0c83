//! Reads series of a view: from each part what tombstones and the floor leave, then merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::columnar::block::Settle;
use crate::model::{Samples, TimeRange};
use crate::storage::error::StorageError;
use crate::storage::part::{Part, ReadStats, SeriesReader};
use crate::storage::snapshot::{SelectedSeries, Snapshot, Warnings};
use crate::storage::tombstone::{Mask, Tombstone};

/// Reads series of a snapshot, one scan long.
pub struct SnapshotReader {
    parts: Vec<Arc<dyn Part>>,
    tombstones: Vec<Arc<Tombstone>>,
    visible: TimeRange,
    readers: Vec<Option<PartReader>>,
    warnings: Arc<Warnings>,
    /// End of each source's samples in the output, kept to spare allocations.
    pieces: Vec<usize>,
    merged: Samples,
    /// Where one source is not all that there is, kept likewise.
    shared: Vec<TimeRange>,
}

/// A reader of one part, and what it must not show.
struct PartReader {
    reader: Box<dyn SeriesReader>,
    mask: Mask,
    /// Numbers of the other parts with samples in the same time, ascending, and that time.
    beside: Vec<(u32, TimeRange)>,
}

impl PartReader {
    fn new(parts: &[Arc<dyn Part>], number: usize, tombstones: &[Arc<Tombstone>]) -> Self {
        let part = &parts[number];
        let of_part = part.time_range();
        let others = (0u32..).zip(parts).filter(|(other, _)| *other as usize != number);
        let beside = others.filter_map(|(other, part)| {
            let both = part.time_range().zip(of_part).and_then(|(one, two)| one.intersect(two));
            both.map(|both| (other, both))
        });
        Self {
            reader: Arc::clone(part).reader(),
            mask: Mask::new(part.as_ref(), tombstones),
            beside: beside.collect(),
        }
    }

    /// Adds to `shared` where samples of the series are also in other parts, or hidden.
    fn add_shared(&self, series: &SelectedSeries, shared: &mut Vec<TimeRange>) {
        let has = |other: &u32| series.sources.binary_search_by_key(other, |one| one.0).is_ok();
        shared.extend(self.beside.iter().filter(|(other, _)| has(other)).map(|(_, both)| *both));
        shared.extend(self.mask.ranges(&series.labels));
    }
}

impl SnapshotReader {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        Self {
            parts: snapshot.parts.clone(),
            tombstones: snapshot.tombstones.clone(),
            visible: snapshot.visible(),
            readers: snapshot.parts.iter().map(|_| None).collect(),
            warnings: Arc::clone(&snapshot.warnings),
            pieces: Vec::new(),
            merged: Samples::default(),
            shared: Vec::new(),
        }
    }

    /// Replaces `out` with the series' samples in `range`: ascending, no timestamp twice, the
    /// latest write of each.
    pub fn read(
        &mut self,
        series: &SelectedSeries,
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<ReadStats, StorageError> {
        self.read_parts(series, range, None, out)
    }

    /// As [`SnapshotReader::read`], but chunks that are all there is of the series in their time
    /// are shown to `settle`, in order of time within a part, and left out if it needs none of
    /// their samples.
    pub fn read_unsettled(
        &mut self,
        series: &SelectedSeries,
        range: TimeRange,
        settle: &mut Settle<'_>,
        out: &mut Samples,
    ) -> Result<ReadStats, StorageError> {
        self.read_parts(series, range, Some(settle), out)
    }

    fn read_parts(
        &mut self,
        series: &SelectedSeries,
        range: TimeRange,
        mut settle: Option<&mut Settle<'_>>,
        out: &mut Samples,
    ) -> Result<ReadStats, StorageError> {
        out.clear();
        self.pieces.clear();
        let mut stats = ReadStats::default();
        let Some(range) = range.intersect(self.visible) else { return Ok(stats) };
        let mut in_order = true;
        for &(number, local) in &series.sources {
            let index = number as usize;
            let start = out.len();
            let part = &self.parts[index];
            let of_part = self.readers[index]
                .get_or_insert_with(|| PartReader::new(&self.parts, index, &self.tombstones));
            let read = match &mut settle {
                Some(settle) => {
                    self.shared.clear();
                    of_part.add_shared(series, &mut self.shared);
                    of_part.reader.read_unsettled(local, range, &self.shared, settle, out)
                }
                None => of_part.reader.read(local, range, out),
            };
            let mask = &of_part.mask;
            match self.warnings.tolerate(part.as_ref(), read)? {
                Some(read) => {
                    stats.add(read);
                    mask.cut(&series.labels, start, out);
                }
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
        // Pieces seldom interleave: what comes before every other piece's next row goes at once.
        let rest = &input.timestamps[row..ends[piece]];
        let rows = heads.peek().map_or(rest.len(), |Reverse((bound, _, _))| {
            rest.partition_point(|at| at < bound).max(1)
        });
        let mut from = row;
        if merged.timestamps.last() == Some(&timestamp) {
            // Equal timestamps come out by piece, so this one was written later.
            *merged.values.last_mut().expect("as long as timestamps") = input.values[row];
            from += 1;
        }
        let end = row + rows;
        merged.timestamps.extend_from_slice(&input.timestamps[from..end]);
        merged.values.extend_from_slice(&input.values[from..end]);
        if end < ends[piece] {
            heads.push(Reverse((input.timestamps[end], piece, end)));
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
