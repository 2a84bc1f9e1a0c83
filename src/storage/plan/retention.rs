//! What is old enough to go, or too much to stay.
//!
//! Invariant: blocks that overlap in time go together. A later write in one of them may stand over
//! a sample of another, and to drop the later one alone would bring the earlier value back.

use crate::model::{Resolution, Span, TimeRange, Timestamp};
use crate::storage::manifest::BlockMeta;
use crate::storage::plan::window_end;

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

    /// The first window behind its samples: the floor that lets all of it go.
    pub fn floor(&self) -> Timestamp {
        window_end(self.range.end())
    }
}

/// How many of the oldest groups are to go until the others have at most `bytes_max` bytes. The
/// newest stays below no bound.
pub fn surplus(groups: &[Group], bytes_max: u64) -> usize {
    let mut bytes: u64 = groups.iter().map(|group| group.bytes).sum();
    let mut count = 0;
    while bytes > bytes_max && count + 1 < groups.len() {
        bytes -= groups[count].bytes;
        count += 1;
    }
    count
}

/// Where the first window begins in which the block may hold samples outside of `spans`, which are
/// joined where they touch. Only windows that overlap `within` are looked at.
pub fn first_uncovered(block: &BlockMeta, spans: &[Span], within: TimeRange) -> Option<Timestamp> {
    let touched = block.stretches().zip(&block.written).filter(|(_, lsn)| **lsn > 0);
    let mut windows = touched.map(|(window, _)| window).filter(|window| window.overlaps(within));
    let is_uncovered = |window: &TimeRange| {
        window.intersect(block.time_range).is_some_and(|samples| !are_inside(samples, spans))
    };
    windows.find(is_uncovered).map(TimeRange::start)
}

/// Whether one of the spans holds the whole range.
pub fn are_inside(range: TimeRange, spans: &[Span]) -> bool {
    spans.iter().any(|span| span.start < range.start() && range.end() <= span.end)
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
    fn the_oldest_of_too_many_go() {
        let blocks: Vec<_> = (0..5).map(|id| block(id, id as i64, 1, 10)).collect();
        let groups = groups(blocks.iter());
        assert_eq!(surplus(&groups, 50), 0);
        assert_eq!(surplus(&groups, 25), 3);
        assert_eq!(surplus(&groups, 1), 4, "the newest stays");
        assert_eq!(surplus(&[], 0), 0);
        assert_eq!(groups[2].floor(), 3 * WINDOW_MS);
    }

    #[test]
    fn a_block_is_covered_where_it_may_hold_samples() {
        let mut day = block(1, 12, 12, 1);
        day.time_range = TimeRange::new(day.window.start() + 5, day.window.end() - 5).unwrap();
        let span = |first: i64, last: i64| Span { start: first * WINDOW_MS, end: last * WINDOW_MS };
        let open = |block: &BlockMeta, spans: &[Span]| {
            first_uncovered(block, spans, TimeRange::ALL).map(|at| at / WINDOW_MS)
        };
        assert_eq!(open(&day, &[span(12, 24)]), None);
        assert_eq!(open(&day, &[span(12, 23)]), Some(23));
        assert_eq!(open(&day, &[]), Some(12));
        let within = |first: i64, last: i64| TimeRange::new(first, last).unwrap();
        let before = within(i64::MIN, 23 * WINDOW_MS - 1);
        assert_eq!(first_uncovered(&day, &[span(12, 23)], before), None);
        let later = within(13 * WINDOW_MS + 1, i64::MAX);
        assert_eq!(first_uncovered(&day, &[span(14, 24)], later), Some(13 * WINDOW_MS));
        // Nothing was ever written to the stretch that is missing.
        day.written[3] = 0;
        let rest = Span { start: 16 * WINDOW_MS - 1, end: 24 * WINDOW_MS };
        assert_eq!(open(&day, &[span(12, 15), rest]), None);
        // A sample at the window's first instant belongs to the span before.
        let first = block(2, 12, 1, 1);
        assert_eq!(open(&first, &[span(12, 13)]), Some(12));
        assert_eq!(open(&first, &[span(11, 13)]), None);
    }
}
