//! What is old enough to go, or too much to stay.
//!
//! Invariant: blocks that overlap in time go together. A later write in one of them may stand over
//! a sample of another, and to drop the later one alone would bring the earlier value back.

use crate::model::{Resolution, Span, TimeRange};
use crate::storage::manifest::BlockMeta;

/// How long samples and their rollups are kept, in milliseconds. `None`: for ever. Rollups that
/// are kept for 0 ms are never written; coarser ones are made of them all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    pub raw_ms: Option<i64>,
    pub one_minute_ms: Option<i64>,
    pub five_minutes_ms: Option<i64>,
    pub one_hour_ms: Option<i64>,
}

impl Retention {
    /// The same for samples and all rollups.
    pub fn of_all(ms: Option<i64>) -> Self {
        Self { raw_ms: ms, one_minute_ms: ms, five_minutes_ms: ms, one_hour_ms: ms }
    }

    pub fn rollup_ms(&self, resolution: Resolution) -> Option<i64> {
        match resolution {
            Resolution::OneMinute => self.one_minute_ms,
            Resolution::FiveMinutes => self.five_minutes_ms,
            Resolution::OneHour => self.one_hour_ms,
        }
    }
}

/// Blocks that go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub ids: Vec<u64>,
    /// Where their samples lie.
    pub range: TimeRange,
    /// Where their windows lie.
    pub window: TimeRange,
    pub samples: u64,
    pub bytes: u64,
}

/// The blocks in groups, oldest first. Whoever overlaps is in one group.
pub fn groups<'a>(blocks: impl Iterator<Item = &'a BlockMeta>) -> Vec<Group> {
    let mut blocks: Vec<&BlockMeta> = blocks.collect();
    blocks.sort_by_key(|block| block.window.start());
    let mut groups: Vec<Group> = Vec::new();
    for block in blocks {
        match groups.last_mut().filter(|group| group.window.overlaps(block.window)) {
            Some(group) => group.add(block),
            None => groups.push(Group {
                ids: vec![block.id],
                range: block.time_range,
                window: block.window,
                samples: block.samples,
                bytes: block.bytes,
            }),
        }
    }
    groups
}

impl Group {
    fn add(&mut self, block: &BlockMeta) {
        self.ids.push(block.id);
        self.range = self.range.hull(block.time_range);
        self.window = self.window.hull(block.window);
        self.samples += block.samples;
        self.bytes += block.bytes;
    }
}

/// How many of the oldest groups are to go: all whose samples lie before `raw_before_ms`, and as
/// many as it takes until the others are below `bytes_max`. The newest stays below no bound.
pub fn surplus(groups: &[Group], raw_before_ms: Option<i64>, bytes_max: Option<u64>) -> usize {
    let is_old = |group: &&Group| raw_before_ms.is_some_and(|before| group.range.end() < before);
    let old = groups.iter().take_while(is_old).count();
    let mut bytes: u64 = groups[old..].iter().map(|group| group.bytes).sum();
    let mut too_many = old;
    while bytes_max.is_some_and(|max| bytes > max) && too_many + 1 < groups.len() {
        bytes -= groups[too_many].bytes;
        too_many += 1;
    }
    too_many
}

/// Whether all samples that the block may hold lie in one of the spans, which are joined where
/// they touch.
pub fn is_covered(block: &BlockMeta, spans: &[Span]) -> bool {
    let touched = block.stretches().zip(&block.written).filter(|(_, lsn)| **lsn > 0);
    let mut samples = touched.filter_map(|(stretch, _)| stretch.intersect(block.time_range));
    let is_inside = |range: TimeRange| {
        spans.iter().any(|span| span.start < range.start() && range.end() <= span.end)
    };
    samples.all(is_inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::plan::WINDOW_MS;

    fn block(id: u64, first_window: i64, windows: i64, bytes: u64) -> BlockMeta {
        let start = first_window * WINDOW_MS;
        let window = TimeRange::new(start, start + windows * WINDOW_MS - 1).unwrap();
        BlockMeta {
            id,
            level: 0,
            window,
            time_range: window,
            series: 1,
            samples: 10,
            bytes,
            lsn_first: 1,
            lsn_last: 1,
            written: BlockMeta::written_at(window, 1),
            cleaned: 0,
        }
    }

    #[test]
    fn blocks_that_overlap_go_together() {
        let blocks =
            [block(4, 12, 1, 5), block(1, 0, 12, 100), block(2, 3, 1, 1), block(3, 11, 1, 1)];
        let groups = groups(blocks.iter());
        let ids: Vec<_> = groups.iter().map(|group| group.ids.clone()).collect();
        assert_eq!(ids, [vec![1, 2, 3], vec![4]]);
        assert_eq!((groups[0].bytes, groups[0].samples), (102, 30));
    }

    #[test]
    fn the_old_go_and_the_oldest_of_too_many() {
        let blocks: Vec<_> = (0..5).map(|id| block(id, id as i64, 1, 10)).collect();
        let groups = groups(blocks.iter());
        assert_eq!(surplus(&groups, None, None), 0);
        assert_eq!(surplus(&groups, Some(WINDOW_MS - 1), None), 0);
        assert_eq!(surplus(&groups, Some(WINDOW_MS), None), 1);
        assert_eq!(surplus(&groups, Some(i64::MAX), None), 5);
        assert_eq!(surplus(&groups, None, Some(50)), 0);
        assert_eq!(surplus(&groups, None, Some(25)), 3);
        assert_eq!(surplus(&groups, Some(WINDOW_MS), Some(40)), 1);
        assert_eq!(surplus(&groups, None, Some(1)), 4, "the newest stays");
        assert_eq!(surplus(&[], Some(0), Some(0)), 0);
    }

    #[test]
    fn a_block_is_covered_where_it_may_hold_samples() {
        let mut day = block(1, 12, 12, 1);
        day.time_range = TimeRange::new(day.window.start() + 5, day.window.end() - 5).unwrap();
        let span = |first: i64, last: i64| Span { start: first * WINDOW_MS, end: last * WINDOW_MS };
        assert!(is_covered(&day, &[span(12, 24)]));
        assert!(!is_covered(&day, &[span(12, 23)]));
        assert!(!is_covered(&day, &[]));
        // Nothing was ever written to the stretch that is missing.
        day.written[3] = 0;
        let rest = Span { start: 16 * WINDOW_MS - 1, end: 24 * WINDOW_MS };
        assert!(is_covered(&day, &[span(12, 15), rest]));
        // A sample at the window's first instant belongs to the span before.
        let first = block(2, 12, 1, 1);
        assert!(!is_covered(&first, &[span(12, 13)]));
        assert!(is_covered(&first, &[span(11, 13)]));
    }
}
