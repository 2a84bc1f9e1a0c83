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

/// The rollup files of one day, of all resolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollupDay {
    /// The last bucket ends here.
    pub end: Timestamp,
    pub bytes: u64,
}

/// What is too much: how many of the oldest groups and days of rollups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Surplus {
    pub groups: usize,
    pub days: usize,
}

/// What is to go, oldest first, until of all `bytes` there are at most `bytes_max` left: days of
/// rollups that lie before all samples, then groups, each with the days of rollups that lie before
/// what remains. The newest group stays whatever the bound, and so does the newest day if there is
/// no group. Samples before `raw_floor` do not count as remaining.
pub fn surplus(
    groups: &[Group],
    days: &[RollupDay],
    raw_floor: Timestamp,
    bytes: u64,
    bytes_max: u64,
) -> Surplus {
    let days = if groups.is_empty() { &days[..days.len().saturating_sub(1)] } else { days };
    let mut left = bytes;
    let mut gone = Surplus::default();
    let next_day = |gone: &Surplus| {
        let remaining = groups.get(gone.groups);
        let start = remaining.map_or(Timestamp::MAX, |group| group.range.start().max(raw_floor));
        days.get(gone.days).filter(|day| day.end <= start)
    };
    while left > bytes_max {
        if let Some(day) = next_day(&gone) {
            left = left.saturating_sub(day.bytes);
            gone.days += 1;
        } else if gone.groups + 1 < groups.len() {
            left = left.saturating_sub(groups[gone.groups].bytes);
            gone.groups += 1;
            while let Some(day) = next_day(&gone) {
                left = left.saturating_sub(day.bytes);
                gone.days += 1;
            }
        } else {
            break;
        }
    }
    gone
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
        let gone = |bytes, bytes_max| surplus(&groups, &[], i64::MIN, bytes, bytes_max).groups;
        assert_eq!(gone(50, 50), 0);
        assert_eq!(gone(50, 25), 3);
        assert_eq!(gone(50, 1), 4, "the newest stays");
        assert_eq!(gone(70, 50), 2, "the log counts, and is not dropped");
        assert_eq!(surplus(&[], &[], i64::MIN, 1, 0), Surplus::default());
        assert_eq!(groups[2].floor(), 3 * WINDOW_MS);
    }

    #[test]
    fn rollups_go_before_samples_that_are_younger_and_with_those_of_their_time() {
        let blocks: Vec<_> = (4..7).map(|id| block(id, id as i64, 1, 10)).collect();
        let groups = groups(blocks.iter());
        let day = |end: i64| RollupDay { end: end * WINDOW_MS, bytes: 3 };
        let days = [day(1), day(2), day(5), day(6), day(7)];
        let gone = |bytes_max| {
            let Surplus { groups, days } = surplus(&groups, &days, i64::MIN, 45, bytes_max);
            (groups, days)
        };
        assert_eq!(gone(45), (0, 0));
        assert_eq!(gone(44), (0, 1));
        assert_eq!(gone(41), (0, 2));
        assert_eq!(gone(38), (1, 3), "those of its own time go along, though less would do");
        assert_eq!(gone(26), (1, 3));
        assert_eq!(gone(25), (2, 4));
        assert_eq!(gone(0), (2, 4), "the newest stays with its rollups");
        // Samples of the third day are out of sight already: its rollups go first.
        let trimmed = surplus(&groups, &days, 5 * WINDOW_MS, 45, 38);
        assert_eq!(trimmed, Surplus { groups: 0, days: 3 });
        assert_eq!(surplus(&[], &days, i64::MIN, 15, 0), Surplus { groups: 0, days: 4 });
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
