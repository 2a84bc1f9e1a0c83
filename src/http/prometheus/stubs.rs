//! What Prometheus has and we have not (rules, alerts, scraping, exemplars), answered as a
//! Prometheus without any of it answers. Grafana asks for these when it opens a data source.

use axum::response::Response;
use serde_json::json;

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::respond;
use crate::promql::parse;

/// `GET /api/v1/rules`.
pub(crate) async fn rules(params: Params) -> Result<Response, ApiError> {
    let kind = params.get("type").to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        return Err(ApiError::invalid_parameter("type", format!("not supported value {kind:?}")));
    }
    Ok(respond::success(&json!({"groups": []})))
}

/// `GET /api/v1/alerts`.
pub(crate) async fn alerts() -> Response {
    respond::success(&json!({"alerts": []}))
}

/// `GET /api/v1/targets`.
pub(crate) async fn targets() -> Response {
    respond::success(&json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}}))
}

/// `GET /api/v1/targets/metadata`.
pub(crate) async fn target_metadata() -> Response {
    respond::success(&json!([]))
}

/// `GET /api/v1/scrape_pools`.
pub(crate) async fn scrape_pools() -> Response {
    respond::success(&json!({"scrapePools": []}))
}

/// `GET /api/v1/alertmanagers`.
pub(crate) async fn alertmanagers() -> Response {
    respond::success(&json!({"activeAlertmanagers": [], "droppedAlertmanagers": []}))
}

/// `GET /api/v1/notifications`.
pub(crate) async fn notifications() -> Response {
    respond::success(&json!([]))
}

/// `GET|POST /api/v1/query_exemplars`. Its times are not looked at: Grafana sends milliseconds
/// where seconds belong.
pub(crate) async fn query_exemplars(params: Params) -> Result<Response, ApiError> {
    match parse(params.get("query")) {
        Err(error) if !error.is_too_deep() => Err(ApiError::bad_data(error.to_string())),
        _ => Ok(respond::success(&json!([]))),
    }
}
