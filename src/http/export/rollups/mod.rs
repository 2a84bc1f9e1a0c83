//! Exports of rollups: the rows of one resolution, as they stand in its files.
//!
//! ```text
//! {"metric":{"__name__":"up"},"bucket_start":[0],"bucket_end":[60000],"count":[4],"sum":[3], …}
//! ```
//!
//! Rows come file by file, so ascending by time first and by labels within a file. Buckets are
//! exported that end in the range. A cell without a value (of a bucket that holds nothing but a
//! stale marker) is empty in CSV and `null` in JSON.

mod encode;

use std::collections::{BTreeSet, HashSet};
use std::io;

use futures::{StreamExt, TryStreamExt};
use tokio::runtime::Handle;

use crate::columnar::parquet::RollupColumnSet;
use crate::http::export::format::ExportFormat;
use crate::http::export::job::Broken;
use crate::http::export::raw::{add_names, columns};
use crate::http::export::request::ExportRequest;
use crate::http::export::rollups::encode::{Arrow, Csv, JsonLines, Parquet, RowEncoder};
use crate::http::export::running::Progress;
use crate::http::export::stream::ChunkSender;
use crate::model::{Matcher, Resolution, Span};
use crate::query::{QueryError, QueryLimits};
use crate::storage::{RollupView, Snapshot};

/// What is to be read, known before the first byte.
#[derive(Debug)]
pub(super) struct RollupExport {
    resolution: Resolution,
    /// `None` if there is nothing to read.
    source: Option<(RollupView, Span)>,
    selectors: Vec<Vec<Matcher>>,
    format: ExportFormat,
    rows_per_line_max: usize,
    labels: BTreeSet<String>,
    series_count: usize,
    warnings: Vec<String>,
}

impl RollupExport {
    /// The first pass: which series there are, and which labels they have.
    pub(super) async fn select(
        snapshot: &Snapshot,
        resolution: Resolution,
        request: &ExportRequest,
        limits: QueryLimits,
    ) -> Result<Self, QueryError> {
        let span = request
            .range
            .map(|range| Span { start: range.start().saturating_sub(1), end: range.end() });
        let mut export = Self {
            resolution,
            source: snapshot.rollups().cloned().zip(span),
            selectors: request.selectors.clone(),
            format: request.format,
            rows_per_line_max: request.rows_per_line_max,
            labels: BTreeSet::new(),
            series_count: 0,
            warnings: Vec::new(),
        };
        if let Some((view, span)) = &export.source {
            export.warnings = warnings(view, resolution, *span);
            let mut found = HashSet::new();
            let (resolution, span) = coarsest(view, resolution, *span);
            for matchers in &export.selectors {
                let mut rows = view.read(resolution, matchers, span, RollupColumnSet::NONE);
                while let Some(batch) = rows.try_next().await? {
                    for (labels, _) in batch.series {
                        add_names(&labels, &mut export.labels);
                        found.insert(labels);
                    }
                    limits.check_series(found.len())?;
                    // Files in memory never wait, and a query must stay stoppable.
                    tokio::task::yield_now().await;
                }
            }
            export.series_count = found.len();
        }
        Ok(export)
    }

    pub(super) fn series_count(&self) -> usize {
        self.series_count
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// Reads, encodes and sends everything; gives the bytes of it.
    pub(super) fn run(self, sink: ChunkSender, progress: &Progress) -> Result<u64, Broken> {
        let runtime = Handle::current();
        let mut encoder = self.encoder(sink)?;
        if let Some((view, span)) = &self.source {
            for (number, matchers) in self.selectors.iter().enumerate() {
                let earlier = &self.selectors[..number];
                let mut batches = view.read(self.resolution, matchers, *span, RollupColumnSet::ALL);
                while let Some(batch) = runtime.block_on(batches.next()) {
                    let batch = batch?;
                    encoder.sink().check()?;
                    for (labels, range) in batch.series {
                        let known = earlier.iter().any(|matchers| {
                            matchers.iter().all(|matcher| matcher.matches_labels(&labels))
                        });
                        if !known {
                            progress.add_rows(range.len());
                            encoder.push(&labels, &batch.rows, range)?;
                        }
                    }
                }
            }
        }
        Ok(encoder.finish()?.end()?)
    }

    fn encoder(&self, sink: ChunkSender) -> io::Result<Box<dyn RowEncoder>> {
        let bucket_ms = self.resolution.ms();
        Ok(match self.format {
            ExportFormat::Csv => Box::new(Csv::new(sink, &self.labels, bucket_ms)?),
            ExportFormat::Parquet => {
                Box::new(Parquet::new(sink, &columns(&self.labels), bucket_ms)?)
            }
            ExportFormat::Arrow => Box::new(Arrow::new(sink, &columns(&self.labels), bucket_ms)?),
            // OpenMetrics is refused when the request is read.
            ExportFormat::JsonLines | ExportFormat::OpenMetrics => {
                Box::new(JsonLines::new(sink, self.rows_per_line_max, bucket_ms))
            }
        })
    }
}

/// The coarsest resolution that has rows wherever `resolution` has, to look for series in: all
/// resolutions know the same, and coarse ones have fewer rows.
fn coarsest(view: &RollupView, resolution: Resolution, span: Span) -> (Resolution, Span) {
    let needed = overlapping(view.covered(resolution), span);
    for coarse in Resolution::ALL.into_iter().rev().filter(|coarse| *coarse > resolution) {
        // Buckets that begin or end outside of the span know its series too.
        let wide = Span { start: span.start, end: span.end.saturating_add(coarse.ms()) };
        let covered = view.covered(coarse);
        let knows = |needed: &Span| covered.iter().any(|covered| covered.contains_span(*needed));
        if needed.iter().all(knows) {
            return (coarse, wide);
        }
    }
    (resolution, span)
}

/// What a reader should know of rows that are missing or out of date.
fn warnings(view: &RollupView, resolution: Resolution, span: Span) -> Vec<String> {
    let covered = overlapping(view.covered(resolution), span);
    if covered.is_empty() {
        let say = "samples are rolled up once they are in blocks, or by `aetherctl downsample`";
        return vec![format!("there are no {resolution} rollups in this range: {say}")];
    }
    let clean = view.clean(resolution);
    let dirty =
        covered.iter().find(|covered| !clean.iter().any(|clean| clean.contains_span(**covered)));
    let warning = dirty.map(|span| {
        format!(
            "{resolution} rollups between {} and {} ms do not yet know of late samples or deletes",
            span.start, span.end
        )
    });
    warning.into_iter().collect()
}

fn overlapping(spans: Vec<Span>, with: Span) -> Vec<Span> {
    spans.into_iter().filter_map(|span| span.intersect(with)).collect()
}

#[cfg(test)]
mod tests;
