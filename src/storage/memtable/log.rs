//! The columnar log: chunks of rows in order of arrival.
//!
//! Columns are of atomics, so that a row is appended without a lock while others read what is
//! before it: plain stores, and one releasing store of the length for each batch.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::model::{SampleBatch, Samples, TimeRange};

/// Rows of the first chunk; the next ones are twice as long each, so that small stores stay small.
const CHUNK_ROWS_MIN: usize = 1024;
/// Rows of a chunk at most. Row numbers have 16 bits.
pub(crate) const CHUNK_ROWS_MAX: usize = 1 << 16;
/// Chunks kept for reuse: touching new memory costs many times the append.
const POOLED_CHUNKS_MAX: usize = 64;
const ROW_BYTES: u64 = 4 + 8 + 8;

/// Rows in order of arrival.
#[derive(Debug)]
pub(crate) struct LogChunk {
    series: Box<[AtomicU32]>,
    timestamps: Box<[AtomicI64]>,
    values: Box<[AtomicU64]>,
    /// Rows before this are written.
    len: AtomicUsize,
    min_ts: AtomicI64,
    max_ts: AtomicI64,
    /// Of the chunk when it is full.
    index: OnceLock<Arc<ChunkIndex>>,
    /// Of the rows there were when it was last asked for.
    partial: Mutex<Option<Arc<ChunkIndex>>>,
}

impl LogChunk {
    fn new(rows: usize) -> Self {
        Self {
            series: std::iter::repeat_with(AtomicU32::default).take(rows).collect(),
            timestamps: std::iter::repeat_with(AtomicI64::default).take(rows).collect(),
            values: std::iter::repeat_with(AtomicU64::default).take(rows).collect(),
            len: AtomicUsize::new(0),
            min_ts: AtomicI64::new(i64::MAX),
            max_ts: AtomicI64::new(i64::MIN),
            index: OnceLock::new(),
            partial: Mutex::new(None),
        }
    }

    fn reset(&mut self) {
        *self.len.get_mut() = 0;
        *self.min_ts.get_mut() = i64::MAX;
        *self.max_ts.get_mut() = i64::MIN;
        self.index = OnceLock::new();
        *self.partial.get_mut() = None;
    }

    pub(crate) fn capacity(&self) -> usize {
        self.series.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.capacity() as u64 * ROW_BYTES
    }

    /// Appends the rows `from..` of the batch as far as there is room; how many were appended.
    pub(crate) fn append(&self, batch: &SampleBatch, from: usize) -> usize {
        // Only the appending thread changes the length.
        let start = self.len.load(Ordering::Relaxed);
        let count = (batch.len() - from).min(self.capacity() - start);
        let (rows, slots) = (from..from + count, start..start + count);
        let mut range = (i64::MAX, i64::MIN);
        for &timestamp in &batch.timestamps[rows.clone()] {
            range = (range.0.min(timestamp), range.1.max(timestamp));
        }
        self.min_ts.fetch_min(range.0, Ordering::Relaxed);
        self.max_ts.fetch_max(range.1, Ordering::Relaxed);
        for (slot, series) in self.series[slots.clone()].iter().zip(&batch.series[rows.clone()]) {
            slot.store(series.0, Ordering::Relaxed);
        }
        for (slot, timestamp) in
            self.timestamps[slots.clone()].iter().zip(&batch.timestamps[rows.clone()])
        {
            slot.store(*timestamp, Ordering::Relaxed);
        }
        for (slot, value) in self.values[slots].iter().zip(&batch.values[rows]) {
            slot.store(value.to_bits(), Ordering::Relaxed);
        }
        self.len.store(start + count, Ordering::Release);
        count
    }

    /// Where the rows lie that are there by now, or a little more.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        TimeRange::new(self.min_ts.load(Ordering::Relaxed), self.max_ts.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn series(&self, row: usize) -> u32 {
        self.series[row].load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn timestamp(&self, row: usize) -> i64 {
        self.timestamps[row].load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn value(&self, row: usize) -> f64 {
        f64::from_bits(self.values[row].load(Ordering::Relaxed))
    }

    /// An index of the first `len` rows.
    pub(crate) fn index(&self, len: usize) -> Arc<ChunkIndex> {
        if len == self.capacity() {
            return Arc::clone(self.index.get_or_init(|| Arc::new(ChunkIndex::new(self, len))));
        }
        let mut partial = self.partial.lock();
        match &*partial {
            Some(index) if index.rows.len() == len => Arc::clone(index),
            _ => {
                let index = Arc::new(ChunkIndex::new(self, len));
                *partial = Some(Arc::clone(&index));
                index
            }
        }
    }
}

/// Which rows of a chunk belong to which series.
#[derive(Debug)]
pub(crate) struct ChunkIndex {
    /// Ascending.
    series: Vec<u32>,
    /// Where the rows of each series begin, and the end.
    starts: Vec<u32>,
    /// Row numbers by series, each series' in order of arrival.
    rows: Vec<u16>,
}

impl ChunkIndex {
    fn new(chunk: &LogChunk, len: usize) -> Self {
        let number = |row: usize| u16::try_from(row).expect("a chunk has 65,536 rows at most");
        let mut keys: Vec<u64> = (0..len)
            .map(|row| u64::from(chunk.series(row)) << 16 | u64::from(number(row)))
            .collect();
        keys.sort_unstable();
        let mut index =
            Self { series: Vec::new(), starts: Vec::new(), rows: Vec::with_capacity(len) };
        for (at, key) in (0u32..).zip(&keys) {
            let series = u32::try_from(key >> 16).expect("series have 32 bits");
            if index.series.last() != Some(&series) {
                index.series.push(series);
                index.starts.push(at);
            }
            index.rows.push(u16::try_from(key & 0xFFFF).expect("16 bits"));
        }
        index.starts.push(u32::try_from(len).expect("a chunk has 65,536 rows at most"));
        index
    }

    /// The series that have rows, ascending.
    pub(crate) fn series(&self) -> &[u32] {
        &self.series
    }

    fn rows_of(&self, series: u32) -> &[u16] {
        match self.series.binary_search(&series) {
            Ok(at) => &self.rows[self.starts[at] as usize..self.starts[at + 1] as usize],
            Err(_) => &[],
        }
    }

    /// Appends the series' samples in `range` to `out`, ascending, of equal timestamps the last.
    pub(crate) fn read(&self, chunk: &LogChunk, series: u32, range: TimeRange, out: &mut Samples) {
        let start = out.len();
        let mut ascending = true;
        for &row in self.rows_of(series) {
            let timestamp = chunk.timestamp(usize::from(row));
            if range.contains(timestamp) {
                ascending &= out.len() == start || out.timestamps[out.len() - 1] < timestamp;
                out.push(timestamp, chunk.value(usize::from(row)));
            }
        }
        if !ascending {
            put_in_order(out, start);
        }
    }
}

/// Sorts the samples from `start` on by time; of equal timestamps the last stays.
pub(crate) fn put_in_order(samples: &mut Samples, start: usize) {
    let mut rows: Vec<(i64, f64)> = samples.timestamps[start..]
        .iter()
        .copied()
        .zip(samples.values[start..].iter().copied())
        .collect();
    rows.sort_by_key(|row| row.0);
    samples.timestamps.truncate(start);
    samples.values.truncate(start);
    for (at, (timestamp, value)) in rows.iter().enumerate() {
        if rows.get(at + 1).is_none_or(|next| next.0 != *timestamp) {
            samples.push(*timestamp, *value);
        }
    }
}

/// Full-size chunks that wait for reuse.
#[derive(Debug, Default)]
pub(crate) struct ChunkPool(Mutex<Vec<LogChunk>>);

impl ChunkPool {
    /// A chunk to follow one of `rows` rows.
    pub(crate) fn take(&self, rows: usize) -> LogChunk {
        let rows = (2 * rows).clamp(CHUNK_ROWS_MIN, CHUNK_ROWS_MAX);
        let pooled = if rows == CHUNK_ROWS_MAX { self.0.lock().pop() } else { None };
        pooled.unwrap_or_else(|| LogChunk::new(rows))
    }

    /// Takes the chunk back unless somebody still reads it.
    pub(crate) fn give(&self, chunk: Arc<LogChunk>) {
        if let Ok(mut chunk) = Arc::try_unwrap(chunk)
            && chunk.capacity() == CHUNK_ROWS_MAX
        {
            chunk.reset();
            let mut pool = self.0.lock();
            if pool.len() < POOLED_CHUNKS_MAX {
                pool.push(chunk);
            }
        }
    }
}
