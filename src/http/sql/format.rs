//! The formats of an answer and how a request chooses one.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::http::error::ApiError;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowFormat {
    /// An array of objects.
    Json,
    /// An object per line.
    JsonLines,
    /// With a header line.
    Csv,
    /// Arrow's IPC stream.
    Arrow,
    Parquet,
}

impl RowFormat {
    const ALL: [Self; 5] = [Self::Json, Self::JsonLines, Self::Csv, Self::Arrow, Self::Parquet];

    fn name(self) -> &'static str {
        match self {
            RowFormat::Json => "json",
            RowFormat::JsonLines => "jsonl",
            RowFormat::Csv => "csv",
            RowFormat::Arrow => "arrow",
            RowFormat::Parquet => "parquet",
        }
    }

    /// Media types, ours first.
    fn media_types(self) -> &'static [&'static str] {
        match self {
            RowFormat::Json => &["application/json"],
            RowFormat::JsonLines => {
                &["application/jsonl", "application/x-ndjson", "application/x-jsonlines"]
            }
            RowFormat::Csv => &["text/csv"],
            RowFormat::Arrow => {
                &["application/vnd.apache.arrow.stream", "application/vnd.apache.arrow"]
            }
            RowFormat::Parquet => &["application/vnd.apache.parquet", "application/parquet"],
        }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        match self {
            RowFormat::Csv => HeaderValue::from_static("text/csv; charset=utf-8; header=present"),
            other => HeaderValue::from_static(other.media_types()[0]),
        }
    }

    /// Whether gzip makes the answer smaller.
    pub(super) fn is_compressible(self) -> bool {
        self != RowFormat::Parquet
    }

    /// By the parameter `format`, else the first type in `Accept` that we know, else JSON.
    pub(super) fn choose(parameter: &str, headers: &HeaderMap) -> Result<Self, ApiError> {
        if parameter.is_empty() {
            return Ok(Self::accepted(headers).unwrap_or(RowFormat::Json));
        }
        let found = Self::ALL.into_iter().find(|format| format.name() == parameter);
        found.ok_or_else(|| {
            let reason = format!("{parameter:?} is not one of json, jsonl, csv, arrow, parquet");
            ApiError::invalid_parameter("format", reason)
        })
    }

    fn accepted(headers: &HeaderMap) -> Option<Self> {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|item| item.split(';').next())
            .find_map(|item| {
                let named = |media_type: &&str| media_type.eq_ignore_ascii_case(item.trim());
                Self::ALL.into_iter().find(|format| format.media_types().iter().any(named))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_comes_before_the_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(RowFormat::choose("", &headers), Ok(RowFormat::Json));
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/html, Text/CSV;q=0.5, */*"));
        assert_eq!(RowFormat::choose("", &headers), Ok(RowFormat::Csv));
        assert_eq!(RowFormat::choose("parquet", &headers), Ok(RowFormat::Parquet));
        let error = RowFormat::choose("xml", &headers).unwrap_err();
        assert!(error.message.contains("jsonl"), "{}", error.message);
    }
}
