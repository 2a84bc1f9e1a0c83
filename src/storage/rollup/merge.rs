//! Merges rollup files of one day and resolution into one, from their rows.
//!
//! Also how rows are taken out of a file: spans that were built anew, and what a deletion hides
//! where the raw samples have expired. There a row goes as a whole if the deletion touches its
//! bucket: what is left of it can no longer be told.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;

use crate::columnar::aggregate::RollupColumns;
use crate::columnar::parquet::RollupColumnSet;
use crate::model::{Labels, Resolution, Span, TimeRange, Timestamp};
use crate::storage::error::StorageError;
use crate::storage::rollup::file::{BuiltSpan, FileFacts, RollupFile};
use crate::storage::rollup::read::{self, Wanted};
use crate::storage::rollup::set::RollupSet;
use crate::storage::rollup::upload::{NewRollupFile, Target};
use crate::storage::rollup::view::RollupBatch;
use crate::storage::tombstone::Tombstone;

/// A file and the spans of it that are kept.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) file: Arc<RollupFile>,
    pub(crate) spans: Vec<BuiltSpan>,
}

/// Writes the rows of all pieces to one file at `path`; `None` if there are none.
pub(crate) fn merge(
    target: &Target,
    set: &Arc<RollupSet>,
    pieces: &[Piece],
    hidden: &[Arc<Tombstone>],
    resolution: Resolution,
    path: String,
) -> Result<Option<FileFacts>, StorageError> {
    let mut spans: Vec<BuiltSpan> = pieces.iter().flat_map(|piece| piece.spans.clone()).collect();
    spans.sort_unstable_by_key(|span| span.start_ms);
    let mut file = NewRollupFile::create(target, path, resolution, &set.labels)?;
    let mut cursors: Vec<Cursor> = pieces.iter().map(|piece| Cursor::new(set, piece)).collect();
    for cursor in &mut cursors {
        target.runtime.block_on(cursor.fill())?;
    }
    let mut rows = RollupColumns::default();
    while let Some(labels) = cursors.iter().filter_map(Cursor::labels).min().cloned() {
        rows.clear();
        for cursor in &mut cursors {
            while cursor.labels() == Some(&labels) {
                cursor.take(&mut rows);
                target.runtime.block_on(cursor.fill())?;
            }
        }
        let hidden = hidden.iter().filter(|tombstone| tombstone.selects(&labels));
        let hidden: Vec<TimeRange> = hidden.map(|tombstone| tombstone.range).collect();
        rows.retain_buckets(|end| {
            let bucket = Span { start: end - resolution.ms(), end }.range();
            !bucket.is_some_and(|bucket| hidden.iter().any(|range| range.overlaps(bucket)))
        });
        rows.sort_by_bucket();
        file.push(&labels, &rows)?;
    }
    file.finish(spans)
}

/// Walks the series of one piece.
struct Cursor {
    batches: BoxStream<'static, Result<RollupBatch, StorageError>>,
    keep: Vec<Span>,
    rows: RollupColumns,
    series: VecDeque<(Labels, std::ops::Range<usize>)>,
}

impl Cursor {
    fn new(set: &Arc<RollupSet>, piece: &Piece) -> Self {
        let everything = Span { start: Timestamp::MIN, end: Timestamp::MAX };
        let wanted =
            Wanted { matchers: Vec::new(), span: everything, columns: RollupColumnSet::ALL };
        Self {
            batches: read::rows(Arc::clone(set), Arc::clone(&piece.file), Arc::new(wanted)),
            keep: piece.spans.iter().map(|span| span.span()).collect(),
            rows: RollupColumns::default(),
            series: VecDeque::new(),
        }
    }

    /// Reads on if there is no series in hand.
    async fn fill(&mut self) -> Result<(), StorageError> {
        while self.series.is_empty() {
            let Some(batch) = self.batches.next().await else { return Ok(()) };
            let batch = batch?;
            self.rows = batch.rows;
            self.series = batch.series.into();
        }
        Ok(())
    }

    /// The series in hand; `None` at the end.
    fn labels(&self) -> Option<&Labels> {
        self.series.front().map(|(labels, _)| labels)
    }

    /// Appends the kept rows of the series in hand.
    fn take(&mut self, out: &mut RollupColumns) {
        let Some((_, range)) = self.series.pop_front() else { return };
        let keep = |end: Timestamp| self.keep.iter().any(|span| span.contains(end));
        out.extend_where(&self.rows, range, keep);
    }
}
