//! A table of raw samples: of one metric, or of all.
//!
//! The WHERE clause is taken apart here: time becomes a range, conditions on labels choose the
//! series before a sample is read, conditions on time and value go with the scan. What speaks of
//! labels and values at once is left to DataFusion.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;

use crate::columnar::parquet::columns::TIME;
use crate::model::{Labels, Matcher, TimeRange};
use crate::query::batch::BATCH_ROWS;
use crate::query::catalog::columns::SampleColumns;
use crate::query::catalog::filters::{implied_matchers, is_of_samples, is_of_series, time_bounds};
use crate::query::catalog::sample_cursor::{SampleSource, sample_columns};
use crate::query::catalog::sample_scan::{SampleScan, series_batch};
use crate::query::catalog::table::{Table, Wanted};
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
impl Table for SampleTable {
    const NAME: &'static str = "SampleTable";

    fn schema(&self) -> &SchemaRef {
        &self.columns.schema
    }

    fn pushdown(&self, filter: &Expr) -> TableProviderFilterPushDown {
        if is_of_series(filter, &self.columns) || is_of_samples(filter) {
            return TableProviderFilterPushDown::Exact;
        }
        match time_bounds(filter, TIME) {
            None if implied_matchers(filter, &self.columns).is_empty() => {
                TableProviderFilterPushDown::Unsupported
            }
            _ => TableProviderFilterPushDown::Inexact,
        }
    }

    async fn scan(&self, wanted: Wanted<'_>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let Wanted { session, columns, filters, limit } = wanted;
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
        let matchers: Vec<_> = matchers.iter().map(ToString::to_string).collect();
        let mut source = SampleSource {
            snapshot: self.snapshot.clone(),
            series: series.into(),
            range: range.unwrap_or(TimeRange::ALL),
            condition: condition(session, filters)?,
            ends: None,
            selector: format!("{{{}}}", matchers.join(", ")),
            usage: Arc::clone(&self.task.usage),
            partitions: Arc::default(),
        };
        // Few rows are found soonest where the first series are.
        source.split(if limit.is_some() { 1 } else { self.task.partitions_max });
        Ok(SampleScan { source, columns: self.columns.project(&columns), limit }.plan())
    }
}

/// What filters ask of time and value that a range of time does not say.
fn condition(
    session: &dyn Session,
    filters: &[Expr],
) -> DataFusionResult<Option<Arc<dyn PhysicalExpr>>> {
    let says_more = |filter: &&Expr| {
        is_of_samples(filter) && !time_bounds(filter, TIME).is_some_and(|bounds| bounds.exact)
    };
    let Some(filter) = conjunction(filters.iter().filter(says_more).cloned()) else {
        return Ok(None);
    };
    let columns = DFSchema::try_from(sample_columns())?;
    session.create_physical_expr(filter, &columns).map(Some)
}
