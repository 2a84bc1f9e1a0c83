//! The schemas of metrics: one table per metric, made when it is named, and one of all.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::TableType;
use futures::TryStreamExt;
use tokio::sync::OnceCell;

use crate::columnar::parquet::{LabelColumns, RollupColumnSet};
use crate::model::{METRIC_NAME, Matcher, Resolution, TimeRange};
use crate::query::catalog::ALL_METRICS;
use crate::query::catalog::columns::SampleColumns;
use crate::query::catalog::rollup_table::RollupTable;
use crate::query::catalog::sample_table::SampleTable;
use crate::query::catalog::table::provided;
use crate::query::error::QueryError;
use crate::query::session::QueryTask;
use crate::storage::{RollupView, Snapshot, StorageError};

/// What the schemas of one query share.
pub(crate) struct Metrics {
    snapshot: Snapshot,
    task: QueryTask,
    /// Names, sorted, once they were asked for.
    names: OnceLock<Vec<String>>,
}

/// One schema: of raw samples, or of rollups of one resolution.
pub(crate) struct MetricSchema {
    metrics: Arc<Metrics>,
    resolution: Option<Resolution>,
    /// Metrics that have rows here and samples no more, once they were asked for.
    expired: OnceCell<BTreeSet<String>>,
}

impl fmt::Debug for MetricSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricSchema").field("resolution", &self.resolution).finish_non_exhaustive()
    }
}

impl Metrics {
    pub(crate) fn new(snapshot: Snapshot, task: QueryTask) -> Self {
        Self { snapshot, task, names: OnceLock::new() }
    }

    pub(crate) fn rollups(&self) -> Option<&RollupView> {
        self.snapshot.rollups()
    }

    /// Every metric with raw samples, sorted, but for the one that is called as the table of all.
    pub(crate) fn names(&self) -> Result<&[String], QueryError> {
        if let Some(names) = self.names.get() {
            return Ok(names);
        }
        let mut names = self.snapshot.label_values(METRIC_NAME, &[], TimeRange::ALL)?;
        names.remove(ALL_METRICS);
        Ok(self.names.get_or_init(|| names.into_iter().collect()))
    }

    /// Metrics with rows where raw samples have expired. A failing object store hides them, and the
    /// answer says so.
    async fn expired_names(&self, resolution: Resolution) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        if let Some(view) = self.rollups()
            && let Err(error) = add_expired_names(view, resolution, &[], &mut names).await
        {
            self.snapshot
                .warn(format!("metrics whose raw samples have expired may not be listed: {error}"));
        }
        names.remove(ALL_METRICS);
        names
    }

    /// Whether the metric has rows where raw samples have expired.
    async fn has_expired_rows(
        &self,
        name: &str,
        resolution: Resolution,
    ) -> Result<bool, QueryError> {
        let Some(view) = self.rollups() else { return Ok(false) };
        let mut names = BTreeSet::new();
        let matcher = [Matcher::equal(METRIC_NAME, name)];
        add_expired_names(view, resolution, &matcher, &mut names).await?;
        Ok(!names.is_empty())
    }

    /// Whether the metric has raw samples.
    fn has_samples(&self, name: &str) -> Result<bool, QueryError> {
        let matcher = [Matcher::equal(METRIC_NAME, name)];
        Ok(!self.snapshot.label_names(&matcher, TimeRange::ALL)?.is_empty())
    }

    /// The table of raw samples of a metric, or of all.
    fn samples(&self, name: &str) -> Result<Option<SampleTable>, QueryError> {
        let (metric, columns) = if name == ALL_METRICS {
            (None, SampleColumns::of_all())
        } else {
            let metric = Matcher::equal(METRIC_NAME, name);
            let matchers = std::slice::from_ref(&metric);
            let labels = self.snapshot.label_names(matchers, TimeRange::ALL)?;
            if labels.is_empty() {
                return Ok(None);
            }
            let known = self.rollups().map(RollupView::label_columns);
            let columns = SampleColumns::of_metric(&labels, known.unwrap_or(&LabelColumns::new()));
            (Some(metric), columns)
        };
        let (snapshot, task) = (self.snapshot.clone(), self.task.clone());
        Ok(Some(SampleTable::new(snapshot, task, metric, columns)))
    }

    /// The table of rollups of a metric, or of all.
    fn rollup_rows(
        &self,
        name: &str,
        resolution: Resolution,
    ) -> DataFusionResult<Option<RollupTable>> {
        let Some(view) = self.rollups() else { return Ok(None) };
        let usage = Arc::clone(&self.task.usage);
        if name == ALL_METRICS {
            return Ok(Some(RollupTable::of_all(view.clone(), usage, resolution)));
        }
        let matcher = [Matcher::equal(METRIC_NAME, name)];
        let labels =
            self.snapshot.label_names(&matcher, TimeRange::ALL).map_err(QueryError::from)?;
        // Rows of expired samples may have labels that no raw sample has any more.
        let all = self.outlive_raw(view, resolution);
        if labels.is_empty() && !all {
            return Ok(None);
        }
        let keep = |label: &str| all || labels.contains(label);
        RollupTable::of_metric(view.clone(), usage, resolution, name.to_owned(), keep).map(Some)
    }

    /// Whether there are rows of a time of which no raw sample is left.
    fn outlive_raw(&self, view: &RollupView, resolution: Resolution) -> bool {
        let Some(first) = view.covered(resolution).into_iter().next() else { return false };
        let raw = self.snapshot.time_range();
        raw.is_none_or(|raw| raw.start() > first.start.saturating_add(SPAN_MS))
    }
}

/// Rollups are built from whole stretches of this length.
const SPAN_MS: i64 = 7_200_000;

async fn add_expired_names(
    view: &RollupView,
    resolution: Resolution,
    matchers: &[Matcher],
    names: &mut BTreeSet<String>,
) -> Result<(), StorageError> {
    for span in view.expired(resolution) {
        let mut batches = view.read(resolution, matchers, span, RollupColumnSet::NONE);
        while let Some(batch) = batches.try_next().await? {
            for (labels, _) in &batch.series {
                if let Some(name) = labels.get(METRIC_NAME).filter(|name| !names.contains(*name)) {
                    names.insert(name.to_owned());
                }
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

impl MetricSchema {
    pub(crate) fn new(metrics: Arc<Metrics>, resolution: Option<Resolution>) -> Self {
        Self { metrics, resolution, expired: OnceCell::new() }
    }

    async fn expired(&self, resolution: Resolution) -> &BTreeSet<String> {
        self.expired.get_or_init(|| self.metrics.expired_names(resolution)).await
    }

    /// The metrics that have a table here, sorted.
    pub(crate) async fn names(&self) -> Result<Cow<'_, [String]>, QueryError> {
        let known = self.metrics.names()?;
        let Some(resolution) = self.resolution else { return Ok(Cow::Borrowed(known)) };
        let expired = self.expired(resolution).await;
        if expired.iter().all(|name| known.binary_search(name).is_ok()) {
            return Ok(Cow::Borrowed(known));
        }
        let all: BTreeSet<&String> = known.iter().chain(expired).collect();
        Ok(Cow::Owned(all.into_iter().cloned().collect()))
    }

    /// Whether [`MetricSchema::names`] has a name, or it is that of the table of all.
    pub(crate) async fn lists(&self, name: &str) -> Result<bool, QueryError> {
        if name == ALL_METRICS || self.metrics.has_samples(name)? {
            return Ok(true);
        }
        let Some(resolution) = self.resolution else { return Ok(false) };
        self.metrics.has_expired_rows(name, resolution).await
    }

    fn make(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        Ok(match self.resolution {
            None => self.metrics.samples(name)?.map(provided),
            Some(resolution) => self.metrics.rollup_rows(name, resolution)?.map(provided),
        })
    }
}

#[async_trait]
impl SchemaProvider for MetricSchema {
    fn table_names(&self) -> Vec<String> {
        let names = self.metrics.names().unwrap_or_default();
        std::iter::once(ALL_METRICS.to_owned()).chain(names.iter().cloned()).collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        // Of what only rows may know, they are asked, so that a wrong name is told.
        if self.resolution.is_some() && !self.lists(name).await? {
            return Ok(None);
        }
        self.make(name)
    }

    async fn table_type(&self, _: &str) -> DataFusionResult<Option<TableType>> {
        Ok(Some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.make(name).is_ok_and(|table| table.is_some())
    }
}
