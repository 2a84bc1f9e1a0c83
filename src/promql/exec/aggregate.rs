//! Aggregations whose state has a fixed size per group and step.
//!
//! One partition: folded and finished in one node. Several: each partition folds its rows to
//! states (Partial), and one node merges those in order of the partitions (Final).

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use hashbrown::HashMap;

use crate::model::is_stale;
use crate::promql::functions::range::{Mean, Merge, Spread, Sum};
use crate::query::batch::{VectorBatches, VectorRows, vector_schema};
use crate::query::node::{BatchStream, Node, NodeExec, Run, gather, yield_after};
use crate::query::pace::Pace;
use crate::query::{ABSENT, QueryError};

/// What is made of the values of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregation {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    /// Of samples rather than series: the input's cells are the state of a sum, a mean, a spread.
    SumOfSamples,
    AvgOfSamples,
    StddevOfSamples,
    StdvarOfSamples,
}

impl Aggregation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Aggregation::Sum => "sum",
            Aggregation::Avg => "avg",
            Aggregation::Count => "count",
            Aggregation::Min => "min",
            Aggregation::Max => "max",
            Aggregation::Group => "group",
            Aggregation::Stddev => "stddev",
            Aggregation::Stdvar => "stdvar",
            Aggregation::SumOfSamples => "sum of samples",
            Aggregation::AvgOfSamples => "avg of samples",
            Aggregation::StddevOfSamples => "stddev of samples",
            Aggregation::StdvarOfSamples => "stdvar of samples",
        }
    }

    /// Whether states of parts of a group can be merged without telling the difference.
    fn merges(self) -> bool {
        !matches!(self, Aggregation::Stddev | Aggregation::Stdvar)
    }

    /// Cells of state per step.
    fn state_width(self) -> usize {
        match self {
            Aggregation::Sum | Aggregation::SumOfSamples => Sum::PARTS,
            Aggregation::Count | Aggregation::Min | Aggregation::Max | Aggregation::Group => 1,
            Aggregation::Avg | Aggregation::AvgOfSamples => Mean::PARTS,
            Aggregation::Stddev | Aggregation::Stdvar => 3,
            Aggregation::StddevOfSamples | Aggregation::StdvarOfSamples => Spread::PARTS,
        }
    }

    /// Folds a row into a group's state. Both are columns: all first cells, all second cells, …;
    /// a step without a value so far has an absent first cell.
    fn fold(self, state: &mut [f64], row: &[f64], steps: usize) {
        match self {
            Aggregation::Sum => {
                let (sums, lost) = state.split_at_mut(steps);
                for ((sum, lost), value) in sums.iter_mut().zip(lost).zip(row) {
                    if is_stale(*value) {
                        continue;
                    }
                    if is_stale(*sum) {
                        (*sum, *lost) = (*value, 0.0);
                        continue;
                    }
                    let mut total = Sum { sum: *sum, lost: *lost };
                    total.add(*value);
                    (*sum, *lost) = (total.sum, total.lost);
                }
            }
            Aggregation::Count => each(state, row, |_| 1.0, |count, _| count + 1.0),
            Aggregation::Group => each(state, row, |_| 1.0, |one, _| one),
            Aggregation::Min => each(state, row, |value| value, lower),
            Aggregation::Max => each(state, row, |value| value, higher),
            Aggregation::Avg => {
                for (step, value) in row.iter().enumerate().filter(|(_, value)| !is_stale(**value))
                {
                    let mean = match state_at(state, step, steps) {
                        None => Mean::of(*value),
                        Some(parts) => {
                            let mut mean = Mean::from_parts(parts);
                            mean.add(*value);
                            mean
                        }
                    };
                    put_state(state, step, steps, mean.parts());
                }
            }
            Aggregation::Stddev | Aggregation::Stdvar => {
                for (step, value) in row.iter().enumerate().filter(|(_, value)| !is_stale(**value))
                {
                    let [count, mean, squares] =
                        state_at(state, step, steps).unwrap_or_else(|| {
                            let start = if value.is_finite() { 0.0 } else { f64::NAN };
                            [0.0, *value, start]
                        });
                    let next = if count == 0.0 {
                        [1.0, mean, squares]
                    } else {
                        let apart = value - mean;
                        let mean = mean + apart / (count + 1.0);
                        [count + 1.0, mean, squares + apart * (value - mean)]
                    };
                    put_state(state, step, steps, next);
                }
            }
            Aggregation::SumOfSamples
            | Aggregation::AvgOfSamples
            | Aggregation::StddevOfSamples
            | Aggregation::StdvarOfSamples => self.merge(state, row, steps),
        }
    }

    /// Merges the state of later rows into a group's state.
    fn merge(self, state: &mut [f64], later: &[f64], steps: usize) {
        match self {
            Aggregation::Sum | Aggregation::SumOfSamples => {
                for step in 0..steps {
                    let Some([sum, lost]) = state_at(later, step, steps) else { continue };
                    let merged = match state_at(state, step, steps) {
                        None => Sum { sum, lost },
                        Some([own, own_lost]) => {
                            Sum { sum: own, lost: own_lost }.merge(Sum { sum, lost })
                        }
                    };
                    put_state(state, step, steps, [merged.sum, merged.lost]);
                }
            }
            Aggregation::Count => each(state, later, |count| count, |one, two| one + two),
            Aggregation::Group => each(state, later, |one| one, |one, _| one),
            Aggregation::Min => each(state, later, |value| value, lower),
            Aggregation::Max => each(state, later, |value| value, higher),
            Aggregation::Avg | Aggregation::AvgOfSamples => {
                for step in 0..steps {
                    let Some(parts) = state_at(later, step, steps) else { continue };
                    let mut mean = Mean::from_parts(parts);
                    if let Some(own) = state_at(state, step, steps) {
                        mean = Mean::from_parts(own).merge(mean);
                    }
                    put_state(state, step, steps, mean.parts());
                }
            }
            Aggregation::StddevOfSamples | Aggregation::StdvarOfSamples => {
                for step in 0..steps {
                    let Some(parts) = state_at(later, step, steps) else { continue };
                    let mut all = Spread::from_parts(parts);
                    if let Some(own) = state_at(state, step, steps) {
                        all = Spread::from_parts(own).merge(all);
                    }
                    put_state(state, step, steps, all.parts());
                }
            }
            Aggregation::Stddev | Aggregation::Stdvar => {
                unreachable!("these are folded in one node")
            }
        }
    }

    /// Writes a group's values.
    fn finish(self, state: &[f64], out: &mut [f64]) {
        let steps = out.len();
        for (step, cell) in out.iter_mut().enumerate() {
            if is_stale(state[step]) {
                continue;
            }
            let second = || state[steps + step];
            let third = || state[2 * steps + step];
            *cell = match self {
                Aggregation::Sum | Aggregation::SumOfSamples => state[step] + second(),
                Aggregation::Avg | Aggregation::AvgOfSamples => {
                    match state_at(state, step, steps) {
                        Some(parts) => Mean::from_parts(parts).value(),
                        None => continue,
                    }
                }
                Aggregation::Stdvar => third() / state[step],
                Aggregation::Stddev => (third() / state[step]).sqrt(),
                Aggregation::StdvarOfSamples | Aggregation::StddevOfSamples => {
                    let Some(parts) = state_at(state, step, steps) else { continue };
                    let variance = Spread::from_parts(parts).variance();
                    if self == Aggregation::StdvarOfSamples { variance } else { variance.sqrt() }
                }
                Aggregation::Count | Aggregation::Min | Aggregation::Max | Aggregation::Group => {
                    state[step]
                }
            };
        }
    }
}

#[inline]
fn each(
    state: &mut [f64],
    row: &[f64],
    first: impl Fn(f64) -> f64,
    next: impl Fn(f64, f64) -> f64,
) {
    for (state, value) in state.iter_mut().zip(row) {
        if is_stale(*value) {
            continue;
        }
        *state = if is_stale(*state) { first(*value) } else { next(*state, *value) };
    }
}

fn lower(one: f64, two: f64) -> f64 {
    if one > two || one.is_nan() { two } else { one }
}

fn higher(one: f64, two: f64) -> f64 {
    if one < two || one.is_nan() { two } else { one }
}

/// The state of one step, if there is one.
#[inline]
fn state_at<const PARTS: usize>(state: &[f64], step: usize, steps: usize) -> Option<[f64; PARTS]> {
    (!is_stale(state[step])).then(|| std::array::from_fn(|part| state[part * steps + step]))
}

#[inline]
fn put_state<const PARTS: usize>(state: &mut [f64], step: usize, steps: usize, to: [f64; PARTS]) {
    for (part, value) in to.into_iter().enumerate() {
        state[part * steps + step] = value;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Rows to values.
    Single,
    /// Rows of one partition to states.
    Partial,
    /// States of all partitions to values.
    Final,
}

/// Folds the rows of each group.
#[derive(Debug)]
pub(crate) struct Aggregate {
    aggregation: Aggregation,
    mode: Mode,
    /// Row to group.
    groups: Arc<[u32]>,
    group_count: usize,
    steps: usize,
    /// The grouping as it stands in the query.
    clause: String,
}

impl Aggregate {
    /// `groups` has the group of each row of the input's table.
    pub(crate) fn plan(
        input: Arc<dyn ExecutionPlan>,
        aggregation: Aggregation,
        groups: Arc<[u32]>,
        group_count: usize,
        steps: usize,
        clause: String,
    ) -> Arc<dyn ExecutionPlan> {
        let node = |mode| Self {
            aggregation,
            mode,
            groups: Arc::clone(&groups),
            group_count,
            steps,
            clause: clause.clone(),
        };
        let partitions = input.properties().partitioning.partition_count();
        let schema = vector_schema(steps);
        if partitions == 1 || !aggregation.merges() {
            return NodeExec::plan(node(Mode::Single), schema, vec![input]);
        }
        let states = vector_schema(steps * aggregation.state_width());
        let partial = NodeExec::plan(node(Mode::Partial), states, vec![input]);
        NodeExec::plan(node(Mode::Final), schema, vec![partial])
    }

    async fn fold(self: Arc<Self>, run: Run) -> Result<Vec<RecordBatch>, QueryError> {
        let mut input = match self.mode {
            Mode::Partial => run.input()?,
            Mode::Single | Mode::Final => gather(&run.inputs[0], &run.context)?,
        };
        let width = self.aggregation.state_width() * self.steps;
        let consumer = MemoryConsumer::new(format!("PromAggregateExec[{}]", run.partition));
        let reservation = consumer.register(run.context.memory_pool());
        // Groups in order of their first row.
        let mut states: Vec<Vec<f64>> = Vec::new();
        let mut places: HashMap<u32, usize> = HashMap::new();
        let mut last = (u32::MAX, 0);
        while let Some(batch) = input.next().await {
            let batch = batch?;
            let timer = run.baseline.elapsed_compute().timer();
            for (number, row) in VectorRows::of(&batch)?.iter() {
                let group =
                    if self.mode == Mode::Final { number } else { self.groups[number as usize] };
                if last.0 != group {
                    let next = states.len();
                    let place = *places.entry(group).or_insert(next);
                    if place == next {
                        reservation.try_grow(width * 8)?;
                        states.push(vec![ABSENT; width]);
                    }
                    last = (group, place);
                }
                let state = &mut states[last.1];
                match self.mode {
                    Mode::Final => self.aggregation.merge(state, row, self.steps),
                    Mode::Single | Mode::Partial => self.aggregation.fold(state, row, self.steps),
                }
            }
            timer.done();
        }
        let mut groups: Vec<(u32, usize)> = places.into_iter().collect();
        groups.sort_unstable();
        let cells = if self.mode == Mode::Partial { width } else { self.steps };
        let mut batches = VectorBatches::new(&run.schema, cells);
        let mut pace = Pace::default();
        for (group, place) in groups {
            let out = batches.row(group);
            match self.mode {
                Mode::Partial => out.copy_from_slice(&states[place]),
                Mode::Single | Mode::Final => self.aggregation.finish(&states[place], out),
            }
            batches.end_row()?;
            pace.look(width).await;
        }
        batches.finish()
    }
}

impl Node for Aggregate {
    fn name(&self) -> &'static str {
        "PromAggregateExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.aggregation.name();
        write!(f, "{name}{} groups={} mode={:?}", self.clause, self.group_count, self.mode)
    }

    fn gathers(&self) -> bool {
        self.mode != Mode::Partial
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        Ok(yield_after(self.fold(run)))
    }
}
