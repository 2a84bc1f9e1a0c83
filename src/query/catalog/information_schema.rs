//! `information_schema`: tables, columns and schemata, without a table being made to be listed.
//!
//! Names of tables are names of metrics: those with raw samples are listed once and shared by all
//! schemas; a schema of rollups adds those that only its rows still know, for which files are read
//! if a filter does not rule the schema out. Columns are looked up for the tables that a filter
//! names; without one they are listed as long as there are not too many.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StringViewArray};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::datasource::MemTable;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::model::Matcher;
use crate::query::batch::BATCH_ROWS;
use crate::query::catalog::filters::{SeriesColumns, implied_matchers};
use crate::query::catalog::schema::{MetricSchema, Metrics};
use crate::query::catalog::table::{Table, Wanted, provided};
use crate::query::catalog::{ALL_METRICS, CATALOG};
use crate::query::error::QueryError;

pub(super) const NAME: &str = "information_schema";
const TABLES: &str = "tables";
const COLUMNS: &str = "columns";
const SCHEMATA: &str = "schemata";

const TABLE_NAME: &str = "table_name";
const TABLE_SCHEMA: &str = "table_schema";

/// Tables whose columns are listed when no filter names any.
const TABLES_DESCRIBED_MAX: usize = 10_000;
/// Names that are proposed for one that does not exist.
const SIMILAR_MAX: usize = 3;

/// The schemas of a query, with their names.
type Schemas = Vec<(&'static str, Arc<MetricSchema>)>;

/// The tables about tables.
pub(crate) struct InformationSchema {
    metrics: Arc<Metrics>,
    schemas: Schemas,
}

impl fmt::Debug for InformationSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InformationSchema").finish_non_exhaustive()
    }
}

impl InformationSchema {
    pub(crate) fn new(metrics: Arc<Metrics>, schemas: Schemas) -> Self {
        Self { metrics, schemas }
    }

    /// Metrics whose names are like this one, the likest first.
    pub(crate) fn similar(&self, name: &str) -> Vec<String> {
        let wanted = name.to_lowercase();
        let distance_max = (wanted.chars().count() / 3).max(2);
        let rank = |known: &String| {
            let lower = known.to_lowercase();
            let rank = if lower == wanted {
                0
            } else if lower.starts_with(&wanted) || wanted.starts_with(&lower) {
                1
            } else {
                // A much longer or shorter name is never near.
                let apart = lower.len().abs_diff(wanted.len());
                1 + if apart > distance_max * 4 { apart } else { levenshtein(&lower, &wanted) }
            };
            (rank <= 1 + distance_max).then(|| (rank, known.clone()))
        };
        let names = self.metrics.names().unwrap_or_default();
        let mut ranked: Vec<_> = names.iter().filter_map(rank).collect();
        ranked.sort();
        ranked.into_iter().take(SIMILAR_MAX).map(|(_, name)| name).collect()
    }

    fn schemata(&self) -> DataFusionResult<MemTable> {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let schema = Arc::new(Schema::new(["catalog_name", "schema_name"].map(text).to_vec()));
        let names: Vec<&str> = self.schemas.iter().map(|(name, _)| *name).chain([NAME]).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![CATALOG; names.len()])),
            Arc::new(StringArray::from(names)),
        ];
        MemTable::try_new(Arc::clone(&schema), vec![vec![RecordBatch::try_new(schema, columns)?]])
    }
}

/// One text in every row, written once.
fn repeated(text: &str, rows: usize) -> DataFusionResult<ArrayRef> {
    let once: ArrayRef = Arc::new(StringViewArray::from_iter_values([text]));
    Ok(take(&once, &Int64Array::from(vec![0; rows]), None)?)
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        [TABLES, COLUMNS, SCHEMATA].map(str::to_owned).to_vec()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        Ok(match name {
            TABLES => Some(provided(TablesTable {
                schemas: self.schemas.clone(),
                schema: tables_schema(),
            })),
            SCHEMATA => Some(Arc::new(self.schemata()?)),
            COLUMNS => Some(provided(ColumnsTable {
                schemas: self.schemas.clone(),
                schema: columns_schema(),
            })),
            _ => None,
        })
    }

    fn table_exist(&self, name: &str) -> bool {
        matches!(name, TABLES | COLUMNS | SCHEMATA)
    }
}

/// `information_schema.tables`.
struct TablesTable {
    schemas: Schemas,
    schema: SchemaRef,
}

fn tables_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8View, false);
    let names = ["table_catalog", TABLE_SCHEMA, TABLE_NAME, "table_type"];
    Arc::new(Schema::new(names.map(text).to_vec()))
}

impl TablesTable {
    async fn batches(&self, matchers: &[Matcher]) -> DataFusionResult<Vec<RecordBatch>> {
        let about: ArrayRef =
            Arc::new(StringViewArray::from_iter_values([TABLES, COLUMNS, SCHEMATA]));
        let mut listed = Vec::new();
        for (name, schema) in &self.schemas {
            if may_be_schema(matchers, name) {
                let metrics = schema.names().await?;
                let all = std::iter::once(ALL_METRICS).chain(metrics.iter().map(String::as_str));
                let names: ArrayRef = Arc::new(StringViewArray::from_iter_values(all));
                listed.push((*name, names, "BASE TABLE"));
            }
        }
        listed.push((NAME, about, "VIEW"));
        let mut batches = Vec::new();
        for (schema_name, names, kind) in listed {
            let rows = names.len();
            let columns = vec![
                repeated(CATALOG, rows)?,
                repeated(schema_name, rows)?,
                names,
                repeated(kind, rows)?,
            ];
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
            let starts = (0..rows).step_by(BATCH_ROWS);
            batches.extend(starts.map(|start| batch.slice(start, BATCH_ROWS.min(rows - start))));
        }
        Ok(batches)
    }
}

#[async_trait]
impl Table for TablesTable {
    const NAME: &'static str = "TablesTable";
    const KIND: TableType = TableType::View;

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn pushdown(&self, _: &Expr) -> TableProviderFilterPushDown {
        TableProviderFilterPushDown::Inexact
    }

    async fn scan(&self, wanted: Wanted<'_>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let Wanted { session, columns, filters, limit } = wanted;
        let batches = self.batches(&matchers(filters)).await?;
        let table = MemTable::try_new(Arc::clone(&self.schema), vec![batches])?;
        table.scan(session, Some(&columns), filters, limit).await
    }
}

/// What filters say of names of tables and schemas.
fn matchers(filters: &[Expr]) -> Vec<Matcher> {
    filters.iter().flat_map(|filter| implied_matchers(filter, &TableColumns)).collect()
}

fn may_be_schema(matchers: &[Matcher], name: &str) -> bool {
    matchers.iter().filter(|one| one.name() == TABLE_SCHEMA).all(|one| one.matches(name))
}

/// `information_schema.columns`.
struct ColumnsTable {
    schemas: Schemas,
    schema: SchemaRef,
}

/// What tells one table from another.
struct TableColumns;

impl SeriesColumns for TableColumns {
    fn label(&self, column: &str) -> Option<&str> {
        [TABLE_NAME, TABLE_SCHEMA].into_iter().find(|name| *name == column)
    }

    fn is_map(&self, _: &str) -> bool {
        false
    }
}

fn columns_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        text("table_catalog"),
        text(TABLE_SCHEMA),
        text(TABLE_NAME),
        text("column_name"),
        Field::new("ordinal_position", DataType::Int64, false),
        text("is_nullable"),
        text("data_type"),
    ]))
}

impl ColumnsTable {
    /// The tables that the matchers leave, of whatever schema.
    async fn tables(&self, matchers: &[Matcher]) -> Result<BTreeSet<String>, QueryError> {
        let of_name: Vec<_> = matchers.iter().filter(|one| one.name() == TABLE_NAME).collect();
        let fits = |name: &&str| of_name.iter().all(|matcher| matcher.matches(name));
        let listed = of_name.iter().filter(|one| !one.op().is_negative());
        if let Some(names) = listed.filter_map(|one| one.accepted_set()).next() {
            return Ok(names.iter().map(String::as_str).filter(fits).map(str::to_owned).collect());
        }
        let mut names = BTreeSet::from([ALL_METRICS.to_owned()]);
        names.retain(|name| fits(&name.as_str()));
        for (schema_name, schema) in &self.schemas {
            if may_be_schema(matchers, schema_name) {
                let metrics = schema.names().await?;
                names.extend(metrics.iter().map(String::as_str).filter(fits).map(str::to_owned));
            }
        }
        if names.len() > TABLES_DESCRIBED_MAX {
            return Err(QueryError::Execution(format!(
                "the columns of {} tables are too many to list (limit {TABLES_DESCRIBED_MAX}): \
                 say which, as in WHERE table_name = 'up'",
                names.len()
            )));
        }
        Ok(names)
    }

    async fn rows(&self, matchers: &[Matcher]) -> DataFusionResult<RecordBatch> {
        let (mut schema_names, mut tables, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        let (mut places, mut nullable, mut types) = (Vec::new(), Vec::new(), Vec::new());
        for table in self.tables(matchers).await? {
            for (schema_name, schema) in &self.schemas {
                if !may_be_schema(matchers, schema_name) || !schema.lists(&table).await? {
                    continue;
                }
                let Some(provider) = schema.table(&table).await? else { continue };
                for (place, field) in (1_i64..).zip(provider.schema().fields()) {
                    schema_names.push(*schema_name);
                    tables.push(table.clone());
                    columns.push(field.name().clone());
                    places.push(place);
                    nullable.push(if field.is_nullable() { "YES" } else { "NO" });
                    types.push(field.data_type().to_string());
                }
            }
        }
        let text = |texts: Vec<String>| Arc::new(StringArray::from(texts)) as ArrayRef;
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![CATALOG; places.len()])),
            Arc::new(StringArray::from(schema_names)),
            text(tables),
            text(columns),
            Arc::new(Int64Array::from(places)),
            Arc::new(StringArray::from(nullable)),
            text(types),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), arrays)?)
    }
}

#[async_trait]
impl Table for ColumnsTable {
    const NAME: &'static str = "ColumnsTable";
    const KIND: TableType = TableType::View;

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn pushdown(&self, _: &Expr) -> TableProviderFilterPushDown {
        TableProviderFilterPushDown::Inexact
    }

    async fn scan(&self, wanted: Wanted<'_>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let Wanted { session, columns, filters, limit } = wanted;
        let rows = self.rows(&matchers(filters)).await?;
        let table = MemTable::try_new(Arc::clone(&self.schema), vec![vec![rows]])?;
        table.scan(session, Some(&columns), filters, limit).await
    }
}
