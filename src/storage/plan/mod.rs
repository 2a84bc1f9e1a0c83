//! What to do next, as pure functions of what is known: when to freeze the head, when to flush
//! what is frozen, when to wait after a failure, which blocks to merge. No clock, no disk, no
//! locks.

mod compaction;
mod levels;
mod retention;

use std::time::Duration;

pub use compaction::{Candidate, Compaction, Occasion, next_compaction};
pub use levels::Levels;
pub use retention::{
    Group, Retention, RollupDay, Surplus, are_inside, first_uncovered, groups, surplus,
};

/// Length of the window that a freshly flushed block covers, and the alignment of all windows.
pub const WINDOW_MS: i64 = 2 * 60 * 60 * 1000;

/// The first pause after a failed flush; each further failure doubles it.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest pause between attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What the planner looks at.
#[derive(Debug, Clone, Default)]
pub struct Situation {
    pub now_ms: i64,
    pub monotonic: Duration,
    /// Samples, bytes and first write of the memtable that takes writes.
    pub head_samples: u64,
    pub head_bytes: u64,
    /// When the first sample of the head arrived; `None` while it is empty.
    pub head_born_ms: Option<i64>,
    /// Log bytes that a restart would replay and that no frozen memtable covers.
    pub wal_bytes: u64,
    /// Memtables that are frozen and not yet in blocks.
    pub frozen: usize,
    /// The log takes no writes because the disk is full.
    pub disk_is_full: bool,
    pub failures: Failures,
}

/// Failed attempts in a row, and when the latest was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    pub count: u32,
    pub latest: Duration,
}

impl Failures {
    pub fn add(&mut self, monotonic: Duration) {
        *self = Self { count: self.count.saturating_add(1), latest: monotonic };
    }

    /// Whether it is time for another attempt.
    pub fn are_over(self, monotonic: Duration) -> bool {
        monotonic >= self.latest.saturating_add(self.pause())
    }

    fn pause(self) -> Duration {
        match self.count.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => BACKOFF_MIN.saturating_mul(1 << doublings.min(16)).min(BACKOFF_MAX),
        }
    }
}

/// The bounds that the head must stay within.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub head_bytes_max: u64,
    pub wal_bytes_max: u64,
    pub flush_grace_ms: i64,
}

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Wait,
    /// Write the oldest frozen memtable to blocks.
    FlushFrozen,
    /// Freeze the head, then flush it.
    Freeze(Reason),
}

/// Why the head is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It holds as much memory as it may.
    HeadBytes,
    /// A restart would have to replay as much log as it may.
    WalBytes,
    /// The window in which it was begun is over.
    WindowEnd,
    /// Blocks are smaller than the log that they stand for.
    DiskFull,
}

/// Chooses the next step.
pub fn next_step(now: &Situation, bounds: Bounds) -> Step {
    if !now.failures.are_over(now.monotonic) {
        return Step::Wait;
    }
    if now.frozen > 0 {
        // One after the other: a second frozen memtable would only add to the memory in use.
        return Step::FlushFrozen;
    }
    let Some(born_ms) = now.head_born_ms else { return Step::Wait };
    // Judged by arrival, not by timestamps: a backfill of old data must not flush at each look.
    let due_ms = window_start(born_ms).saturating_add(WINDOW_MS + bounds.flush_grace_ms);
    if now.head_bytes >= bounds.head_bytes_max {
        Step::Freeze(Reason::HeadBytes)
    } else if now.wal_bytes >= bounds.wal_bytes_max {
        Step::Freeze(Reason::WalBytes)
    } else if now.now_ms >= due_ms {
        Step::Freeze(Reason::WindowEnd)
    } else if now.disk_is_full {
        Step::Freeze(Reason::DiskFull)
    } else {
        Step::Wait
    }
}

/// Start of the aligned window that holds `at_ms`; exact for times before 1970 too.
pub fn window_start(at_ms: i64) -> i64 {
    at_ms.saturating_sub(at_ms.rem_euclid(WINDOW_MS))
}

/// Where the window that holds `at_ms` has ended and the next begins.
pub fn window_end(at_ms: i64) -> i64 {
    window_start(at_ms).saturating_add(WINDOW_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { head_bytes_max: 1000, wal_bytes_max: 5000, flush_grace_ms: 60_000 };

    fn situation() -> Situation {
        Situation { head_samples: 1, head_born_ms: Some(10), now_ms: 20, ..Situation::default() }
    }

    #[test]
    fn an_empty_head_waits_for_ever() {
        let empty = Situation { now_ms: i64::MAX, ..Situation::default() };
        assert_eq!(next_step(&empty, BOUNDS), Step::Wait);
    }

    #[test]
    fn memory_log_and_time_freeze_the_head() {
        let full = Situation { head_bytes: 1000, ..situation() };
        assert_eq!(next_step(&full, BOUNDS), Step::Freeze(Reason::HeadBytes));
        let long = Situation { wal_bytes: 5000, ..situation() };
        assert_eq!(next_step(&long, BOUNDS), Step::Freeze(Reason::WalBytes));
        let early = Situation { now_ms: WINDOW_MS + 59_999, ..situation() };
        assert_eq!(next_step(&early, BOUNDS), Step::Wait);
        let due = Situation { now_ms: WINDOW_MS + 60_000, ..situation() };
        assert_eq!(next_step(&due, BOUNDS), Step::Freeze(Reason::WindowEnd));
        let full = Situation { disk_is_full: true, ..situation() };
        assert_eq!(next_step(&full, BOUNDS), Step::Freeze(Reason::DiskFull));
        let empty = Situation { head_born_ms: None, ..full };
        assert_eq!(next_step(&empty, BOUNDS), Step::Wait);
    }

    #[test]
    fn what_is_frozen_goes_first_and_failures_wait_twice_as_long_each_time() {
        let mut now = Situation { frozen: 1, head_bytes: 1000, ..situation() };
        assert_eq!(next_step(&now, BOUNDS), Step::FlushFrozen);
        now.failures.add(Duration::from_secs(100));
        now.failures.add(Duration::from_secs(100));
        now.monotonic = Duration::from_millis(101_999);
        assert_eq!(next_step(&now, BOUNDS), Step::Wait);
        now.monotonic = Duration::from_secs(102);
        assert_eq!(next_step(&now, BOUNDS), Step::FlushFrozen);
        now.failures.count = u32::MAX;
        now.monotonic = Duration::from_secs(160);
        assert_eq!(next_step(&now, BOUNDS), Step::FlushFrozen);
    }

    #[test]
    fn windows_are_aligned_on_both_sides_of_1970() {
        assert_eq!(window_start(0), 0);
        assert_eq!(window_start(WINDOW_MS - 1), 0);
        assert_eq!(window_start(-1), -WINDOW_MS);
        assert_eq!(window_end(WINDOW_MS - 1), WINDOW_MS);
        assert_eq!(window_end(WINDOW_MS), 2 * WINDOW_MS);
    }
}
