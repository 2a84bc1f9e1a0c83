//! Type, help and unit of metrics, as clients reported them.

use axum::http::HeaderMap;
use axum::response::Response;

use crate::http::body;
use crate::http::error::ApiError;
use crate::http::json;
use crate::http::params::Params;
use crate::http::respond;
use crate::http::service::Ready;
use crate::model::Metadata;

/// About what one metric takes as JSON.
const METRIC_BYTES: usize = 128;

/// `GET /api/v1/metadata`.
pub(crate) async fn metadata(
    Ready(engine): Ready,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = count(&params, "limit")?;
    // The latest report of each metric is all we keep, so this only has to be a number.
    count(&params, "limit_per_metric")?;
    let known = match params.get("metric") {
        "" => engine.metadata().list(limit),
        metric => {
            let one = engine.metadata().get(metric);
            one.map(|one| (metric.to_owned(), one)).into_iter().take(limit).collect()
        }
    };
    Ok(body::work(known.len() * METRIC_BYTES, || {
        let push = |out: &mut Vec<u8>| push_all(out, &known);
        respond::large_json(&headers, respond::success_body(push, &[], &[]))
    }))
}

/// A negative number, and none, means all.
fn count(params: &Params, name: &str) -> Result<usize, ApiError> {
    let number = params.integer(name).map_err(|_| {
        // Prometheus' words, which differ from those of other limits.
        ApiError::bad_data(format!("{name} must be a number"))
    })?;
    Ok(number.and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX))
}

fn push_all(out: &mut Vec<u8>, known: &[(String, Metadata)]) {
    out.push(b'{');
    for (index, (metric, one)) in known.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::push_string(out, metric);
        out.push(b':');
        json::push_array(out, [one], push_one);
    }
    out.push(b'}');
}

fn push_one(out: &mut Vec<u8>, one: &Metadata) {
    out.extend_from_slice(br#"{"type":"#);
    json::push_string(out, one.metric_type.as_str());
    out.extend_from_slice(br#","help":"#);
    json::push_string(out, &one.help);
    out.extend_from_slice(br#","unit":"#);
    json::push_string(out, &one.unit);
    out.push(b'}');
}
