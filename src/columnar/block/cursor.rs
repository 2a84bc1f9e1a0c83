//! Reads samples and summaries of one block, and keeps what the next series will want again.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;

use crate::columnar::block::cache::Cache;
use crate::columnar::block::directory::{Entry, EntryTimes, EntryValues};
use crate::columnar::block::format::{PageEntry, PageKind};
use crate::columnar::block::reader::BlockReader;
use crate::columnar::block::summary::ChunkSummary;
use crate::columnar::block::times::TimesRef;
use crate::columnar::codec::{CHUNK_SAMPLES_MAX, values};
use crate::columnar::error::ColumnarError;
use crate::columnar::schema::{self, BATCH_ROWS_MAX};
use crate::model::{Samples, TimeRange};

/// Decoded timestamp columns that a cursor keeps: those of a thousand scrape targets.
const COLUMNS_BYTES_MAX: usize = 4 << 20;

/// What reading cost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CursorStats {
    pub samples: u64,
    pub chunks: u64,
    /// Chunks that were settled by what their directory says.
    pub settled: u64,
    /// Of the chunks' values, encoded, and of pages of summaries.
    pub bytes: u64,
}

/// Looks at a chunk and says whether its samples need not be read.
pub type Settle<'a> = dyn FnMut(&mut ChunkView<'_>) -> Result<bool, ColumnarError> + 'a;

/// A chunk before its samples are read. What is asked of it is read then.
#[derive(Debug)]
pub struct ChunkView<'a> {
    cursor: &'a mut BlockCursor,
    entry: Entry,
    /// In the directory page in hand.
    row: usize,
    is_whole: bool,
}

impl ChunkView<'_> {
    /// Whether all of its samples are asked for, not only some.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// First and last timestamp, stale markers included.
    pub fn time_range(&mut self) -> Result<TimeRange, ColumnarError> {
        self.cursor.time_range(&self.entry)
    }

    pub fn summary(&mut self) -> Result<ChunkSummary, ColumnarError> {
        self.cursor.summary(self.row)
    }
}

/// A place in one block. Holds at most one page of directory, summaries and values, and a bounded
/// cache of timestamps.
#[derive(Debug)]
pub struct BlockCursor {
    reader: Arc<BlockReader>,
    directory: Option<DirectoryPage>,
    values: Option<(usize, Bytes)>,
    columns: Cache<u32, Arc<[i64]>>,
    /// Of the pages of summaries so far.
    summary_bytes: u64,
}

#[derive(Debug)]
struct DirectoryPage {
    index: usize,
    entries: Arc<[Entry]>,
    /// One for each entry, once they are asked for.
    summaries: Option<Arc<[ChunkSummary]>>,
}

impl BlockCursor {
    pub(crate) fn new(reader: Arc<BlockReader>) -> Self {
        let columns = Cache::new(COLUMNS_BYTES_MAX);
        Self { reader, directory: None, values: None, columns, summary_bytes: 0 }
    }

    pub fn reader(&self) -> &Arc<BlockReader> {
        &self.reader
    }

    /// Appends the samples of series `local` in `range` to `out`.
    pub fn read(
        &mut self,
        local: u32,
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<CursorStats, ColumnarError> {
        self.read_chunks(local, range, None, out)
    }

    /// As [`BlockCursor::read`], but without the chunks that `settle` needs no samples of. It is
    /// not asked about those that reach into the ranges of `shared`.
    pub fn read_unsettled(
        &mut self,
        local: u32,
        range: TimeRange,
        shared: &[TimeRange],
        settle: &mut Settle<'_>,
        out: &mut Samples,
    ) -> Result<CursorStats, ColumnarError> {
        self.read_chunks(local, range, Some((shared, settle)), out)
    }

    fn read_chunks(
        &mut self,
        local: u32,
        range: TimeRange,
        mut settling: Option<(&[TimeRange], &mut Settle<'_>)>,
        out: &mut Samples,
    ) -> Result<CursorStats, ColumnarError> {
        let mut stats = CursorStats::default();
        let (rows, summary_bytes) = (out.len(), self.summary_bytes);
        let result = self.each_chunk(local, |cursor, entry, row| {
            if let Some((shared, settle)) = &mut settling
                && let Some(mut view) = cursor.view(entry, row, range, shared)?
                && settle(&mut view)?
            {
                stats.settled += 1;
                return Ok(());
            }
            stats.bytes += cursor.read_chunk(entry, range, out)?;
            stats.chunks += 1;
            Ok(())
        });
        if result.is_err() {
            out.timestamps.truncate(rows);
            out.values.truncate(rows);
        }
        result?;
        stats.samples = (out.len() - rows) as u64;
        stats.bytes += self.summary_bytes - summary_bytes;
        Ok(stats)
    }

    /// Whether series `local` has a sample in `range`; looks at timestamps alone.
    pub fn holds(&mut self, local: u32, range: TimeRange) -> Result<bool, ColumnarError> {
        let mut holds = false;
        self.each_chunk(local, |cursor, entry, _| {
            if !holds {
                let times = cursor.times(&entry)?;
                let times = times.as_slice();
                let first = times.partition_point(|at| *at < range.start());
                holds = times.get(first).is_some_and(|at| *at <= range.end());
            }
            Ok(())
        })?;
        Ok(holds)
    }

    /// The chunk as something that may be settled; `None` if it is out of `range` or reaches into
    /// one of `shared`.
    fn view(
        &mut self,
        entry: Entry,
        row: usize,
        range: TimeRange,
        shared: &[TimeRange],
    ) -> Result<Option<ChunkView<'_>>, ColumnarError> {
        let of_block = self.reader.summary().time_range;
        // Most blocks lie in the range as a whole: then no timestamp need be decoded.
        let is_plain = shared.is_empty() && of_block.is_some_and(|all| range.contains_range(all));
        let is_whole = if is_plain {
            true
        } else {
            let of_chunk = self.time_range(&entry)?;
            let is_shared = shared.iter().any(|shared| shared.overlaps(of_chunk));
            if is_shared || !of_chunk.overlaps(range) {
                return Ok(None);
            }
            range.contains_range(of_chunk)
        };
        Ok(Some(ChunkView { cursor: self, entry, row, is_whole }))
    }

    fn time_range(&mut self, entry: &Entry) -> Result<TimeRange, ColumnarError> {
        let times = self.times(entry)?;
        let ends = times.as_slice().first().zip(times.as_slice().last());
        ends.and_then(|(first, last)| TimeRange::new(*first, *last))
            .ok_or_else(|| ColumnarError::corrupt(0, "timestamps of a chunk do not ascend"))
    }

    /// Calls `each` with every chunk of the series and its row in the directory page.
    fn each_chunk(
        &mut self,
        local: u32,
        mut each: impl FnMut(&mut Self, Entry, usize) -> Result<(), ColumnarError>,
    ) -> Result<(), ColumnarError> {
        let pages = self.reader.pages(PageKind::Directory);
        // The series may have begun on the page before the first that starts with it.
        let first = pages.partition_point(|page| page.first < u64::from(local));
        for index in first.saturating_sub(1)..pages.len() {
            if self.reader.pages(PageKind::Directory)[index].first > u64::from(local) {
                break;
            }
            let page = self.directory(index)?;
            let start = page.entries.partition_point(|entry| entry.series < local);
            let mut row = start;
            while let Some(entry) =
                self.directory(index)?.entries.get(row).filter(|entry| entry.series == local)
            {
                let entry = *entry;
                each(self, entry, row)?;
                row += 1;
            }
        }
        Ok(())
    }

    fn directory(&mut self, index: usize) -> Result<&mut DirectoryPage, ColumnarError> {
        if self.directory.as_ref().is_none_or(|page| page.index != index) {
            let entry = self.reader.pages(PageKind::Directory)[index];
            let entries = self.reader.directory(&entry)?;
            self.directory = Some(DirectoryPage { index, entries, summaries: None });
        }
        Ok(self.directory.as_mut().expect("just filled"))
    }

    /// The summary of the chunk in `row` of the directory page in hand.
    fn summary(&mut self, row: usize) -> Result<ChunkSummary, ColumnarError> {
        let page = self.directory.as_mut().expect("a row was found in it");
        let summaries = match &page.summaries {
            Some(known) => known,
            None => {
                let entry = self.reader.pages(PageKind::Summaries).get(page.index);
                let entry =
                    entry.ok_or_else(|| ColumnarError::corrupt(0, "no page of summaries"))?;
                self.summary_bytes += u64::from(entry.stored_len);
                page.summaries.insert(self.reader.summaries(entry, &page.entries)?)
            }
        };
        Ok(summaries[row])
    }

    /// Appends the chunk's samples in `range`; returns the bytes of its payload.
    fn read_chunk(
        &mut self,
        entry: Entry,
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<u64, ColumnarError> {
        let times = self.times(&entry)?;
        let times = times.as_slice();
        let start = times.partition_point(|at| *at < range.start());
        let end = start + times[start..].partition_point(|at| *at <= range.end());
        if start == end {
            return Ok(0);
        }
        out.timestamps.extend_from_slice(&times[start..end]);
        match entry.values {
            EntryValues::Constant(value) => {
                out.values.extend(std::iter::repeat_n(value, end - start));
                Ok(0)
            }
            EntryValues::Payload { offset, len } => {
                let rows = out.values.len();
                let (page, payload) = self.payload(offset, len as usize)?;
                values::decode(payload, entry.samples as usize, &mut out.values)
                    .map_err(ColumnarError::codec(page.offset))?;
                out.values.truncate(rows + end);
                out.values.drain(rows..rows + start);
                Ok(u64::from(len))
            }
        }
    }

    fn payload(&mut self, offset: u64, len: usize) -> Result<(PageEntry, &[u8]), ColumnarError> {
        let outside = || ColumnarError::corrupt(0, "a chunk lies outside the value pages");
        let (index, page) = self.reader.page_of(PageKind::Values, offset).ok_or_else(outside)?;
        let page = *page;
        if self.values.as_ref().is_none_or(|(known, _)| *known != index) {
            self.values = Some((index, self.reader.values(&page)?));
        }
        let (_, bytes) = self.values.as_ref().expect("just filled");
        let start = usize::try_from(offset - page.first).map_err(|_| outside())?;
        let end = start.checked_add(len).ok_or_else(outside)?;
        Ok((page, bytes.get(start..end).ok_or_else(outside)?))
    }

    /// The timestamps of a chunk.
    fn times(&mut self, entry: &Entry) -> Result<Times, ColumnarError> {
        let TimesRef { column, start } = match entry.times {
            EntryTimes::Single(at) => return Ok(Times::Single([at])),
            EntryTimes::Column(times) => times,
        };
        let samples = match self.columns.get(&column) {
            Some(samples) => samples,
            None => self.load_column(column)?,
        };
        let start = start as usize;
        let end = start + entry.samples as usize;
        if end > samples.len() {
            return Err(ColumnarError::corrupt(0, "a chunk exceeds its timestamp column"));
        }
        Ok(Times::Column(samples, start..end))
    }

    fn load_column(&mut self, column: u32) -> Result<Arc<[i64]>, ColumnarError> {
        let none = || ColumnarError::corrupt(0, "a chunk refers to a missing timestamp column");
        let (_, page) = self.reader.page_of(PageKind::Times, u64::from(column)).ok_or_else(none)?;
        let codec = ColumnarError::codec(page.offset);
        let place = u64::from(column) - page.first;
        if place >= u64::from(page.count) {
            return Err(none());
        }
        let times = self.reader.times(page)?;
        let place = usize::try_from(place).map_err(|_| none())?;
        let samples: Arc<[i64]> = times.column(place).map_err(codec)?.into();
        self.columns.insert(column, Arc::clone(&samples), size_of_val(&*samples) + 64);
        Ok(samples)
    }
}

enum Times {
    Single([i64; 1]),
    Column(Arc<[i64]>, std::ops::Range<usize>),
}

impl Times {
    fn as_slice(&self) -> &[i64] {
        match self {
            Times::Single(at) => at,
            Times::Column(samples, range) => &samples[range.clone()],
        }
    }
}

/// All samples of a block as ordered batches.
#[derive(Debug)]
pub struct BlockScan {
    cursor: BlockCursor,
    /// The next chunk: directory page and row.
    page: usize,
    row: usize,
    /// Room for one batch.
    batch_rows: usize,
}

impl BlockScan {
    pub(crate) fn new(cursor: BlockCursor) -> Self {
        let samples = cursor.reader.summary().samples;
        let batch_rows = usize::try_from(samples).unwrap_or(usize::MAX).min(BATCH_ROWS_MAX);
        Self { cursor, page: 0, row: 0, batch_rows }
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, ColumnarError> {
        let mut series: Vec<u32> = Vec::with_capacity(self.batch_rows);
        let mut samples = Samples {
            timestamps: Vec::with_capacity(self.batch_rows),
            values: Vec::with_capacity(self.batch_rows),
        };
        while self.page < self.cursor.reader.pages(PageKind::Directory).len() {
            let page = self.cursor.directory(self.page)?;
            let Some(entry) = page.entries.get(self.row).copied() else {
                self.page += 1;
                self.row = 0;
                continue;
            };
            let rows = samples.len() + entry.samples as usize;
            if rows > BATCH_ROWS_MAX {
                break;
            }
            self.row += 1;
            self.cursor.read_chunk(entry, TimeRange::ALL, &mut samples)?;
            series.resize(samples.len(), entry.series);
        }
        if series.is_empty() {
            return Ok(None);
        }
        schema::batch(series, samples.timestamps, samples.values).map(Some)
    }
}

/// Batches of the samples schema, [`BATCH_ROWS_MAX`] rows at most. Ends after the first error.
impl Iterator for BlockScan {
    type Item = Result<RecordBatch, ColumnarError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.next_batch().transpose();
        if matches!(batch, Some(Err(_))) {
            self.page = usize::MAX;
        }
        batch
    }
}

// A batch always has room for one chunk, so a scan moves on.
const _: () = assert!(CHUNK_SAMPLES_MAX <= BATCH_ROWS_MAX);
