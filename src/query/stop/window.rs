//! Window functions that need all rows of their partition, one partition after the other.
//!
//! DataFusion's node gathers its whole input, asks for no memory and computes all partitions
//! without waiting for anything. This one, in its place, holds the rows of one partition at a time,
//! accounts for them, and waits between partitions. Within one partition nothing ends it.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::windows::WindowAggExec;
use futures::StreamExt;

use crate::query::batch::BATCH_ROWS;
use crate::query::node::{BatchStream, Node, NodeExec, Run};
use crate::query::pace::Pace;

/// A partition's rows are held once as they came and once in one piece.
const COPIES: usize = 2;

/// What a partition counts for beside its rows.
const PARTITION_LOOKS: usize = 1_024;

/// The node that stands for DataFusion's.
pub(super) fn in_turn(window: &WindowAggExec) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let keys = window.partition_by_sort_keys()?.into_iter().map(|key| key.expr).collect();
    let node = Windows { functions: window.window_expr().to_vec(), keys };
    let input = Arc::clone(window.input());
    let equivalences = window.properties().eq_properties.clone();
    Ok(NodeExec::with_equivalences(node, equivalences, vec![input]))
}

/// Some window functions over the same partitions, by which the input is sorted.
#[derive(Debug)]
struct Windows {
    functions: Vec<Arc<dyn WindowExpr>>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
}

impl Node for Windows {
    fn name(&self) -> &'static str {
        "WindowExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.functions.iter().map(|function| function.name()).collect();
        write!(f, "[{}]", names.join(", "))
    }

    fn gathers(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        let input = run.input()?;
        let of_input = input.schema();
        let kinds = self.keys.iter().map(|key| Ok(SortField::new(key.data_type(&of_input)?)));
        let kinds = kinds.collect::<DataFusionResult<Vec<_>>>()?;
        let consumer = MemoryConsumer::new(format!("WindowExec[{}]", run.partition));
        let running = Running {
            // Without keys all rows are of one partition.
            keys: if kinds.is_empty() { None } else { Some(RowConverter::new(kinds)?) },
            windows: self,
            input,
            of_input,
            schema: run.schema,
            memory: consumer.register(run.context.memory_pool()),
            open: Vec::new(),
            key: None,
            done: Vec::new(),
            done_rows: 0,
            pace: Pace::default(),
            is_over: false,
        };
        let stream = futures::stream::try_unfold(running, |mut running| async move {
            Ok(running.next().await?.map(|batch| (batch, running)))
        });
        Ok(stream.boxed())
    }
}

/// The state of one running partition of the plan.
struct Running {
    windows: Arc<Windows>,
    input: SendableRecordBatchStream,
    of_input: SchemaRef,
    schema: SchemaRef,
    keys: Option<RowConverter>,
    memory: MemoryReservation,
    /// Rows of the partition in hand, and its key.
    open: Vec<RecordBatch>,
    key: Option<OwnedRow>,
    /// Partitions with their functions' values.
    done: Vec<RecordBatch>,
    done_rows: usize,
    pace: Pace,
    is_over: bool,
}

impl Running {
    async fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        while !self.is_over && self.done_rows < BATCH_ROWS {
            match self.input.next().await {
                Some(batch) => self.take(&batch?).await?,
                None => {
                    self.is_over = true;
                    self.close()?;
                }
            }
        }
        if self.done.is_empty() {
            return Ok(None);
        }
        let batch = concat_batches(&self.schema, &self.done)?;
        self.done.clear();
        self.done_rows = 0;
        self.account()?;
        Ok(Some(batch))
    }

    /// Cuts a batch where partitions end.
    async fn take(&mut self, batch: &RecordBatch) -> DataFusionResult<()> {
        let rows = batch.num_rows();
        let Some(converter) = &self.keys else {
            self.open.push(batch.clone());
            return self.account();
        };
        let column = |key: &Arc<dyn PhysicalExpr>| key.evaluate(batch)?.into_array(rows);
        let columns: Vec<_> =
            self.windows.keys.iter().map(column).collect::<DataFusionResult<_>>()?;
        let keys = converter.convert_columns(&columns)?;
        let mut start = 0;
        while start < rows {
            let key = keys.row(start);
            let end = (start + 1..rows).find(|row| keys.row(*row) != key).unwrap_or(rows);
            if self.key.as_ref().is_some_and(|open| open.row() != key) {
                self.close()?;
                self.pace.look(PARTITION_LOOKS + (end - start)).await;
            }
            if self.open.is_empty() {
                self.key = Some(key.owned());
            }
            self.open.push(batch.slice(start, end - start));
            start = end;
        }
        self.account()
    }

    /// Computes the functions of the partition in hand.
    fn close(&mut self) -> DataFusionResult<()> {
        let rows = match self.open.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            several => concat_batches(&self.of_input, several)?,
        };
        self.open.clear();
        let mut columns = rows.columns().to_vec();
        for function in &self.windows.functions {
            columns.push(function.evaluate(&rows)?);
        }
        self.done_rows += rows.num_rows();
        self.done.push(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
        Ok(())
    }

    fn account(&self) -> DataFusionResult<()> {
        let held = self.open.iter().chain(&self.done).map(bytes).sum::<Result<usize, _>>()?;
        self.memory.try_resize(held * COPIES)
    }
}

/// Of the rows themselves: a batch may be a slice of much more.
fn bytes(batch: &RecordBatch) -> DataFusionResult<usize> {
    let column = |column: &ArrayRef| column.to_data().get_slice_memory_size();
    Ok(batch.columns().iter().map(column).sum::<Result<usize, _>>()?)
}
