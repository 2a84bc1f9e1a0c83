//! Tombstones: deletions that hide samples from readers until files are written without them.
//!
//! A deletion flushes what is in memory and puts its tombstone into the manifest with the same
//! edit, so a tombstone's `lsn` is what that edit says is in blocks: it hides what was written up
//! to there, and later writes live. What follows from that:
//! - a part is touched as a whole or not at all: nothing needs to know the LSN of one sample;
//! - a compaction that was under way when the tombstone came gives a block that it still hides,
//!   because the block's last write is older than the tombstone.
//!
//! Invariant: tombstone ids ascend in the order of their commits, so that `BlockMeta::cleaned`
//! can name all those that a block was written without.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::{Labels, Matcher, Samples, TimeRange};
use crate::storage::manifest::BlockMeta;
use crate::storage::part::Part;
use crate::storage::wal::Lsn;

/// Tombstones that may be live at once. Every read of a touched block looks at each of them.
pub const TOMBSTONES_MAX: usize = 1_000;

/// Bytes that the matchers of one tombstone may have, so that the manifest stays small.
pub const MATCHER_BYTES_MAX: usize = 64 << 10;

/// One deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// From the numbers of files; never used again.
    pub id: u64,
    /// Writes after this one are not deleted.
    pub lsn: Lsn,
    pub range: TimeRange,
    /// A series that satisfies all of them loses its samples in the range.
    pub matchers: Vec<Matcher>,
}

impl Tombstone {
    /// Whether samples of the series are hidden. Start timestamps go with their samples.
    pub fn selects(&self, labels: &Labels) -> bool {
        let counted = labels.without_mark();
        let labels = counted.as_ref().unwrap_or(labels);
        self.matchers.iter().all(|matcher| matcher.matches_labels(labels))
    }
}

impl BlockMeta {
    /// Whether the block may hold samples that the tombstone hides.
    pub fn is_touched_by(&self, tombstone: &Tombstone) -> bool {
        self.lsn_last <= tombstone.lsn
            && self.cleaned < tombstone.id
            && self.time_range.overlaps(tombstone.range)
    }
}

/// What is hidden of one part.
#[derive(Debug, Default)]
pub(crate) struct Mask(SmallVec<[Arc<Tombstone>; 2]>);

impl Mask {
    pub(crate) fn new(part: &dyn Part, tombstones: &[Arc<Tombstone>]) -> Self {
        Self(tombstones.iter().filter(|tombstone| part.is_touched_by(tombstone)).cloned().collect())
    }

    /// Nothing is hidden.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes the hidden ones from a series' samples from row `start` on, which ascend.
    pub(crate) fn cut(&self, labels: &Labels, start: usize, samples: &mut Samples) {
        for tombstone in &self.0 {
            let rows = &samples.timestamps[start..];
            let from = start + rows.partition_point(|at| *at < tombstone.range.start());
            let to = start + rows.partition_point(|at| *at <= tombstone.range.end());
            if from < to && tombstone.selects(labels) {
                samples.timestamps.drain(from..to);
                samples.values.drain(from..to);
            }
        }
    }

    /// Where samples of a series are hidden.
    pub(crate) fn ranges(&self, labels: &Labels) -> impl Iterator<Item = TimeRange> {
        self.0.iter().filter(|tombstone| tombstone.selects(labels)).map(|one| one.range)
    }

    /// How much of a series is hidden in `range`.
    pub(crate) fn cover(&self, labels: &Labels, range: TimeRange) -> Cover {
        let mut hidden: SmallVec<[TimeRange; 4]> = self
            .0
            .iter()
            .filter(|tombstone| tombstone.range.overlaps(range) && tombstone.selects(labels))
            .map(|tombstone| tombstone.range)
            .collect();
        if hidden.is_empty() {
            return Cover::Nothing;
        }
        hidden.sort_unstable_by_key(|hidden| hidden.start());
        let mut seen = range.start();
        for hidden in hidden {
            if hidden.start() > seen {
                return Cover::Part;
            }
            if hidden.end() >= range.end() {
                return Cover::All;
            }
            seen = seen.max(hidden.end() + 1);
        }
        Cover::Part
    }
}

/// How much of a range is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cover {
    Nothing,
    Part,
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: i64, end: i64) -> TimeRange {
        TimeRange::new(start, end).unwrap()
    }

    fn mask(ranges: &[(i64, i64)]) -> Mask {
        let tombstone = |(start, end): &(i64, i64)| {
            let matchers = vec![Matcher::equal("host", "a")];
            Arc::new(Tombstone { id: 1, lsn: 1, range: range(*start, *end), matchers })
        };
        Mask(ranges.iter().map(tombstone).collect())
    }

    fn labels(host: &str) -> Labels {
        Labels::from_pairs([("__name__", "m"), ("host", host)]).unwrap()
    }

    #[test]
    fn hidden_samples_are_cut_out_of_the_rows_of_their_part() {
        let mask = mask(&[(10, 20), (40, 40)]);
        let all = Samples {
            timestamps: vec![15, 9, 10, 15, 20, 21, 40, 41],
            values: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
        };
        let mut samples = all.clone();
        mask.cut(&labels("a"), 1, &mut samples);
        assert_eq!(samples.timestamps, [15, 9, 21, 41]);
        assert_eq!(samples.values, [0.0, 1.0, 5.0, 7.0]);
        let mut samples = all.clone();
        mask.cut(&labels("b"), 1, &mut samples);
        assert_eq!(samples.timestamps, all.timestamps);
    }

    #[test]
    fn covers_of_several_tombstones_add_up() {
        let cover = |ranges: &[(i64, i64)]| mask(ranges).cover(&labels("a"), range(10, 20));
        assert_eq!(cover(&[]), Cover::Nothing);
        assert_eq!(cover(&[(0, 9), (21, 30)]), Cover::Nothing);
        assert_eq!(cover(&[(10, 20)]), Cover::All);
        assert_eq!(cover(&[(16, i64::MAX), (i64::MIN, 15)]), Cover::All);
        assert_eq!(cover(&[(0, 14), (16, 30)]), Cover::Part);
        assert_eq!(cover(&[(11, 30)]), Cover::Part);
        assert_eq!(cover(&[(12, 13), (10, 19)]), Cover::Part);
        assert_eq!(mask(&[(0, 99)]).cover(&labels("b"), range(10, 20)), Cover::Nothing);
    }

    #[test]
    fn a_block_is_touched_by_what_came_after_it_and_was_not_applied() {
        let block = BlockMeta {
            id: 1,
            level: 0,
            window: range(0, 7_199_999),
            time_range: range(100, 200),
            series: 1,
            samples: 2,
            bytes: 3,
            lsn_first: 5,
            lsn_last: 8,
            written: vec![8],
            cleaned: 20,
        };
        let tombstone = |id, lsn, start| {
            let matchers = Vec::new();
            Tombstone { id, lsn, range: range(start, 900), matchers }
        };
        assert!(block.is_touched_by(&tombstone(21, 8, 200)));
        assert!(!block.is_touched_by(&tombstone(21, 7, 200)), "later writes live");
        assert!(!block.is_touched_by(&tombstone(20, 8, 200)), "it was written without");
        assert!(!block.is_touched_by(&tombstone(21, 8, 201)), "another time");
    }
}
