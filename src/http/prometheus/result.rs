//! A query's value as JSON.
//!
//! ```text
//! {"resultType":"vector","result":[{"metric":{…},"value":[1435781451.781,"1"]}]}
//! {"resultType":"matrix","result":[{"metric":{…},"values":[[1435781430.781,"1"],…]}]}
//! {"resultType":"scalar","result":[4,"2"]}      {"resultType":"string","result":[4,"text"]}
//! ```
//! Source: prometheus/docs/querying/api.md, web/api/v1/json_codec.go, promql/value.go.

use std::time::Duration;

use crate::http::json;
use crate::model::{Labels, Timestamp};
use crate::promql::{QueryOutcome, QueryStats, RangeSeries, Value};

/// What Prometheus says when `limit` cut a result.
pub(super) const TRUNCATED: &str = "results truncated due to limit";
/// Bytes of an element's frame and of one point, to size the buffer.
const ELEMENT_BYTES: usize = 160;
const POINT_BYTES: usize = 32;
/// Memory of one sample, by which a peak in bytes is told as a number of samples.
const SAMPLE_BYTES: u64 = 16;

/// Keeps the first `limit` elements; says whether there were more.
pub(super) fn truncate(value: &mut Value, limit: Option<usize>) -> bool {
    let Some(limit) = limit else { return false };
    let len = match value {
        Value::Vector(samples) => {
            let len = samples.len();
            samples.truncate(limit);
            len
        }
        Value::Matrix(series) => {
            let len = series.len();
            series.truncate(limit);
            len
        }
        Value::Scalar { .. } | Value::String { .. } => 0,
    };
    len > limit
}

/// About how many bytes the value will take as JSON.
pub(super) fn estimated_bytes(value: &Value) -> usize {
    match value {
        Value::Vector(samples) => samples.len() * (ELEMENT_BYTES + POINT_BYTES),
        Value::Matrix(series) => {
            let points: usize = series.iter().map(|series| series.timestamps.len()).sum();
            series.len() * ELEMENT_BYTES + points * POINT_BYTES
        }
        Value::Scalar { .. } | Value::String { .. } => ELEMENT_BYTES,
    }
}

/// Appends the whole `data` of a query's answer.
pub(super) fn push_data(out: &mut Vec<u8>, outcome: &QueryOutcome, stats: bool) {
    out.reserve(estimated_bytes(&outcome.value));
    out.extend_from_slice(br#"{"resultType":"#);
    json::push_string(out, outcome.value.type_name());
    out.extend_from_slice(br#","result":"#);
    push_value(out, &outcome.value);
    if stats {
        out.extend_from_slice(br#","stats":"#);
        push_stats(out, &outcome.stats);
    }
    if let Some(plan) = &outcome.plan {
        out.extend_from_slice(br#","explain":"#);
        json::push_string(out, plan);
    }
    out.push(b'}');
}

fn push_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Scalar { timestamp, value } => {
            out.push(b'[');
            json::push_timestamp_short(out, *timestamp);
            out.extend_from_slice(b",\"");
            json::push_scalar(out, *value);
            out.extend_from_slice(b"\"]");
        }
        Value::String { timestamp, text } => {
            out.push(b'[');
            json::push_timestamp_short(out, *timestamp);
            out.push(b',');
            json::push_string(out, text);
            out.push(b']');
        }
        Value::Vector(samples) => json::push_array(out, samples, |out, sample| {
            push_metric(out, &sample.labels);
            out.extend_from_slice(br#","value":"#);
            push_point(out, sample.timestamp, sample.value);
            out.push(b'}');
        }),
        Value::Matrix(series) => json::push_array(out, series, push_series),
    }
}

fn push_series(out: &mut Vec<u8>, series: &RangeSeries) {
    push_metric(out, &series.labels);
    out.extend_from_slice(br#","values":"#);
    let points = series.timestamps.iter().zip(&series.values);
    json::push_array(out, points, |out, (timestamp, value)| push_point(out, *timestamp, *value));
    out.push(b'}');
}

fn push_metric(out: &mut Vec<u8>, labels: &Labels) {
    out.extend_from_slice(br#"{"metric":"#);
    json::push_labels(out, labels);
}

fn push_point(out: &mut Vec<u8>, timestamp: Timestamp, value: f64) {
    out.push(b'[');
    json::push_timestamp(out, timestamp);
    out.extend_from_slice(b",\"");
    json::push_value(out, value);
    out.extend_from_slice(b"\"]");
}

/// Prometheus' names where they fit, ours under `aether`.
fn push_stats(out: &mut Vec<u8>, stats: &QueryStats) {
    let evaluated = stats.executed.saturating_sub(stats.prepared);
    let timings = [
        ("evalTotalTime", stats.executed),
        ("resultSortTime", Duration::ZERO),
        ("queryPreparationTime", stats.prepared),
        ("innerEvalTime", evaluated),
        ("execQueueTime", stats.queued),
        ("execTotalTime", stats.queued + stats.executed),
    ];
    out.extend_from_slice(br#"{"timings":"#);
    push_object(out, timings, |out, time| json::push_value(out, time.as_secs_f64()));
    let samples = [
        ("totalQueryableSamples", stats.samples),
        ("samplesRead", stats.samples),
        ("peakSamples", stats.bytes_peak / SAMPLE_BYTES),
    ];
    out.extend_from_slice(br#","samples":"#);
    push_object(out, samples, json::push_integer);
    let ours = [
        ("series", stats.series),
        ("chunks", stats.chunks),
        ("bytesRead", stats.bytes),
        ("bytesPeak", stats.bytes_peak),
    ];
    out.extend_from_slice(br#","aether":"#);
    push_object(out, ours, json::push_integer);
    out.push(b'}');
}

fn push_object<T>(
    out: &mut Vec<u8>,
    members: impl IntoIterator<Item = (&'static str, T)>,
    mut push: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'{');
    for (index, (name, member)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::push_string(out, name);
        out.push(b':');
        push(out, member);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::VectorSample;

    fn labels(pairs: &[(&'static str, &'static str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn data(value: Value, stats: bool) -> String {
        let outcome = QueryOutcome {
            value,
            warnings: Vec::new(),
            infos: Vec::new(),
            stats: QueryStats {
                prepared: Duration::from_millis(250),
                executed: Duration::from_millis(1000),
                samples: 3,
                bytes_peak: 32,
                ..QueryStats::default()
            },
            plan: None,
        };
        let mut out = Vec::new();
        push_data(&mut out, &outcome, stats);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_type_has_prometheus_shape() {
        let vector = Value::Vector(vec![
            VectorSample {
                labels: labels(&[("__name__", "up"), ("job", "a\"b")]),
                timestamp: 1_435_781_451_781,
                value: 1.0,
            },
            VectorSample { labels: Labels::empty(), timestamp: 1000, value: f64::NAN },
        ]);
        assert_eq!(
            data(vector, false),
            concat!(
                r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"b"},"#,
                r#""value":[1435781451.781,"1"]},{"metric":{},"value":[1,"NaN"]}]}"#
            )
        );
        let matrix = Value::Matrix(vec![RangeSeries {
            labels: labels(&[("__name__", "up")]),
            timestamps: vec![1_435_781_430_070, 1_435_781_445_000],
            values: vec![f64::INFINITY, 1e-7],
        }]);
        assert_eq!(
            data(matrix, false),
            concat!(
                r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up"},"values":"#,
                r#"[[1435781430.070,"+Inf"],[1435781445,"1e-07"]]}]}"#
            )
        );
        assert_eq!(data(Value::Matrix(vec![]), false), r#"{"resultType":"matrix","result":[]}"#);
        let scalar = Value::Scalar { timestamp: 4070, value: 2.0 };
        assert_eq!(data(scalar, false), r#"{"resultType":"scalar","result":[4.07,"2"]}"#);
        let string = Value::String { timestamp: 4000, text: "a\nb".to_owned() };
        assert_eq!(data(string, false), r#"{"resultType":"string","result":[4,"a\nb"]}"#);
    }

    #[test]
    fn stats_follow_the_result() {
        assert_eq!(
            data(Value::Vector(vec![]), true),
            concat!(
                r#"{"resultType":"vector","result":[],"stats":{"timings":{"evalTotalTime":1,"#,
                r#""resultSortTime":0,"queryPreparationTime":0.25,"innerEvalTime":0.75,"#,
                r#""execQueueTime":0,"execTotalTime":1},"samples":{"totalQueryableSamples":3,"#,
                r#""samplesRead":3,"peakSamples":2},"aether":{"series":0,"chunks":0,"#,
                r#""bytesRead":0,"bytesPeak":32}}}"#
            )
        );
    }

    #[test]
    fn limit_cuts_elements() {
        let sample = || VectorSample { labels: Labels::empty(), timestamp: 0, value: 0.0 };
        let mut vector = Value::Vector(vec![sample(), sample()]);
        assert!(!truncate(&mut vector, None));
        assert!(!truncate(&mut vector, Some(2)));
        assert!(truncate(&mut vector, Some(1)));
        assert_eq!(vector, Value::Vector(vec![sample()]));
    }
}
