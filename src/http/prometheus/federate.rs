//! `/federate`: the newest sample of each series that matches, as text for another Prometheus to
//! scrape.
//!
//! ```text
//! # TYPE requests_total counter
//! requests_total{code="200",instance="a:9100"} 17 1700000000000
//! ```
//!
//! Source: prometheus/web/federate.go, prometheus/common/expfmt, prometheus/common/model/metric.go.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::respond;
use crate::http::service::{Ready, Service};
use crate::model::labels::{is_classic_metric_name, quote};
use crate::model::{
    Labels, METRIC_NAME, Matcher, MetricType, Samples, TimeRange, Timestamp, is_stale,
};
use crate::promql::engine::LOOKBACK_MS;
use crate::promql::{format_general, parse_selector};
use crate::query::QueryError;
use crate::query::pace::Pace;
use crate::storage::Engine;

/// What finding and writing a series costs, in samples read.
const SERIES_LOOKS: usize = 512;
/// The label that Prometheus adds, empty, where a series has none.
const INSTANCE: &str = "instance";

/// `GET /federate`.
pub(crate) async fn federate(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    // Unlike elsewhere a selector may select everything.
    let selectors = params.all("match[]").map(parse_selector).collect::<Result<Vec<_>, _>>();
    let selectors = match selectors {
        Ok(selectors) => selectors,
        Err(error) => return Ok(respond::text(StatusCode::BAD_REQUEST, format!("{error}\n"))),
    };
    let escaping = Escaping::of(&headers);
    let now = service.clock.now_ms();
    let work = async move {
        let newest = newest(&engine, &selectors, now).await?;
        Ok(exposition(&engine, newest, escaping).await)
    };
    let ran = service.queries.run(service.queries.limits().timeout, work).await?;
    Ok(respond::typed(StatusCode::OK, escaping.content_type(), ran.value))
}

/// A series and its newest sample.
type Newest = (Labels, Timestamp, f64);

/// The newest samples of all series with a name, unless that sample ends its series; by name, then
/// labels.
async fn newest(
    engine: &Engine,
    selectors: &[Vec<Matcher>],
    now: Timestamp,
) -> Result<Vec<Newest>, QueryError> {
    let snapshot = engine.snapshot();
    let Some(range) = TimeRange::new(now.saturating_sub(LOOKBACK_MS), now) else {
        return Ok(Vec::new());
    };
    let mut series = Vec::new();
    for matchers in selectors {
        series.extend(snapshot.select(matchers, range)?);
    }
    series.sort_unstable_by(|one, two| one.labels.cmp(&two.labels));
    series.dedup_by(|one, two| one.labels == two.labels);
    let (mut reader, mut samples) = (snapshot.reader(), Samples::default());
    let (mut newest, mut pace) = (Vec::new(), Pace::due());
    for one in series.iter().filter(|one| !one.labels.metric_name().is_empty()) {
        reader.read(one, range, &mut samples)?;
        if let (Some(at), Some(value)) = (samples.timestamps.last(), samples.values.last())
            && !is_stale(*value)
        {
            newest.push((one.labels.clone(), *at, *value));
        }
        pace.look(samples.len() + SERIES_LOOKS).await;
    }
    Ok(newest)
}

/// All samples as text, each metric under its type.
async fn exposition(engine: &Engine, newest: Vec<Newest>, escaping: Escaping) -> Vec<u8> {
    let (mut out, mut pace, mut last) = (String::new(), Pace::due(), String::new());
    for (labels, at, value) in newest {
        let metric = labels.metric_name();
        if metric != last {
            metric.clone_into(&mut last);
            // Only these two say of every single series what they say of the metric.
            let known = engine.metadata().get(metric).map(|known| known.metric_type);
            let kind = match known {
                Some(kind @ (MetricType::Counter | MetricType::Gauge)) => kind.as_str(),
                _ => "untyped",
            };
            let name = escaping.name(metric);
            let name = if is_classic_metric_name(&name) { name } else { quote(&name) };
            out.push_str(&format!("# TYPE {name} {kind}\n"));
        }
        push_series(&mut out, &labels, escaping);
        out.push_str(&format!(" {} {at}\n", format_general(value)));
        pace.look(SERIES_LOOKS).await;
    }
    out.into_bytes()
}

/// `name{label="value"}`, or `{"any name","any label"="value"}`.
fn push_series(out: &mut String, labels: &Labels, escaping: Escaping) {
    let metric = escaping.name(labels.metric_name());
    let mut separator = '{';
    if is_classic_metric_name(&metric) {
        out.push_str(&metric);
    } else {
        out.push('{');
        push_quoted(out, &metric);
        separator = ',';
    }
    let no_instance = labels.get(INSTANCE).is_none().then_some((INSTANCE, ""));
    let own = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    for (name, value) in own.chain(no_instance) {
        out.push(separator);
        separator = ',';
        let name = escaping.name(name);
        if is_classic_metric_name(&name) {
            out.push_str(&name);
        } else {
            push_quoted(out, &name);
        }
        out.push('=');
        push_quoted(out, value);
    }
    out.push('}');
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for one in text.chars() {
        match one {
            '"' | '\\' => out.extend(['\\', one]),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// What becomes of names that are not of letters, digits, underscores and colons alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escaping {
    /// They stay.
    None,
    Underscores,
    Dots,
    Values,
}

impl Escaping {
    /// What the client asks for: underscores if it does not know of anything else.
    fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).iter();
        let values = accepted.filter_map(|value| value.to_str().ok()).flat_map(|value| {
            value.split([',', ';']).filter_map(|part| part.trim().strip_prefix("escaping="))
        });
        let mut known = values.filter_map(|value| match value.trim_matches('"') {
            "allow-utf-8" => Some(Self::None),
            "underscores" => Some(Self::Underscores),
            "dots" => Some(Self::Dots),
            "values" => Some(Self::Values),
            _ => None,
        });
        known.next_back().unwrap_or(Self::Underscores)
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::None => "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8",
            Self::Underscores => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Self::Dots => "text/plain; version=0.0.4; charset=utf-8; escaping=dots",
            Self::Values => "text/plain; version=0.0.4; charset=utf-8; escaping=values",
        })
    }

    fn name(self, name: &str) -> String {
        let is_classic = is_classic_metric_name(name);
        if self == Self::None || is_classic && self != Self::Dots {
            return name.to_owned();
        }
        let mut escaped = String::from(if self == Self::Values { "U__" } else { "" });
        for (index, one) in name.chars().enumerate() {
            let fits = one == ':' || one == '_' || one.is_ascii_alphabetic();
            match (self, one) {
                (Self::Dots, '_') => escaped.push_str("__"),
                (Self::Dots, '.') => escaped.push_str("_dot_"),
                (Self::Values, '_') => escaped.push_str("__"),
                _ if fits || one.is_ascii_digit() && index > 0 => escaped.push(one),
                (Self::Dots, _) => escaped.push_str("__"),
                (Self::Values, _) => escaped.push_str(&format!("_{:x}_", u32::from(one))),
                _ => escaped.push('_'),
            }
        }
        escaped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_the_client_asks() {
        for (name, underscores, dots, values) in [
            ("plain_name:x", "plain_name:x", "plain__name:x", "plain_name:x"),
            ("a.b_c", "a_b_c", "a_dot_b__c", "U__a_2e_b__c"),
            ("9né", "_n_", "__n__", "U___39_n_e9_"),
        ] {
            assert_eq!(Escaping::None.name(name), name);
            assert_eq!(Escaping::Underscores.name(name), underscores);
            assert_eq!(Escaping::Dots.name(name), dots);
            assert_eq!(Escaping::Values.name(name), values);
        }
        let asked = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            Escaping::of(&headers)
        };
        assert_eq!(
            asked("text/plain;version=1.0.0;escaping=allow-utf-8,*/*;q=0.1"),
            Escaping::None
        );
        assert_eq!(asked("text/plain; escaping=values"), Escaping::Values);
        assert_eq!(asked("*/*"), Escaping::Underscores);
        assert_eq!(Escaping::of(&HeaderMap::new()), Escaping::Underscores);
    }
}
