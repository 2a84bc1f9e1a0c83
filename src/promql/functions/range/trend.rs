//! Trends: least squares for `deriv` and `predict_linear`, and double exponential smoothing.

use crate::promql::functions::range::kahan::Sum;
use crate::promql::functions::range::{Input, seconds};
use crate::promql::scalar::Scalar;
use crate::query::QueryError;

/// `deriv`: the slope.
pub(crate) fn deriv(input: &Input<'_>, out: &mut [f64]) {
    input.slide(|step, low, high| {
        if high - low >= 2 {
            let (timestamps, values) = (&input.timestamps[low..high], &input.values[low..high]);
            out[step] = regression(timestamps, values, timestamps[0]).0;
        }
    });
}

/// `predict_linear`: the line's value so many seconds after the step.
pub(crate) fn predict_linear(after: &Scalar, input: &Input<'_>, out: &mut [f64]) {
    input.slide(|step, low, high| {
        if high - low >= 2 {
            let (timestamps, values) = (&input.timestamps[low..high], &input.values[low..high]);
            let (slope, value) = regression(timestamps, values, input.grid.at(step));
            out[step] = slope * after.at(input.grid.number(step)) + value;
        }
    });
}

/// Slope of the least-squares line and its value at time `origin`.
fn regression(timestamps: &[i64], values: &[f64], origin: i64) -> (f64, f64) {
    let first = values[0];
    if values[1..].iter().all(|value| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let mut count = 0.0;
    let [mut x, mut y, mut xy, mut xx] = [Sum::default(); 4];
    for (timestamp, value) in timestamps.iter().zip(values) {
        count += 1.0;
        let at = seconds(timestamp - origin);
        x.add(at);
        y.add(*value);
        xy.add(at * value);
        xx.add(at * at);
    }
    let [x, y, xy, xx] = [x, y, xy, xx].map(|sum| sum.sum + sum.lost);
    let slope = (xy - x * y / count) / (xx - x * x / count);
    (slope, y / count - slope * x / count)
}

/// `double_exponential_smoothing`: level and trend, both smoothed.
pub(crate) fn smoothing(
    level: &Scalar,
    trend: &Scalar,
    input: &Input<'_>,
    out: &mut [f64],
) -> Result<(), QueryError> {
    let mut wrong = None;
    input.slide(|step, low, high| {
        let number = input.grid.number(step);
        let (level, trend) = (level.at(number), trend.at(number));
        for (what, factor) in [("smoothing", level), ("trend", trend)] {
            if factor <= 0.0 || factor >= 1.0 {
                wrong.get_or_insert_with(|| {
                    let got = match factor {
                        f64::INFINITY => "+Inf".to_owned(),
                        f64::NEG_INFINITY => "-Inf".to_owned(),
                        factor => format!("{factor:.6}"),
                    };
                    format!("invalid {what} factor. Expected: 0 < {}f < 1, got: {got}", &what[..1])
                });
                return;
            }
        }
        let values = &input.values[low..high];
        if values.len() >= 2 {
            out[step] = smooth(values, level, trend);
        }
    });
    wrong.map_or(Ok(()), |text| Err(QueryError::Execution(text)))
}

fn smooth(values: &[f64], level: f64, trend: f64) -> f64 {
    let (mut before, mut smoothed) = (0.0, values[0]);
    let mut slope = values[1] - values[0];
    for (row, value) in values.iter().enumerate().skip(1) {
        if row > 1 {
            slope = trend * (smoothed - before) + (1.0 - trend) * slope;
        }
        let next = level * value + (1.0 - level) * (smoothed + slope);
        (before, smoothed) = (smoothed, next);
    }
    smoothed
}
