//! The body of an answer: rows are encoded while they come, a bounded number ahead of the client.
//!
//! Invariant: what fails before the first bytes are sent is an answer with a status; what fails
//! later ends the connection before the body's end, so that no client takes a part for the whole.

use std::sync::Arc;
use std::time::Duration;

use arrow::error::ArrowError;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;

use crate::http::body;
use crate::http::respond;
use crate::http::service::Service;
use crate::http::sql::encoder::RowEncoder;
use crate::http::sql::request::SqlRequest;
use crate::http::sql::stats;
use crate::query::QueryError;
use crate::sql::{SqlError, SqlRows};

/// Bytes gathered before the answer begins, so that a short one is sent whole.
const FIRST_BYTES: usize = 64 << 10;
/// Samples that may be missing, and why.
const WARNING: HeaderName = HeaderName::from_static("x-aetherdb-warning");
/// What the query took.
const STATS: HeaderName = HeaderName::from_static("x-aetherdb-stats");

/// Begins an answer; the rest of its rows follow in its body.
pub(super) async fn answer(
    service: &Arc<Service>,
    rows: SqlRows,
    request: &SqlRequest,
    headers: &HeaderMap,
    started: Duration,
) -> Result<Response, SqlError> {
    let SqlRequest { format, stats, .. } = *request;
    let gzip = format.is_compressible() && respond::accepts_gzip(headers);
    let encoder = RowEncoder::new(format, rows.schema(), gzip, stats).map_err(encoding)?;
    let service = Arc::clone(service);
    let mut pieces =
        Pieces { rows, encoder: Some(encoder), stats: None, warnings: 0, service, started };
    let mut first = Vec::new();
    while first.len() < FIRST_BYTES {
        match pieces.next().await? {
            Some(bytes) => first.extend_from_slice(&bytes),
            None => break,
        }
    }
    let warnings = pieces.rows.warnings();
    pieces.warnings = warnings.len();
    let mut response = respond::typed(StatusCode::OK, format.content_type(), Vec::new());
    let out = response.headers_mut();
    for warning in &warnings {
        let text: String =
            warning.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        out.extend(HeaderValue::from_bytes(text.as_bytes()).ok().map(|text| (WARNING, text)));
    }
    if gzip {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        out.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    *response.body_mut() = if let Some(known) = &pieces.stats {
        response.headers_mut().extend(stats.then(|| (STATS, known.clone())));
        Body::from(first)
    } else {
        if stats {
            response.headers_mut().insert(header::TRAILER, HeaderValue::from(STATS));
        }
        let rest = stream::try_unfold(Some(pieces), move |pieces| async move {
            let Some(mut pieces) = pieces else { return Ok(None) };
            match pieces.next_unless_damaged().await {
                Ok(Some(bytes)) => Ok(Some((Frame::data(Bytes::from(bytes)), Some(pieces)))),
                Ok(None) => {
                    let trailers = pieces.stats.take().filter(|_| stats).map(|known| {
                        (Frame::trailers(HeaderMap::from_iter([(STATS, known)])), None)
                    });
                    Ok(trailers)
                }
                Err(error) => {
                    pieces.service.telemetry.query_failures.inc();
                    tracing::warn!(%error, "an SQL answer was cut off");
                    Err(error)
                }
            }
        });
        let first = stream::iter([Ok(Frame::data(Bytes::from(first)))]);
        Body::new(StreamBody::new(futures::StreamExt::chain(first, rest)))
    };
    Ok(response)
}

/// An answer on its way.
struct Pieces {
    rows: SqlRows,
    /// `None` once everything was encoded.
    encoder: Option<RowEncoder>,
    /// What the query took, once everything was encoded.
    stats: Option<HeaderValue>,
    /// How many warnings the answer began with.
    warnings: usize,
    service: Arc<Service>,
    started: Duration,
}

impl Pieces {
    /// The next bytes, perhaps none yet; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, SqlError> {
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        if let Some(rows) = self.rows.next().await? {
            let bytes = rows.get_array_memory_size();
            return body::work(bytes, || encoder.push(&rows)).map(Some).map_err(encoding);
        }
        let telemetry = &self.service.telemetry;
        let took = self.service.clock.monotonic().saturating_sub(self.started);
        telemetry.query_latency.observe(took);
        let stats = self.rows.stats();
        telemetry.query_samples.add(stats.read.samples + stats.rollup_rows);
        let stats = stats::object(&stats, took);
        let Some(encoder) = self.encoder.take() else { return Ok(None) };
        let end = body::work(0, || encoder.finish(&stats)).map_err(encoding)?;
        // JSON of numbers is a header's value.
        self.stats = HeaderValue::from_bytes(&stats).ok();
        Ok(Some(end))
    }

    /// As [`Pieces::next`], once the header is out: damage that is found now cannot be told any
    /// more, so it fails the answer. The next one knows of the damage when it begins.
    async fn next_unless_damaged(&mut self) -> Result<Option<Vec<u8>>, SqlError> {
        let bytes = self.next().await?;
        match self.rows.warnings().get(self.warnings..) {
            Some([warning, ..]) => Err(SqlError::Execution(warning.clone())),
            _ => Ok(bytes),
        }
    }
}

fn encoding(error: ArrowError) -> SqlError {
    match error {
        ArrowError::ExternalError(_) | ArrowError::IoError(..) => {
            QueryError::Internal(error.to_string()).into()
        }
        error => SqlError::Execution(error.to_string()),
    }
}
