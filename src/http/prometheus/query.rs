//! `query` and `query_range`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::http::body;
use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::prometheus::result;
use crate::http::respond;
use crate::http::service::{Ready, Service};
use crate::promql::{self, Explain, PromqlError, Query, QueryKind, QueryOutcome};
use crate::query::QueryLimits;
use crate::storage::Engine;

/// `GET|POST /api/v1/query`.
pub(crate) async fn query(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let time = params.time_or("time", service.clock.now_ms())?;
    let query = build(&service, &params, QueryKind::Instant { time })?;
    let outcome = evaluate(&service, &engine, &query).await?;
    Ok(answer(&headers, &params, limit, outcome))
}

/// `GET|POST /api/v1/query_range`.
pub(crate) async fn query_range(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let (start, end) = (params.time("start")?, params.time("end")?);
    if end < start {
        let reason = "end timestamp must not be before start time";
        return Err(ApiError::invalid_parameter("end", reason));
    }
    let step_ms = params.duration_ms("step")?.ok_or_else(|| {
        ApiError::invalid_parameter("step", "cannot parse \"\" to a valid duration")
    })?;
    if step_ms <= 0 {
        let reason = "zero or negative query resolution step widths are not accepted. \
                      Try a positive integer";
        return Err(ApiError::invalid_parameter("step", reason));
    }
    check_points(start, end, step_ms, service.queries.limits())?;
    let query = build(&service, &params, QueryKind::Range { start, end, step_ms })?;
    let outcome = evaluate(&service, &engine, &query).await?;
    Ok(answer(&headers, &params, limit, outcome))
}

/// Clients know this error by its beginning.
fn check_points(start: i64, end: i64, step_ms: i64, limits: &QueryLimits) -> Result<(), ApiError> {
    if (end.abs_diff(start) / step_ms.unsigned_abs()) <= limits.points_max {
        return Ok(());
    }
    Err(ApiError::bad_data(format!(
        "exceeded maximum resolution of {} points per timeseries. Try a larger step (?step=XX) or \
         a shorter range (setting {})",
        grouped(limits.points_max),
        QueryLimits::POINTS_SETTING,
    )))
}

/// `11000` as `11,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn build(service: &Service, params: &Params, kind: QueryKind) -> Result<Query, ApiError> {
    let mut query = Query::new(params.get("query"), kind, service.queries.limits());
    if let Some(timeout_ms) = params.duration_ms("timeout")? {
        let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        query.limits.timeout = query.limits.timeout.min(timeout);
    }
    match params.duration_ms("lookback_delta")? {
        Some(lookback_ms) if lookback_ms > 0 => query.lookback_ms = lookback_ms,
        _ => {}
    }
    match params.get("max_source_resolution") {
        "" => {}
        text => {
            query.max_source_resolution = text
                .parse()
                .map_err(|error| ApiError::invalid_parameter("max_source_resolution", error))?;
        }
    }
    query.explain = match params.get("explain") {
        "" | "false" | "0" => Explain::Off,
        "true" | "1" | "plan" => Explain::Plan,
        "analyze" => Explain::Analyze,
        other => {
            let reason = format!("{other:?} is not one of true, analyze");
            return Err(ApiError::invalid_parameter("explain", reason));
        }
    };
    Ok(query)
}

/// Evaluates on the query threads. When the client goes away this future is dropped, and the
/// query with it.
async fn evaluate(
    service: &Service,
    engine: &Engine,
    query: &Query,
) -> Result<QueryOutcome, ApiError> {
    let telemetry = &service.telemetry;
    let start = service.clock.monotonic();
    telemetry.queries.inc();
    let evaluated = promql::evaluate(&engine.snapshot(), query, &service.queries).await;
    telemetry.query_latency.observe(service.clock.monotonic().saturating_sub(start));
    match &evaluated {
        Ok(outcome) => telemetry.query_samples.add(outcome.stats.samples),
        Err(_) => telemetry.query_failures.inc(),
    }
    evaluated.map_err(|error| match error {
        // Only these two speak of the text; others have no parameter to blame.
        PromqlError::Parse(_) | PromqlError::Parameter(_) => {
            ApiError::invalid_parameter("query", error)
        }
        other => ApiError::from(other),
    })
}

fn answer(
    headers: &HeaderMap,
    params: &Params,
    limit: Option<usize>,
    mut outcome: QueryOutcome,
) -> Response {
    if result::truncate(&mut outcome.value, limit) {
        outcome.warnings.push(result::TRUNCATED.to_owned());
    }
    let stats = params.get("stats");
    if !matches!(stats, "" | "true" | "all") {
        outcome.warnings.push(format!("stats={stats:?} is deprecated: say true or all"));
    }
    body::work(result::estimated_bytes(&outcome.value), || {
        let push = |out: &mut Vec<u8>| result::push_data(out, &outcome, !stats.is_empty());
        let body = respond::success_body(push, &outcome.warnings, &outcome.infos);
        respond::large_json(headers, body)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_points_are_refused_with_prometheus_words() {
        let limits = QueryLimits::default();
        assert!(check_points(0, 11_000_000, 1000, &limits).is_ok());
        let error = check_points(0, 11_001_000, 1000, &limits).unwrap_err();
        let expected = "exceeded maximum resolution of 11,000 points per timeseries.";
        assert!(error.message.starts_with(expected), "{}", error.message);
        assert!(error.message.contains("--query-points-max"), "{}", error.message);
        assert!(check_points(i64::MIN / 2, i64::MAX / 2, 1, &limits).is_err());
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(123_456), "123,456");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
