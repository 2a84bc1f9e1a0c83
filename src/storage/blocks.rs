//! Writes block files: samples of a snapshot's window, through Arrow batches, durably to disk.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::columnar::block::{BlockHeader, BlockOptions, BlockWriter};
use crate::columnar::schema::{self, BATCH_ROWS_MAX};
use crate::columnar::{ColumnarError, ErrorKind};
use crate::model::{Labels, Samples};
use crate::storage::error::StorageError;
use crate::storage::layout::Layout;
use crate::storage::manifest::BlockMeta;
use crate::storage::snapshot::Snapshot;
use crate::storage::vfs::{Vfs, VfsFile, temporary_path};

/// Bytes that are gathered before a write to the file.
const WRITE_BYTES: usize = 256 << 10;

/// Hears of each series that is written, with the count of its samples; an error ends the writing.
pub(crate) type Observer<'a> = &'a mut dyn FnMut(u64) -> Result<(), StorageError>;

/// Writes the samples of `source` in the header's window to the file of block `id`, under its
/// temporary name. `None` if there are no samples.
pub(crate) fn write_block(
    vfs: &dyn Vfs,
    layout: &Layout,
    id: u64,
    header: BlockHeader,
    source: &Snapshot,
    options: BlockOptions,
    observer: Observer<'_>,
) -> Result<Option<BlockMeta>, StorageError> {
    let path = temporary_path(&layout.block(id));
    let written = write_file(vfs, &path, id, header, source, options, observer);
    if !matches!(written, Ok(Some(_))) {
        // On a full disk these bytes are the first thing to give back. What cannot be removed now
        // is removed by the next start.
        let _ = vfs.remove(&path);
    }
    written
}

fn write_file(
    vfs: &dyn Vfs,
    path: &Path,
    id: u64,
    header: BlockHeader,
    source: &Snapshot,
    options: BlockOptions,
    observer: Observer<'_>,
) -> Result<Option<BlockMeta>, StorageError> {
    let series = source.select_stored(&[], header.window)?;
    if series.is_empty() {
        return Ok(None);
    }
    let labels: Vec<Labels> = series.iter().map(|series| series.labels.clone()).collect();
    let failed = |error: ColumnarError| match error {
        ColumnarError::Write(source) => StorageError::Io { path: path.to_path_buf(), source },
        error if error.kind() == ErrorKind::Internal => StorageError::Internal(error.to_string()),
        error => StorageError::Internal(format!("{}: {error}", path.display())),
    };
    let file = vfs.create(path)?;
    let out = FileWriter { file: Arc::clone(&file), offset: 0 };
    let out = BufWriter::with_capacity(WRITE_BYTES, out);
    let mut writer = BlockWriter::new(out, header, &labels, options).map_err(failed)?;
    let mut reader = source.reader();
    let mut rows = Rows::default();
    let mut samples = Samples::default();
    for (number, series) in (0u32..).zip(&series) {
        reader.read(series, header.window, &mut samples)?;
        observer(samples.len() as u64)?;
        let mut from = 0;
        while from < samples.len() {
            from += rows.fill(number, &samples, from);
            if rows.is_full() {
                writer.write(&rows.take().map_err(failed)?).map_err(failed)?;
            }
        }
    }
    writer.write(&rows.take().map_err(failed)?).map_err(failed)?;
    let (mut out, summary) = writer.finish().map_err(failed)?;
    out.flush().map_err(|source| StorageError::Io { path: path.to_path_buf(), source })?;
    // A snapshot gives what it can; a block must hold everything.
    if let Some(warning) = source.warnings().first() {
        return Err(StorageError::Internal(format!("a source of a block is damaged: {warning}")));
    }
    file.sync()?;
    Ok(BlockMeta::new(id, &summary))
}

/// Rows on their way into a batch.
#[derive(Default)]
struct Rows {
    series: Vec<u32>,
    timestamps: Vec<i64>,
    values: Vec<f64>,
}

impl Rows {
    /// Adds rows `from..` of a series as far as there is room; how many were added.
    fn fill(&mut self, series: u32, samples: &Samples, from: usize) -> usize {
        let room = BATCH_ROWS_MAX - self.series.len();
        let to = samples.len().min(from + room);
        self.series.resize(self.series.len() + to - from, series);
        self.timestamps.extend_from_slice(&samples.timestamps[from..to]);
        self.values.extend_from_slice(&samples.values[from..to]);
        to - from
    }

    fn is_full(&self) -> bool {
        self.series.len() == BATCH_ROWS_MAX
    }

    fn take(&mut self) -> Result<RecordBatch, ColumnarError> {
        let Self { series, timestamps, values } = std::mem::take(self);
        schema::batch(series, timestamps, values)
    }
}

/// Appends to a file.
struct FileWriter {
    file: Arc<dyn VfsFile>,
    offset: u64,
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
