//! The memtable: durable samples that are in no block yet.
//!
//! Samples are appended to a columnar log (`log`) as they come, which costs next to nothing, and
//! sealed in bulk into compressed runs (`run`), one for each two-hour window, which makes them
//! small. Readers (`part`) see runs and log as one.
//!
//! Not split into shards: the log's committer is the only writer, and one sealing thread keeps
//! up with it.
//!
//! Invariant: order of arrival is order of runs, then chunks, then rows; of equal
//! (series, timestamp) the last one stays, everywhere.

mod log;
mod part;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::model::{SampleBatch, TimeRange};
use crate::storage::error::StorageError;
use crate::storage::memtable::log::{ChunkPool, LogChunk};
use crate::storage::memtable::run::{SealedRun, Sealer};
use crate::storage::part::Part;
use crate::storage::plan::{WINDOW_MS, window_start};
use crate::storage::series::SeriesTable;

pub use part::HeadPart;

/// Rows in full chunks from which sealing pays, whatever the number of series.
pub const SEAL_ROWS_MIN: u64 = 512 * 1024;
/// Rows in full chunks at which they are sealed at the latest: 160 MiB.
pub const SEAL_ROWS_MAX: u64 = 8 * 1024 * 1024;
/// Samples per series that make a run worth its overhead.
const SEAL_SAMPLES_PER_SERIES: u64 = 4;

/// Samples in memory. Appended to by one thread, read by many, sealed by one other.
#[derive(Debug)]
pub struct Memtable {
    series: Arc<SeriesTable>,
    pool: Arc<ChunkPool>,
    inner: RwLock<Inner>,
    /// Held while chunks are sealed.
    sealing: Mutex<()>,
    samples: AtomicU64,
    run_bytes: AtomicU64,
    min_ts: AtomicI64,
    max_ts: AtomicI64,
    /// The first timestamp of each two-hour window that holds samples.
    window_firsts: Mutex<BTreeMap<i64, i64>>,
}

#[derive(Debug, Clone, Default)]
struct Inner {
    runs: Vec<Arc<SealedRun>>,
    /// Full chunks, oldest first.
    full: Vec<Arc<LogChunk>>,
    open: Option<Arc<LogChunk>>,
}

impl Memtable {
    pub fn new(series: Arc<SeriesTable>) -> Self {
        Self::with_pool(series, Arc::new(ChunkPool::default()))
    }

    /// An empty memtable over the same series, that shares the memory of sealed chunks.
    pub fn successor(&self) -> Self {
        Self::with_pool(Arc::clone(&self.series), Arc::clone(&self.pool))
    }

    fn with_pool(series: Arc<SeriesTable>, pool: Arc<ChunkPool>) -> Self {
        Self {
            series,
            pool,
            inner: RwLock::default(),
            sealing: Mutex::new(()),
            samples: AtomicU64::new(0),
            run_bytes: AtomicU64::new(0),
            min_ts: AtomicI64::new(i64::MAX),
            max_ts: AtomicI64::new(i64::MIN),
            window_firsts: Mutex::default(),
        }
    }

    /// Appends the batch. Of one thread at a time.
    pub fn append(&self, batch: &SampleBatch) {
        let (Some(min), Some(max)) = (batch.timestamps.iter().min(), batch.timestamps.iter().max())
        else {
            return;
        };
        self.min_ts.fetch_min(*min, Ordering::Relaxed);
        self.max_ts.fetch_max(*max, Ordering::Relaxed);
        self.note_windows(&batch.timestamps, *min, *max);
        let mut row = 0;
        while row < batch.len() {
            let open = self.inner.read().open.clone();
            let appended = open.as_ref().map_or(0, |chunk| chunk.append(batch, row));
            row += appended;
            if row < batch.len() {
                let next =
                    Arc::new(self.pool.take(open.as_ref().map_or(0, |chunk| chunk.capacity())));
                let mut inner = self.inner.write();
                inner.full.extend(open);
                inner.open = Some(next);
            }
        }
        self.samples.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }

    /// Before the rows can be seen, so that no reader misses a window.
    fn note_windows(&self, timestamps: &[i64], min: i64, max: i64) {
        let mut firsts = self.window_firsts.lock();
        let mut note = |at: i64| {
            let first = firsts.entry(window_start(at)).or_insert(at);
            *first = (*first).min(at);
        };
        if window_start(min) == window_start(max) {
            note(min);
        } else {
            // A backfill: rows come series by series, each ascending.
            timestamps.iter().for_each(|at| note(*at));
        }
    }

    /// Start and first timestamp of each two-hour window that holds samples, ascending.
    pub(crate) fn window_firsts(&self) -> Vec<(i64, i64)> {
        self.window_firsts.lock().iter().map(|(start, first)| (*start, *first)).collect()
    }

    /// Rows that were appended; a sample that was written twice counts twice.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Memory that samples take.
    pub fn bytes(&self) -> u64 {
        let inner = self.inner.read();
        let chunks = inner.full.iter().chain(&inner.open);
        self.run_bytes.load(Ordering::Relaxed) + chunks.map(|chunk| chunk.bytes()).sum::<u64>()
    }

    pub fn time_range(&self) -> Option<TimeRange> {
        TimeRange::new(self.min_ts.load(Ordering::Relaxed), self.max_ts.load(Ordering::Relaxed))
    }

    /// Whether enough has gathered for [`Memtable::seal`] to pay.
    pub fn seal_is_due(&self) -> bool {
        let per_series = self.series.len().saturating_mul(SEAL_SAMPLES_PER_SERIES);
        let rows: u64 = self.inner.read().full.iter().map(|chunk| chunk.len() as u64).sum();
        rows >= per_series.clamp(SEAL_ROWS_MIN, SEAL_ROWS_MAX)
    }

    /// Compresses the chunks that are full. Neither writers nor readers wait for it.
    pub fn seal(&self) {
        let _sealing = self.sealing.lock();
        let chunks = self.inner.read().full.clone();
        self.seal_chunks(&chunks);
    }

    /// Compresses everything. Only when nothing is appended any more.
    pub fn seal_all(&self) {
        let _sealing = self.sealing.lock();
        {
            let mut inner = self.inner.write();
            let open = inner.open.take();
            inner.full.extend(open);
        }
        let chunks = self.inner.read().full.clone();
        self.seal_chunks(&chunks);
    }

    fn seal_chunks(&self, chunks: &[Arc<LogChunk>]) {
        if chunks.is_empty() {
            return;
        }
        let runs = Sealer::default().seal(chunks);
        let bytes: u64 = runs.iter().map(SealedRun::bytes).sum();
        let sealed = {
            let mut inner = self.inner.write();
            inner.runs.extend(runs.into_iter().map(Arc::new));
            inner.full.drain(..chunks.len()).collect::<Vec<_>>()
        };
        self.run_bytes.fetch_add(bytes, Ordering::Relaxed);
        // `chunks` is the caller's copy, so the pool sees the last one or a reader's.
        sealed.into_iter().for_each(|chunk| self.pool.give(chunk));
    }

    /// The two-hour windows that hold samples, ascending.
    pub fn windows(&self) -> Vec<TimeRange> {
        let window = |start: i64| TimeRange::new(start, start.saturating_add(WINDOW_MS - 1));
        self.window_firsts.lock().keys().copied().filter_map(window).collect()
    }

    /// What is in it now, unchanging.
    pub fn snapshot(&self) -> Arc<dyn Part> {
        self.snapshot_of(TimeRange::ALL)
    }

    /// As [`Memtable::snapshot`], without most of what lies outside of `range`: reading one of
    /// thousands of windows must not look at the runs of all.
    pub fn snapshot_of(&self, range: TimeRange) -> Arc<dyn Part> {
        let (runs, full, open) = {
            let inner = self.inner.read();
            let runs = inner.runs.iter().filter(|run| run.range().overlaps(range));
            (runs.cloned().collect(), inner.full.clone(), inner.open.clone())
        };
        let open_len = open.as_ref().map_or(0, |chunk| chunk.len());
        let mut chunks: Vec<_> = full.into_iter().map(|chunk| (chunk.len(), chunk)).collect();
        chunks.extend(open.map(|chunk| (open_len, chunk)));
        Arc::new(HeadPart::new(Arc::clone(&self.series), runs, chunks))
    }
}

/// A run or chunk that cannot be decoded: memory does not rot, so this is our own mistake.
fn broken(error: crate::columnar::codec::CodecError) -> StorageError {
    StorageError::Internal(format!("a sealed chunk in memory does not decode: {error}"))
}

#[cfg(test)]
mod tests;
