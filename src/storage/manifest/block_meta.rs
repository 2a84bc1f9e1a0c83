//! What the manifest knows of a block.

use crate::model::TimeRange;
use crate::storage::plan::{WINDOW_MS, window_start};
use crate::storage::wal::Lsn;

/// Most 2 h stretches in one block's window: a day has twelve.
const WRITTEN_MAX: usize = 12;

/// What the manifest knows of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMeta {
    /// Names the file; never used again for another.
    pub id: u64,
    pub level: u8,
    /// The aligned window that the block belongs to.
    pub window: TimeRange,
    /// Where its samples lie inside the window.
    pub time_range: TimeRange,
    pub series: u64,
    pub samples: u64,
    pub bytes: u64,
    /// First and last log sequence number of its samples: where two blocks have the same
    /// timestamp of a series, the later one's sample counts.
    pub lsn_first: u64,
    pub lsn_last: u64,
    /// For each stretch of [`WINDOW_MS`] of the window, the last write that touched it: what was
    /// made from a stretch at an earlier write no longer tells what is in it.
    pub written: Vec<Lsn>,
    /// The block was written without what tombstones up to this id hide.
    pub cleaned: u64,
}

impl BlockMeta {
    /// [`BlockMeta::written`] of a block of which no more is known than its last write.
    pub(crate) fn written_at(window: TimeRange, lsn: Lsn) -> Vec<Lsn> {
        let stretches = window.end().abs_diff(window.start()) / WINDOW_MS.unsigned_abs() + 1;
        vec![lsn; usize::try_from(stretches).map_or(WRITTEN_MAX, |len| len.min(WRITTEN_MAX))]
    }

    /// The stretches of [`WINDOW_MS`] that [`BlockMeta::written`] is about.
    pub(crate) fn stretches(&self) -> impl ExactSizeIterator<Item = TimeRange> {
        let first = self.window.start();
        (0..self.written.len()).map(move |index| {
            let index = i64::try_from(index).expect("at most WRITTEN_MAX");
            let start = first.saturating_add(WINDOW_MS * index);
            TimeRange::new(start, start.saturating_add(WINDOW_MS - 1))
                .expect("starts before it ends")
        })
    }

    /// The last write that touched the stretch of [`WINDOW_MS`] that holds `at_ms`; `None` outside
    /// of the block's window.
    pub fn written_in(&self, at_ms: i64) -> Option<Lsn> {
        if !self.window.contains(at_ms) {
            return None;
        }
        let stretch = window_start(at_ms).abs_diff(self.window.start()) / WINDOW_MS.unsigned_abs();
        self.written.get(usize::try_from(stretch).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_known_by_stretch() {
        let block = BlockMeta {
            id: 3,
            level: 1,
            window: TimeRange::new(-3 * WINDOW_MS, -1).unwrap(),
            time_range: TimeRange::new(-2 * WINDOW_MS, -7).unwrap(),
            series: 3,
            samples: 300,
            bytes: 4096,
            lsn_first: 30,
            lsn_last: 39,
            written: vec![35, 31, 39],
            cleaned: 0,
        };
        assert_eq!(block.written_in(-3 * WINDOW_MS), Some(35));
        assert_eq!(block.written_in(-2 * WINDOW_MS), Some(31));
        assert_eq!(block.written_in(-1), Some(39));
        assert_eq!((block.written_in(0), block.written_in(-3 * WINDOW_MS - 1)), (None, None));
        assert_eq!(BlockMeta::written_at(TimeRange::ALL, 1).len(), WRITTEN_MAX);
    }
}
