//! `promql('query', …)`: what a PromQL query answers, as a table.
//!
//! The columns of a table must be known when a statement is planned, and here they are the labels
//! of the result: so the query runs while the statement is planned, within the statement's turn,
//! timeout and memory, and the table holds its result.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringViewBuilder, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunction, TableFunctionArgs, TableFunctionImpl};
use datafusion::common::{internal_datafusion_err, plan_datafusion_err, plan_err};
use datafusion::datasource::{MemTable, TableProvider};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::columnar::parquet::LabelColumns;
use crate::columnar::parquet::columns::{METRIC, TIME, VALUE};
use crate::model::{Labels, METRIC_NAME, Timestamp};
use crate::promql::{self, PromqlError, Query, QueryKind, Value};
use crate::query::QueryOptions;
use crate::query::session::QueryTask;
use crate::sql::functions::constant::{fixed_ms, time_ms, value_of};
use crate::storage::Snapshot;

/// What a PromQL query inside of a statement runs in.
pub(crate) struct PromqlContext {
    pub(crate) snapshot: Snapshot,
    pub(crate) task: QueryTask,
    pub(crate) options: QueryOptions,
    pub(crate) clock: Arc<dyn Clock>,
}

#[derive(Debug)]
pub(super) struct PromqlFunction;

impl PromqlFunction {
    pub(super) fn table_function() -> Arc<TableFunction> {
        Arc::new(TableFunction::new("promql".to_owned(), Arc::new(Self)))
    }
}

impl TableFunctionImpl for PromqlFunction {
    fn call_with_args(
        &self,
        args: TableFunctionArgs<'_, '_>,
    ) -> DataFusionResult<Arc<dyn TableProvider>> {
        let session = args.session();
        let context = session
            .config()
            .get_extension::<PromqlContext>()
            .ok_or_else(|| internal_datafusion_err!("promql() has no snapshot"))?;
        let mut query = query(session, args.exprs(), &context)?;
        query.limits = *context.task.usage.limits();
        // The planner calls functions without await. It runs on threads of the query session,
        // whose other tasks are moved to another thread meanwhile.
        let value = tokio::task::block_in_place(|| {
            Handle::current().block_on(promql::evaluate_within(
                &context.snapshot,
                &query,
                &context.task,
                &context.options,
                context.clock.as_ref(),
            ))
        });
        let value = value.map_err(|error| match error {
            PromqlError::Query(error) => DataFusionError::from(error),
            other => plan_datafusion_err!("promql(): {other}"),
        })?;
        Ok(Arc::new(PromqlTable::new(value, &context.task)?))
    }
}

fn query(session: &dyn Session, args: &[Expr], context: &PromqlContext) -> DataFusionResult<Query> {
    let [text, times @ ..] = args else {
        return plan_err!("promql() wants a query, then a time, or start, end and step");
    };
    let text = value_of(session, text)?;
    let Some(Some(text)) = text.try_as_str() else {
        return plan_err!("promql(): the query must be text");
    };
    let time = |expr: &Expr| time_ms(&value_of(session, expr)?);
    let kind = match times {
        [] => QueryKind::Instant { time: context.clock.now_ms() },
        [at] => QueryKind::Instant { time: time(at)? },
        [start, end, step] => {
            let step_ms = fixed_ms(&value_of(session, step)?)?;
            if step_ms <= 0 {
                return plan_err!("promql(): the step must be longer than 0");
            }
            QueryKind::Range { start: time(start)?, end: time(end)?, step_ms }
        }
        _ => return plan_err!("promql() wants a query, then a time, or start, end and step"),
    };
    Ok(Query::new(text, kind, &context.options.limits))
}

/// The result of a query, its memory held as long as the table.
struct PromqlTable {
    rows: MemTable,
    _memory: MemoryReservation,
}

impl fmt::Debug for PromqlTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.fmt(f)
    }
}

impl PromqlTable {
    fn new(value: Value, task: &QueryTask) -> DataFusionResult<Self> {
        let series: Vec<(Labels, Vec<Timestamp>, Vec<f64>)> = match value {
            Value::Scalar { timestamp, value } => {
                vec![(Labels::empty(), vec![timestamp], vec![value])]
            }
            Value::Vector(samples) => samples
                .into_iter()
                .map(|sample| (sample.labels, vec![sample.timestamp], vec![sample.value]))
                .collect(),
            Value::Matrix(series) => {
                series.into_iter().map(|one| (one.labels, one.timestamps, one.values)).collect()
            }
            Value::String { .. } => return plan_err!("promql(): a string is no table"),
        };
        let labels: Vec<&Labels> = series.iter().map(|(labels, ..)| labels).collect();
        let (names, schema) = columns(&labels);
        let memory = task.reserve("promql()");
        let rows: usize = series.iter().map(|(_, timestamps, _)| timestamps.len()).sum();
        memory.try_grow(rows.saturating_mul(16 * schema.fields().len()))?;
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for name in &names {
            let mut column = StringViewBuilder::new().with_deduplicate_strings();
            for (labels, timestamps, _) in &series {
                let value = labels.get(name).or((name == METRIC_NAME).then_some(""));
                timestamps.iter().for_each(|_| column.append_option(value));
            }
            arrays.push(Arc::new(column.finish()));
        }
        let timestamps = series.iter().flat_map(|(_, timestamps, _)| timestamps.iter().copied());
        let timestamps = TimestampMillisecondArray::from_iter_values(timestamps);
        arrays.push(Arc::new(timestamps.with_timezone("UTC")));
        let values = series.iter().flat_map(|(_, _, values)| values.iter().copied());
        arrays.push(Arc::new(Float64Array::from_iter_values(values)));
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
        Ok(Self { rows: MemTable::try_new(schema, vec![vec![batch]])?, _memory: memory })
    }
}

/// The labels that the series have, the metric's name first, and the columns of the table.
fn columns(series: &[&Labels]) -> (Vec<String>, SchemaRef) {
    let names: BTreeSet<&str> =
        series.iter().flat_map(|labels| labels.iter().map(|(name, _)| name)).collect();
    let mut known = LabelColumns::new();
    let is_label = |name: &&&str| **name != METRIC_NAME;
    names.iter().filter(is_label).for_each(|name| known.add(name));
    let named = names.contains(METRIC_NAME).then(|| METRIC_NAME.to_owned());
    let labels = names.iter().filter(is_label).map(|name| (*name).to_owned());
    let names: Vec<String> = named.into_iter().chain(labels).collect();
    let mut fields: Vec<Field> = names
        .iter()
        .map(|name| match known.column(name) {
            Some(column) => Field::new(column, DataType::Utf8View, true),
            None => Field::new(METRIC, DataType::Utf8View, false),
        })
        .collect();
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    fields.push(Field::new(TIME, time, false));
    fields.push(Field::new(VALUE, DataType::Float64, false));
    (names, Arc::new(Schema::new(fields)))
}

#[async_trait]
impl TableProvider for PromqlTable {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.rows.scan(session, projection, filters, limit).await
    }
}
