//! What Prometheus has and we have not (rules, alerts, scraping, exemplars), answered as a
//! Prometheus without any of it answers. Grafana asks for these when it opens a data source.

use axum::response::Response;
use serde_json::json;

use crate::http::respond;

/// `GET /api/v1/rules`.
pub(crate) async fn rules() -> Response {
    respond::success(&json!({"groups": []}))
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

/// `GET|POST /api/v1/query_exemplars`. Its parameters are not looked at: Grafana sends
/// milliseconds where seconds belong.
pub(crate) async fn query_exemplars() -> Response {
    respond::success(&json!([]))
}
