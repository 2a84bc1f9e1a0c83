//! Classic histograms: the rows of one histogram are its buckets.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_plan::ExecutionPlan;

use crate::model::is_stale;
use crate::promql::exec::matrix::Matrix;
use crate::query::QueryError;
use crate::query::batch::{VectorBatches, vector_schema};
use crate::query::node::{BatchStream, Node, NodeExec, Run, yield_after};
use crate::query::pace::Pace;

/// A function of one histogram at one step: `(group, step, buckets as (upper bound, count))`.
pub(crate) type BucketFn = Arc<dyn Fn(u32, usize, &mut Vec<(f64, f64)>) -> f64 + Send + Sync>;
/// Told of each row that is no bucket but has values.
pub(crate) type NoBucketFn = Arc<dyn Fn(u32) + Send + Sync>;

/// What sorting a bucket in costs, in cells read.
const BUCKET_LOOKS: usize = 16;

/// What a row of the input is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bucket {
    Of {
        group: u32,
        upper: f64,
    },
    /// Its bound cannot be read.
    Malformed,
}

/// Computes functions of histograms; output row `group * functions + function`.
pub(crate) struct Histogram {
    title: String,
    buckets: Arc<[Bucket]>,
    group_count: usize,
    functions: Vec<BucketFn>,
    malformed: NoBucketFn,
    steps: usize,
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Histogram {
    pub(crate) fn plan(
        input: Arc<dyn ExecutionPlan>,
        title: String,
        (buckets, group_count): (Arc<[Bucket]>, usize),
        functions: Vec<BucketFn>,
        malformed: NoBucketFn,
        steps: usize,
    ) -> Arc<dyn ExecutionPlan> {
        let node = Self { title, buckets, group_count, functions, malformed, steps };
        NodeExec::plan(node, vector_schema(steps), vec![input])
    }

    async fn evaluate(self: Arc<Self>, run: Run) -> Result<Vec<RecordBatch>, QueryError> {
        let input = Matrix::collect(&run, 0, self.buckets.len(), self.steps).await?;
        let mut members: Vec<Vec<(f64, u32)>> = vec![Vec::new(); self.group_count];
        for number in input.order() {
            match self.buckets[*number as usize] {
                Bucket::Of { group, upper } => members[group as usize].push((upper, *number)),
                Bucket::Malformed => (self.malformed)(*number),
            }
        }
        let mut batches = VectorBatches::new(&run.schema, self.steps);
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        let mut pace = Pace::default();
        let functions = u32::try_from(self.functions.len()).unwrap_or(u32::MAX);
        for (group, members) in (0u32..).zip(&members) {
            for (offset, function) in (0u32..).zip(&self.functions) {
                let out = batches.row(group * functions + offset);
                for (step, cell) in out.iter_mut().enumerate() {
                    buckets.clear();
                    for (upper, number) in members {
                        let count = input.row(*number).map(|row| row[step]);
                        if let Some(count) = count.filter(|count| !is_stale(*count)) {
                            buckets.push((*upper, count));
                        }
                    }
                    if !buckets.is_empty() {
                        *cell = function(group, step, &mut buckets);
                    }
                    pace.look(members.len() * BUCKET_LOOKS).await;
                }
                batches.end_row()?;
            }
        }
        batches.finish()
    }
}

impl Node for Histogram {
    fn name(&self) -> &'static str {
        "PromHistogramExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} histograms={}", self.title, self.group_count)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        Ok(yield_after(self.evaluate(run)))
    }
}
