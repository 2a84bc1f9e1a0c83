//! What is the same at every step is computed once.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_plan::ExecutionPlan;

use crate::query::QueryError;
use crate::query::batch::{VectorBatches, VectorRows, vector_schema};
use crate::query::node::{BatchStream, Node, NodeExec, Run, make_of_each};
use crate::query::pace::Pace;

/// Repeats the one cell of each row at every step; rows keep their numbers.
#[derive(Debug)]
pub(crate) struct Repeat {
    steps: usize,
}

impl Repeat {
    /// The input has one step.
    pub(crate) fn plan(input: Arc<dyn ExecutionPlan>, steps: usize) -> Arc<dyn ExecutionPlan> {
        NodeExec::plan(Self { steps }, vector_schema(steps), vec![input])
    }

    async fn repeat(&self, batch: &RecordBatch, run: &Run) -> Result<Vec<RecordBatch>, QueryError> {
        let mut batches = VectorBatches::new(&run.schema, self.steps);
        let mut pace = Pace::default();
        for (number, cells) in VectorRows::of(batch)?.iter() {
            batches.row(number).fill(cells[0]);
            batches.end_row()?;
            pace.look(self.steps).await;
        }
        batches.finish()
    }
}

impl Node for Repeat {
    fn name(&self) -> &'static str {
        "PromRepeatExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "steps={}", self.steps)
    }

    fn gathers(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        make_of_each(self, run, |node, run, batch| async move { node.repeat(&batch, &run).await })
    }
}
