//! Influx line protocol as InfluxDB 1 and 2 take it, and the questions that its clients ask
//! before they write.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::respond;
use crate::http::service::{Ready, Service};
use crate::http::write::{Format, WriteRequest, report, store};
use crate::ingest::Precision;

/// The one database that there is, whatever a client calls it.
const DATABASE: &str = "aetherdb";
/// Clients ask for a version before they write; this is the last one of the 1.x line.
const VERSION: HeaderValue = HeaderValue::from_static("1.8.10");

/// `POST /write` (version 1) and `POST /api/v2/write`. `db`, `rp`, `bucket`, `org` and credentials
/// are taken and mean nothing here.
pub(crate) async fn write_influx(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let params = Params::parse(query.as_deref().unwrap_or_default(), b"");
    let request = WriteRequest::text(&service, Format::Influx, &headers, &params);
    let request = request.and_then(|mut request| {
        request.options.precision = precision(&params)?;
        Ok(request)
    });
    report::answer(store(&service, &engine, request, &headers, body).await)
}

fn precision(params: &Params) -> Result<Precision, ApiError> {
    let name = params.get("precision");
    Precision::parse(name).ok_or_else(|| {
        let reason = format!("{name:?} is not one of ns, us, ms, s, m, h");
        ApiError::invalid_parameter("precision", reason)
    })
}

/// `GET|HEAD /ping`.
pub(crate) async fn ping() -> Response {
    const VERSION_NAME: HeaderName = HeaderName::from_static("x-influxdb-version");
    let mut response = respond::empty(StatusCode::NO_CONTENT);
    response.headers_mut().insert(VERSION_NAME, VERSION);
    response
}

/// `GET|POST /query`: says yes to `CREATE DATABASE` and lists the one database. InfluxQL itself is
/// not spoken.
pub(crate) async fn influx_query(params: Params) -> Response {
    let (status, document) = answer_statement(params.get("q"));
    let mut body = Vec::new();
    respond::push_document(&mut body, &document);
    respond::json(status, body)
}

fn answer_statement(statement: &str) -> (StatusCode, Value) {
    let words: Vec<String> =
        statement.split_whitespace().take(2).map(str::to_ascii_uppercase).collect();
    match words.join(" ").trim_end_matches(';') {
        "CREATE DATABASE" | "CREATE RETENTION" => {
            (StatusCode::OK, json!({"results": [{"statement_id": 0}]}))
        }
        "SHOW DATABASES" => {
            let series = json!({"name": "databases", "columns": ["name"], "values": [[DATABASE]]});
            (StatusCode::OK, json!({"results": [{"statement_id": 0, "series": [series]}]}))
        }
        _ => {
            let error = "InfluxQL is not spoken here: ask PromQL at /api/v1/query";
            (StatusCode::BAD_REQUEST, json!({"error": error}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telegraf_may_create_its_database() {
        let (status, answer) = answer_statement("CREATE DATABASE \"telegraf\"");
        assert_eq!((status.as_u16(), answer), (200, json!({"results": [{"statement_id": 0}]})));
        assert_eq!(answer_statement("show databases;").0.as_u16(), 200);
        assert_eq!(answer_statement("SELECT * FROM cpu").0.as_u16(), 400);
    }
}
