//! Prometheus remote write 1.0 and 2.0.
//!
//! A sender never repeats a request that was answered 4xx and always repeats one answered 5xx, so
//! bad samples are 400 after the good ones are stored, and a full disk is 503.
//! Source: prometheus/docs, specs/prw/remote_write_spec.md and remote_write_spec_2_0.md.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::http::body;
use crate::http::error::{ApiError, ErrorType};
use crate::http::respond;
use crate::http::service::Service;
use crate::http::write::{Format, SAMPLES_WRITTEN, WriteRequest, report, store, unsupported};
use crate::ingest::{Encoding, IngestOutcome};
use crate::storage::Engine;

const PROTOBUF: &str = "application/x-protobuf";
/// Content types that are certainly neither remote write nor lines.
const NOT_TEXT: [&str; 2] = ["application/json", "application/protobuf"];
const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
const HISTOGRAMS_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

/// Which message the content type announces; `None` for a text body.
pub(super) fn message(headers: &HeaderMap) -> Result<Option<Format>, ApiError> {
    let content_type = match headers.get(header::CONTENT_TYPE) {
        Some(value) => value.to_str().unwrap_or("(not text)"),
        None => "",
    };
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let is = |name: &str| media_type.eq_ignore_ascii_case(name);
    if !is(PROTOBUF) {
        let refused = headers.contains_key(VERSION) || NOT_TEXT.into_iter().any(is);
        return if refused { Err(unsupported(content_type)) } else { Ok(None) };
    }
    let message = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
    });
    match message {
        None | Some("prometheus.WriteRequest") => Ok(Some(Format::RemoteWriteV1)),
        Some("io.prometheus.write.v2.Request") => Ok(Some(Format::RemoteWriteV2)),
        Some(_) => Err(unsupported(content_type)),
    }
}

pub(super) async fn write(
    service: &Service,
    engine: &Engine,
    format: Format,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let request = encoding(headers).map(|encoding| WriteRequest::new(service, format, encoding));
    answer(Some(format), store(service, engine, request, headers, body).await)
}

/// Remote write is sent as snappy; without a word about it, too.
fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    match body::encoding(headers, Encoding::Snappy)? {
        Encoding::Snappy => Ok(Encoding::Snappy),
        other => Err(ApiError::new(
            ErrorType::UnsupportedMediaType,
            format!("Content-Encoding {other:?}: remote write is sent as snappy"),
        )),
    }
}

/// Plain text, of which senders log the first line; version 2 counts what was written.
pub(super) fn answer(format: Option<Format>, stored: Result<IngestOutcome, ApiError>) -> Response {
    let written = stored.as_ref().map_or(0, |outcome| outcome.accepted);
    let mut response = match stored {
        Ok(outcome) if outcome.rejected == 0 => respond::empty(StatusCode::NO_CONTENT),
        Ok(outcome) => respond::text(StatusCode::BAD_REQUEST, report::summary(&outcome)),
        Err(error) => {
            let (plain, body) =
                respond::text(error.kind.status(), error.message.clone()).into_parts();
            let mut response = error.into_response();
            response.headers_mut().extend(plain.headers);
            *response.body_mut() = body;
            response
        }
    };
    if format == Some(Format::RemoteWriteV2) {
        let headers = response.headers_mut();
        headers.insert(SAMPLES_WRITTEN, HeaderValue::from(written));
        headers.insert(HISTOGRAMS_WRITTEN, HeaderValue::from(0));
        headers.insert(EXEMPLARS_WRITTEN, HeaderValue::from(0));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_tell_messages_from_text() {
        let of = |content_type: Option<&'static str>, version: bool| {
            let mut headers = HeaderMap::new();
            if let Some(content_type) = content_type {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            }
            if version {
                headers.insert(VERSION, HeaderValue::from_static("0.1.0"));
            }
            message(&headers).map_err(|error| error.kind.status().as_u16())
        };
        let (v1, v2) = (Ok(Some(Format::RemoteWriteV1)), Ok(Some(Format::RemoteWriteV2)));
        for (content_type, expected) in [
            ("application/x-protobuf", v1),
            ("Application/X-Protobuf; charset=utf-8", v1),
            ("application/x-protobuf;proto=prometheus.WriteRequest", v1),
            ("application/x-protobuf; PROTO=\"io.prometheus.write.v2.Request\"", v2),
            ("application/x-protobuf;proto=io.prometheus.write.v2.Request", v2),
            ("application/x-protobuf;proto=io.prometheus.write.v3.Request", Err(415)),
            ("application/x-www-form-urlencoded", Ok(None)),
            ("text/plain; charset=utf-8", Ok(None)),
            ("application/octet-stream", Ok(None)),
            ("application/json", Err(415)),
        ] {
            assert_eq!(of(Some(content_type), false), expected, "{content_type}");
        }
        assert_eq!(of(None, false), Ok(None));
        assert_eq!(of(Some("text/plain"), true), Err(415));
        assert_eq!(of(Some("application/x-protobuf"), true), v1);
    }

    #[test]
    fn version_two_counts_in_headers_on_success_and_failure() {
        let outcome = IngestOutcome { accepted: 7, ..IngestOutcome::default() };
        let response = answer(Some(Format::RemoteWriteV2), Ok(outcome));
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(response.headers()[SAMPLES_WRITTEN], "7");
        let failed = ApiError::new(ErrorType::Unavailable, "full");
        let response = answer(Some(Format::RemoteWriteV2), Err(failed));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[SAMPLES_WRITTEN], "0");
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
        let response = answer(Some(Format::RemoteWriteV1), Ok(IngestOutcome::default()));
        assert!(!response.headers().contains_key(SAMPLES_WRITTEN));
    }
}
