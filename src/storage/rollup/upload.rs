//! A rollup file on its way into the object store: small ones in one request, large ones in
//! parts, so that memory stays bounded.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::errors::ParquetError;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;

use crate::columnar::aggregate::RollupColumns;
use crate::columnar::parquet::{LabelColumns, ROW_GROUP_ROWS, RollupFileWriter};
use crate::model::{Labels, Resolution};
use crate::storage::error::StorageError;
use crate::storage::rollup::file::{BuiltSpan, FileFacts};

/// Bytes of one part; a file below it is put in one request.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way at once.
const PARTS_IN_FLIGHT_MAX: usize = 2;
/// Bytes that are gathered before they are handed to the upload.
const GATHER_BYTES: usize = 256 << 10;

/// Where files go.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) io: Arc<dyn ObjectStore>,
    pub(crate) root: Path,
    /// Drives the requests; whoever writes files blocks.
    pub(crate) runtime: Handle,
}

/// A file being written, series by series in ascending order.
pub(crate) struct NewRollupFile {
    writer: RollupFileWriter<BufWriter<Sink>>,
    path: String,
    resolution: Resolution,
}

impl NewRollupFile {
    /// `path` is below the target's root.
    pub(crate) fn create(
        target: &Target,
        path: String,
        resolution: Resolution,
        labels: &LabelColumns,
    ) -> Result<Self, StorageError> {
        let location = below(&target.root, &path);
        let upload = object_store::buffered::BufWriter::with_capacity(
            Arc::clone(&target.io),
            location,
            PART_BYTES,
        );
        let upload = upload.with_max_concurrency(PARTS_IN_FLIGHT_MAX);
        let sink = Sink { upload, runtime: target.runtime.clone(), bytes: 0 };
        let sink = BufWriter::with_capacity(GATHER_BYTES, sink);
        let writer = RollupFileWriter::new(sink, labels, resolution.ms(), ROW_GROUP_ROWS)
            .map_err(write_error)?;
        Ok(Self { writer, path, resolution })
    }

    pub(crate) fn push(
        &mut self,
        labels: &Labels,
        rows: &RollupColumns,
    ) -> Result<(), StorageError> {
        self.writer.push(labels, rows).map_err(write_error)
    }

    /// Makes the file durable. `None` if it has no rows: then there is no file.
    pub(crate) fn finish(self, spans: Vec<BuiltSpan>) -> Result<Option<FileFacts>, StorageError> {
        let (sink, summary) = self.writer.finish().map_err(write_error)?;
        let mut sink = sink.into_inner().map_err(|error| io_error(error.into_error()))?;
        if summary.rows == 0 {
            return sink.abort().map(|()| None);
        }
        sink.finish()?;
        Ok(Some(FileFacts {
            path: self.path,
            resolution: self.resolution.name().to_owned(),
            rows: summary.rows,
            series: summary.series,
            bytes: sink.bytes,
            first_metric: summary.first_metric,
            last_metric: summary.last_metric,
            spans,
        }))
    }
}

pub(crate) fn below(root: &Path, path: &str) -> Path {
    root.parts().chain(Path::from(path).parts()).collect()
}

/// Blocks until the object store has taken what was written.
struct Sink {
    upload: object_store::buffered::BufWriter,
    runtime: Handle,
    bytes: u64,
}

impl Sink {
    fn finish(&mut self) -> Result<(), StorageError> {
        self.runtime.block_on(self.upload.shutdown()).map_err(io_error)
    }

    fn abort(&mut self) -> Result<(), StorageError> {
        let aborted = self.runtime.block_on(self.upload.abort());
        aborted.map_err(|source| StorageError::ObjectStore { source })
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.runtime.block_on(self.upload.put(Bytes::copy_from_slice(bytes)))?;
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_error(error: ParquetError) -> StorageError {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => io_error(*source),
            Err(other) => StorageError::Internal(format!("writing a rollup file: {other}")),
        },
        error => StorageError::Internal(format!("writing a rollup file: {error}")),
    }
}

/// The object store's own error comes through `io::Error` and is taken out of it again.
fn io_error(error: io::Error) -> StorageError {
    let text = error.to_string();
    let source = match error.into_inner().map(|source| source.downcast::<object_store::Error>()) {
        Some(Ok(source)) => *source,
        _ => object_store::Error::Generic { store: "upload", source: text.into() },
    };
    StorageError::ObjectStore { source }
}
