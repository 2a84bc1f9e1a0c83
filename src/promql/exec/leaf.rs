//! Leaves that read nothing: rows that are known when the plan is made.

use std::fmt;
use std::sync::Arc;

use datafusion::error::Result as DataFusionResult;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;

use crate::query::batch::{VectorBuilder, vector_schema};
use crate::query::node::{BatchStream, Node, NodeExec, Run};

/// Rows with their numbers.
#[derive(Debug)]
pub(crate) struct Rows {
    title: String,
    steps: usize,
    rows: Vec<(u32, Arc<[f64]>)>,
}

impl Rows {
    pub(crate) fn plan(
        title: impl Into<String>,
        steps: usize,
        rows: Vec<(u32, Arc<[f64]>)>,
    ) -> Arc<dyn ExecutionPlan> {
        NodeExec::leaf(Self { title: title.into(), steps, rows }, vector_schema(steps), 1)
    }
}

impl Node for Rows {
    fn name(&self) -> &'static str {
        "PromRowsExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} series={} steps={}", self.title, self.rows.len(), self.steps)
    }

    fn gathers(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        let rows = 0..self.rows.len();
        let stream = futures::stream::iter(rows).ready_chunks(64).map(move |chunk| {
            let mut builder = VectorBuilder::new(self.steps, chunk.len());
            for row in chunk {
                let (number, cells) = &self.rows[row];
                builder.row(*number).copy_from_slice(cells);
            }
            Ok(builder.finish(&run.schema)?)
        });
        Ok(stream.boxed())
    }
}
