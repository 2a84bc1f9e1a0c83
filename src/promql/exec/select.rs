//! Nodes that choose among the rows of a step: `topk`, `bottomk`, `limitk`, `limit_ratio`,
//! `quantile`, the sorts, `absent`.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;

use crate::model::{Samples, Timestamp, is_stale};
use crate::promql::exec::matrix::Matrix;
use crate::promql::functions::range::{Window, quantile_of};
use crate::promql::scalar::Scalar;
use crate::query::batch::{
    VectorBatches, VectorBuilder, VectorRows, for_each_sample_row, vector_schema,
};
use crate::query::node::{BatchStream, Node, NodeExec, Run, yield_after};
use crate::query::pace::{Pace, filled};
use crate::query::{ABSENT, Grid, QueryError};

/// What choosing costs for each row of a group at each step, in cells read: they lie apart.
const MEMBER_LOOKS: usize = 16;

/// What is chosen of each group.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// So many of the highest values.
    Top(Scalar),
    /// So many of the lowest values.
    Bottom(Scalar),
    /// So many rows, whichever.
    Limit(Scalar),
    /// This share of the rows, by the number in `[0, 1)` that each row has.
    Ratio(Scalar, Arc<[f64]>),
}

/// Keeps some rows of each group at each step.
#[derive(Debug)]
pub(crate) struct Choose {
    choice: Choice,
    groups: Arc<[u32]>,
    group_count: usize,
    /// The place of each row among equals.
    ranks: Arc<[u32]>,
    steps: usize,
    title: String,
}

impl Choose {
    pub(crate) fn plan(
        input: Arc<dyn ExecutionPlan>,
        choice: Choice,
        (groups, group_count): (Arc<[u32]>, usize),
        ranks: Arc<[u32]>,
        steps: usize,
        title: String,
    ) -> Arc<dyn ExecutionPlan> {
        let schema = input.schema();
        let node = Self { choice, groups, group_count, ranks, steps, title };
        NodeExec::plan(node, schema, vec![input])
    }

    async fn choose(self: Arc<Self>, run: Run) -> Result<Vec<RecordBatch>, QueryError> {
        let input = Matrix::collect(&run, 0, self.groups.len(), self.steps).await?;
        let mut members = input.members(&self.groups, self.group_count);
        for members in &mut members {
            members.sort_unstable_by_key(|number| self.ranks[*number as usize]);
        }
        // Rows that are chosen at any step, in the order in which they will be shown.
        let mut shown: Vec<u32> = Vec::new();
        let mut pace = Pace::default();
        let mut kept = filled(false, self.groups.len() * self.steps, &mut pace).await;
        let mut present: Vec<(f64, u32)> = Vec::new();
        for members in &members {
            for step in 0..self.steps {
                present.clear();
                for number in members {
                    let value = input.row(*number).map_or(ABSENT, |row| row[step]);
                    if !is_stale(value) {
                        present.push((value, *number));
                    }
                }
                self.choose_step(step, &mut present);
                for (_, number) in &present {
                    kept[*number as usize * self.steps + step] = true;
                }
                if self.steps == 1 {
                    shown.extend(present.iter().map(|(_, number)| *number));
                }
                pace.look(members.len() * MEMBER_LOOKS).await;
            }
        }
        if self.steps > 1 {
            shown.extend_from_slice(input.order());
        }
        let mut batches = VectorBatches::new(&run.schema, self.steps);
        for number in shown {
            let kept = &kept[number as usize * self.steps..][..self.steps];
            let cells = input.row(number).unwrap_or_default();
            for ((out, cell), kept) in batches.row(number).iter_mut().zip(cells).zip(kept) {
                if *kept {
                    *out = *cell;
                }
            }
            batches.end_row()?;
            pace.look(self.steps).await;
        }
        batches.finish()
    }

    /// Reduces a group's values to the chosen ones, best first.
    fn choose_step(&self, step: usize, present: &mut Vec<(f64, u32)>) {
        match &self.choice {
            Choice::Top(count) => Heap::choose(present, count.at(step), |one, two| one < two),
            Choice::Bottom(count) => Heap::choose(present, count.at(step), |one, two| one > two),
            Choice::Limit(count) => present.truncate(whole(count.at(step))),
            Choice::Ratio(ratio, places) => {
                let ratio = ratio.at(step).clamp(-1.0, 1.0);
                present.retain(|(_, number)| {
                    let place = places[*number as usize];
                    ratio >= 0.0 && place < ratio || ratio < 0.0 && place >= 1.0 + ratio
                });
            }
        }
    }
}

/// So many values Go sorts by insertion; of more, equal ones may come in any order.
const INSERTED_MAX: usize = 12;

/// The best values so far, the worst of them on top. Which of equal values are kept, and how they
/// are ordered, follows from how the heap is kept, so this one is kept as Prometheus keeps its own.
/// Source: Go's container/heap, and prometheus/promql/engine.go, `aggregationK`.
struct Heap<'a, W> {
    kept: &'a mut [(f64, u32)],
    /// Whether one value is worse than another, neither of them NaN.
    worse: W,
}

impl<W: Fn(f64, f64) -> bool> Heap<'_, W> {
    /// Reduces `present` to so many values that are not worse than the rest, best first.
    fn choose(present: &mut Vec<(f64, u32)>, count: f64, worse: W) {
        let count = whole(count).min(present.len());
        let (kept, rest) = present.split_at_mut(count);
        let mut heap = Heap { kept, worse };
        for last in 1..count {
            heap.rise(last);
        }
        for candidate in rest.iter().filter(|_| count > 0) {
            let top = heap.kept[0].0;
            if (heap.worse)(top, candidate.0) || top.is_nan() && !candidate.0.is_nan() {
                heap.kept[0] = *candidate;
                heap.sink();
            }
        }
        heap.sort();
        present.truncate(count);
    }

    /// Best first.
    fn sort(&mut self) {
        if self.kept.len() > INSERTED_MAX {
            let Heap { kept, worse } = self;
            return kept.sort_by(|(one, _), (two, _)| match (one.is_nan(), two.is_nan()) {
                (false, false) if worse(*one, *two) => Ordering::Greater,
                (false, false) if worse(*two, *one) => Ordering::Less,
                (one, two) => one.cmp(&two),
            });
        }
        for end in 1..self.kept.len() {
            let mut place = end;
            while place > 0 && self.is_below(place - 1, place) {
                self.kept.swap(place, place - 1);
                place -= 1;
            }
        }
    }

    fn is_below(&self, one: usize, two: usize) -> bool {
        let (one, two) = (self.kept[one].0, self.kept[two].0);
        one.is_nan() || (self.worse)(one, two)
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.is_below(place, parent) {
                break;
            }
            self.kept.swap(place, parent);
            place = parent;
        }
    }

    fn sink(&mut self) {
        let mut place = 0;
        loop {
            let mut child = 2 * place + 1;
            if child >= self.kept.len() {
                break;
            }
            if child + 1 < self.kept.len() && self.is_below(child + 1, child) {
                child += 1;
            }
            if !self.is_below(child, place) {
                break;
            }
            self.kept.swap(place, child);
            place = child;
        }
    }
}

/// Sorts in the order given by `after`; NaN comes last, equal values stay in the order of their
/// series.
fn sort_values(present: &mut [(f64, u32)], ranks: &[u32], after: impl Fn(f64, f64) -> bool) {
    let order = |one: &(f64, u32), two: &(f64, u32)| {
        let by_value = match (one.0.is_nan(), two.0.is_nan()) {
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if after(one.0, two.0) => Ordering::Greater,
            (false, false) if after(two.0, one.0) => Ordering::Less,
            (true, true) | (false, false) => Ordering::Equal,
        };
        by_value.then_with(|| ranks[one.1 as usize].cmp(&ranks[two.1 as usize]))
    };
    present.sort_unstable_by(order);
}

/// A parameter as a count; less than one is none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(count: f64) -> usize {
    count.trunc() as usize
}

impl Node for Choose {
    fn name(&self) -> &'static str {
        "PromSelectExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} groups={}", self.title, self.group_count)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        Ok(yield_after(self.choose(run)))
    }
}

/// `quantile`: needs all values of a group at once.
#[derive(Debug)]
pub(crate) struct Quantile {
    quantile: Scalar,
    groups: Arc<[u32]>,
    group_count: usize,
    steps: usize,
    title: String,
}

impl Quantile {
    pub(crate) fn plan(
        input: Arc<dyn ExecutionPlan>,
        quantile: Scalar,
        groups: Arc<[u32]>,
        group_count: usize,
        steps: usize,
        title: String,
    ) -> Arc<dyn ExecutionPlan> {
        let node = Self { quantile, groups, group_count, steps, title };
        NodeExec::plan(node, vector_schema(steps), vec![input])
    }

    async fn evaluate(self: Arc<Self>, run: Run) -> Result<Vec<RecordBatch>, QueryError> {
        let input = Matrix::collect(&run, 0, self.groups.len(), self.steps).await?;
        let members = input.members(&self.groups, self.group_count);
        let mut batches = VectorBatches::new(&run.schema, self.steps);
        let mut values = Vec::new();
        let mut pace = Pace::default();
        for (group, members) in (0u32..).zip(&members) {
            for (step, cell) in batches.row(group).iter_mut().enumerate() {
                values.clear();
                values.extend(members.iter().filter_map(|number| {
                    input.row(*number).map(|row| row[step]).filter(|value| !is_stale(*value))
                }));
                if !values.is_empty() {
                    *cell = quantile_of(self.quantile.at(step), &mut values);
                }
                pace.look(members.len() * MEMBER_LOOKS).await;
            }
            batches.end_row()?;
        }
        batches.finish()
    }
}

impl Node for Quantile {
    fn name(&self) -> &'static str {
        "PromQuantileExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} groups={}", self.title, self.group_count)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        Ok(yield_after(self.evaluate(run)))
    }
}

/// `quantile` over a range vector: of all samples of a group in the window. The input carries
/// raw samples.
#[derive(Debug)]
pub(crate) struct SampleQuantile {
    quantile: Scalar,
    groups: Arc<[u32]>,
    group_count: usize,
    window: Window,
    grid: Grid,
    title: String,
}

impl SampleQuantile {
    pub(crate) fn plan(
        input: Arc<dyn ExecutionPlan>,
        quantile: Scalar,
        (groups, group_count): (Arc<[u32]>, usize),
        window: Window,
        grid: Grid,
        title: String,
    ) -> Arc<dyn ExecutionPlan> {
        let node = Self { quantile, groups, group_count, window, grid, title };
        NodeExec::plan(node, vector_schema(grid.steps()), vec![input])
    }

    async fn evaluate(self: Arc<Self>, run: Run) -> Result<Vec<RecordBatch>, QueryError> {
        let reservation =
            MemoryConsumer::new("quantile samples").register(run.context.memory_pool());
        let mut groups: Vec<Vec<Cursor>> =
            std::iter::repeat_with(Vec::new).take(self.group_count).collect();
        let mut input = run.gather(0)?;
        while let Some(batch) = input.next().await {
            for_each_sample_row(&batch?, |number, timestamps, values| {
                reservation.try_grow(timestamps.len() * 16)?;
                let (timestamps, values) = (timestamps.to_vec(), values.to_vec());
                let samples = Samples { timestamps, values };
                groups[self.groups[number as usize] as usize].push(Cursor {
                    samples,
                    low: 0,
                    high: 0,
                });
                Ok(())
            })?;
        }
        let steps = self.grid.steps();
        let mut batches = VectorBatches::new(&run.schema, steps);
        let mut pace = Pace::default();
        let mut values = Vec::new();
        for (group, members) in (0u32..).zip(&mut groups) {
            for (step, cell) in batches.row(group).iter_mut().enumerate() {
                let at = self.grid.at(step);
                let (start, end) = (self.window.start(at), self.window.end(at));
                values.clear();
                for member in &mut *members {
                    let window = member.window(start, end);
                    values.extend_from_slice(window);
                    pace.look(window.len() + 1).await;
                }
                if !values.is_empty() {
                    *cell = quantile_of(self.quantile.at(step), &mut values);
                }
                pace.look(values.len() * MEMBER_LOOKS).await;
            }
            batches.end_row()?;
        }
        batches.finish()
    }
}

/// The samples of one series under a window that only moves on.
struct Cursor {
    samples: Samples,
    low: usize,
    high: usize,
}

impl Cursor {
    /// The values after `start` and up to `end`, neither earlier than those asked for before.
    fn window(&mut self, start: Timestamp, end: Timestamp) -> &[f64] {
        let timestamps = &self.samples.timestamps;
        while self.high < timestamps.len() && timestamps[self.high] <= end {
            self.high += 1;
        }
        while self.low < self.high && timestamps[self.low] <= start {
            self.low += 1;
        }
        &self.samples.values[self.low..self.high]
    }
}

impl Node for SampleQuantile {
    fn name(&self) -> &'static str {
        "PromSampleQuantileExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} groups={} grid={}", self.title, self.group_count, self.grid)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        Ok(yield_after(self.evaluate(run)))
    }
}

/// How an instant vector is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SortBy {
    Ascending,
    Descending,
    Rank,
}

/// `sort` and its kin, of one step.
#[derive(Debug)]
pub(crate) struct Sort {
    by: SortBy,
    /// The rank of each row, among equals or among all.
    ranks: Arc<[u32]>,
    title: String,
}

impl Sort {
    pub(crate) fn plan(
        input: Arc<dyn ExecutionPlan>,
        by: SortBy,
        ranks: Arc<[u32]>,
        title: String,
    ) -> Arc<dyn ExecutionPlan> {
        let schema = input.schema();
        NodeExec::plan(Self { by, ranks, title }, schema, vec![input])
    }

    async fn sort(self: Arc<Self>, run: Run) -> Result<Vec<RecordBatch>, QueryError> {
        let input = Matrix::collect(&run, 0, self.ranks.len(), 1).await?;
        let mut rows: Vec<(f64, u32)> = Vec::with_capacity(input.order().len());
        for number in input.order() {
            rows.extend(input.row(*number).map(|row| (row[0], *number)));
        }
        match self.by {
            SortBy::Ascending => sort_values(&mut rows, &self.ranks, |one, two| two < one),
            SortBy::Descending => sort_values(&mut rows, &self.ranks, |one, two| two > one),
            SortBy::Rank => rows.sort_by_key(|(_, number)| self.ranks[*number as usize]),
        }
        let mut builder = VectorBuilder::new(1, rows.len());
        for (value, number) in rows {
            builder.row(number)[0] = value;
        }
        Ok(vec![builder.finish(&run.schema)?])
    }
}

impl Node for Sort {
    fn name(&self) -> &'static str {
        "PromSortExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        Ok(yield_after(self.sort(run)))
    }
}

/// `absent`: 1 at each step at which the input has no value.
#[derive(Debug)]
pub(crate) struct Absent {
    steps: usize,
}

impl Absent {
    pub(crate) fn plan(input: Arc<dyn ExecutionPlan>, steps: usize) -> Arc<dyn ExecutionPlan> {
        NodeExec::plan(Self { steps }, vector_schema(steps), vec![input])
    }

    async fn evaluate(self: Arc<Self>, run: Run) -> Result<Vec<RecordBatch>, QueryError> {
        let mut absent = vec![true; self.steps];
        let mut input = run.gather(0)?;
        while let Some(batch) = input.next().await {
            for (_, row) in VectorRows::of(&batch?)?.iter() {
                for (absent, cell) in absent.iter_mut().zip(row) {
                    *absent &= is_stale(*cell);
                }
            }
        }
        let mut builder = VectorBuilder::new(self.steps, 1);
        for (cell, absent) in builder.row(0).iter_mut().zip(absent) {
            if absent {
                *cell = 1.0;
            }
        }
        builder.keep_if_present();
        Ok(vec![builder.finish(&run.schema)?])
    }
}

impl Node for Absent {
    fn name(&self) -> &'static str {
        "PromAbsentExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "steps={}", self.steps)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        Ok(yield_after(self.evaluate(run)))
    }
}
