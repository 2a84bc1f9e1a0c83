//! Start timestamps: when that began which a sample of a counter has counted.
//!
//! A series' start timestamps are the samples of a companion series, which has the same labels and
//! a metric name that is marked: at the time of a sample, its start timestamp as a number of
//! milliseconds. So they are logged, kept, merged and deleted as samples are, and take next to no
//! space, since they seldom change and blocks hold each column of times once. Nobody sees a
//! companion: a snapshot gives it only to those who ask for start timestamps.

use crate::model::labels::{END, Labels, METRIC_NAME};
use crate::model::matcher::{MatchOp, Matcher};
use crate::model::time::Timestamp;

/// Ends the metric name of a companion series. No other series may have such a name.
const MARK: &str = "\0start_timestamps";

/// Whether a metric name is that of a companion series.
pub fn is_companion_name(metric: &str) -> bool {
    metric.ends_with(MARK)
}

/// The metric name of the companion series of those named `metric`.
pub fn companion_name(metric: &str) -> String {
    format!("{metric}{MARK}")
}

/// Whether the matchers may select companion series: not if they name a metric.
pub fn may_select_companions(matchers: &[Matcher]) -> bool {
    !matchers.iter().any(|matcher| names_metric(matcher) && !is_companion_name(matcher.value()))
}

/// Matchers that select the companions of all series that `matchers` select, and perhaps others.
pub fn companion_matchers(matchers: &[Matcher]) -> Vec<Matcher> {
    let is_name = |matcher: &&Matcher| matcher.name() == METRIC_NAME;
    let mut of_companions: Vec<Matcher> =
        matchers.iter().filter(|matcher| !is_name(matcher)).cloned().collect();
    of_companions.push(match matchers.iter().find(|matcher| names_metric(matcher)) {
        Some(matcher) => Matcher::equal(METRIC_NAME, companion_name(matcher.value())),
        None => Matcher::new(MatchOp::Regex, METRIC_NAME, format!(".*{MARK}"))
            .expect("a pattern of ours is well-formed"),
    });
    of_companions
}

fn names_metric(matcher: &Matcher) -> bool {
    matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal
}

impl Labels {
    /// Whether this is a companion series.
    #[inline]
    pub fn is_companion(&self) -> bool {
        is_companion_name(self.metric_name())
    }

    /// The series that has this one's start timestamps.
    pub fn companion(&self) -> Self {
        let metric = self.metric_name();
        let rest = &self.as_bytes()[metric.len()..];
        let key = [metric.as_bytes(), MARK.as_bytes(), rest].concat();
        Self::from_bytes(&key).expect("a key stays one when its metric name grows")
    }

    /// The series whose start timestamps this one has; `None` if it is no companion.
    pub fn without_mark(&self) -> Option<Self> {
        let metric = self.metric_name().strip_suffix(MARK)?;
        let key = self.as_bytes();
        let end = memchr::memchr(END, key)?;
        let key = [metric.as_bytes(), &key[end..]].concat();
        Some(Self::from_bytes(&key).expect("a key stays one when its metric name shrinks"))
    }
}

/// The value of a companion's sample.
#[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years around 1970")]
pub fn to_value(start: Timestamp) -> f64 {
    start as f64
}

/// The start timestamp that a companion's sample holds.
#[expect(clippy::cast_possible_truncation, reason = "saturates; what was stored was whole")]
pub fn from_value(value: f64) -> Timestamp {
    value as Timestamp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn companions_are_told_apart_and_lead_back() {
        for pairs in [vec![("__name__", "m"), ("a", "1")], vec![("__name__", "m")], vec![]] {
            let labels = Labels::from_pairs(pairs).unwrap();
            let companion = labels.companion();
            assert!(companion.is_companion() && !labels.is_companion());
            assert_eq!(companion.metric_name(), companion_name(labels.metric_name()));
            assert_eq!(companion.get("a"), labels.get("a"));
            assert_eq!((companion.without_mark(), labels.without_mark()), (Some(labels), None));
        }
        assert_eq!(from_value(to_value(1_699_500_000_123)), 1_699_500_000_123);
    }
}
