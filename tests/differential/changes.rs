//! What 3.x computes otherwise than 2.42 and no generator can leave out, since it depends on the
//! data. Each change has a predicate that finds it at work in a query that differs: it looks for
//! the call, asks both servers for the call alone at the time in question, and compares their
//! answers with what each version makes of the samples.

use serde_json::Value;

use crate::differential::Api;
use crate::differential::compare::{self, Points};

/// Two averages of the same values that differ by less differ by rounding alone.
const ROUNDING: f64 = 1e-12;

/// A change of 3.x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// `rate` and `increase` of samples that begin well inside of their window: 2.x extrapolates
    /// up to the counter's zero if that is near, 3.x half an interval at most.
    /// <https://github.com/prometheus/prometheus/pull/16433>
    TowardsZero,
    /// `avg` and `avg_over_time`: 2.x updates a mean value by value, 3.x divides a compensated
    /// sum. Their last digits differ, and a reset, a comparison, a remainder or a difference around
    /// them makes those the first.
    MeanOfSum,
}

impl Change {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Change::TowardsZero => "counters extrapolated towards zero",
            Change::MeanOfSum => "means from compensated sums",
        }
    }
}

/// The change that makes answers to a query differ at a time, if it is one of these.
pub(crate) async fn explain(
    prometheus: &Api,
    aether: &Api,
    query: &str,
    at_ms: Option<i64>,
) -> Option<Change> {
    let times = times(query, at_ms?);
    for call in calls(query, &["rate", "increase"]) {
        for at_ms in &times {
            if is_towards_zero(prometheus, aether, &call, *at_ms).await {
                return Some(Change::TowardsZero);
            }
        }
    }
    for call in calls(query, &["avg_over_time", "avg"]) {
        for at_ms in &times {
            if is_rounding(prometheus, aether, &call, *at_ms).await {
                return Some(Change::MeanOfSum);
            }
        }
    }
    None
}

/// A call as text, with what is known of it.
#[derive(Debug, PartialEq)]
struct CallText<'a> {
    name: &'a str,
    text: &'a str,
    argument: &'a str,
}

/// All calls of these functions and aggregations.
fn calls<'a>(query: &'a str, names: &[&'a str]) -> Vec<CallText<'a>> {
    let mut calls = Vec::new();
    for name in names {
        for (start, _) in query.match_indices(name) {
            let before = query[..start].chars().next_back();
            let after = &query[start + name.len()..];
            let is_word = |one: char| one.is_alphanumeric() || one == '_';
            if before.is_some_and(is_word) || after.starts_with(is_word) {
                continue;
            }
            // `by (…)` and `without (…)` come before the operand.
            let mut open = after.find('(').unwrap();
            if after[..open].contains("by") || after[..open].contains("without") {
                let end = open + closing(&after[open..]);
                open = end + after[end..].find('(').unwrap();
            }
            let end = open + closing(&after[open..]);
            let text = &query[start..start + name.len() + end];
            calls.push(CallText { name, text, argument: &after[open + 1..end - 1] });
        }
    }
    calls
}

/// Where the parenthesis that the text begins with is closed.
fn closing(text: &str) -> usize {
    let (mut depth, mut quoted) = (0, false);
    for (at, one) in text.char_indices() {
        match one {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    panic!("{text} is not closed");
}

/// When a call in this query may have been evaluated for an answer at this time: then, or at the
/// steps of the one subquery around it.
fn times(query: &str, at_ms: i64) -> Vec<i64> {
    let mut times = vec![at_ms];
    if let Some((before, after)) = query.split_once("s:") {
        let number = |text: &str| text.parse::<i64>().unwrap() * 1_000;
        let range_ms = number(&before[before.rfind('[').unwrap() + 1..]);
        let step_ms = number(&after[..after.find("s]").unwrap()]);
        let first = (at_ms - range_ms).div_euclid(step_ms) + 1;
        times.extend((first..).map(|step| step * step_ms).take_while(|step| *step <= at_ms));
    }
    times
}

async fn ask(api: &Api, query: &str, at_ms: i64) -> Value {
    let time = format!("{:.3}", at_ms as f64 / 1e3);
    api.post("query", &[("query", query), ("time", &time)]).await
}

async fn ask_both(prometheus: &Api, aether: &Api, query: &str, at_ms: i64) -> (Points, Points) {
    let (theirs, ours) = tokio::join!(ask(prometheus, query, at_ms), ask(aether, query, at_ms));
    (compare::points(&theirs["data"]), compare::points(&ours["data"]))
}

/// Whether a series of this `rate` or `increase` has what each version makes of its samples, and
/// those differ.
async fn is_towards_zero(prometheus: &Api, aether: &Api, call: &CallText<'_>, at_ms: i64) -> bool {
    let (bracket, end) = (call.argument.rfind('[').unwrap(), call.argument.rfind(']').unwrap());
    let range = call.argument[bracket + 1..end].split(':').next().unwrap();
    let range_s: f64 = range.trim_end_matches('s').parse().unwrap();
    let shift = call.argument[end + 1..].trim();
    if shift.contains('@') {
        // Pinned to another time than that of the difference.
        return false;
    }
    let offset = shift.strip_prefix("offset ");
    let offset_s: f64 = offset.map_or(0.0, |text| text.trim_end_matches('s').parse().unwrap());
    // Milliseconds are exact where seconds since 1970 lose digits.
    let end_ms = at_ms as f64 - offset_s * 1e3;
    let (theirs, ours) = ask_both(prometheus, aether, call.text, at_ms).await;
    let samples = ask(aether, call.argument, at_ms).await;
    samples["data"]["result"].as_array().is_some_and(|list| {
        list.iter().any(|series| {
            let samples: Vec<(f64, f64)> = series["values"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|sample| {
                    let at_ms = (sample[0].as_f64().unwrap() * 1e3).round();
                    (at_ms - end_ms, compare::number(&sample[1]))
                })
                .collect();
            let mut labels = series["metric"].clone();
            labels.as_object_mut().unwrap().remove("__name__");
            let name = labels.to_string();
            let Some((before, after)) = extrapolated(&samples, range_s * 1e3) else {
                return false;
            };
            let per = if call.name == "rate" { range_s } else { 1.0 };
            let is = |points: &Points, value: f64| {
                let found = points.iter().find(|((series, _), _)| *series == name);
                found.is_some_and(|(_, found)| compare::equal(*found, value / per))
            };
            !compare::equal(before, after) && is(&theirs, before) && is(&ours, after)
        })
    })
}

/// The increase of a counter over a window of this length that ends at 0, as 2.42 and as 3.x
/// extrapolate it. Samples have times and values.
fn extrapolated(samples: &[(f64, f64)], range: f64) -> Option<(f64, f64)> {
    let (first, last) = (samples.first()?, samples.last()?);
    if samples.len() < 2 {
        return None;
    }
    let falls = samples.windows(2).filter(|pair| pair[1].1 < pair[0].1);
    let increase = last.1 - first.1 + falls.map(|pair| pair[0].1).sum::<f64>();
    let sampled = last.0 - first.0;
    let between = sampled / (samples.len() - 1) as f64;
    let threshold = between * 1.1;
    let half_if_far = |apart: f64| if apart < threshold { apart } else { between / 2.0 };
    let to_start = first.0 + range;
    let to_zero = if increase > 0.0 && first.1 >= 0.0 {
        sampled * (first.1 / increase)
    } else {
        f64::INFINITY
    };
    let at_end = half_if_far(-last.0);
    let grown = |at_start: f64| increase * ((sampled + at_start + at_end) / sampled);
    Some((grown(half_if_far(to_start.min(to_zero))), grown(half_if_far(to_start).min(to_zero))))
}

/// Whether both give this average, and not to the last digit.
async fn is_rounding(prometheus: &Api, aether: &Api, call: &CallText<'_>, at_ms: i64) -> bool {
    let (theirs, ours) = ask_both(prometheus, aether, call.text, at_ms).await;
    let near = |one: f64, two: f64| (one - two).abs() <= ROUNDING * one.abs().max(two.abs());
    theirs
        .iter()
        .any(|(at, value)| ours.get(at).is_some_and(|own| value != own && near(*value, *own)))
}

#[test]
fn calls_are_found_in_a_query() {
    let query =
        "-(sum by (a) (rate(x{b=\")\"}[5s] offset 3s))) / avg by (c) (avg_over_time((y)[9s:2s]))";
    let found = calls(query, &["rate", "avg", "avg_over_time", "x"]);
    let found: Vec<_> = found.iter().map(|call| (call.text, call.argument)).collect();
    let rate = "rate(x{b=\")\"}[5s] offset 3s)";
    assert_eq!(found[0], (rate, "x{b=\")\"}[5s] offset 3s"));
    assert_eq!(found[1].1, "avg_over_time((y)[9s:2s])");
    assert_eq!(found[2], ("avg_over_time((y)[9s:2s])", "(y)[9s:2s]"));
    assert_eq!(times(query, 10_500), [10_500, 2_000, 4_000, 6_000, 8_000, 10_000]);
}

#[test]
fn a_counter_near_its_birth_is_extrapolated_otherwise() {
    // Far from the window's start; zero is nearer than an interval and farther than half of one.
    let samples = [(-4.5, 1.5), (-2.5, 3.5), (-0.5, 5.5)];
    let (before, after) = extrapolated(&samples, 12.5).unwrap();
    assert_eq!((before, after), (4.0 * 6.0 / 4.0, 4.0 * 5.5 / 4.0));
    let (before, after) = extrapolated(&samples, 5.5).unwrap();
    assert_eq!(before, after);
}
