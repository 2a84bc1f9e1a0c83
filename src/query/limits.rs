//! The bounds of queries: how long, how many at once, how much.
//!
//! Every error that a bound causes names the bound and the setting that moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::query::error::QueryError;
use crate::query::resolution::RollupCosts;
use crate::storage::ReadStats;

/// What one query may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    /// Longest run, waiting for a turn included.
    pub timeout: Duration,
    /// Most samples read from storage.
    pub samples_max: u64,
    /// Most series that one selector may select.
    pub series_max: u64,
    /// Most steps of a range query.
    pub points_max: u64,
    /// Most bytes of memory for intermediate and final results.
    pub bytes_max: u64,
}

impl QueryLimits {
    pub const TIMEOUT_SETTING: &'static str = "--query-timeout";
    pub const SAMPLES_SETTING: &'static str = "--query-samples-max";
    pub const SERIES_SETTING: &'static str = "--query-series-max";
    pub const POINTS_SETTING: &'static str = "--query-points-max";
    pub const BYTES_SETTING: &'static str = "--query-bytes-max";

    /// A selector found `count` series.
    pub(crate) fn check_series(&self, count: usize) -> Result<(), QueryError> {
        if count as u64 <= self.series_max {
            return Ok(());
        }
        Err(QueryError::Limit {
            what: "select too many series",
            limit: "series",
            setting: Self::SERIES_SETTING,
            value: self.series_max,
        })
    }

    /// The samples that all scans of a query have read so far.
    pub(crate) fn check_samples(&self, read: u64) -> Result<(), QueryError> {
        if read <= self.samples_max {
            return Ok(());
        }
        Err(QueryError::Limit {
            what: "read too many samples",
            limit: "samples",
            setting: Self::SAMPLES_SETTING,
            value: self.samples_max,
        })
    }
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            samples_max: 1_000_000_000,
            series_max: 1_000_000,
            points_max: 11_000,
            bytes_max: 1 << 30,
        }
    }
}

/// What the query engine as a whole may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryOptions {
    /// The bounds of each query, unless it asks for less.
    pub limits: QueryLimits,
    /// Queries that run at once.
    pub concurrent_max: usize,
    /// Queries that may wait for their turn; more are turned away.
    pub queued_max: usize,
    /// Memory of all queries together.
    pub bytes_max: u64,
    /// Threads that execute plans, and most partitions of one plan.
    pub threads: usize,
    /// When rollups answer instead of raw samples.
    pub rollup_costs: RollupCosts,
    /// Whether functions of counters look at start timestamps.
    pub use_start_timestamps: bool,
}

impl QueryOptions {
    pub const CONCURRENT_SETTING: &'static str = "--query-concurrent-max";
    pub const QUEUED_SETTING: &'static str = "--query-queued-max";
    pub const TOTAL_BYTES_SETTING: &'static str = "--query-total-bytes-max";
    pub const THREADS_SETTING: &'static str = "--query-threads";
}

impl Default for QueryOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            limits: QueryLimits::default(),
            concurrent_max: 20,
            queued_max: 200,
            bytes_max: 4 << 30,
            threads,
            rollup_costs: RollupCosts::default(),
            use_start_timestamps: false,
        }
    }
}

/// Lets in as many queries as may run, makes a bounded number wait and turns away the rest.
#[derive(Debug)]
pub(crate) struct Admission {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    concurrent_max: usize,
    queued_max: usize,
}

impl Admission {
    pub(crate) fn new(options: &QueryOptions) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(options.concurrent_max.max(1))),
            waiting: AtomicUsize::new(0),
            concurrent_max: options.concurrent_max.max(1),
            queued_max: options.queued_max,
        }
    }

    /// Waits for a turn; the query runs until the permit is dropped.
    pub(crate) async fn enter(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        if let Ok(permit) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = Waiting::join(self)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        turn.map_err(|_| QueryError::Canceled { phase: "the queue" })
    }
}

/// A place in the queue, given back when the wait ends in whatever way.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(admission: &'a Admission) -> Result<Self, QueryError> {
        let before = admission.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(&admission.waiting);
        if before >= admission.queued_max {
            return Err(QueryError::Busy {
                running: admission.concurrent_max,
                queued: before,
                setting: QueryOptions::QUEUED_SETTING,
            });
        }
        Ok(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the scans of one query have read so far, held against its limits.
#[derive(Debug)]
pub(crate) struct QueryUsage {
    limits: QueryLimits,
    series: AtomicU64,
    samples: AtomicU64,
    chunks: AtomicU64,
    settled: AtomicU64,
    bytes: AtomicU64,
    rollup_rows: AtomicU64,
    rollup_files: AtomicU64,
}

impl QueryUsage {
    pub(crate) fn new(limits: QueryLimits) -> Self {
        Self {
            limits,
            series: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            rollup_rows: AtomicU64::new(0),
            rollup_files: AtomicU64::new(0),
        }
    }

    pub(crate) fn limits(&self) -> &QueryLimits {
        &self.limits
    }

    /// A selector found so many series.
    pub(crate) fn add_series(&self, count: usize) -> Result<(), QueryError> {
        self.series.fetch_add(count as u64, Ordering::Relaxed);
        self.limits.check_series(count)
    }

    /// A scan read this much.
    pub(crate) fn add(&self, stats: ReadStats) -> Result<(), QueryError> {
        self.chunks.fetch_add(stats.chunks, Ordering::Relaxed);
        self.settled.fetch_add(stats.settled, Ordering::Relaxed);
        self.bytes.fetch_add(stats.bytes, Ordering::Relaxed);
        self.samples.fetch_add(stats.samples, Ordering::Relaxed);
        self.check_samples()
    }

    /// SQL reads a file of rollups, or a part of it that is its own.
    pub(crate) fn add_rollup_file(&self) {
        self.rollup_files.fetch_add(1, Ordering::Relaxed);
    }

    /// SQL read this much of files of rollups. Rows count as samples do.
    pub(crate) fn add_rollup_rows(&self, rows: u64, bytes: u64) -> Result<(), QueryError> {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.rollup_rows.fetch_add(rows, Ordering::Relaxed);
        self.check_samples()
    }

    fn check_samples(&self) -> Result<(), QueryError> {
        let samples = self.samples.load(Ordering::Relaxed);
        self.limits.check_samples(samples.saturating_add(self.rollup_rows()))
    }

    /// Rows of rollups that SQL read.
    pub(crate) fn rollup_rows(&self) -> u64 {
        self.rollup_rows.load(Ordering::Relaxed)
    }

    /// Files of rollups that SQL read.
    pub(crate) fn rollup_files(&self) -> u64 {
        self.rollup_files.load(Ordering::Relaxed)
    }

    /// What all scans read so far.
    pub(crate) fn total(&self) -> ReadStats {
        ReadStats {
            samples: self.samples.load(Ordering::Relaxed),
            chunks: self.chunks.load(Ordering::Relaxed),
            settled: self.settled.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// How many series all selectors found.
    pub(crate) fn series(&self) -> u64 {
        self.series.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::error::QueryErrorKind;

    #[tokio::test]
    async fn the_queue_is_bounded_and_places_are_given_back() {
        let options = QueryOptions { concurrent_max: 1, queued_max: 1, ..QueryOptions::default() };
        let admission = Admission::new(&options);
        let running = admission.enter().await.unwrap();
        let mut waits = Box::pin(admission.enter());
        assert!(futures::poll!(&mut waits).is_pending());
        let refused = admission.enter().await.unwrap_err();
        assert_eq!(refused.kind(), QueryErrorKind::Busy);
        assert!(refused.to_string().contains("--query-queued-max"), "{refused}");
        drop(running);
        let second = waits.await.unwrap();
        assert_eq!(admission.waiting.load(Ordering::Relaxed), 0);
        drop(second);
        assert!(admission.enter().await.is_ok());
    }

    #[test]
    fn limits_name_their_setting() {
        let limits = QueryLimits { samples_max: 10, series_max: 2, ..QueryLimits::default() };
        let usage = QueryUsage::new(limits);
        let read = |samples| ReadStats { samples, ..ReadStats::default() };
        usage.add(read(10)).unwrap();
        let error = usage.add(read(1)).unwrap_err();
        assert!(error.to_string().contains("--query-samples-max"), "{error}");
        assert!(limits.check_series(2).is_ok());
        let error = limits.check_series(3).unwrap_err();
        assert!(error.to_string().contains("--query-series-max"), "{error}");
    }
}
