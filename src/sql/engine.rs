//! Plans a statement and runs it within the limits of the query session.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono::DateTime;
use datafusion::execution::context::{SQLOptions, SessionState};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::model::Timestamp;
use crate::query::catalog::{CATALOG, OneCatalog, RAW_SCHEMA, SnapshotCatalog};
use crate::query::session::{Feed, QueryTask};
use crate::query::{QueryLimits, QuerySession};
use crate::sql::error::SqlError;
use crate::sql::statement;
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
        options.execution.parquet.pushdown_filters = true;
        Self { state: builder.with_config(config).build() }
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
            now_ms: session.clock().now_ms(),
        };
        let work = |pieces| async move {
            run.hand_on(pieces).await;
            Ok(())
        };
        let mut feed = session.feed(query.limits.timeout, work).await?;
        let schema = match feed.next().await? {
            Some(Piece::Schema(schema)) => schema,
            Some(Piece::Failed(error)) => return Err(error),
            Some(Piece::Rows(_)) | None => unreachable!("the schema is the first piece"),
        };
        Ok(SqlRows { schema, feed, task, snapshot: snapshot.clone() })
    }
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

    /// What was read from storage so far.
    pub fn read(&self) -> ReadStats {
        self.task.usage.total()
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
    now_ms: Timestamp,
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

    /// Parses, plans and starts the statement.
    async fn start(&mut self) -> Result<SendableRecordBatchStream, SqlError> {
        let statement = statement::parse(&self.text)?;
        let catalog = SnapshotCatalog::new(&self.snapshot, &self.task);
        self.state.register_catalog_list(Arc::new(OneCatalog(catalog)));
        self.state.execution_props_mut().query_execution_start_time =
            DateTime::from_timestamp_millis(self.now_ms);
        let plan = self.state.statement_to_plan(statement).await?;
        let reads = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        reads.verify_plan(&plan)?;
        let plan = self.state.create_physical_plan(&plan).await?;
        let context = TaskContext::from(&self.state)
            .with_runtime(Arc::clone(&self.task.context.runtime_env()));
        Ok(execute_stream(plan, Arc::new(context))?)
    }
}
