//! Functions and operators that take each cell for itself, and label rewriting.

use std::fmt;
use std::sync::Arc;

use datafusion::error::Result as DataFusionResult;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;

use crate::model::is_stale;
use crate::promql::exec::matrix::{Cells, Matrix};
use crate::query::QueryError;
use crate::query::batch::{VectorBatches, VectorRows, vector_batch};
use crate::query::node::{BatchStream, Node, NodeExec, Run, yield_after};
use crate::query::pace::Pace;

/// Changes the cells of one row in place; absent cells stay absent.
pub(crate) type RowFn = Arc<dyn Fn(&mut [f64]) + Send + Sync>;

/// A [`RowFn`] of a function of one number, which may answer [`ABSENT`].
pub(crate) fn cell_by_cell(f: impl Fn(f64) -> f64 + Send + Sync + 'static) -> RowFn {
    Arc::new(move |row: &mut [f64]| {
        for cell in row {
            if !is_stale(*cell) {
                *cell = f(*cell);
            }
        }
    })
}

/// A [`RowFn`] of a function of a number and its step.
pub(crate) fn step_by_step(f: impl Fn(usize, f64) -> f64 + Send + Sync + 'static) -> RowFn {
    Arc::new(move |row: &mut [f64]| {
        for (step, cell) in row.iter_mut().enumerate() {
            if !is_stale(*cell) {
                *cell = f(step, *cell);
            }
        }
    })
}

/// Maps cells; rows keep their numbers.
pub(crate) struct Map {
    title: String,
    change: RowFn,
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Map {
    pub(crate) fn plan(
        input: Arc<dyn ExecutionPlan>,
        title: String,
        change: RowFn,
    ) -> Arc<dyn ExecutionPlan> {
        let schema = input.schema();
        NodeExec::plan(Self { title, change }, schema, vec![input])
    }
}

impl Node for Map {
    fn name(&self) -> &'static str {
        "PromMapExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)
    }

    fn gathers(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        let input = run.input()?;
        let stream = input.map(move |batch| {
            let batch = batch?;
            let timer = run.baseline.elapsed_compute().timer();
            let rows = VectorRows::of(&batch)?;
            let mut values = rows.values.to_vec();
            if rows.series.is_empty() {
                return Ok(batch);
            }
            let cells = values.len() / rows.series.len();
            for row in values.chunks_exact_mut(cells) {
                (self.change)(row);
            }
            let mapped = vector_batch(&run.schema, rows.series.to_vec(), values)?;
            timer.done();
            Ok(mapped)
        });
        Ok(stream.boxed())
    }
}

/// Gives rows other numbers; rows that get the same one become one row.
#[derive(Debug)]
pub(crate) struct Relabel {
    title: String,
    /// Input number to output number.
    numbers: Arc<[u32]>,
    rows: usize,
    steps: usize,
}

/// Two series with equal labels have a value at the same step.
pub(crate) const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

impl Relabel {
    /// `rows` is the length of the output's table.
    pub(crate) fn plan(
        input: Arc<dyn ExecutionPlan>,
        title: String,
        numbers: Arc<[u32]>,
        rows: usize,
        steps: usize,
    ) -> Arc<dyn ExecutionPlan> {
        let schema = input.schema();
        NodeExec::plan(Self { title, numbers, rows, steps }, schema, vec![input])
    }
}

impl Node for Relabel {
    fn name(&self) -> &'static str {
        "PromRelabelExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} series={}", self.title, self.rows)
    }

    fn gathers(&self) -> bool {
        self.rows < self.numbers.len()
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        if self.gathers() {
            return Ok(yield_after(async move { self.merge(&run).await }));
        }
        let input = run.input()?;
        let stream = input.map(move |batch| {
            let batch = batch?;
            let rows = VectorRows::of(&batch)?;
            let numbers = rows.series.iter().map(|row| self.numbers[*row as usize]).collect();
            Ok(vector_batch(&run.schema, numbers, rows.values.to_vec())?)
        });
        Ok(stream.boxed())
    }
}

impl Relabel {
    async fn merge(&self, run: &Run) -> Result<Vec<arrow::array::RecordBatch>, QueryError> {
        let input = Matrix::collect(run, 0, self.numbers.len(), self.steps).await?;
        let mut merged = MergedRows::new(self.steps);
        let mut pace = Pace::default();
        for number in input.order() {
            let row = input.row(*number).unwrap_or_default();
            if !merged.add(self.numbers[*number as usize], row) {
                return Err(QueryError::Execution(SAME_LABELSET.to_owned()));
            }
            pace.look(row.len()).await;
        }
        merged.finish(run).await
    }
}

/// Output rows that several input rows may fill, each at other steps.
#[derive(Debug)]
pub(crate) struct MergedRows {
    steps: usize,
    places: hashbrown::HashMap<u32, usize>,
    numbers: Vec<u32>,
    cells: Cells,
}

impl MergedRows {
    pub(crate) fn new(steps: usize) -> Self {
        let cells = Cells::new(steps);
        Self { steps, places: Default::default(), numbers: Vec::new(), cells }
    }

    /// The cells of output row `number`, absent at first.
    pub(crate) fn row(&mut self, number: u32) -> &mut [f64] {
        let place = *self.places.entry(number).or_insert_with(|| {
            self.numbers.push(number);
            self.cells.push_absent();
            self.numbers.len() - 1
        });
        self.cells.row_mut(place)
    }

    /// Fills in a row's cells; says whether none was there already.
    pub(crate) fn add(&mut self, number: u32, cells: &[f64]) -> bool {
        let row = self.row(number);
        for (known, cell) in row.iter_mut().zip(cells) {
            if !is_stale(*cell) {
                if !is_stale(*known) {
                    return false;
                }
                *known = *cell;
            }
        }
        true
    }

    /// All rows that have a value, in order of their first mention.
    pub(crate) async fn finish(
        self,
        run: &Run,
    ) -> Result<Vec<arrow::array::RecordBatch>, QueryError> {
        let mut batches = VectorBatches::new(&run.schema, self.steps);
        let mut pace = Pace::default();
        for (place, number) in self.numbers.iter().enumerate() {
            let row = self.cells.row(place);
            batches.row(*number).copy_from_slice(row);
            batches.end_row()?;
            pace.look(row.len()).await;
        }
        batches.finish()
    }
}
