//! Files of rollups as DataFusion reads them, with what that costs counted.
//!
//! Footers are those that PromQL reads too, kept within one bound. Bytes are what was fetched. Rows are as many of a row group's as the bytes fetched are of its
//! column, so that pages left out by their statistics do not count.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::exec_datafusion_err;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::DefaultParquetFileReaderFactory;
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;

use crate::query::error::QueryError;
use crate::query::limits::QueryUsage;
use crate::storage::{RollupFile, RollupView};

/// Opens files for one scan. DataFusion may open one several times, for parts of it.
#[derive(Debug)]
pub(super) struct RollupReaders {
    view: RollupView,
    files: HashMap<Path, Arc<RollupFile>>,
    readers: DefaultParquetFileReaderFactory,
    usage: Arc<QueryUsage>,
    read: Mutex<HashMap<Path, Arc<Mutex<RowsRead>>>>,
}

impl RollupReaders {
    /// `files` are all that will be opened.
    pub(super) fn new(view: RollupView, files: &[Arc<RollupFile>], usage: Arc<QueryUsage>) -> Self {
        let readers = DefaultParquetFileReaderFactory::new(view.object_store());
        let by_path = files.iter().map(|file| (file.location().clone(), Arc::clone(file)));
        let files = by_path.collect();
        Self { view, files, readers, usage, read: Mutex::default() }
    }
}

impl ParquetFileReaderFactory for RollupReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DataFusionResult<Box<dyn AsyncFileReader + Send>> {
        let location = &file.object_meta.location;
        let rollups = self.files.get(location).map(Arc::clone);
        let rollups =
            rollups.ok_or_else(|| exec_datafusion_err!("{location} is no rollup file"))?;
        let read = match self.read.lock().entry(location.clone()) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(place) => {
                self.usage.add_rollup_file();
                Arc::clone(place.insert(Arc::default()))
            }
        };
        let reader = self.readers.create_reader(partition, file, metadata_size_hint, metrics)?;
        let (view, usage) = (self.view.clone(), Arc::clone(&self.usage));
        Ok(Box::new(CountedFile { view, file: rollups, reader, usage, read }))
    }
}

struct CountedFile {
    view: RollupView,
    file: Arc<RollupFile>,
    reader: Box<dyn AsyncFileReader + Send>,
    usage: Arc<QueryUsage>,
    read: Arc<Mutex<RowsRead>>,
}

impl CountedFile {
    fn count(&self, ranges: &[Range<u64>]) -> Result<(), QueryError> {
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
        let mut read = self.read.lock();
        let rows = ranges.iter().map(|range| read.add(range)).sum();
        self.usage.add_rollup_rows(rows, bytes)
    }
}

impl AsyncFileReader for CountedFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        match self.count(std::slice::from_ref(&range)) {
            Ok(()) => self.reader.get_bytes(range),
            Err(error) => futures::future::err(external(error)).boxed(),
        }
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        match self.count(&ranges) {
            Ok(()) => self.reader.get_byte_ranges(ranges),
            Err(error) => futures::future::err(external(error)).boxed(),
        }
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let footer = self.view.footer(&self.file).await;
            let (metadata, bytes) = footer.map_err(|error| external(error.into()))?;
            self.usage.add_rollup_rows(0, bytes).map_err(external)?;
            self.read.lock().metadata = Some(Arc::clone(&metadata));
            Ok(metadata)
        }
        .boxed()
    }
}

fn external(error: QueryError) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// How much of each row group of a file was read.
#[derive(Debug, Default)]
struct RowsRead {
    metadata: Option<Arc<ParquetMetaData>>,
    /// Bytes by row group and column.
    bytes: HashMap<(usize, usize), u64>,
    /// Rows by row group that have been counted.
    rows: HashMap<usize, u64>,
}

impl RowsRead {
    /// Rows that a further range adds.
    fn add(&mut self, range: &Range<u64>) -> u64 {
        let Some(metadata) = &self.metadata else { return 0 };
        for (number, group) in metadata.row_groups().iter().enumerate() {
            for (column, chunk) in group.columns().iter().enumerate() {
                let (start, length) = chunk.byte_range();
                if !(start..start + length).contains(&range.start) {
                    continue;
                }
                let bytes = self.bytes.entry((number, column)).or_default();
                *bytes += range.end - range.start;
                let of_group = u64::try_from(group.num_rows()).unwrap_or(0);
                let rows = share(of_group, *bytes, length);
                let counted = self.rows.entry(number).or_default();
                let added = rows.saturating_sub(*counted);
                *counted += added;
                return added;
            }
        }
        0
    }
}

/// As much of `rows` as `bytes` are of `length`.
fn share(rows: u64, bytes: u64, length: u64) -> u64 {
    let share = u128::from(rows) * u128::from(bytes.min(length)) / u128::from(length.max(1));
    u64::try_from(share).unwrap_or(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_proportion_to_bytes() {
        assert_eq!(share(1_000, 50, 200), 250);
        assert_eq!(share(1_000, 300, 200), 1_000);
        assert_eq!(share(1_000, 0, 0), 0);
    }
}
