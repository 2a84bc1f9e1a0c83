//! Series that only rollups still know.

use std::collections::BTreeSet;

use futures::TryStreamExt;

use crate::columnar::parquet::RollupColumnSet;
use crate::model::{Matcher, Resolution, Span};
use crate::query::error::QueryError;
use crate::query::resolution::{SourceResolution, fewest_rows};
use crate::storage::{SelectedSeries, Snapshot};

/// Where raw samples have expired and rows are left, by resolution.
pub(crate) fn expired(snapshot: &Snapshot) -> Vec<(Resolution, Vec<Span>)> {
    let Some(view) = snapshot.rollups() else { return Vec::new() };
    Resolution::ALL.map(|resolution| (resolution, view.expired(resolution))).to_vec()
}

/// Adds to `series` those that have rows in `needed` and no samples any more.
pub(crate) async fn add_expired_series(
    snapshot: &Snapshot,
    matchers: &[Matcher],
    cap: SourceResolution,
    needed: Span,
    series: &mut Vec<SelectedSeries>,
) -> Result<(), QueryError> {
    let Some(view) = snapshot.rollups() else { return Ok(()) };
    let mut found = BTreeSet::new();
    for (span, resolution) in fewest_rows(&expired(snapshot), cap, needed) {
        let mut batches = view.read(resolution, matchers, span, RollupColumnSet::NONE);
        while let Some(batch) = batches.try_next().await? {
            for (labels, _) in batch.series {
                if !found.contains(&labels) {
                    found.insert(labels);
                }
            }
            tokio::task::yield_now().await;
        }
    }
    found.retain(|labels| series.binary_search_by(|known| known.labels.cmp(labels)).is_err());
    if !found.is_empty() {
        series.extend(found.into_iter().map(SelectedSeries::without_samples));
        series.sort_unstable_by(|one, two| one.labels.cmp(&two.labels));
    }
    Ok(())
}
