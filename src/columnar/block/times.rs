//! T pages: each distinct timestamp column of a block once.
//!
//! Series of one scrape target share their timestamps, so a chunk only refers to a column, or to
//! a stretch of one if its series was born late or died early. A column is found by the hash of
//! its plain timestamps, a stretch by landmarks (timestamps that a hash picks, so both sides pick
//! the same); either way the timestamps themselves are compared.

use std::hash::BuildHasher;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashMap};

use crate::columnar::codec::integers::{self, IntegerEncoder};
use crate::columnar::codec::timestamps::{self, TimestampEncoder};
use crate::columnar::codec::{CHUNK_SAMPLES_MAX, CodecError};

/// Plain columns that the writer remembers. When it is full it forgets all of them: later chunks
/// store their column again.
const REMEMBERED_BYTES_MAX: usize = 32 << 20;
const PAGE_BYTES: usize = 16 << 10;
const PAGE_COLUMNS_MAX: usize = 1_024;
/// One timestamp in so many is a landmark.
const LANDMARK_EVERY: u64 = 16;

/// Which timestamps a chunk has; their count stands with the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimesRef {
    pub(crate) column: u32,
    pub(crate) start: u32,
}

/// A full page on its way out.
pub(crate) struct TimesPage {
    pub(crate) first: u64,
    pub(crate) columns: usize,
    pub(crate) bytes: Vec<u8>,
}

/// Gives each distinct column a number and collects their pages.
#[derive(Default)]
pub(crate) struct TimesWriter {
    encoder: TimestampEncoder,
    integers: IntegerEncoder,
    hasher: DefaultHashBuilder,
    /// Plain columns since the last forgetting; the first of them has number `base`.
    remembered: Vec<Vec<i64>>,
    base: u32,
    remembered_bytes: usize,
    by_hash: HashMap<u64, u32>,
    landmarks: HashMap<i64, TimesRef>,
    last: Option<u32>,
    counts: Vec<i64>,
    lens: Vec<i64>,
    payloads: Vec<u8>,
    columns: u32,
}

impl TimesWriter {
    /// Finds or adds the column of `timestamps`, which ascend.
    pub(crate) fn intern(&mut self, timestamps: &[i64]) -> TimesRef {
        if let Some(column) = self.last
            && self.plain(column).is_some_and(|plain| plain == timestamps)
        {
            return TimesRef { column, start: 0 };
        }
        let hash = self.hasher.hash_one(timestamps);
        if let Some(column) = self.by_hash.get(&hash).copied()
            && self.plain(column).is_some_and(|plain| plain == timestamps)
        {
            self.last = Some(column);
            return TimesRef { column, start: 0 };
        }
        self.find_stretch(timestamps).unwrap_or_else(|| self.add(timestamps, hash))
    }

    fn plain(&self, column: u32) -> Option<&[i64]> {
        let index = column.checked_sub(self.base)?;
        self.remembered.get(index as usize).map(Vec::as_slice)
    }

    fn find_stretch(&self, timestamps: &[i64]) -> Option<TimesRef> {
        let landmark = timestamps.iter().position(|at| is_landmark(*at));
        let by_landmark = landmark.and_then(|index| {
            let found = self.landmarks.get(&timestamps[index])?;
            let start = found.start.checked_sub(u32::try_from(index).ok()?)?;
            Some(TimesRef { column: found.column, start })
        });
        // Too short for a landmark: its neighbours may still be of the same target.
        let by_neighbour = || {
            let column = self.last?;
            let start = self.plain(column)?.binary_search(timestamps.first()?).ok()?;
            Some(TimesRef { column, start: u32::try_from(start).ok()? })
        };
        let found = by_landmark.or_else(by_neighbour)?;
        let stretch = self.plain(found.column)?.get(found.start as usize..)?;
        stretch.starts_with(timestamps).then_some(found)
    }

    fn add(&mut self, timestamps: &[i64], hash: u64) -> TimesRef {
        let start = self.payloads.len();
        self.encoder.encode(timestamps, &mut self.payloads);
        self.counts.push(timestamps.len() as i64);
        self.lens.push((self.payloads.len() - start) as i64);
        let column = self.columns;
        self.columns += 1;
        self.remembered_bytes += size_of_val(timestamps);
        if self.remembered_bytes > REMEMBERED_BYTES_MAX {
            self.remembered_bytes = size_of_val(timestamps);
            self.remembered.clear();
            self.by_hash.clear();
            self.landmarks.clear();
            self.base = column;
        }
        self.remembered.push(timestamps.to_vec());
        self.by_hash.insert(hash, column);
        for (start, at) in (0..).zip(timestamps) {
            if is_landmark(*at) {
                self.landmarks.insert(*at, TimesRef { column, start });
            }
        }
        self.last = Some(column);
        TimesRef { column, start: 0 }
    }

    /// The page so far, if it is full, or at the end if there is anything.
    pub(crate) fn take_page(&mut self, at_the_end: bool) -> Option<TimesPage> {
        let columns = self.counts.len();
        let full = self.payloads.len() >= PAGE_BYTES || columns >= PAGE_COLUMNS_MAX;
        if columns == 0 || !(full || at_the_end) {
            return None;
        }
        let mut bytes = Vec::new();
        self.integers.encode(&self.counts, &mut bytes);
        self.integers.encode(&self.lens, &mut bytes);
        bytes.append(&mut self.payloads);
        self.counts.clear();
        self.lens.clear();
        Some(TimesPage { first: u64::from(self.columns) - columns as u64, columns, bytes })
    }
}

fn is_landmark(timestamp: i64) -> bool {
    timestamp.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32 & (LANDMARK_EVERY - 1) == 0
}

/// A T page whose columns are still encoded.
#[derive(Debug, Clone)]
pub(crate) struct TimesReader {
    bytes: Bytes,
    /// Samples of each column and where its payload ends.
    columns: Vec<(usize, usize)>,
    payloads_at: usize,
}

impl TimesReader {
    pub(crate) fn new(bytes: Bytes, columns: usize) -> Result<Self, CodecError> {
        let mut input = &bytes[..];
        let (mut counts, mut lens) = (Vec::new(), Vec::new());
        integers::decode(&mut input, columns, &mut counts)?;
        integers::decode(&mut input, columns, &mut lens)?;
        let payloads_at = bytes.len() - input.len();
        let mut end = payloads_at;
        let mut index = Vec::with_capacity(columns);
        for (count, len) in counts.into_iter().zip(lens) {
            let count = usize::try_from(count).ok().filter(|count| *count <= CHUNK_SAMPLES_MAX);
            let count = count.ok_or(CodecError("timestamp column with impossible count"))?;
            end = usize::try_from(len)
                .ok()
                .and_then(|len| end.checked_add(len))
                .filter(|end| *end <= bytes.len())
                .ok_or(CodecError("timestamp column exceeds its page"))?;
            index.push((count, end));
        }
        Ok(Self { bytes, columns: index, payloads_at })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() + self.columns.len() * 16
    }

    /// Decodes the page's column `index`.
    pub(crate) fn column(&self, index: usize) -> Result<Vec<i64>, CodecError> {
        let (count, end) = *self.columns.get(index).ok_or(CodecError("no such column"))?;
        let start = index.checked_sub(1).map_or(self.payloads_at, |before| self.columns[before].1);
        let mut timestamps = Vec::with_capacity(count);
        timestamps::decode(&self.bytes[start..end], count, &mut timestamps)?;
        if !timestamps.is_sorted_by(|left, right| left < right) {
            return Err(CodecError("timestamps do not ascend"));
        }
        Ok(timestamps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(writer: &mut TimesWriter) -> Vec<Vec<i64>> {
        let page = writer.take_page(true).unwrap();
        let reader = TimesReader::new(page.bytes.into(), page.columns).unwrap();
        (0..page.columns).map(|index| reader.column(index).unwrap()).collect()
    }

    #[test]
    fn equal_columns_and_stretches_are_stored_once() {
        let mut writer = TimesWriter::default();
        let target =
            |t: i64| -> Vec<i64> { (0..480).map(|i| i * 15_000 + (i * t * 31) % 6 + t).collect() };
        let (a, b) = (target(1), target(2));
        for _ in 0..3 {
            assert_eq!(writer.intern(&a), TimesRef { column: 0, start: 0 });
            assert_eq!(writer.intern(&b), TimesRef { column: 1, start: 0 });
        }
        assert_eq!(writer.intern(&a[100..]), TimesRef { column: 0, start: 100 });
        assert_eq!(writer.intern(&b[7..300]), TimesRef { column: 1, start: 7 });
        assert_eq!(writer.intern(&b[477..479]), TimesRef { column: 1, start: 477 });
        let hole: Vec<i64> = a.iter().copied().filter(|at| at / 15_000 != 9).collect();
        assert_eq!(writer.intern(&hole), TimesRef { column: 2, start: 0 });
        assert_eq!(read(&mut writer), [a, b, hole]);
    }
}
