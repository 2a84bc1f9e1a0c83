//! Ordered Arrow batches to a block's bytes, front to back, in bounded memory.
//!
//! Held are the page in hand of each kind, what equal payloads and timestamp columns are found
//! by, and the numbers of the series seen; samples only as far as their chunk is not full.

use std::io::Write;

use arrow::array::RecordBatch;

use crate::columnar::block::directory::{DirectoryWriter, Entry, EntryTimes, EntryValues};
use crate::columnar::block::format::{self, BlockHeader, BlockSummary, PageKind, Table};
use crate::columnar::block::page::{Compress, PageWriter};
use crate::columnar::block::series;
use crate::columnar::block::summary::SummaryWriter;
use crate::columnar::block::times::TimesWriter;
use crate::columnar::block::values::{ValuesPage, ValuesWriter};
use crate::columnar::codec::CHUNK_SAMPLES_MAX;
use crate::columnar::codec::values::{Form, ValueEncoder};
use crate::columnar::error::ColumnarError;
use crate::columnar::schema::SampleColumns;
use crate::model::{Labels, TimeRange};

/// How a block is laid out. Readers need not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockOptions {
    /// Most samples in one chunk.
    pub chunk_samples: usize,
    /// Bytes of values in one page before compression.
    pub page_bytes: usize,
    /// Whether pages of values are compressed where it saves 3 %.
    pub compress_values: bool,
}

impl BlockOptions {
    /// For blocks fresh from memory: quick to write, and to read at random.
    pub const FRESH: BlockOptions =
        BlockOptions { chunk_samples: 480, page_bytes: 64 << 10, compress_values: false };
    /// For blocks that stay: 5 to 15 % smaller.
    pub const COMPACTED: BlockOptions =
        BlockOptions { chunk_samples: 1_440, page_bytes: 16 << 10, compress_values: true };
}

/// Writes one block.
pub struct BlockWriter<'a, W> {
    header: BlockHeader,
    options: BlockOptions,
    labels: &'a [Labels],
    pages: PageWriter<W>,
    times: TimesWriter,
    values: ValuesWriter,
    directory: DirectoryWriter,
    summaries: SummaryWriter,
    encoder: ValueEncoder,
    payload: Vec<u8>,
    /// Indices into `labels` of the series so far; the place is the local number.
    series: Vec<u32>,
    open: OpenChunk,
    time_range: Option<TimeRange>,
    chunks: u64,
    samples: u64,
}

/// Samples of the last series that may be followed by more.
#[derive(Default)]
struct OpenChunk {
    timestamps: Vec<i64>,
    values: Vec<f64>,
    /// The series' last timestamp, in this chunk or the one before.
    last: Option<i64>,
}

impl<'a, W: Write> BlockWriter<'a, W> {
    /// `labels` are what the batches' `series` column refers to; they ascend. Series without
    /// samples do not enter the block.
    pub fn new(
        out: W,
        header: BlockHeader,
        labels: &'a [Labels],
        options: BlockOptions,
    ) -> Result<Self, ColumnarError> {
        assert!((1..=CHUNK_SAMPLES_MAX).contains(&options.chunk_samples), "chunk of {options:?}");
        let mut pages = PageWriter::new(out)?;
        pages.write_plain(&format::encode_header(&header))?;
        Ok(Self {
            header,
            options,
            labels,
            pages,
            times: TimesWriter::default(),
            values: ValuesWriter::new(options.page_bytes),
            directory: DirectoryWriter::default(),
            summaries: SummaryWriter::default(),
            encoder: ValueEncoder::default(),
            payload: Vec::new(),
            series: Vec::new(),
            open: OpenChunk::default(),
            time_range: None,
            chunks: 0,
            samples: 0,
        })
    }

    /// Adds a batch of the samples schema. Rows ascend by (series, timestamp), over all batches.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ColumnarError> {
        let SampleColumns { series, timestamps, values } = SampleColumns::of(batch)?;
        let mut start = 0;
        for run in series.chunk_by(|left, right| left == right) {
            let rows = start..start + run.len();
            start = rows.end;
            self.write_run(run[0], &timestamps[rows.clone()], &values[rows])?;
        }
        Ok(())
    }

    fn write_run(
        &mut self,
        series: u32,
        mut timestamps: &[i64],
        mut values: &[f64],
    ) -> Result<(), ColumnarError> {
        if self.series.last() != Some(&series) {
            self.close_chunk()?;
            self.start_series(series)?;
        }
        self.check_times(timestamps)?;
        let most = self.options.chunk_samples;
        while !timestamps.is_empty() {
            let room = most - self.open.timestamps.len();
            if room == most && timestamps.len() > most {
                // Full chunks need not be copied first.
                let (now, later) = timestamps.split_at(most);
                let (now_values, later_values) = values.split_at(most);
                self.write_chunk(now, now_values)?;
                (timestamps, values) = (later, later_values);
                continue;
            }
            let taken = room.min(timestamps.len());
            self.open.timestamps.extend_from_slice(&timestamps[..taken]);
            self.open.values.extend_from_slice(&values[..taken]);
            (timestamps, values) = (&timestamps[taken..], &values[taken..]);
            if self.open.timestamps.len() == most {
                self.close_chunk()?;
            }
        }
        Ok(())
    }

    fn start_series(&mut self, series: u32) -> Result<(), ColumnarError> {
        let invalid = |reason: String| Err(ColumnarError::InvalidBatch(reason));
        let Some(labels) = self.labels.get(series as usize) else {
            return invalid(format!("series {series} of {}", self.labels.len()));
        };
        if let Some(before) = self.series.last() {
            let ascends = *before < series && self.labels[*before as usize] < *labels;
            if !ascends {
                return invalid(format!("series {series} after series {before}"));
            }
        }
        self.series.push(series);
        self.open.last = None;
        Ok(())
    }

    fn check_times(&mut self, timestamps: &[i64]) -> Result<(), ColumnarError> {
        let (Some(first), Some(last)) = (timestamps.first(), timestamps.last()) else {
            return Ok(());
        };
        let ascends = self.open.last.is_none_or(|before| before < *first)
            && timestamps.is_sorted_by(|left, right| left < right);
        let window = self.header.window;
        if !ascends || !window.contains(*first) || !window.contains(*last) {
            let reason = format!("timestamps {first} to {last} are out of order or of {window:?}");
            return Err(ColumnarError::InvalidBatch(reason));
        }
        self.open.last = Some(*last);
        let range = TimeRange::new(*first, *last).expect("checked to ascend");
        self.time_range = Some(self.time_range.map_or(range, |all| all.hull(range)));
        Ok(())
    }

    fn close_chunk(&mut self) -> Result<(), ColumnarError> {
        if self.open.timestamps.is_empty() {
            return Ok(());
        }
        let mut open = std::mem::take(&mut self.open);
        let written = self.write_chunk(&open.timestamps, &open.values);
        open.timestamps.clear();
        open.values.clear();
        self.open = open;
        written
    }

    fn write_chunk(&mut self, timestamps: &[i64], values: &[f64]) -> Result<(), ColumnarError> {
        let times = match timestamps {
            [at] => EntryTimes::Single(*at),
            _ => EntryTimes::Column(self.times.intern(timestamps)),
        };
        if let Some(page) = self.times.take_page(false) {
            let rows = (page.first, page.columns);
            self.pages.write(PageKind::Times, &page.bytes, rows, Compress::Try)?;
        }
        self.payload.clear();
        let entry_values = match self.encoder.encode_varying(values, &mut self.payload) {
            Form::Constant => EntryValues::Constant(values[0]),
            form => {
                self.summaries.push(values, form);
                let (offset, page) = self.values.push(&self.payload);
                let len = u32::try_from(self.payload.len()).expect("chunks are short");
                self.write_values(page)?;
                EntryValues::Payload { offset, len }
            }
        };
        self.directory.push(Entry {
            series: u32::try_from(self.series.len() - 1).expect("series have numbers of 32 bits"),
            samples: u32::try_from(values.len()).expect("chunks are short"),
            times,
            values: entry_values,
        });
        self.chunks += 1;
        self.samples += values.len() as u64;
        if self.directory.is_full() { self.write_directory() } else { Ok(()) }
    }

    fn write_values(&mut self, page: Option<ValuesPage>) -> Result<(), ColumnarError> {
        let Some(page) = page else { return Ok(()) };
        let compress = if self.options.compress_values { Compress::Try } else { Compress::Never };
        self.pages.write(PageKind::Values, &page.bytes, (page.first, 0), compress)
    }

    fn write_directory(&mut self) -> Result<(), ColumnarError> {
        self.payload.clear();
        let Some(rows) = self.directory.finish(&mut self.payload) else { return Ok(()) };
        self.pages.write(PageKind::Directory, &self.payload, rows, Compress::Try)?;
        self.payload.clear();
        self.summaries.finish(&mut self.payload);
        self.pages.write(PageKind::Summaries, &self.payload, rows, Compress::Try)
    }

    /// Writes what is left and the trailer. The caller makes the bytes durable.
    pub fn finish(mut self) -> Result<(W, BlockSummary), ColumnarError> {
        self.close_chunk()?;
        let page = self.values.take_page();
        self.write_values(page)?;
        self.write_directory()?;
        if let Some(page) = self.times.take_page(true) {
            let rows = (page.first, page.columns);
            self.pages.write(PageKind::Times, &page.bytes, rows, Compress::Try)?;
        }
        let used: Vec<&Labels> =
            self.series.iter().map(|series| &self.labels[*series as usize]).collect();
        series::write(&used, &mut self.pages)?;
        let table_bytes = format::encode_table(self.pages.pages());
        let table = Table {
            offset: self.pages.offset(),
            pages: u32::try_from(self.pages.pages().len())
                .map_err(|_| ColumnarError::InvalidBatch("too many pages".into()))?,
            crc: crc32fast::hash(&table_bytes),
        };
        self.pages.write_plain(&table_bytes)?;
        let summary = BlockSummary {
            header: self.header,
            time_range: self.time_range,
            series: self.series.len() as u64,
            chunks: self.chunks,
            samples: self.samples,
            bytes: self.pages.offset() + format::TRAILER_LEN as u64,
        };
        self.pages.write_plain(&format::encode_trailer(&summary, &table))?;
        Ok((self.pages.into_inner(), summary))
    }
}
