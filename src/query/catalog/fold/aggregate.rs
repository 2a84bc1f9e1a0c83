//! What becomes of an aggregate: a quick way to the state that its accumulator would have.
//!
//! Invariant: the columns of a state are those that DataFusion's accumulator gives, in its
//! order. Where a state is not plain numbers, the accumulator makes it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch,
    TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr_common::physical_expr::is_volatile;

use crate::columnar::block::ChunkSummary;
use crate::columnar::parquet::columns::{TIME, VALUE};
use crate::model::{Samples, Timestamp};
use crate::query::catalog::fold::reduce;
use crate::query::catalog::sample_cursor::WholeChunk;

/// Aggregates whose accumulators have small states, so that one for every run is no burden.
const SMALL_STATES: [&str; 11] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "first_value",
    "last_value",
    "stddev",
    "stddev_pop",
    "var",
    "var_pop",
];

/// One aggregate of an aggregation.
#[derive(Clone)]
pub(super) struct Folded {
    expr: Arc<AggregateFunctionExpr>,
    way: Way,
}

impl fmt::Debug for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expr.name())
    }
}

/// How it is computed.
#[derive(Debug, Clone, Default)]
enum Way {
    #[default]
    Count,
    Sum,
    Average,
    Least,
    Greatest,
    /// A sample stands for its run.
    Sample(Sample),
    /// By its accumulator.
    General {
        arguments: Vec<Arc<dyn PhysicalExpr>>,
        filter: Option<Arc<dyn PhysicalExpr>>,
    },
}

/// Which sample of a run, and which columns of it the accumulator takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    is_last: bool,
    argument: SampleColumn,
    /// Whether the time follows, by which runs are told apart.
    with_time: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SampleColumn {
    Time,
    Value,
}

impl Folded {
    /// `filter` and the arguments are over the columns of a scan, as `resolve` makes them;
    /// `None` if the aggregate cannot be folded.
    pub(super) fn new(
        expr: &Arc<AggregateFunctionExpr>,
        filter: Option<&Arc<dyn PhysicalExpr>>,
        resolve: impl Fn(&Arc<dyn PhysicalExpr>) -> DataFusionResult<Arc<dyn PhysicalExpr>>,
        samples: &SchemaRef,
    ) -> DataFusionResult<Option<Self>> {
        let name = expr.fun().name();
        let is_known = SMALL_STATES.contains(&name) && !expr.is_distinct() && !expr.is_reversed();
        if !is_known || !expr.groups_accumulator_supported() {
            return Ok(None);
        }
        let order_by = expr.order_bys();
        let all = expr.expressions();
        let mut arguments = Vec::new();
        for one in all.iter().chain(order_by.iter().map(|sort| &sort.expr)).chain(filter) {
            let one = resolve(one)?;
            let of_sample = |column: &Column| [TIME, VALUE].contains(&column.name());
            if is_volatile(&one) || !collect_columns(&one).iter().all(of_sample) {
                return Ok(None);
            }
            arguments.push(reassign_expr_columns(one, samples)?);
        }
        let filter = filter.and_then(|_| arguments.pop());
        let general = |arguments| Way::General { arguments, filter: filter.clone() };
        let columns: Vec<_> = arguments.iter().map(sample_column).collect();
        let is_float = expr.field().data_type() == &DataType::Float64;
        use SampleColumn::{Time, Value};
        let way = match (name, columns.as_slice()) {
            _ if filter.is_some() => general(arguments),
            ("count", [Some(_)]) => Way::Count,
            ("count", [None]) if is_constant(&arguments[0]) => Way::Count,
            ("sum", [Some(Value)]) if is_float => Way::Sum,
            ("avg", [Some(Value)]) if is_float => Way::Average,
            ("min", [Some(Value)]) if is_float => Way::Least,
            ("max", [Some(Value)]) if is_float => Way::Greatest,
            ("min" | "max", [Some(Time)]) => {
                let is_last = name == "max";
                Way::Sample(Sample { is_last, argument: Time, with_time: false })
            }
            ("first_value" | "last_value", [Some(argument), Some(Time)]) if order_by.len() == 1 => {
                let is_last = (name == "last_value") != order_by[0].options.descending;
                Way::Sample(Sample { is_last, argument: *argument, with_time: true })
            }
            _ => general(arguments),
        };
        Ok(Some(Self { expr: Arc::clone(expr), way }))
    }

    /// What computes it in one partition.
    pub(super) fn start(&self) -> DataFusionResult<Folding> {
        let accumulator = match self.way {
            Way::Sample(_) | Way::General { .. } => Some(self.expr.create_groups_accumulator()?),
            _ => None,
        };
        Ok(Folding { way: self.way.clone(), accumulator, ..Folding::default() })
    }

    /// Whether a chunk's summary may do instead of its samples.
    pub(super) fn takes_chunks(&self) -> bool {
        !self.wants_arrays()
    }

    /// Whether this summary does.
    pub(super) fn takes(&self, summary: &ChunkSummary) -> bool {
        match self.way {
            Way::Count | Way::Sum | Way::Average => true,
            Way::Least | Way::Greatest => summary.is_ordered,
            // A chunk's first and last timestamps may be those of stale markers.
            Way::Sample(_) => summary.stale == 0,
            Way::General { .. } => false,
        }
    }

    /// Whether it needs the times of a chunk.
    pub(super) fn wants_times(&self) -> bool {
        matches!(self.way, Way::Sample(_))
    }

    /// Whether it is computed from columns of Arrow.
    pub(super) fn wants_arrays(&self) -> bool {
        matches!(self.way, Way::General { .. })
    }
}

fn sample_column(expr: &Arc<dyn PhysicalExpr>) -> Option<SampleColumn> {
    match expr.downcast_ref::<Column>()?.name() {
        TIME => Some(SampleColumn::Time),
        VALUE => Some(SampleColumn::Value),
        _ => None,
    }
}

fn is_constant(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Literal>().is_some_and(|literal| !literal.value().is_null())
}

/// The states of the runs so far.
#[derive(Default)]
pub(super) struct Folding {
    way: Way,
    accumulator: Option<Box<dyn GroupsAccumulator>>,
    counts: Vec<usize>,
    numbers: Vec<f64>,
    times: Vec<Timestamp>,
}

impl Folding {
    /// Adds a run of samples.
    pub(super) fn add(&mut self, samples: &Samples, run: Range<usize>) {
        let values = &samples.values[run.clone()];
        match &self.way {
            Way::Count => self.counts.push(run.len()),
            Way::Sum => self.numbers.push(reduce::sum(values)),
            Way::Average => {
                self.counts.push(run.len());
                self.numbers.push(reduce::sum(values));
            }
            Way::Least => self.numbers.push(reduce::least(values)),
            Way::Greatest => self.numbers.push(reduce::greatest(values)),
            Way::Sample(sample) => {
                let row = if sample.is_last { run.end - 1 } else { run.start };
                self.numbers.push(samples.values[row]);
                self.times.push(samples.timestamps[row]);
            }
            Way::General { .. } => {}
        }
    }

    /// Adds a chunk as a run.
    pub(super) fn add_chunk(&mut self, chunk: &WholeChunk) {
        let WholeChunk { times, summary } = chunk;
        match &self.way {
            Way::Count => self.counts.push(summary.count as usize),
            // A sum begins at zero, which is not minus zero.
            Way::Sum => self.numbers.push(0.0 + summary.sum),
            Way::Average => {
                self.counts.push(summary.count as usize);
                self.numbers.push(0.0 + summary.sum);
            }
            Way::Least => self.numbers.push(summary.min),
            Way::Greatest => self.numbers.push(summary.max),
            Way::Sample(Sample { is_last: true, .. }) => {
                self.numbers.push(summary.last);
                self.times.push(times.end());
            }
            Way::Sample(_) => {
                self.numbers.push(summary.first);
                self.times.push(times.start());
            }
            Way::General { .. } => unreachable!("takes no chunks"),
        }
    }

    /// Makes one of the last two runs, of which the last is the later one.
    pub(super) fn join(&mut self) {
        match &self.way {
            Way::Count => join(&mut self.counts, |one, other| one + other),
            Way::Sum => join(&mut self.numbers, |one, other| one + other),
            Way::Average => {
                join(&mut self.counts, |one, other| one + other);
                join(&mut self.numbers, |one, other| one + other);
            }
            Way::Least => join(&mut self.numbers, |one, other| reduce::least(&[one, other])),
            Way::Greatest => join(&mut self.numbers, |one, other| reduce::greatest(&[one, other])),
            Way::Sample(Sample { is_last, .. }) => {
                let is_last = *is_last;
                join(&mut self.numbers, |one, other| if is_last { other } else { one });
                join(&mut self.times, |one, other| if is_last { other } else { one });
            }
            Way::General { .. } => unreachable!("takes no chunks"),
        }
    }

    /// Adds all rows of a series: `groups` are the numbers of their runs, of which there are
    /// `runs` so far.
    pub(super) fn add_rows(
        &mut self,
        rows: &RecordBatch,
        groups: &[usize],
        runs: usize,
    ) -> DataFusionResult<()> {
        let (Way::General { arguments, filter }, Some(accumulator)) =
            (&self.way, &mut self.accumulator)
        else {
            return Ok(());
        };
        let column = |expr: &Arc<dyn PhysicalExpr>| {
            expr.evaluate(rows).and_then(|column| column.into_array(rows.num_rows()))
        };
        let arguments = arguments.iter().map(column).collect::<DataFusionResult<Vec<_>>>()?;
        let filter = filter.as_ref().map(column).transpose()?;
        let filter: Option<&BooleanArray> = filter.as_ref().map(|filter| filter.as_boolean());
        accumulator.update_batch(&arguments, groups, filter, runs)
    }

    /// The states of all runs; the next ones start anew.
    pub(super) fn finish(&mut self) -> DataFusionResult<Vec<ArrayRef>> {
        let counts = std::mem::take(&mut self.counts);
        let numbers = std::mem::take(&mut self.numbers);
        let numbers: ArrayRef = Arc::new(Float64Array::from(numbers));
        let times = TimestampMillisecondArray::from(std::mem::take(&mut self.times));
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        match (&self.way, &mut self.accumulator) {
            (Way::Count, _) => {
                let counts = counts.into_iter().map(|count| i64::try_from(count).ok());
                Ok(vec![Arc::new(Int64Array::from_iter(counts))])
            }
            (Way::Average, _) => {
                let counts = counts.into_iter().map(|count| count as u64);
                Ok(vec![Arc::new(UInt64Array::from_iter_values(counts)), numbers])
            }
            (Way::Sample(sample), Some(accumulator)) => {
                let argument = match sample.argument {
                    SampleColumn::Time => Arc::clone(&times),
                    SampleColumn::Value => numbers,
                };
                let columns: Vec<_> =
                    std::iter::once(argument).chain(sample.with_time.then_some(times)).collect();
                accumulator.convert_to_state(&columns, None)
            }
            (Way::General { .. }, Some(accumulator)) => accumulator.state(EmitTo::All),
            _ => Ok(vec![numbers]),
        }
    }
}

/// Puts one item in place of the last two.
fn join<T: Copy>(items: &mut Vec<T>, make: impl FnOnce(T, T) -> T) {
    if let Some(last) = items.pop()
        && let Some(before) = items.last_mut()
    {
        *before = make(*before, last);
    }
}
