//! A table of raw samples: of one metric, or of all.
//!
//! The WHERE clause is taken apart here: time becomes a range, conditions on labels choose the
//! series before a sample is read, the rest is left to DataFusion.

use std::fmt;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::columnar::parquet::columns::TIME;
use crate::model::{Labels, Matcher, TimeRange};
use crate::query::batch::BATCH_ROWS;
use crate::query::catalog::columns::SampleColumns;
use crate::query::catalog::filters::{implied_matchers, is_of_series, time_bounds};
use crate::query::catalog::sample_scan::{SampleScan, series_batch};
use crate::query::error::QueryError;
use crate::query::session::QueryTask;
use crate::storage::{SelectedSeries, Snapshot};

/// Samples as rows.
pub(crate) struct SampleTable {
    snapshot: Snapshot,
    task: QueryTask,
    /// The metric, unless the table is of all.
    metric: Option<Matcher>,
    columns: SampleColumns,
}

impl fmt::Debug for SampleTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SampleTable").field("metric", &self.metric).finish_non_exhaustive()
    }
}

impl SampleTable {
    pub(crate) fn new(
        snapshot: Snapshot,
        task: QueryTask,
        metric: Option<Matcher>,
        columns: SampleColumns,
    ) -> Self {
        Self { snapshot, task, metric, columns }
    }

    /// The series that some filters leave, of those that the matchers select.
    fn series(
        &self,
        session: &dyn Session,
        matchers: &[Matcher],
        range: TimeRange,
        filters: &[Expr],
    ) -> DataFusionResult<Vec<SelectedSeries>> {
        let mut selected = self.snapshot.select(matchers, range).map_err(QueryError::from)?;
        let of_series = filters.iter().filter(|filter| is_of_series(filter, &self.columns));
        if let Some(filter) = conjunction(of_series.cloned()) {
            let indices: Vec<_> = (0..self.columns.columns.len())
                .filter(|index| self.columns.columns[*index].is_of_series())
                .collect();
            let columns = self.columns.project(&indices);
            let names: Vec<_> =
                filter.column_refs().into_iter().map(|column| column.name.clone()).collect();
            let needed: Vec<_> = (0..columns.columns.len())
                .filter(|index| names.contains(columns.schema.field(*index).name()))
                .collect();
            let columns = columns.project(&needed);
            let schema = DFSchema::try_from(Arc::clone(&columns.schema))?;
            let filter = session.create_physical_expr(filter, &schema)?;
            let mut kept = Vec::new();
            for some in selected.chunks(BATCH_ROWS) {
                let labels: Vec<&Labels> = some.iter().map(|series| &series.labels).collect();
                let batch = series_batch(&labels, &columns)?;
                let mask = filter.evaluate(&batch)?.into_array(some.len())?;
                let holds = mask.as_boolean().iter().zip(some);
                let holds = holds.filter(|(holds, _)| *holds == Some(true));
                kept.extend(holds.map(|(_, series)| series.clone()));
            }
            selected = kept;
        }
        self.task.usage.add_series(selected.len())?;
        Ok(selected)
    }
}

#[async_trait]
impl TableProvider for SampleTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| {
            if is_of_series(filter, &self.columns) {
                return TableProviderFilterPushDown::Exact;
            }
            match time_bounds(filter, TIME) {
                Some(bounds) if bounds.exact => TableProviderFilterPushDown::Exact,
                None if implied_matchers(filter, &self.columns).is_empty() => {
                    TableProviderFilterPushDown::Unsupported
                }
                _ => TableProviderFilterPushDown::Inexact,
            }
        };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let mut range = Some(TimeRange::ALL);
        let mut matchers: Vec<Matcher> = self.metric.iter().cloned().collect();
        for filter in filters {
            if let Some(bounds) = time_bounds(filter, TIME) {
                range = range.zip(bounds.range).and_then(|(all, more)| all.intersect(more));
            }
            matchers.extend(implied_matchers(filter, &self.columns));
        }
        let series = match range {
            Some(range) => self.series(session, &matchers, range, filters)?,
            None => Vec::new(),
        };
        let columns = match projection {
            Some(indices) => self.columns.project(indices),
            None => self.columns.clone(),
        };
        let matchers: Vec<_> = matchers.iter().map(ToString::to_string).collect();
        let scan = SampleScan::new(
            self.snapshot.clone(),
            series,
            range.unwrap_or(TimeRange::ALL),
            columns,
            limit,
            format!("{{{}}}", matchers.join(", ")),
            Arc::clone(&self.task.usage),
        );
        Ok(scan.plan(self.task.partitions_max))
    }
}
