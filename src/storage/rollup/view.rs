//! The rollups of one snapshot: which stretches may answer, which files there are, and rows.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use futures::stream::{self, BoxStream, StreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::file::metadata::ParquetMetaData;

use crate::columnar::aggregate::RollupColumns;
use crate::columnar::parquet::{LabelColumns, RollupColumnSet};
use crate::model::{Labels, Matcher, Resolution, Span, Timestamp};
use crate::storage::error::StorageError;
use crate::storage::rollup::file::{BuiltSpan, RollupFile};
use crate::storage::rollup::fresh::Freshness;
use crate::storage::rollup::read;
use crate::storage::rollup::set::RollupSet;
use crate::storage::state::State;

/// The rollups of one snapshot; cheap to clone.
#[derive(Debug, Clone)]
pub struct RollupView {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    set: Arc<RollupSet>,
    /// The raw samples that the rows are judged by.
    state: Arc<State>,
    fresh: OnceLock<Freshness>,
}

/// Rows of some series of one file.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct RollupBatch {
    /// Ascending by labels, with the series' rows. A series with many rows may go on in the next
    /// batch.
    pub series: Vec<(Labels, Range<usize>)>,
    /// `bucket_end` and the columns that were asked for; the others are empty.
    pub rows: RollupColumns,
    /// What reading these rows cost: bytes fetched from the object store, and rows decoded.
    pub bytes_read: u64,
    pub rows_read: u64,
}

impl RollupView {
    pub(crate) fn new(set: Arc<RollupSet>, state: Arc<State>) -> Self {
        Self { inner: Arc::new(Inner { set, state, fresh: OnceLock::new() }) }
    }

    /// Stretches of whole buckets in which rows equal what the snapshot's raw samples give (or
    /// gave, where those have expired): ascending, disjoint, joined where they touch.
    pub fn clean(&self, resolution: Resolution) -> Vec<Span> {
        joined(self.built(resolution).filter(|built| self.is_clean(built)).map(BuiltSpan::span))
    }

    /// Where raw samples have gone, what comes late is not in the rows, but without them nothing
    /// of what came in time would be left.
    fn is_clean(&self, built: &BuiltSpan) -> bool {
        let has_raw = self.raw_floor().is_none_or(|floor| floor <= built.start_ms);
        if has_raw { self.fresh().is_clean(built) } else { !self.fresh().is_hidden(built) }
    }

    fn fresh(&self) -> &Freshness {
        self.inner.fresh.get_or_init(|| Freshness::of(&self.inner.state))
    }

    /// Stretches in which nothing is left to be summed up: those that are clean, those that were
    /// looked at and had no samples, and all before the floors below which raw samples have gone
    /// or rows are not kept, so that no row is built any more.
    pub(crate) fn settled(&self, resolution: Resolution) -> Vec<Span> {
        let built = self.built(resolution).chain(self.inner.set.empty.iter().copied());
        let built = built.filter(|built| self.is_clean(built)).map(BuiltSpan::span);
        let floor = self.raw_floor().max(self.floor(resolution));
        joined(built.chain(floor.map(|end| Span { start: i64::MIN, end })))
    }

    /// Below it raw samples may have gone, and rows stay as they are.
    pub(crate) fn raw_floor(&self) -> Option<Timestamp> {
        self.inner.set.floors.raw.max(self.inner.state.raw_floor)
    }

    /// Rows of buckets that end at or before it are past their retention: they may still stand in
    /// a file, and are not among the view's rows.
    pub fn floor(&self, resolution: Resolution) -> Option<Timestamp> {
        self.inner.set.floors.of_rows(resolution)
    }

    /// Stretches that have rows at all, clean or not: raw samples may have expired.
    pub fn covered(&self, resolution: Resolution) -> Vec<Span> {
        joined(self.built(resolution).map(BuiltSpan::span))
    }

    /// Stretches that have rows, and whose raw samples have expired. What came late afterwards is
    /// not all there was.
    pub fn expired(&self, resolution: Resolution) -> Vec<Span> {
        let fresh = self.fresh();
        let is_before = |start, floor: Option<_>| floor.is_some_and(|floor| start < floor);
        let expired = |built: &BuiltSpan| {
            let start = built.start_ms;
            // Its blocks may still be there, and nobody sees what is in them.
            let is_trimmed = is_before(start, self.inner.state.raw_floor);
            let is_whole = !is_trimmed && fresh.has_blocks_at(start) && fresh.is_clean(built);
            is_before(start, self.raw_floor()) && self.is_clean(built) && !is_whole
        };
        joined(self.built(resolution).filter(expired).map(BuiltSpan::span))
    }

    /// Live files, ascending by time. The first may begin before [`RollupView::floor`].
    pub fn files(&self, resolution: Resolution) -> Vec<Arc<RollupFile>> {
        self.of(resolution).cloned().collect()
    }

    /// What stands at the end of a file, and the bytes that were fetched for it: it is kept as long
    /// as there is room for it.
    pub async fn footer(
        &self,
        file: &Arc<RollupFile>,
    ) -> Result<(Arc<ParquetMetaData>, u64), StorageError> {
        read::footer(&self.inner.set, file).await
    }

    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.inner.set.store)
    }

    /// Where the files lie in the object store.
    pub fn root(&self) -> &Path {
        &self.inner.set.root
    }

    /// Which column holds which label. A file has those that were known when it was written.
    pub fn label_columns(&self) -> &LabelColumns {
        &self.inner.set.labels
    }

    /// Rows of the series that satisfy all matchers, of buckets that end in `span`. Per file
    /// ascending by labels, then time; files ascending by time. `bucket_end` and `columns` are
    /// read.
    pub fn read(
        &self,
        resolution: Resolution,
        matchers: &[Matcher],
        span: Span,
        columns: RollupColumnSet,
    ) -> BoxStream<'static, Result<RollupBatch, StorageError>> {
        let start = self.floor(resolution).map_or(span.start, |floor| floor.max(span.start));
        let span = Span { start, end: span.end };
        let wanted = Arc::new(read::Wanted { matchers: matchers.to_vec(), span, columns });
        let overlaps = |file: &Arc<RollupFile>| file.span().intersect(span).is_some();
        let files: Vec<_> = self.of(resolution).filter(|file| overlaps(file)).cloned().collect();
        let set = Arc::clone(&self.inner.set);
        stream::iter(files)
            .flat_map(move |file| read::rows(Arc::clone(&set), file, Arc::clone(&wanted)))
            .boxed()
    }

    fn of(&self, resolution: Resolution) -> impl Iterator<Item = &Arc<RollupFile>> {
        self.inner.set.files.iter().filter(move |file| file.resolution() == resolution)
    }

    fn built(&self, resolution: Resolution) -> impl Iterator<Item = BuiltSpan> {
        let spans = self.of(resolution).flat_map(|file| file.facts().spans.iter().copied());
        spans.filter(move |built| !self.inner.set.floors.expired(resolution, built.start_ms))
    }
}

/// Sorts, and joins what touches.
fn joined(spans: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut spans: Vec<Span> = spans.collect();
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => joined.push(span),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_that_touch_are_joined() {
        let spans = [(4, 6), (0, 2), (2, 4), (8, 10)].map(|(start, end)| Span { start, end });
        let wanted = [Span { start: 0, end: 6 }, Span { start: 8, end: 10 }];
        assert_eq!(joined(spans.into_iter()), wanted);
    }
}
