//! Windows over what a subquery computed: its inner steps are the samples.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_plan::ExecutionPlan;

use crate::model::{Samples, is_stale};
use crate::promql::exec::table::SeriesTable;
use crate::query::batch::{SampleBuilder, VectorBuilder, VectorRows, sample_schema, vector_schema};
use crate::query::kernel::evaluate;
use crate::query::node::{BatchStream, Node, NodeExec, Run, make_of_each};
use crate::query::pace::Pace;
use crate::query::scan::ScanOutput;
use crate::query::{Grid, QueryError};

/// The window of a subquery.
#[derive(Debug)]
pub(crate) struct Windows {
    inner: Grid,
    output: ScanOutput,
    table: Arc<SeriesTable>,
}

impl Windows {
    /// `table` names the rows of `input`, which has a cell for each step of `inner`.
    pub(crate) fn plan(
        input: Arc<dyn ExecutionPlan>,
        inner: Grid,
        output: ScanOutput,
        table: Arc<SeriesTable>,
    ) -> Arc<dyn ExecutionPlan> {
        let schema = match &output {
            ScanOutput::Window { kernel, grid } => vector_schema(kernel.width() * grid.steps()),
            ScanOutput::Samples => sample_schema(),
        };
        NodeExec::plan(Self { inner, output, table }, schema, vec![input])
    }

    async fn evaluate(
        &self,
        batch: &RecordBatch,
        run: &Run,
    ) -> Result<Vec<RecordBatch>, QueryError> {
        let schema = &run.schema;
        let mut pace = Pace::default();
        let mut batches = Vec::new();
        let mut samples = Samples::default();
        let mut vectors = match &self.output {
            ScanOutput::Window { kernel, grid } => {
                VectorBuilder::new(kernel.width() * grid.steps(), 0)
            }
            ScanOutput::Samples => VectorBuilder::new(0, 0),
        };
        let mut raw = SampleBuilder::default();
        for (number, row) in VectorRows::of(batch)?.iter() {
            samples.clear();
            for (at, value) in self.inner.timestamps().zip(row) {
                if !is_stale(*value) {
                    samples.push(at, *value);
                }
            }
            match &self.output {
                ScanOutput::Window { kernel, grid } => {
                    let labels = self.table.labels(number);
                    let (out, compute) = (vectors.row(number), run.baseline.elapsed_compute());
                    let (samples, pace) = (&mut samples, &mut pace);
                    evaluate(kernel.as_ref(), labels, samples, *grid, out, pace, compute).await?;
                    vectors.keep_if_present();
                    if vectors.is_full() {
                        batches.push(vectors.finish(schema)?);
                    }
                }
                ScanOutput::Samples => {
                    raw.push(number, &samples);
                    pace.look(samples.len()).await;
                    if raw.is_full() {
                        batches.push(raw.finish(schema)?);
                    }
                }
            }
        }
        if vectors.rows() > 0 {
            batches.push(vectors.finish(schema)?);
        }
        if raw.rows() > 0 {
            batches.push(raw.finish(schema)?);
        }
        Ok(batches)
    }
}

impl Node for Windows {
    fn name(&self) -> &'static str {
        "PromWindowExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.output {
            ScanOutput::Window { kernel, grid } => {
                write!(f, "{} over {} grid={grid}", kernel.name(), self.inner)
            }
            ScanOutput::Samples => write!(f, "raw {}", self.inner),
        }
    }

    fn gathers(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        make_of_each(self, run, |node, run, batch| async move { node.evaluate(&batch, &run).await })
    }
}
