//! A table of rollup rows: of one metric, or of all.
//!
//! The rows are DataFusion's own Parquet scan over the files of the snapshot's rollups. Files are
//! left out by their stretch of time and by their first and last metric, row groups and pages by
//! their statistics, rows by the filters themselves before other columns are decoded. Rows of
//! other metrics, and rows past their retention, are left out by a filter of our own.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::prelude::{col, lit};
use object_store::ObjectMeta;

use crate::columnar::parquet::columns::{BUCKET_END, BUCKET_START, METRIC};
use crate::model::{METRIC_NAME, Matcher, Resolution, TimeRange};
use crate::query::catalog::columns::text;
use crate::query::catalog::filters::{SeriesColumns, implied_matchers, time_bounds};
use crate::query::catalog::rollup_reader::RollupReaders;
use crate::query::catalog::table::{Table, Wanted};
use crate::query::limits::QueryUsage;
use crate::storage::{RollupFile, RollupView};

/// Under which name DataFusion finds the object store of rollups.
const STORE: &str = "aether://rollups";

/// Rollup rows of one resolution.
#[derive(Debug)]
pub(crate) struct RollupTable {
    view: RollupView,
    usage: Arc<QueryUsage>,
    resolution: Resolution,
    /// The metric, unless the table is of all.
    metric: Option<String>,
    /// Of the table: without the column `metric` if it is of one.
    schema: SchemaRef,
    /// Of the files, as far as the table needs it.
    file_schema: SchemaRef,
}

/// Only the metric tells files apart.
struct FileColumns;

impl SeriesColumns for FileColumns {
    fn label(&self, column: &str) -> Option<&str> {
        (column == METRIC).then_some(METRIC_NAME)
    }

    fn is_map(&self, _: &str) -> bool {
        false
    }
}

impl RollupTable {
    /// The rows of all metrics, with the columns of all labels.
    pub(crate) fn of_all(view: RollupView, usage: Arc<QueryUsage>, resolution: Resolution) -> Self {
        let schema = with_plain_text(&view.label_columns().schema());
        let file_schema = Arc::clone(&schema);
        Self { view, usage, resolution, metric: None, schema, file_schema }
    }

    /// The rows of one metric, with the columns of those labels that `keep` names.
    pub(crate) fn of_metric(
        view: RollupView,
        usage: Arc<QueryUsage>,
        resolution: Resolution,
        metric: String,
        keep: impl Fn(&str) -> bool,
    ) -> DataFusionResult<Self> {
        let all = with_plain_text(&view.label_columns().schema());
        let of_label: Vec<_> = view.label_columns().iter().collect();
        let wanted: Vec<usize> = (0..all.fields().len())
            .filter(|index| {
                let name = all.field(*index).name();
                of_label.iter().find(|(_, column)| column == name).is_none_or(|(l, _)| keep(l))
            })
            .collect();
        let file_schema = Arc::new(all.project(&wanted)?);
        let without_metric: Vec<usize> = (1..wanted.len()).collect();
        let schema = Arc::new(file_schema.project(&without_metric)?);
        Ok(Self { view, usage, resolution, metric: Some(metric), schema, file_schema })
    }

    /// The files that may hold rows for which all filters hold.
    fn files(&self, filters: &[Expr]) -> Vec<Arc<RollupFile>> {
        let mut ends = Some(TimeRange::ALL);
        let mut matchers: Vec<Matcher> = Vec::new();
        let mut narrow = |filter: &Expr, column: &str, later: i64| {
            if let Some(bounds) = time_bounds(filter, column) {
                let moved = bounds.range.and_then(|range| {
                    let move_by = |at: i64| at.saturating_add(later);
                    TimeRange::new(move_by(range.start()), move_by(range.end()))
                });
                ends = ends.zip(moved).and_then(|(ends, moved)| ends.intersect(moved));
            }
        };
        for filter in filters {
            narrow(filter, BUCKET_END, 0);
            narrow(filter, BUCKET_START, self.resolution.ms());
            matchers.extend(implied_matchers(filter, &FileColumns));
        }
        matchers.extend(self.metric.iter().map(|name| Matcher::equal(METRIC_NAME, name)));
        let Some(ends) = ends else { return Vec::new() };
        let mut files = self.view.files(self.resolution);
        files.retain(|file| {
            let (first, last) = file.metrics();
            file.span().range().is_some_and(|of_file| of_file.overlaps(ends))
                && matchers.iter().all(|matcher| may_match_between(matcher, first, last))
        });
        files
    }

    /// What must hold of a row of the files for it to be in the table; `None` if all are.
    fn kept(&self, files: &[Arc<RollupFile>]) -> Option<Expr> {
        let is_other = |file: &Arc<RollupFile>, name: &str| file.metrics() != (name, name);
        let metric = self.metric.as_ref().filter(|name| files.iter().any(|f| is_other(f, name)));
        let of_metric =
            metric.map(|name| col(METRIC).eq(lit(ScalarValue::Utf8View(Some(name.clone())))));
        let floor = self.view.floor(self.resolution);
        let floor = floor.filter(|floor| files.iter().any(|file| file.span().start < *floor));
        let utc = Some(Arc::from("UTC"));
        let not_expired = floor.map(|floor| {
            col(BUCKET_END).gt(lit(ScalarValue::TimestampMillisecond(Some(floor), utc)))
        });
        conjunction([of_metric, not_expired].into_iter().flatten())
    }
}

/// Whether a metric name from `first` to `last` may match.
fn may_match_between(matcher: &Matcher, first: &str, last: &str) -> bool {
    if matcher.op().is_negative() {
        return true;
    }
    match matcher.accepted_set() {
        Some(values) => {
            values.iter().any(|value| first <= value.as_str() && value.as_str() <= last)
        }
        None => {
            let prefix = matcher.accepted_prefix();
            prefix <= last && (first <= prefix || first.starts_with(prefix))
        }
    }
}

#[async_trait]
impl Table for RollupTable {
    const NAME: &'static str = "RollupTable";

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn pushdown(&self, _: &Expr) -> TableProviderFilterPushDown {
        // The plan keeps its filters; a later rule hands them to the Parquet scan.
        TableProviderFilterPushDown::Inexact
    }

    async fn scan(&self, wanted: Wanted<'_>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let Wanted { session, columns: wanted, filters, limit } = wanted;
        let files = self.files(filters);
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&wanted)?))));
        }
        let url = ObjectStoreUrl::parse(STORE)?;
        session.runtime_env().register_object_store(url.as_ref(), self.view.object_store());
        let options = session.config_options().execution.parquet.clone();
        let readers = RollupReaders::new(self.view.clone(), &files, Arc::clone(&self.usage));
        let source = ParquetSource::new(Arc::clone(&self.file_schema))
            .with_table_parquet_options(datafusion::config::TableParquetOptions {
                global: options,
                ..Default::default()
            })
            .with_parquet_file_reader_factory(Arc::new(readers));
        let kept = self.kept(&files);
        let rows = files.iter().map(|file| usize::try_from(file.rows()).unwrap_or(usize::MAX));
        let mut statistics = Statistics::new_unknown(&self.file_schema);
        statistics.num_rows = Precision::Exact(rows.fold(0, usize::saturating_add));
        let group = FileGroup::new(files.iter().map(|file| scanned(file)).collect());
        let groups = group.split_files(session.config().target_partitions());
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics);
        // Columns of the files: those of a table of one metric come after the metric.
        let skipped = usize::from(self.metric.is_some());
        let mut indices: Vec<usize> = wanted.iter().map(|index| index + skipped).collect();
        let Some(kept) = kept else {
            let config = config.with_projection_indices(Some(indices))?.with_limit(limit);
            return Ok(DataSourceExec::from_data_source(config.build()));
        };
        // What is only filtered by stands behind the wanted columns, and is then left out.
        let filtered_by = kept.column_refs();
        for name in [METRIC, BUCKET_END] {
            let index = self.file_schema.index_of(name)?;
            let is_needed = filtered_by.iter().any(|column| column.name == name);
            if is_needed && !indices.contains(&index) {
                indices.push(index);
            }
        }
        let config = config.with_projection_indices(Some(indices))?;
        let rows = DataSourceExec::from_data_source(config.build());
        let schema = rows.schema();
        let df_schema = DFSchema::try_from(Arc::clone(&schema))?;
        let kept = session.create_physical_expr(kept, &df_schema)?;
        let visible = Arc::new(FilterExec::try_new(kept, rows)?);
        let columns =
            schema.fields().iter().enumerate().take(wanted.len()).map(|(index, field)| {
                let column =
                    datafusion::physical_expr::expressions::Column::new(field.name(), index);
                (Arc::new(column) as _, field.name().clone())
            });
        Ok(Arc::new(ProjectionExec::try_new(columns, visible)?))
    }
}

/// The columns with labels as plain text, which files hold as dictionaries: DataFusion groups by
/// dictionaries row by row, by views of text several times as fast.
fn with_plain_text(schema: &SchemaRef) -> SchemaRef {
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Dictionary(..) => Arc::new(field.as_ref().clone().with_data_type(text())),
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Fields>()))
}

fn scanned(file: &RollupFile) -> PartitionedFile {
    PartitionedFile::new_from_meta(ObjectMeta {
        location: file.location().clone(),
        // Files never change, so that their age says nothing.
        last_modified: DateTime::UNIX_EPOCH,
        size: file.bytes(),
        e_tag: None,
        version: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MatchOp;

    #[test]
    fn files_are_left_out_by_their_metrics() {
        let may = |op, value: &str| {
            let matcher = Matcher::new(op, METRIC_NAME, value).unwrap();
            may_match_between(&matcher, "cpu", "mem")
        };
        assert!(may(MatchOp::Equal, "cpu") && may(MatchOp::Equal, "disk"));
        assert!(!may(MatchOp::Equal, "a") && !may(MatchOp::Equal, "net"));
        assert!(may(MatchOp::Regex, "a|disk") && !may(MatchOp::Regex, "a|net"));
        assert!(may(MatchOp::Regex, "cp.*") && !may(MatchOp::Regex, "net.*"));
        assert!(!may(MatchOp::Regex, "b.*") && may(MatchOp::Regex, ".*x"));
        assert!(may(MatchOp::NotEqual, "cpu"));
    }
}
