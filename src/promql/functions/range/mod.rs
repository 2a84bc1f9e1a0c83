//! Functions of range vectors: from the samples of one series to one value per step.
//!
//! Prometheus' arithmetic, window after window; where windows overlap much, sums, means, extremes
//! and variances keep state between them and cost O(samples + steps).
//!
//! Source of the arithmetic: prometheus/promql/functions.go, 3.14.

mod fold;
mod instant;
mod kahan;
mod order;
mod rate;
mod rollup;
mod spread;
mod started;
mod trend;
mod window;

use std::sync::Arc;

pub(crate) use instant::{InstantKernel, InstantValue};
pub(crate) use kahan::{Mean, Sum};
pub(crate) use order::quantile_of;
pub(crate) use rate::with_edges;
pub(crate) use spread::Spread;
pub(crate) use window::{Edges, Merge, Window};

use crate::model::{Labels, Samples, TimeRange, Timestamp};
use crate::promql::annotations::Annotations;
use crate::promql::functions::range::started::Counted;
use crate::promql::scalar::Scalar;
use crate::query::rollup_scan::RollupKernel;
use crate::query::scan::drop_stale;
use crate::query::{Grid, QueryError, StartTimestamps, StartedKernel, WindowKernel};

/// A function over range vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeFunction {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Resets,
    Changes,
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Present,
    Stddev,
    Stdvar,
    First,
    Last,
    TsOfFirst,
    TsOfLast,
    TsOfMin,
    TsOfMax,
    Quantile,
    Mad,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
}

/// PromQL's names. `absent_over_time` is `present_over_time` and what is missing from it.
const NAMES: &[(&str, RangeFunction)] = &[
    ("rate", RangeFunction::Rate),
    ("increase", RangeFunction::Increase),
    ("delta", RangeFunction::Delta),
    ("irate", RangeFunction::Irate),
    ("idelta", RangeFunction::Idelta),
    ("resets", RangeFunction::Resets),
    ("changes", RangeFunction::Changes),
    ("sum_over_time", RangeFunction::Sum),
    ("avg_over_time", RangeFunction::Avg),
    ("min_over_time", RangeFunction::Min),
    ("max_over_time", RangeFunction::Max),
    ("count_over_time", RangeFunction::Count),
    ("present_over_time", RangeFunction::Present),
    ("stddev_over_time", RangeFunction::Stddev),
    ("stdvar_over_time", RangeFunction::Stdvar),
    ("first_over_time", RangeFunction::First),
    ("last_over_time", RangeFunction::Last),
    ("ts_of_first_over_time", RangeFunction::TsOfFirst),
    ("ts_of_last_over_time", RangeFunction::TsOfLast),
    ("ts_of_min_over_time", RangeFunction::TsOfMin),
    ("ts_of_max_over_time", RangeFunction::TsOfMax),
    ("quantile_over_time", RangeFunction::Quantile),
    ("mad_over_time", RangeFunction::Mad),
    ("deriv", RangeFunction::Deriv),
    ("predict_linear", RangeFunction::PredictLinear),
    ("double_exponential_smoothing", RangeFunction::DoubleExponentialSmoothing),
];

impl RangeFunction {
    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
    }

    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, known)| *known == self).map_or("?", |(name, _)| name)
    }

    /// Whether the result is still the metric: the sample itself, not something made of it.
    pub(crate) fn keeps_metric_name(self) -> bool {
        matches!(self, RangeFunction::First | RangeFunction::Last)
    }

    /// Whether the function accepts a window with such edges.
    pub(crate) fn accepts(self, edges: Edges) -> bool {
        use RangeFunction::{Changes, Delta, Increase, Rate, Resets};
        match edges {
            Edges::Plain => true,
            Edges::Anchored => matches!(self, Rate | Increase | Delta | Resets | Changes),
            Edges::Smoothed => matches!(self, Rate | Increase | Delta),
        }
    }
}

/// A range function at work: what the scan, or a subquery's window, calls for each series.
#[derive(Debug)]
pub(crate) struct RangeKernel {
    pub(crate) function: RangeFunction,
    pub(crate) window: Window,
    /// Arguments beside the range vector, in order.
    pub(crate) params: Vec<Scalar>,
    pub(crate) annotations: Arc<Annotations>,
    /// Where the range vector stands in the query.
    pub(crate) position: usize,
    /// Whether start timestamps tell resets, and where counting began.
    pub(crate) use_starts: bool,
}

impl WindowKernel for RangeKernel {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn evaluate(
        &self,
        labels: &Labels,
        samples: &mut Samples,
        grid: Grid,
        out: &mut [f64],
    ) -> Result<(), QueryError> {
        self.evaluate_started(labels, samples, &StartTimestamps::default(), grid, out)
    }

    fn read_range(&self, grid: Grid) -> Option<TimeRange> {
        self.window.read_range(grid)
    }

    fn look_cost(&self, samples: &Samples, grid: Grid) -> Option<usize> {
        use RangeFunction as F;
        match self.function {
            F::Sum | F::Avg => fold::sum_look_cost(samples, &self.window, grid),
            F::Quantile | F::Deriv | F::PredictLinear | F::DoubleExponentialSmoothing => Some(4),
            F::Stddev | F::Stdvar => Some(6),
            F::Mad => Some(12),
            F::Rate | F::Increase | F::Delta => (self.window.edges != Edges::Plain).then_some(1),
            _ => None,
        }
    }

    fn rollup(&self) -> Option<&dyn RollupKernel> {
        self.function.rollup_columns(self.window.edges).map(|_| self as &dyn RollupKernel)
    }

    fn started(&self) -> Option<&dyn StartedKernel> {
        use RangeFunction::{Increase, Irate, Rate, Resets};
        let looks = matches!(self.function, Rate | Increase | Irate | Resets)
            && self.window.edges == Edges::Plain;
        (self.use_starts && looks).then_some(self as &dyn StartedKernel)
    }
}

impl StartedKernel for RangeKernel {
    fn evaluate_started(
        &self,
        labels: &Labels,
        samples: &mut Samples,
        starts: &StartTimestamps,
        grid: Grid,
        out: &mut [f64],
    ) -> Result<(), QueryError> {
        drop_stale(samples);
        if samples.is_empty() {
            return Ok(());
        }
        let starts = if starts.is_empty() { Vec::new() } else { starts.of(&samples.timestamps) };
        let input = Input {
            starts: &starts,
            ..Input::new(&samples.timestamps, &samples.values, &self.window, grid)
        };
        match self.function {
            RangeFunction::Rate | RangeFunction::Increase | RangeFunction::Delta => {
                rate::rate(self.function, &input, out);
                if self.function != RangeFunction::Delta {
                    self.check_counter(labels, out);
                    let windows = rate::windows_of_overlaps(&input);
                    if windows > 0 {
                        let (metric, position) = (labels.metric_name(), self.position);
                        self.annotations.starts_overlap(metric, position, windows);
                    }
                }
            }
            RangeFunction::Irate => rate::instant(true, &input, out),
            RangeFunction::Idelta => rate::instant(false, &input, out),
            RangeFunction::Resets => rate::count_steps(&input, out, |row| input.is_reset(row)),
            RangeFunction::Changes => rate::count_steps(&input, out, |row| {
                let (last, next) = (input.values[row - 1], input.values[row]);
                next != last && !(next.is_nan() && last.is_nan())
            }),
            RangeFunction::Sum
            | RangeFunction::Avg
            | RangeFunction::Min
            | RangeFunction::Max
            | RangeFunction::Stddev
            | RangeFunction::Stdvar
            | RangeFunction::TsOfMin
            | RangeFunction::TsOfMax => fold::fold(self.function, &input, out),
            RangeFunction::Count
            | RangeFunction::Present
            | RangeFunction::First
            | RangeFunction::Last
            | RangeFunction::TsOfFirst
            | RangeFunction::TsOfLast => fold::edge(self.function, &input, out),
            RangeFunction::Quantile => order::quantile(&self.params[0], &input, out, |quantile| {
                self.annotations.check_quantile(quantile, self.position)
            }),
            RangeFunction::Mad => order::mad(&input, out),
            RangeFunction::Deriv => trend::deriv(&input, out),
            RangeFunction::PredictLinear => trend::predict_linear(&self.params[0], &input, out),
            RangeFunction::DoubleExponentialSmoothing => {
                trend::smoothing(&self.params[0], &self.params[1], &input, out)?;
            }
        }
        Ok(())
    }
}

impl RangeKernel {
    fn check_counter(&self, labels: &Labels, out: &[f64]) {
        if out.iter().any(|value| !crate::model::is_stale(*value)) {
            self.annotations.check_counter(labels.metric_name(), self.position);
        }
    }
}

/// What all samples of a window are folded to, as parts that merge with those of other series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SampleState {
    Mean,
    /// With what rounding took from it.
    Sum,
    Spread,
}

/// The state of all samples of each window.
#[derive(Debug)]
pub(crate) struct SampleFold {
    pub(crate) state: SampleState,
    pub(crate) window: Window,
}

impl WindowKernel for SampleFold {
    fn name(&self) -> &str {
        match self.state {
            SampleState::Mean => "mean",
            SampleState::Sum => "sum",
            SampleState::Spread => "spread",
        }
    }

    fn width(&self) -> usize {
        match self.state {
            SampleState::Mean => Mean::PARTS,
            SampleState::Sum => Sum::PARTS,
            SampleState::Spread => Spread::PARTS,
        }
    }

    fn evaluate(
        &self,
        _: &Labels,
        samples: &mut Samples,
        grid: Grid,
        out: &mut [f64],
    ) -> Result<(), QueryError> {
        drop_stale(samples);
        let input = Input::new(&samples.timestamps, &samples.values, &self.window, grid);
        match self.state {
            SampleState::Mean => fold::means(&input, out),
            SampleState::Sum => fold::sums(&input, out),
            SampleState::Spread => fold::spreads(&input, out),
        }
        Ok(())
    }

    fn read_range(&self, grid: Grid) -> Option<TimeRange> {
        self.window.read_range(grid)
    }

    fn look_cost(&self, samples: &Samples, grid: Grid) -> Option<usize> {
        match self.state {
            SampleState::Mean | SampleState::Sum => {
                fold::sum_look_cost(samples, &self.window, grid)
            }
            SampleState::Spread => None,
        }
    }

    fn rollup(&self) -> Option<&dyn RollupKernel> {
        // Rows do not say how their samples are spread.
        let told = self.state != SampleState::Spread && self.window.edges == Edges::Plain;
        told.then_some(self as &dyn RollupKernel)
    }
}

/// The samples of one series, and the windows over them.
struct Input<'a> {
    timestamps: &'a [i64],
    values: &'a [f64],
    /// Start timestamp of each sample, 0 if it is unknown; empty if they do not matter.
    starts: &'a [Timestamp],
    window: &'a Window,
    grid: Grid,
}

impl<'a> Input<'a> {
    /// Of samples whose start timestamps do not matter.
    fn new(timestamps: &'a [i64], values: &'a [f64], window: &'a Window, grid: Grid) -> Self {
        Self { timestamps, values, starts: &[], window, grid }
    }

    fn slide(&self, visit: impl FnMut(usize, usize, usize)) {
        self.window.slide(self.timestamps, self.grid, visit);
    }

    /// Whether a counter began anew between the sample in front of this row and this one.
    #[inline]
    fn is_reset(&self, row: usize) -> bool {
        self.values[row] < self.values[row - 1]
            || !self.starts.is_empty()
                && started::is_reset(self.counted(row - 1), self.counted(row))
    }

    /// Since when and until when a sample has counted.
    #[inline]
    fn counted(&self, row: usize) -> Counted {
        Counted { start: self.starts[row], end: self.timestamps[row] }
    }
}

/// Milliseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "as Prometheus converts timestamps")]
#[inline]
pub(crate) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

/// A count of samples; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "no window holds 2^53 samples")]
#[inline]
fn float(count: usize) -> f64 {
    count as f64
}
