//! The formats of exports: their names, content types, and how a client asks for one.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::http::error::ApiError;

/// What an export is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExportFormat {
    Parquet,
    Csv,
    /// Arrow's IPC stream.
    Arrow,
    /// VictoriaMetrics' JSON lines.
    JsonLines,
    /// Text exposition with timestamps.
    OpenMetrics,
}

/// Name, content type, format.
const FORMATS: [(&str, &str, ExportFormat); 5] = [
    ("jsonl", "application/x-ndjson", ExportFormat::JsonLines),
    ("parquet", "application/vnd.apache.parquet", ExportFormat::Parquet),
    ("csv", "text/csv; charset=utf-8; header=present", ExportFormat::Csv),
    ("arrow", "application/vnd.apache.arrow.stream", ExportFormat::Arrow),
    (
        "openmetrics",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ExportFormat::OpenMetrics,
    ),
];
/// What VictoriaMetrics calls its JSON lines.
const STREAM_JSON: &str = "application/stream+json";

impl ExportFormat {
    /// By `format=`, else by the `Accept` header, else JSON lines, as VictoriaMetrics answers.
    pub(crate) fn negotiate(name: &str, headers: &HeaderMap) -> Result<Self, ApiError> {
        if name.is_empty() {
            return Ok(Self::accepted(headers).unwrap_or(Self::JsonLines));
        }
        let found = FORMATS.iter().find(|(known, ..)| *known == name);
        found.map(|(.., format)| *format).ok_or_else(|| {
            let reason = format!("{name:?} is not parquet, csv, arrow, jsonl or openmetrics");
            ApiError::invalid_parameter("format", reason)
        })
    }

    pub(crate) fn content_type(self) -> HeaderValue {
        let found = FORMATS.iter().find(|(.., format)| *format == self);
        HeaderValue::from_static(found.map_or("application/octet-stream", |(_, kind, _)| kind))
    }

    /// The first of the most wanted types that we have.
    fn accepted(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for item in values.flat_map(|value| value.split(',')) {
            let mut parts = item.split(';').map(str::trim);
            let Some(format) = parts.next().and_then(Self::of_media_type) else { continue };
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.trim().parse().ok());
            let weight = weight.unwrap_or(1.0);
            if weight > 0.0 && best.is_none_or(|(known, _)| weight > known) {
                best = Some((weight, format));
            }
        }
        best.map(|(_, format)| format)
    }

    fn of_media_type(wanted: &str) -> Option<Self> {
        if wanted.eq_ignore_ascii_case(STREAM_JSON) {
            return Some(Self::JsonLines);
        }
        let media_type = |kind: &'static str| kind.split(';').next().unwrap_or_default();
        let found =
            FORMATS.iter().find(|(_, kind, _)| media_type(kind).eq_ignore_ascii_case(wanted));
        found.map(|(.., format)| *format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_wins_over_the_header() {
        let of = |name: &str, accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            ExportFormat::negotiate(name, &headers).map_err(|error| error.message)
        };
        assert_eq!(of("csv", "application/vnd.apache.parquet"), Ok(ExportFormat::Csv));
        assert_eq!(of("", "application/vnd.apache.parquet"), Ok(ExportFormat::Parquet));
        assert_eq!(of("", "text/csv;q=0.5, application/x-ndjson"), Ok(ExportFormat::JsonLines));
        assert_eq!(of("", "text/csv;q=0, */*"), Ok(ExportFormat::JsonLines));
        assert_eq!(
            of("", "application/openmetrics-text;version=1.0.0"),
            Ok(ExportFormat::OpenMetrics)
        );
        assert_eq!(of("", "application/vnd.apache.arrow.stream"), Ok(ExportFormat::Arrow));
        assert_eq!(of("", STREAM_JSON), Ok(ExportFormat::JsonLines));
        assert!(of("xml", "").unwrap_err().contains("openmetrics"));
    }
}
