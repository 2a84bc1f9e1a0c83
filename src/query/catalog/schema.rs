//! The schema `raw`: one table per metric, and one of all metrics.

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::TableType;

use crate::columnar::parquet::LabelColumns;
use crate::model::{METRIC_NAME, Matcher, TimeRange};
use crate::query::catalog::ALL_METRICS;
use crate::query::catalog::columns::SampleColumns;
use crate::query::catalog::sample_table::SampleTable;
use crate::query::error::QueryError;
use crate::query::session::QueryTask;
use crate::storage::Snapshot;

/// Tables of raw samples, each made when it is named.
pub struct RawSchema {
    snapshot: Snapshot,
    task: QueryTask,
    /// Names of metrics, sorted, once they were asked for.
    metrics: OnceLock<Vec<String>>,
}

impl fmt::Debug for RawSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSchema").finish_non_exhaustive()
    }
}

impl RawSchema {
    pub(crate) fn new(snapshot: Snapshot, task: QueryTask) -> Self {
        Self { snapshot, task, metrics: OnceLock::new() }
    }

    /// Every metric, sorted.
    pub(crate) fn metrics(&self) -> Result<&[String], QueryError> {
        if let Some(metrics) = self.metrics.get() {
            return Ok(metrics);
        }
        let names = self.snapshot.label_values(METRIC_NAME, &[], TimeRange::ALL)?;
        Ok(self.metrics.get_or_init(|| names.into_iter().collect()))
    }

    fn make(&self, name: &str) -> Result<Option<SampleTable>, QueryError> {
        let (metric, columns) = if name == ALL_METRICS {
            (None, SampleColumns::of_all())
        } else {
            let metric = Matcher::equal(METRIC_NAME, name);
            let matchers = std::slice::from_ref(&metric);
            let labels = self.snapshot.label_names(matchers, TimeRange::ALL)?;
            if labels.is_empty() {
                return Ok(None);
            }
            let columns = SampleColumns::of_metric(&labels, &LabelColumns::new());
            (Some(metric), columns)
        };
        let (snapshot, task) = (self.snapshot.clone(), self.task.clone());
        Ok(Some(SampleTable::new(snapshot, task, metric, columns)))
    }
}

#[async_trait]
impl SchemaProvider for RawSchema {
    fn table_names(&self) -> Vec<String> {
        let metrics = self.metrics().unwrap_or_default();
        let others = metrics.iter().filter(|name| *name != ALL_METRICS).cloned();
        std::iter::once(ALL_METRICS.to_owned()).chain(others).collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        Ok(self.make(name)?.map(|table| Arc::new(table) as _))
    }

    async fn table_type(&self, _: &str) -> DataFusionResult<Option<TableType>> {
        Ok(Some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.make(name).is_ok_and(|table| table.is_some())
    }
}
