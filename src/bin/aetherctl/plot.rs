//! A range query's answer as a small picture in the terminal: one line per series.

use serde_json::Value;

use crate::output;

/// Series that are drawn; more would only scroll away.
const SERIES_MAX: usize = 12;
const COLUMNS: usize = 60;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The first series of a matrix, each over its own range of values.
pub(crate) fn plot(data: &Value) -> String {
    let mut out = String::new();
    let series: Vec<&Value> = output::list(&data["result"]).collect();
    for one in series.iter().take(SERIES_MAX) {
        let points: Vec<(f64, f64)> = output::list(&one["values"])
            .filter_map(|point| Some((point[0].as_f64()?, point[1].as_str()?.parse().ok()?)))
            .filter(|(_, value): &(f64, f64)| value.is_finite())
            .collect();
        let Some((line, low, high)) = sparkline(&points) else { continue };
        out.push_str(&format!("{line}  {low} … {high}  {}\n", output::metric(&one["metric"])));
    }
    if series.len() > SERIES_MAX {
        out.push_str(&format!("… and {} more series\n", series.len() - SERIES_MAX));
    }
    out
}

/// The mean of each column as a bar, and the lowest and highest of them.
fn sparkline(points: &[(f64, f64)]) -> Option<(String, f64, f64)> {
    let (first, last) = (points.first()?.0, points.last()?.0);
    let mut sums = [(0.0, 0u32); COLUMNS];
    for (at, value) in points {
        let share = if last > first { (at - first) / (last - first) } else { 0.0 };
        let cell = &mut sums[index(share, COLUMNS)];
        *cell = (cell.0 + value, cell.1 + 1);
    }
    let means: Vec<Option<f64>> =
        sums.iter().map(|(sum, count)| (*count > 0).then(|| sum / f64::from(*count))).collect();
    let low = means.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let high = means.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |mean: &Option<f64>| match mean {
        None => ' ',
        Some(mean) if high > low => LEVELS[index((mean - low) / (high - low), LEVELS.len())],
        Some(_) => LEVELS[LEVELS.len() / 2],
    };
    Some((means.iter().map(bar).collect(), low, high))
}

/// Which of `count` parts a share of `[0, 1]` falls into.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn index(share: f64, count: usize) -> usize {
    ((share * count as f64) as usize).min(count - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_values_are_low_and_gaps_are_empty() {
        let points: Vec<(f64, f64)> =
            (0..60).filter(|x| *x != 30).map(|x| (f64::from(x), f64::from(x))).collect();
        let (line, low, high) = sparkline(&points).unwrap();
        assert!(line.starts_with('▁') && line.ends_with('█') && line.contains(' '), "{line}");
        assert_eq!((low, high, line.chars().count()), (0.0, 59.0, COLUMNS));
        assert!(sparkline(&[]).is_none());
        assert!(sparkline(&[(1.0, 2.0)]).unwrap().0.contains('▅'));
    }
}
