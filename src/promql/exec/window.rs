//! Windows over what a subquery computed: its inner steps are the samples.

use std::fmt;
use std::sync::Arc;

use datafusion::error::Result as DataFusionResult;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;

use crate::model::{Samples, is_stale};
use crate::promql::exec::table::SeriesTable;
use crate::query::batch::{SampleBuilder, VectorBuilder, VectorRows, sample_schema, vector_schema};
use crate::query::node::{BatchStream, Node, NodeExec, Run};
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

    fn evaluate(
        &self,
        batch: &arrow::array::RecordBatch,
        schema: &arrow::datatypes::SchemaRef,
    ) -> Result<Vec<arrow::array::RecordBatch>, QueryError> {
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
                    kernel.evaluate(labels, &mut samples, *grid, vectors.row(number))?;
                    vectors.keep_if_present();
                    if vectors.is_full() {
                        batches.push(vectors.finish(schema)?);
                    }
                }
                ScanOutput::Samples => {
                    raw.push(number, &samples);
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
        let input = run.input()?;
        let stream = input.flat_map(move |batch| {
            let timer = run.baseline.elapsed_compute().timer();
            let made = batch.and_then(|batch| Ok(self.evaluate(&batch, &run.schema)?));
            timer.done();
            futures::stream::iter(match made {
                Ok(batches) => batches.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        });
        Ok(stream.boxed())
    }
}
