//! Plans a statement and runs it within the limits of the query session.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono::DateTime;
use datafusion::catalog::CatalogProvider;
use datafusion::common::TableReference;
use datafusion::execution::context::{SQLOptions, SessionState};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::query::catalog::{CATALOG, OneCatalog, RAW_SCHEMA, SnapshotCatalog, physical_rules};
use crate::query::session::{Feed, QueryTask};
use crate::query::stop::stoppable;
use crate::query::{QueryLimits, QueryOptions, QuerySession};
use crate::sql::error::SqlError;
use crate::sql::functions::{self, PromqlContext};
use crate::sql::gapfill::{self, GapFillQueryPlanner, GapFillRule};
use crate::sql::{show, statement};
use crate::storage::{ReadStats, Snapshot};

/// What all SQL queries of a process share: functions, rules and settings, prepared once.
pub struct SqlEngine {
    state: SessionState,
}

impl fmt::Debug for SqlEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlEngine").finish_non_exhaustive()
    }
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlQuery {
    pub text: String,
    pub limits: QueryLimits,
}

impl SqlQuery {
    pub fn new(text: impl Into<String>, limits: &QueryLimits) -> Self {
        Self { text: text.into(), limits: *limits }
    }
}

impl SqlEngine {
    pub fn new(session: &QuerySession) -> Self {
        let mut builder = session.state_builder();
        let config = builder.config().take().unwrap_or_default();
        let mut config = config
            .with_default_catalog_and_schema(CATALOG, RAW_SCHEMA)
            .with_create_default_catalog_and_schema(false);
        let options = config.options_mut();
        options.sql_parser.collect_spans = true;
        options.execution.time_zone = Some("UTC".to_owned());
        options.execution.parquet.pushdown_filters = true;
        let mut builder = builder.with_config(config);
        functions::register(&mut builder);
        gapfill::register(&mut builder);
        let builder = builder
            .with_query_planner(Arc::new(GapFillQueryPlanner))
            .with_physical_optimizer_rules(physical_rules());
        Self { state: builder.build() }
    }

    /// Answers a query over a snapshot, rows as they come. Dropping what is returned cancels it.
    pub async fn query(
        &self,
        session: &QuerySession,
        snapshot: &Snapshot,
        query: &SqlQuery,
    ) -> Result<SqlRows, SqlError> {
        let task = session.task(query.limits);
        let run = Run {
            state: self.state.clone(),
            snapshot: snapshot.clone(),
            task: task.clone(),
            text: query.text.clone(),
            options: *session.options(),
            clock: Arc::clone(session.clock()),
        };
        let work = |pieces| async move {
            run.hand_on(pieces).await;
            Ok(())
        };
        let mut feed = session.feed(query.limits.timeout, &task.stop, work).await?;
        let schema = match feed.next().await? {
            Some(Piece::Schema(schema)) => schema,
            Some(Piece::Failed(error)) => return Err(error),
            Some(Piece::Rows(_)) | None => unreachable!("the schema is the first piece"),
        };
        Ok(SqlRows { schema, feed, task, snapshot: snapshot.clone() })
    }
}

/// What a query took.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SqlStats {
    /// Series of raw samples that were selected.
    pub series: u64,
    /// Bytes are of blocks and of files of rollups.
    pub read: ReadStats,
    pub rollup_rows: u64,
    pub rollup_files: u64,
    /// The most bytes that the query held at once.
    pub bytes_peak: u64,
}

/// The rows of a query.
#[derive(Debug)]
pub struct SqlRows {
    schema: SchemaRef,
    feed: Feed<Piece>,
    task: QueryTask,
    snapshot: Snapshot,
}

impl SqlRows {
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows; `None` only after the last.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        match self.feed.next().await? {
            Some(Piece::Rows(rows)) => Ok(Some(rows)),
            Some(Piece::Failed(error)) => Err(error),
            Some(Piece::Schema(_)) => unreachable!("the schema is the first piece only"),
            None => Ok(None),
        }
    }

    /// What is missing and why; complete once all rows were read.
    pub fn warnings(&self) -> Vec<String> {
        self.snapshot.warnings()
    }

    /// What the query took so far.
    pub fn stats(&self) -> SqlStats {
        let usage = &self.task.usage;
        SqlStats {
            series: usage.series(),
            read: usage.total(),
            rollup_rows: usage.rollup_rows(),
            rollup_files: usage.rollup_files(),
            bytes_peak: self.task.bytes_peak() as u64,
        }
    }
}

/// What a running query hands on: its schema, then rows; an error is the last.
#[derive(Debug)]
enum Piece {
    Schema(SchemaRef),
    Rows(RecordBatch),
    Failed(SqlError),
}

/// A query about to run.
struct Run {
    state: SessionState,
    snapshot: Snapshot,
    task: QueryTask,
    text: String,
    options: QueryOptions,
    clock: Arc<dyn Clock>,
}

impl Run {
    /// Runs to the end, or until nobody listens.
    async fn hand_on(mut self, pieces: mpsc::Sender<Piece>) {
        let mut rows = match self.start().await {
            Ok(rows) => rows,
            Err(error) => return drop(pieces.send(Piece::Failed(error)).await),
        };
        if pieces.send(Piece::Schema(rows.schema())).await.is_err() {
            return;
        }
        while let Some(batch) = rows.next().await {
            let (piece, ended) = match batch {
                Ok(batch) if batch.num_rows() == 0 => continue,
                Ok(batch) => (Piece::Rows(batch), false),
                Err(error) => (Piece::Failed(SqlError::from(error)), true),
            };
            if pieces.send(piece).await.is_err() || ended {
                return;
            }
        }
    }

    /// The error, with what a table may have meant that does not exist.
    fn explained(
        &self,
        error: SqlError,
        tables: &[TableReference],
        catalog: &SnapshotCatalog,
    ) -> SqlError {
        let SqlError::Plan(text) = &error else { return error };
        let Some((place, _)) = text.split_once("table '").filter(|_| text.contains("not found"))
        else {
            return error;
        };
        let missing = tables.iter().find(|table| {
            let schema = catalog.schema(table.schema().unwrap_or(RAW_SCHEMA));
            let is_function = self.state.table_functions().contains_key(table.table());
            !is_function && schema.is_none_or(|schema| !schema.table_exist(table.table()))
        });
        let Some(missing) = missing else { return error };
        let schema = missing.schema().unwrap_or(RAW_SCHEMA);
        let proposal = |name: &str| {
            let quoted = |name: &String| TableReference::bare(name.as_str()).to_quoted_string();
            match catalog.similar(name).iter().map(quoted).collect::<Vec<_>>().as_slice() {
                [] => None,
                quoted => Some(format!("; did you mean {}?", quoted.join(" or "))),
            }
        };
        if catalog.schema(schema).is_none() {
            let known = catalog.schema_names().join(", ");
            // A metric whose name has dots must be quoted.
            let proposal = proposal(&missing.to_string()).unwrap_or_default();
            return SqlError::Plan(format!(
                "{place}there is no schema {schema:?}, only {known}{proposal}"
            ));
        }
        let proposal = proposal(missing.table());
        let proposal = proposal.unwrap_or_else(|| "; SHOW TABLES lists them".to_owned());
        let name = missing.table();
        SqlError::Plan(format!("{place}there is no metric {name:?} in {schema}{proposal}"))
    }

    /// Parses, plans and starts the statement.
    async fn start(&mut self) -> Result<SendableRecordBatchStream, SqlError> {
        let statement = statement::parse(&self.text)?;
        let catalog = Arc::new(SnapshotCatalog::new(&self.snapshot, &self.task));
        let statement = show::as_query(statement, &catalog.schema_names())?;
        self.state.register_catalog_list(Arc::new(OneCatalog(Arc::clone(&catalog))));
        let now = DateTime::from_timestamp_millis(self.clock.now_ms());
        self.state.execution_props_mut().query_execution_start_time = now;
        self.state.add_analyzer_rule(Arc::new(GapFillRule { now }));
        self.state.config_mut().set_extension(Arc::new(PromqlContext {
            snapshot: self.snapshot.clone(),
            task: self.task.clone(),
            options: self.options,
            clock: Arc::clone(&self.clock),
        }));
        let tables = self.state.resolve_table_references(&statement)?;
        let plan = match self.state.statement_to_plan(statement).await {
            Ok(plan) => plan,
            Err(error) => return Err(self.explained(error.into(), &tables, &catalog)),
        };
        let reads = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        reads.verify_plan(&plan)?;
        let plan = self.state.create_physical_plan(&plan).await?;
        let plan = stoppable(plan, &self.task.stop)?;
        let context = TaskContext::from(&self.state)
            .with_runtime(Arc::clone(&self.task.context.runtime_env()));
        Ok(execute_stream(plan, Arc::new(context))?)
    }
}
