//! Series with everything that rollups could get wrong.

use aetherdb::model::{Labels, METRIC_NAME, stale_nan};

use super::{HOUR, MINUTE, Rows, START, series};
use crate::support::Random;

/// How the values of a metric go, and so how close answers must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whole numbers that grow and now and then start anew.
    WholeCounter,
    /// Tenths that grow and now and then start anew.
    Counter,
    /// Tenths above zero.
    Gauge,
    /// Small whole numbers, NaN, ±Inf, −0.0.
    Wild,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::WholeCounter, Kind::Counter, Kind::Gauge, Kind::Wild];

    pub(crate) fn metric(self) -> &'static str {
        match self {
            Kind::WholeCounter => "whole_total",
            Kind::Counter => "tenths_total",
            Kind::Gauge => "gauge",
            Kind::Wild => "wild",
        }
    }

    /// Whether no sum of values is rounded.
    pub(crate) fn is_exact(self) -> bool {
        matches!(self, Kind::WholeCounter | Kind::Wild)
    }
}

/// When a series has samples.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// Every 15 s, not quite.
    Jittered,
    /// On every whole minute: on the edge of every bucket.
    Aligned,
    /// Every quarter of an hour or so: most fine buckets are empty.
    Sparse,
    /// Half hours with samples, half hours without.
    Gaps,
}

const PACES: [(&str, Pace); 4] = [
    ("jittered", Pace::Jittered),
    ("aligned", Pace::Aligned),
    ("sparse", Pace::Sparse),
    ("gaps", Pace::Gaps),
];

/// A series of every kind and pace, `hours` long.
pub(crate) fn generate(random: &mut Random, hours: i64) -> Vec<(Labels, Rows)> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        for (name, pace) in PACES {
            let labels = series(&[(METRIC_NAME, kind.metric()), ("job", "a"), ("pace", name)]);
            let times = times(random, pace, hours);
            all.push((labels, rows(random, kind, times)));
        }
        // A second series in one group.
        let labels = series(&[(METRIC_NAME, kind.metric()), ("job", "b"), ("pace", "jittered")]);
        let times = times(random, Pace::Jittered, hours / 2);
        all.push((labels, rows(random, kind, times)));
    }
    all
}

fn times(random: &mut Random, pace: Pace, hours: i64) -> Vec<i64> {
    let end = START + hours * HOUR;
    let mut times = Vec::new();
    let mut at = START;
    while at < end {
        match pace {
            Pace::Jittered => at += 14_000 + below(random, 2_000),
            Pace::Aligned => at += MINUTE,
            Pace::Sparse => at += 10 * MINUTE + below(random, 10 * MINUTE),
            Pace::Gaps => {
                at += 20_000;
                // From the first half of an hour to the next hour, and a bit.
                if at.rem_euclid(HOUR) > HOUR / 2 {
                    at = at - at.rem_euclid(HOUR) + HOUR + below(random, 20_000);
                }
            }
        }
        times.push(at);
    }
    times
}

fn rows(random: &mut Random, kind: Kind, times: Vec<i64>) -> Rows {
    let mut rows = Vec::new();
    let mut value = 0.0;
    for at in times {
        // The first sample after the edge of a bucket of five minutes resets twice as often: then
        // the reset lies exactly across the edge.
        let after_edge =
            rows.last().is_some_and(|(last, _)| last / (5 * MINUTE) != at / (5 * MINUTE));
        let resets = random.below(if after_edge { 10 } else { 100 }) == 0;
        match kind {
            Kind::WholeCounter | Kind::Counter => {
                if resets {
                    value = 0.0;
                }
                value += random.below(20) as f64 * if kind == Kind::Counter { 0.1 } else { 1.0 };
            }
            Kind::Gauge => value = 1.0 + random.below(1_000) as f64 * 0.1,
            Kind::Wild => {
                value = match random.below(40) {
                    0 => f64::NAN,
                    1 => f64::INFINITY,
                    2 => f64::NEG_INFINITY,
                    3..=9 => -0.0,
                    10..=16 => 0.0,
                    _ => random.below(9) as f64 - 4.0,
                };
            }
        }
        rows.push((at, if random.below(60) == 0 { stale_nan() } else { value }));
    }
    rows
}

pub(crate) fn below(random: &mut Random, bound: i64) -> i64 {
    i64::try_from(random.below(bound.unsigned_abs())).unwrap()
}
