//! Which blocks to merge next: L0 → L1 → L2, windows of 2 h → 6 h → 24 h or as [`Levels`] say.
//!
//! A window that is over goes to the highest level whose window is over, in one step, once its
//! blocks have been left alone for a while. What comes late waits until it is a good part of what
//! it would be merged with, or nothing more has come for hours: a late byte is written a bounded
//! number of times, and takes a bounded number of others with it. Within an open window small
//! blocks are merged when several have gathered.
//!
//! Invariant: a merge never changes which write wins. Its result stands where the last of its
//! sources stood, so sources are taken without a gap: no block of the same window that is left
//! out, a damaged one say, stands between them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::TimeRange;
use crate::storage::manifest::BlockMeta;
use crate::storage::plan::levels::{DAY_MS, Levels};

/// How long after its end a window is over for the background: its last flush, which waits for
/// late samples, has been written by then.
const WINDOW_SLACK_MS: i64 = 20 * 60 * 1000;
/// How long a window's blocks must have been left alone before they are merged for the first time.
/// A backfill touches the same windows again and again.
const QUIET: Duration = Duration::from_secs(10 * 60);
/// How long nothing late must have come before a few late samples are merged into a large block.
const QUIET_LATE: Duration = Duration::from_secs(6 * 60 * 60);
/// Late bytes need not wait once they are this part of the block that they are merged into: a late
/// byte rewrites at most so many others.
const LATE_PART: u64 = 4;
/// Blocks of one two-hour window before they are merged.
const STACK_MIN: usize = 4;
/// Bytes of one merge: more would take long to write, and as long again after a crash.
const MERGE_BYTES_MAX: u64 = 4 << 30;

/// A block, as the planner sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub meta: &'a BlockMeta,
    /// False if it is set aside as damaged: it stays where it is.
    pub readable: bool,
    /// How long it has been known.
    pub age: Duration,
}

/// Why the planner is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A look of the background.
    Look { now_ms: i64, flush_grace_ms: i64 },
    /// Somebody wants it done now. A window is over if `now_ms` or samples lie behind it.
    Asked { now_ms: i64 },
}

/// These blocks become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    pub level: u8,
    pub window: TimeRange,
    /// Ids, in order of their writes.
    pub sources: Vec<u64>,
    /// Of the sources' files; the result is hardly ever larger.
    pub bytes: u64,
    pub samples: u64,
}

/// The next merge; `None` when everything is as it should be. `blocks` stand in order of their
/// writes.
///
/// Newest windows first: they are asked for most.
pub fn next_compaction(
    blocks: &[Candidate<'_>],
    levels: &Levels,
    occasion: Occasion,
) -> Option<Compaction> {
    let newest_ms = blocks.iter().map(|block| block.meta.time_range.end()).max()?;
    let mut days: BTreeMap<i64, Vec<Candidate<'_>>> = BTreeMap::new();
    for block in blocks {
        // No window is longer, whatever the levels were when a block was written.
        let day = window_at(DAY_MS, block.meta.window.start());
        days.entry(day.start()).or_default().push(*block);
    }
    let is_over = |window: TimeRange| occasion.is_over(window, newest_ms);
    let asked = matches!(occasion, Occasion::Asked { .. });
    let rules = Rules { levels, is_over: &is_over, asked };
    days.into_values().rev().find_map(|blocks| rules.in_windows(levels.highest(), &blocks))
}

/// The aligned window of the length `len` that holds `at_ms`.
fn window_at(len: i64, at_ms: i64) -> TimeRange {
    let start = at_ms.saturating_sub(at_ms.rem_euclid(len));
    TimeRange::new(start, start.saturating_add(len - 1)).expect("starts before it ends")
}

impl Occasion {
    fn is_over(self, window: TimeRange, newest_ms: i64) -> bool {
        match self {
            Occasion::Look { now_ms, flush_grace_ms } => {
                let wait_ms = flush_grace_ms.saturating_add(WINDOW_SLACK_MS);
                now_ms > window.end().saturating_add(wait_ms)
            }
            Occasion::Asked { now_ms } => now_ms > window.end() || newest_ms > window.end(),
        }
    }
}

struct Rules<'a> {
    levels: &'a Levels,
    is_over: &'a dyn Fn(TimeRange) -> bool,
    asked: bool,
}

impl Rules<'_> {
    /// The first merge in the aligned windows of a level in which blocks begin.
    fn in_windows(&self, level: u8, blocks: &[Candidate<'_>]) -> Option<Compaction> {
        let len = self.levels.window_ms(level);
        let start = |block: &Candidate<'_>| window_at(len, block.meta.window.start()).start();
        let starts: BTreeSet<i64> = blocks.iter().map(start).collect();
        let mut windows = starts.into_iter().rev().map(|start| window_at(len, start));
        windows.find_map(|window| self.in_window(level, window, blocks))
    }

    /// The first merge inside of an aligned window, of its level or, failing that, below.
    fn in_window(
        &self,
        level: u8,
        window: TimeRange,
        blocks: &[Candidate<'_>],
    ) -> Option<Compaction> {
        let of_window: Vec<_> =
            blocks.iter().filter(|block| block.meta.window.overlaps(window)).copied().collect();
        if of_window.is_empty() {
            return None;
        }
        let due = runs(window, &of_window).into_iter().find_map(|run| self.due(level, window, run));
        if let Some(run) = due {
            return Some(compaction(level, window, run));
        }
        self.in_windows(level.checked_sub(1)?, &of_window)
    }

    /// The part of a run that is to be merged now.
    fn due<'r, 'a>(
        &self,
        level: u8,
        window: TimeRange,
        run: &'r [Candidate<'a>],
    ) -> Option<&'r [Candidate<'a>]> {
        let is_done = |block: &Candidate<'_>| block.meta.window == window;
        let is_whole = run.len() == 1 && is_done(&run[0]);
        let (large, late): (Vec<_>, Vec<_>) = run.iter().copied().partition(is_done);
        let quiet = late.iter().map(|block| block.age).min().unwrap_or(Duration::MAX);
        let is_due = if self.asked {
            !is_whole
        } else if level == 0 {
            // Of a window that is over, the next level is waited for.
            false
        } else if large.is_empty() {
            quiet >= QUIET
        } else {
            !is_whole
                && (quiet >= QUIET_LATE || bytes(&late).saturating_mul(LATE_PART) >= bytes(&large))
        };
        if is_due && bytes(run) <= MERGE_BYTES_MAX && (self.is_over)(window) {
            return Some(run);
        }
        if level == 0 { stack(run) } else { None }
    }
}

/// The newest blocks of one two-hour window, back to where an older one is much larger than all
/// that came after it: so each merge makes a sample's block at least half as large again.
fn stack<'r, 'a>(run: &'r [Candidate<'a>]) -> Option<&'r [Candidate<'a>]> {
    let mut newer = 0u64;
    let mut start = run.len();
    while let Some(index) = start.checked_sub(1) {
        let bytes = run[index].meta.bytes;
        let is_much_larger = newer > 0 && bytes > newer.saturating_mul(2);
        if is_much_larger || newer.saturating_add(bytes) > MERGE_BYTES_MAX {
            break;
        }
        newer += bytes;
        start = index;
    }
    let stack = &run[start..];
    (stack.len() >= STACK_MIN).then_some(stack)
}

/// Stretches of `blocks`, which overlap the window, that may be merged without a change of who
/// wins: each ends where a block stands that is damaged or reaches out of the window.
fn runs<'r, 'a>(window: TimeRange, blocks: &'r [Candidate<'a>]) -> Vec<&'r [Candidate<'a>]> {
    let is_source =
        |block: &Candidate<'_>| block.readable && window.contains_range(block.meta.window);
    let mut runs = Vec::new();
    let mut start = 0;
    for (index, block) in blocks.iter().enumerate() {
        if is_source(block) {
            continue;
        }
        // A result gets a new id, so it would stand behind a block with the same last write.
        let before = &blocks[start..index];
        let end = before.partition_point(|source| source.meta.lsn_last < block.meta.lsn_last);
        runs.push(&before[..end]);
        start = index + 1;
    }
    runs.push(&blocks[start..]);
    runs.retain(|run| !run.is_empty());
    runs
}

fn bytes(blocks: &[Candidate<'_>]) -> u64 {
    blocks.iter().map(|block| block.meta.bytes).sum()
}

fn compaction(level: u8, window: TimeRange, run: &[Candidate<'_>]) -> Compaction {
    Compaction {
        level,
        window,
        sources: run.iter().map(|block| block.meta.id).collect(),
        bytes: bytes(run),
        samples: run.iter().map(|block| block.meta.samples).sum(),
    }
}

#[cfg(test)]
mod tests;
