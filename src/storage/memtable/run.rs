//! Sealed runs: samples of one two-hour window, compressed by series.
//!
//! Sealing sorts row numbers by series (counting sort, stable), gathers each series' rows, and
//! encodes them with the block codecs. Timestamp columns that several series share are kept once.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_64;

use crate::columnar::codec::timestamps::{self, TimestampEncoder};
use crate::columnar::codec::values::{self, ValueEncoder};
use crate::model::{Samples, TimeRange};
use crate::storage::error::StorageError;
use crate::storage::memtable::broken;
use crate::storage::memtable::log::{LogChunk, put_in_order};
use crate::storage::part::ReadStats;
use crate::storage::plan::window_start;

/// Samples in one entry at most.
const ENTRY_SAMPLES_MAX: usize = 4096;
/// Bits of a series id that one pass of the sort looks at.
const DIGIT_BITS: u32 = 11;

/// Samples of one window, by series.
#[derive(Debug)]
pub(crate) struct SealedRun {
    range: TimeRange,
    /// Ascending by (series, time).
    entries: Vec<Entry>,
    columns: Vec<Column>,
    times: Vec<u8>,
    values: Vec<u8>,
    ids: RoaringBitmap,
}

/// Consecutive samples of one series.
#[derive(Debug, Clone, Copy)]
struct Entry {
    series: u32,
    column: u32,
    values_at: u32,
    values_len: u32,
}

/// A timestamp column.
#[derive(Debug, Clone, Copy)]
struct Column {
    min: i64,
    max: i64,
    at: u32,
    len: u32,
    count: u32,
}

impl SealedRun {
    pub(crate) fn range(&self) -> TimeRange {
        self.range
    }

    /// Series that have samples in it.
    pub(crate) fn ids(&self) -> &RoaringBitmap {
        &self.ids
    }

    pub(crate) fn bytes(&self) -> u64 {
        let bytes = self.entries.capacity() * size_of::<Entry>()
            + self.columns.capacity() * size_of::<Column>()
            + self.times.capacity()
            + self.values.capacity()
            + self.ids.serialized_size()
            + size_of::<Self>();
        bytes as u64
    }

    fn entries_of(&self, series: u32) -> &[Entry] {
        let start = self.entries.partition_point(|entry| entry.series < series);
        let rest = &self.entries[start..];
        let count = rest.iter().take_while(|entry| entry.series == series).count();
        &rest[..count]
    }

    /// Whether the series may have samples in `range`.
    pub(crate) fn holds(&self, series: u32, range: TimeRange) -> bool {
        self.range.overlaps(range)
            && self.entries_of(series).iter().any(|entry| {
                let column = self.columns[entry.column as usize];
                column.min <= range.end() && range.start() <= column.max
            })
    }

    /// Appends the series' samples in `range` to `out`.
    pub(crate) fn read(
        &self,
        series: u32,
        range: TimeRange,
        cache: &mut ColumnCache,
        out: &mut Samples,
    ) -> Result<ReadStats, StorageError> {
        let mut stats = ReadStats::default();
        for entry in self.entries_of(series) {
            let column = self.columns[entry.column as usize];
            if column.max < range.start() || range.end() < column.min {
                continue;
            }
            let times = cache.column(self, entry.column)?;
            let from = times.partition_point(|timestamp| *timestamp < range.start());
            let to = times.partition_point(|timestamp| *timestamp <= range.end());
            let start = out.values.len();
            let payload = &self.values[entry.values_at as usize..][..entry.values_len as usize];
            values::decode(payload, times.len(), &mut out.values).map_err(broken)?;
            out.values.truncate(start + to);
            out.values.drain(start..start + from);
            out.timestamps.extend_from_slice(&times[from..to]);
            stats.add(ReadStats {
                samples: (to - from) as u64,
                chunks: 1,
                bytes: u64::from(entry.values_len),
                ..ReadStats::default()
            });
        }
        Ok(stats)
    }
}

/// The timestamp column of a run that was decoded last.
#[derive(Debug, Default)]
pub(crate) struct ColumnCache {
    number: Option<u32>,
    times: Vec<i64>,
}

impl ColumnCache {
    fn column(&mut self, run: &SealedRun, number: u32) -> Result<&[i64], StorageError> {
        if self.number != Some(number) {
            self.number = None;
            self.times.clear();
            let column = run.columns[number as usize];
            let payload = &run.times[column.at as usize..][..column.len as usize];
            timestamps::decode(payload, column.count as usize, &mut self.times).map_err(broken)?;
            self.number = Some(number);
        }
        Ok(&self.times)
    }
}

/// Makes runs of chunks; its buffers serve all runs of one sealing.
#[derive(Debug, Default)]
pub(crate) struct Sealer {
    values: ValueEncoder,
    times: TimestampEncoder,
    keys: Vec<u64>,
    sorted: Vec<u64>,
    samples: Samples,
    /// Plain timestamp columns of the run in hand, one after the other.
    plain: Vec<i64>,
    /// Where each column lies in `plain`.
    plain_at: Vec<(usize, usize)>,
    by_hash: HashMap<u64, u32>,
}

impl Sealer {
    /// One run for each window that the rows of the chunks lie in, ascending.
    pub(crate) fn seal(&mut self, chunks: &[Arc<LogChunk>]) -> Vec<SealedRun> {
        let ranges = chunks.iter().filter_map(|chunk| chunk.range());
        let Some(range) = ranges.reduce(TimeRange::hull) else { return Vec::new() };
        if window_start(range.start()) == window_start(range.end()) {
            self.keys.clear();
            for_each_key(chunks, |key, _| self.keys.push(key));
            return vec![self.seal_window(chunks, range)];
        }
        let mut windows: BTreeMap<i64, (TimeRange, Vec<u64>)> = BTreeMap::new();
        let mut last = None;
        for_each_key(chunks, |key, timestamp| {
            let start = window_start(timestamp);
            if last != Some(start) {
                windows.entry(start).or_insert_with(|| (TimeRange::at(timestamp), Vec::new()));
                last = Some(start);
            }
            let (range, keys) = windows.get_mut(&start).expect("made when the window began");
            *range = range.hull(TimeRange::at(timestamp));
            keys.push(key);
        });
        windows
            .into_values()
            .map(|(range, keys)| {
                self.keys = keys;
                self.seal_window(chunks, range)
            })
            .collect()
    }

    /// Seals the rows named by `keys`, all of one window.
    fn seal_window(&mut self, chunks: &[Arc<LogChunk>], range: TimeRange) -> SealedRun {
        sort_by_series(&mut self.keys, &mut self.sorted);
        self.plain.clear();
        self.plain_at.clear();
        self.by_hash.clear();
        let mut run = SealedRun {
            range,
            entries: Vec::new(),
            columns: Vec::new(),
            times: Vec::new(),
            values: Vec::new(),
            ids: RoaringBitmap::new(),
        };
        let keys = std::mem::take(&mut self.keys);
        for rows in keys.chunk_by(|left, right| left >> 32 == right >> 32) {
            let series = u32::try_from(rows[0] >> 32).expect("the upper half");
            self.gather(chunks, rows);
            run.ids.insert(series);
            let samples = std::mem::take(&mut self.samples);
            for start in (0..samples.len()).step_by(ENTRY_SAMPLES_MAX) {
                let end = samples.len().min(start + ENTRY_SAMPLES_MAX);
                let (times, values) =
                    (&samples.timestamps[start..end], &samples.values[start..end]);
                self.add_entry(series, times, values, &mut run);
            }
            self.samples = samples;
        }
        self.keys = keys;
        run.entries.shrink_to_fit();
        run.columns.shrink_to_fit();
        run.times.shrink_to_fit();
        run.values.shrink_to_fit();
        run
    }

    /// The samples of the rows, ascending, of equal timestamps the last.
    fn gather(&mut self, chunks: &[Arc<LogChunk>], rows: &[u64]) {
        self.samples.clear();
        let mut ascending = true;
        let mut last = i64::MIN;
        for &key in rows {
            let (chunk, row) = place(key);
            let timestamp = chunks[chunk].timestamp(row);
            ascending &= self.samples.is_empty() || last < timestamp;
            last = timestamp;
            self.samples.push(timestamp, chunks[chunk].value(row));
        }
        if !ascending {
            put_in_order(&mut self.samples, 0);
        }
    }

    fn add_entry(&mut self, series: u32, times: &[i64], values: &[f64], run: &mut SealedRun) {
        let offset = |len: usize| u32::try_from(len).expect("a run is bounded by SEAL_ROWS_MAX");
        let column = self.column(times, run);
        let values_at = run.values.len();
        self.values.encode(values, &mut run.values);
        run.entries.push(Entry {
            series,
            column,
            values_at: offset(values_at),
            values_len: offset(run.values.len() - values_at),
        });
    }

    /// The number of the timestamp column, which is encoded if it is new.
    fn column(&mut self, times: &[i64], run: &mut SealedRun) -> u32 {
        let offset = |len: usize| u32::try_from(len).expect("a run is bounded by SEAL_ROWS_MAX");
        let is = |number: usize, plain: &[i64], at: &[(usize, usize)]| {
            at.get(number).is_some_and(|(from, to)| plain[*from..*to] == *times)
        };
        // Neighbours are often of one scrape.
        if let Some(entry) = run.entries.last()
            && is(entry.column as usize, &self.plain, &self.plain_at)
        {
            return entry.column;
        }
        let hash = times.iter().fold(times.len() as u64, |hash, timestamp| {
            (hash ^ timestamp.cast_unsigned()).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
        });
        let hash = xxh3_64(&hash.to_le_bytes());
        if let Some(number) = self.by_hash.get(&hash)
            && is(*number as usize, &self.plain, &self.plain_at)
        {
            return *number;
        }
        let number = offset(run.columns.len());
        let at = run.times.len();
        self.times.encode(times, &mut run.times);
        run.columns.push(Column {
            min: times[0],
            max: times[times.len() - 1],
            at: offset(at),
            len: offset(run.times.len() - at),
            count: offset(times.len()),
        });
        let from = self.plain.len();
        self.plain.extend_from_slice(times);
        self.plain_at.push((from, self.plain.len()));
        self.by_hash.insert(hash, number);
        number
    }
}

/// A row's series in the upper half; its chunk and place, in order of arrival, in the lower.
fn for_each_key(chunks: &[Arc<LogChunk>], mut each: impl FnMut(u64, i64)) {
    for (number, chunk) in (0u64..).zip(chunks) {
        let base = number << 16;
        for (place, row) in (0u64..).zip(0..chunk.len()) {
            each(u64::from(chunk.series(row)) << 32 | base | place, chunk.timestamp(row));
        }
    }
}

#[inline]
fn place(key: u64) -> (usize, usize) {
    let low = (key & 0xFFFF_FFFF) as usize;
    (low >> 16, low & 0xFFFF)
}

/// Sorts keys by their upper half and keeps the order of equal ones (least digit first).
fn sort_by_series(keys: &mut Vec<u64>, scratch: &mut Vec<u64>) {
    let most = keys.iter().map(|key| key >> 32).max().unwrap_or(0);
    let bits = u64::BITS - most.leading_zeros();
    scratch.clear();
    scratch.resize(keys.len(), 0);
    let mut shift = 32;
    while shift < 32 + bits {
        let digit = |key: u64| ((key >> shift) & ((1 << DIGIT_BITS) - 1)) as usize;
        let mut places = [0usize; 1 << DIGIT_BITS];
        keys.iter().for_each(|key| places[digit(*key)] += 1);
        let mut next = 0;
        for place in &mut places {
            next += std::mem::replace(place, next);
        }
        for &key in keys.iter() {
            let place = &mut places[digit(key)];
            scratch[*place] = key;
            *place += 1;
        }
        std::mem::swap(keys, scratch);
        shift += DIGIT_BITS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_by_series_and_stay_in_order_of_arrival() {
        let mut keys: Vec<u64> =
            (0u64..5_000).map(|row| ((row * 7_919 % 70_001) << 32) | row).collect();
        keys.push(u64::from(u32::MAX) << 32 | 7);
        let mut wanted = keys.clone();
        wanted.sort_by_key(|key| key >> 32);
        sort_by_series(&mut keys, &mut Vec::new());
        assert_eq!(keys, wanted);
    }
}
