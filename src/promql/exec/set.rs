//! `and`, `or` and `unless`: rows of one vector by who is there in the other.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;

use crate::model::is_stale;
use crate::promql::exec::map::{MergedRows, SAME_LABELSET};
use crate::query::batch::{VectorRows, vector_schema};
use crate::query::node::{BatchStream, Node, NodeExec, Run, yield_after};
use crate::query::pace::{Pace, filled};
use crate::query::{ABSENT, QueryError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetOp {
    And,
    Or,
    Unless,
}

/// A set operator.
#[derive(Debug)]
pub(crate) struct Set {
    op: SetOp,
    title: String,
    signatures: usize,
    /// Row to signature, and row to output row, of the left and the right side.
    left: (Vec<u32>, Vec<u32>),
    right: (Vec<u32>, Vec<u32>),
    steps: usize,
}

impl Set {
    pub(crate) fn plan(
        inputs: [Arc<dyn ExecutionPlan>; 2],
        op: SetOp,
        title: String,
        signatures: usize,
        left: (Vec<u32>, Vec<u32>),
        right: (Vec<u32>, Vec<u32>),
        steps: usize,
    ) -> Arc<dyn ExecutionPlan> {
        let node = Self { op, title, signatures, left, right, steps };
        NodeExec::plan(node, vector_schema(steps), inputs.into())
    }

    async fn evaluate(self: Arc<Self>, run: Run) -> Result<Vec<RecordBatch>, QueryError> {
        let reservation = MemoryConsumer::new("signatures").register(run.context.memory_pool());
        reservation.try_grow(self.signatures.saturating_mul(self.steps))?;
        // Whether a signature is there at a step, on the side that decides.
        let cells = self.signatures * self.steps;
        let mut there = filled(false, cells, &mut Pace::default()).await;
        let mut output = MergedRows::new(self.steps);
        match self.op {
            SetOp::Or => {
                self.pass(&run, 0, &self.left, &mut output, Visit::Mark(&mut there)).await?;
                self.pass(&run, 1, &self.right, &mut output, Visit::Keep(&there, false)).await?;
            }
            SetOp::And | SetOp::Unless => {
                let mut ignored = MergedRows::new(self.steps);
                self.pass(&run, 1, &self.right, &mut ignored, Visit::MarkOnly(&mut there)).await?;
                let keep = Visit::Keep(&there, self.op == SetOp::And);
                self.pass(&run, 0, &self.left, &mut output, keep).await?;
            }
        }
        output.finish(&run).await
    }

    async fn pass(
        &self,
        run: &Run,
        input: usize,
        (signatures, numbers): &(Vec<u32>, Vec<u32>),
        output: &mut MergedRows,
        mut visit: Visit<'_>,
    ) -> Result<(), QueryError> {
        let reservation = MemoryConsumer::new("set operator").register(run.context.memory_pool());
        let mut batches = run.gather(input)?;
        let mut cells = Vec::new();
        while let Some(batch) = batches.next().await {
            for (number, row) in VectorRows::of(&batch?)?.iter() {
                let start = signatures[number as usize] as usize * self.steps;
                cells.clear();
                cells.extend_from_slice(row);
                match &mut visit {
                    Visit::Mark(there) | Visit::MarkOnly(there) => {
                        for (there, cell) in there[start..].iter_mut().zip(row) {
                            *there |= !is_stale(*cell);
                        }
                    }
                    Visit::Keep(there, wanted) => {
                        for (cell, there) in cells.iter_mut().zip(&there[start..]) {
                            if there != wanted {
                                *cell = ABSENT;
                            }
                        }
                    }
                }
                if !matches!(visit, Visit::MarkOnly(_)) {
                    reservation.try_grow(row.len() * 8)?;
                    if !output.add(numbers[number as usize], &cells) {
                        return Err(QueryError::Execution(SAME_LABELSET.to_owned()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// What a pass over one side does with its rows.
enum Visit<'a> {
    /// Yields them and marks their signatures.
    Mark(&'a mut [bool]),
    MarkOnly(&'a mut [bool]),
    /// Yields cells whose signature is there, or is not.
    Keep(&'a [bool], bool),
}

impl Node for Set {
    fn name(&self) -> &'static str {
        "PromSetExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} signatures={}", self.title, self.signatures)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        Ok(yield_after(self.evaluate(run)))
    }
}
