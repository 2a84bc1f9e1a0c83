//! Reads rows of one rollup file, and of it only what may match.
//!
//! From coarse to fine: row groups by their statistics, pages by the page index, rows by their
//! labels and times, and only then the columns of numbers of what is left. Columns of labels that
//! no selected series has are not read at all.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Int32Type, TimestampMillisecondType};
use arrow::error::ArrowError;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicate, ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, RowFilter,
    RowSelection,
};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use crate::columnar::ColumnarError;
use crate::columnar::parquet::RollupColumnSet;
use crate::columnar::parquet::columns::{BUCKET_END, METRIC};
use crate::columnar::parquet::reader::{append_rows, series_runs};
use crate::model::{METRIC_NAME, Matcher, Span};
use crate::storage::error::StorageError;
use crate::storage::rollup::file::{FooterRoom, RollupFile};
use crate::storage::rollup::prune::{Need, pages_of};
use crate::storage::rollup::set::RollupSet;
use crate::storage::rollup::view::RollupBatch;

/// Rows of one batch at most.
const BATCH_ROWS: usize = 16 * 1024;
/// Bytes of a file's end that are fetched at once, in the hope that they hold the footer.
const FOOTER_BYTES_GUESS: usize = 64 << 10;

/// What a reader asks for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) matchers: Vec<Matcher>,
    /// Where buckets end.
    pub(crate) span: Span,
    pub(crate) columns: RollupColumnSet,
}

/// The rows of `file` that are wanted, ascending by labels, then time.
pub(crate) fn rows(
    set: Arc<RollupSet>,
    file: Arc<RollupFile>,
    wanted: Arc<Wanted>,
) -> BoxStream<'static, Result<RollupBatch, StorageError>> {
    stream::once(open(set, file, wanted)).try_flatten().boxed()
}

/// A file's footer with its page index, and the bytes that were fetched for it: none if it was
/// kept.
pub(crate) async fn footer(
    set: &RollupSet,
    file: &Arc<RollupFile>,
) -> Result<(Arc<ParquetMetaData>, u64), StorageError> {
    let mut source = Source::new(set, file);
    let metadata = source.footer().await.map_err(|error| read_error(file, error))?;
    Ok((metadata, source.cost.bytes.load(Ordering::Relaxed)))
}

type Batches = BoxStream<'static, Result<RollupBatch, StorageError>>;

async fn open(
    set: Arc<RollupSet>,
    file: Arc<RollupFile>,
    wanted: Arc<Wanted>,
) -> Result<Batches, StorageError> {
    if metric_needs(&wanted).any(|need| need.excludes_metrics(file.metrics())) {
        return Ok(stream::empty().boxed());
    }
    let failed = {
        let file = Arc::clone(&file);
        move |error: ParquetError| read_error(&file, error)
    };
    let mut source = Source::new(&set, &file);
    let cost = Arc::clone(&source.cost);
    let metadata = source.footer().await.map_err(&failed)?;
    let metadata =
        ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new()).map_err(&failed)?;
    let Some(plan) = Plan::new(metadata.metadata(), &set, &wanted) else {
        return Ok(stream::empty().boxed());
    };
    let filter = plan.filter(&wanted, &cost);
    let reads_all = filter.is_empty();
    let batches = ParquetRecordBatchStreamBuilder::new_with_metadata(source, metadata)
        .with_row_groups(plan.row_groups)
        .with_row_selection(plan.selection)
        .with_row_filter(RowFilter::new(filter))
        .with_projection(plan.output)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(&failed)?;
    Ok(batches
        .map(move |batch| {
            let batch = batch.map_err(&failed)?;
            if reads_all {
                cost.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            }
            to_rows(&batch, &set, &wanted, &cost).map_err(|error| damaged(&file, error.to_string()))
        })
        .boxed())
}

fn to_rows(
    batch: &RecordBatch,
    set: &RollupSet,
    wanted: &Wanted,
    cost: &Cost,
) -> Result<RollupBatch, ColumnarError> {
    let mut rows = RollupBatch { series: series_runs(batch, &set.labels)?, ..Default::default() };
    append_rows(batch, 0..batch.num_rows(), wanted.columns, &mut rows.rows)?;
    rows.bytes_read = cost.bytes.swap(0, Ordering::Relaxed);
    rows.rows_read = cost.rows.swap(0, Ordering::Relaxed);
    Ok(rows)
}

/// What must hold of the column of metric names.
fn metric_needs(wanted: &Wanted) -> impl Iterator<Item = Need<'_>> {
    wanted.matchers.iter().filter(|matcher| matcher.name() == METRIC_NAME).map(Need::Text)
}

/// Which parts of a file to read.
struct Plan {
    row_groups: Vec<usize>,
    selection: RowSelection,
    /// Columns that decide, with their matcher.
    texts: Vec<(usize, Matcher)>,
    text_mask: ProjectionMask,
    time: ProjectionMask,
    /// Whether times decide too.
    cuts_time: bool,
    output: ProjectionMask,
}

impl Plan {
    /// `None` if nothing can match.
    fn new(metadata: &ParquetMetaData, set: &RollupSet, wanted: &Wanted) -> Option<Self> {
        let schema = metadata.file_metadata().schema_descr();
        // The schema is flat, and labels may have dots in their names: columns go by number.
        let column = |name: &str| schema.columns().iter().position(|column| column.name() == name);
        let time = column(BUCKET_END)?;
        let mut texts = Vec::new();
        for matcher in &wanted.matchers {
            let name = match matcher.name() {
                METRIC_NAME => Some(METRIC),
                label => set.labels.column(label),
            };
            match name.and_then(column) {
                Some(number) => texts.push((number, matcher.clone())),
                None if matcher.matches_empty() => {}
                None => return None,
            }
        }
        let mut needs = vec![(time, Need::Time(wanted.span))];
        needs.extend(texts.iter().map(|(number, matcher)| (*number, Need::Text(matcher))));

        let (mut row_groups, mut ranges, mut total) = (Vec::new(), Vec::new(), 0);
        let mut labels_seen: Vec<bool> = vec![false; schema.num_columns()];
        let labels: Vec<usize> = set.labels.iter().filter_map(|(_, name)| column(name)).collect();
        for (number, group) in metadata.row_groups().iter().enumerate() {
            let pages = pages_of(metadata, number, &needs);
            if pages.is_empty() {
                continue;
            }
            for &label in &labels {
                labels_seen[label] |=
                    !pages_of(metadata, number, &[(label, Need::Present)]).is_disjoint(&pages);
            }
            row_groups.push(number);
            ranges
                .extend(pages.0.into_iter().map(|Range { start, end }| start + total..end + total));
            total += usize::try_from(group.num_rows()).unwrap_or(0);
        }
        if row_groups.is_empty() {
            return None;
        }
        let present = labels.into_iter().filter(|label| labels_seen[*label]);
        let numbers = wanted.columns.names().filter_map(column);
        let output: Vec<usize> =
            column(METRIC).into_iter().chain(present).chain([time]).chain(numbers).collect();
        let text_columns = texts.iter().map(|(number, _)| *number);
        Some(Self {
            row_groups,
            selection: RowSelection::from_consecutive_ranges(ranges.into_iter(), total),
            text_mask: ProjectionMask::leaves(schema, text_columns),
            time: ProjectionMask::leaves(schema, [time]),
            cuts_time: !Need::Time(wanted.span).holds_for_all(metadata, time),
            output: ProjectionMask::leaves(schema, output),
            texts,
        })
    }

    fn filter(&self, wanted: &Wanted, cost: &Arc<Cost>) -> Vec<Box<dyn ArrowPredicate>> {
        let mut filter: Vec<Box<dyn ArrowPredicate>> = Vec::new();
        if !self.texts.is_empty() {
            // The projection keeps the columns in order of the file, each once.
            let mut columns: Vec<usize> = self.texts.iter().map(|(number, _)| *number).collect();
            columns.sort_unstable();
            columns.dedup();
            let at = |number: &usize| columns.binary_search(number).unwrap_or(0);
            let texts: Vec<(usize, Matcher)> =
                self.texts.iter().map(|(number, matcher)| (at(number), matcher.clone())).collect();
            let cost = Arc::clone(cost);
            filter.push(Box::new(ArrowPredicateFn::new(self.text_mask.clone(), move |batch| {
                cost.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                matching(&batch, &texts)
            })));
        }
        if self.cuts_time {
            let span = wanted.span;
            let cost = self.texts.is_empty().then(|| Arc::clone(cost));
            filter.push(Box::new(ArrowPredicateFn::new(self.time.clone(), move |batch| {
                if let Some(cost) = &cost {
                    cost.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                }
                let ends = batch.column(0).as_primitive_opt::<TimestampMillisecondType>();
                let ends = ends.ok_or_else(|| not_of_type(BUCKET_END))?;
                Ok(BooleanArray::from_unary(ends, |end| span.contains(end)))
            })));
        }
        filter
    }
}

/// The rows whose texts all matchers accept; each distinct text is asked once a batch.
fn matching(batch: &RecordBatch, texts: &[(usize, Matcher)]) -> Result<BooleanArray, ArrowError> {
    let mut keep = vec![true; batch.num_rows()];
    for (at, matcher) in texts {
        let column = batch.column(*at).as_dictionary_opt::<Int32Type>();
        let column = column.ok_or_else(|| not_of_type(matcher.name()))?;
        let values =
            column.values().as_string_opt::<i32>().ok_or_else(|| not_of_type(matcher.name()))?;
        let accepted: Vec<bool> =
            (0..values.len()).map(|key| matcher.matches(values.value(key))).collect();
        let empty = matcher.matches_empty();
        for (row, keep) in keep.iter_mut().enumerate() {
            *keep &= column.key(row).map_or(empty, |key| accepted[key]);
        }
    }
    Ok(BooleanArray::from(keep))
}

fn not_of_type(name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("column of {name:?} is not of the type it should be"))
}

/// What reading has cost and was not yet told.
#[derive(Debug, Default)]
struct Cost {
    bytes: AtomicU64,
    rows: AtomicU64,
}

/// Reads ranges of a file for the Parquet decoder.
struct Source {
    store: Arc<dyn ObjectStore>,
    file: Arc<RollupFile>,
    footers: Arc<FooterRoom>,
    cost: Arc<Cost>,
}

impl Source {
    fn new(set: &RollupSet, file: &Arc<RollupFile>) -> Self {
        Self {
            store: Arc::clone(&set.store),
            file: Arc::clone(file),
            footers: Arc::clone(&set.footers),
            cost: Arc::default(),
        }
    }

    /// The file's footer with its page index, read once.
    async fn footer(&mut self) -> parquet::errors::Result<Arc<ParquetMetaData>> {
        if let Some(known) = self.file.footer() {
            return Ok(Arc::clone(known));
        }
        let bytes = self.file.bytes();
        let metadata = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_prefetch_hint(Some(FOOTER_BYTES_GUESS))
            .load_and_finish(&mut *self, bytes)
            .await?;
        let metadata = Arc::new(metadata);
        self.file.keep_footer(&metadata, &self.footers);
        Ok(metadata)
    }
}

impl AsyncFileReader for Source {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            self.cost.bytes.fetch_add(range.end - range.start, Ordering::Relaxed);
            self.store.get_range(self.file.location(), range).await.map_err(external)
        }
        .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move {
            let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            self.cost.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.store.get_ranges(self.file.location(), &ranges).await.map_err(external)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        self.footer().boxed()
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// An error of the object store may pass; any other means that the file is not what was written.
fn read_error(file: &RollupFile, error: ParquetError) -> StorageError {
    match error {
        ParquetError::External(source) => match source.downcast::<object_store::Error>() {
            Ok(source) => StorageError::ObjectStore { source: *source },
            Err(other) => damaged(file, other.to_string()),
        },
        error => damaged(file, error.to_string()),
    }
}

fn damaged(file: &RollupFile, reason: String) -> StorageError {
    StorageError::Corrupt { path: PathBuf::from(file.location().as_ref()), offset: 0, reason }
}
