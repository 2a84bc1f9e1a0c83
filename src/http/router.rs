//! Every route, and what all answers have in common.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};

use crate::http::error::{ApiError, ErrorType};
use crate::http::service::Service;
use crate::http::{admin, downsample, export, health, prometheus, respond, sql, ui, write};

/// The whole API over one service.
pub fn router(service: Arc<Service>) -> Router {
    let writes = Router::new()
        .route("/api/v1/write", post(write::write))
        .route("/api/v1/import", post(write::import))
        .route("/api/v1/import/prometheus", post(write::import_prometheus))
        .route("/write", post(write::write_influx))
        .route("/api/v2/write", post(write::write_influx))
        .route("/ping", get(write::ping))
        .route("/query", get(write::influx_query).post(write::influx_query));
    let queries = Router::new()
        .route("/api/v1/query", get(prometheus::query).post(prometheus::query))
        .route("/api/v1/query_range", get(prometheus::query_range).post(prometheus::query_range))
        .route("/api/v1/sql", get(sql::sql).post(sql::sql))
        .route("/api/v1/series", get(prometheus::series).post(prometheus::series))
        .route("/api/v1/labels", get(prometheus::label_names).post(prometheus::label_names))
        .route("/api/v1/label/{name}/values", get(prometheus::label_values))
        .route("/api/v1/export", get(export::export).post(export::export))
        .route("/api/v1/export/{id}", get(export::progress))
        .route("/federate", get(prometheus::federate))
        .route("/api/v1/metadata", get(prometheus::metadata))
        .route("/api/v1/format_query", get(prometheus::format_query).post(prometheus::format_query))
        .route("/api/v1/parse_query", get(prometheus::parse_query).post(prometheus::parse_query))
        .route(
            "/api/v1/query_exemplars",
            get(prometheus::query_exemplars).post(prometheus::query_exemplars),
        );
    let states = Router::new()
        .route("/api/v1/status/buildinfo", get(prometheus::build_info))
        .route("/api/v1/status/runtimeinfo", get(prometheus::runtime_info))
        .route("/api/v1/status/flags", get(prometheus::flags))
        .route("/api/v1/status/config", get(prometheus::config))
        .route("/api/v1/status/tsdb", get(prometheus::tsdb))
        .route("/api/v1/status/tsdb/blocks", get(prometheus::blocks))
        .route("/api/v1/status/walreplay", get(prometheus::wal_replay))
        .route("/api/v1/features", get(prometheus::features))
        .route("/api/v1/rules", get(prometheus::rules))
        .route("/api/v1/alerts", get(prometheus::alerts))
        .route("/api/v1/targets", get(prometheus::targets))
        .route("/api/v1/targets/metadata", get(prometheus::target_metadata))
        .route("/api/v1/scrape_pools", get(prometheus::scrape_pools))
        .route("/api/v1/alertmanagers", get(prometheus::alertmanagers))
        .route("/api/v1/notifications", get(prometheus::notifications));
    let tsdb = Router::new()
        .route(
            "/api/v1/admin/tsdb/delete_series",
            post(prometheus::delete_series).put(prometheus::delete_series),
        )
        .route(
            "/api/v1/admin/tsdb/clean_tombstones",
            post(prometheus::clean_tombstones).put(prometheus::clean_tombstones),
        )
        .route("/api/v1/admin/tsdb/snapshot", post(prometheus::snapshot).put(prometheus::snapshot));
    let operation = Router::new()
        .route("/", get(ui::page))
        .route("/health", get(health::health))
        .route("/-/healthy", get(health::healthy))
        .route("/-/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/api/v1/status", get(admin::status))
        .route("/api/v1/admin/flush", post(admin::flush).put(admin::flush))
        .route("/api/v1/admin/compact", post(admin::compact).put(admin::compact))
        .route(
            "/api/v1/admin/downsample",
            post(downsample::downsample).put(downsample::downsample),
        );
    writes
        .merge(queries)
        .merge(states)
        .merge(tsdb)
        .merge(operation)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(across_origins))
        .with_state(service)
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(ErrorType::NotFound, format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(ErrorType::MethodNotAllowed, message)
}

/// Lets pages of any origin read every answer, as Prometheus does, and answers their `OPTIONS`.
/// Source: prometheus/util/httputil/cors.go.
async fn across_origins(request: Request, next: Next) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Accept, Accept-Encoding, Authorization, Content-Encoding, Content-Type, Origin",
        ),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ];
    let mut response = if request.method() == Method::OPTIONS {
        respond::empty(StatusCode::NO_CONTENT)
    } else {
        next.run(request).await
    };
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
