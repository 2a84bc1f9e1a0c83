//! Writes: every format takes one walk from body to engine.
//!
//! `body` receives into a pooled buffer → `ingest` unpacks, parses and resolves in one go on the
//! thread that received it → `Engine::append` makes it durable → the answer.
//!
//! Invariant: 204 means that every sample of the request is stored as the sync mode says; with
//! anything else the answer tells what was stored.

mod influx;
mod remote;
mod report;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::Response;

use crate::http::body;
use crate::http::error::{ApiError, ErrorType};
use crate::http::params::Params;
use crate::http::service::{Ready, Service};
use crate::ingest::{
    self, Encoding, IngestError, IngestOutcome, ParseOptions, exposition, json_lines,
    line_protocol, remote_write,
};
use crate::model::SampleBatch;
use crate::storage::Engine;

pub(crate) use influx::{influx_query, ping, write_influx};

/// Content type of a text exposition whose timestamps are seconds.
const OPEN_METRICS: &str = "application/openmetrics-text";
/// How many samples of a request were stored: of remote write 2.0 by its rules, and of imports for
/// clients that count.
const SAMPLES_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-samples-written");

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Line,
    Influx,
    Exposition,
    OpenMetrics,
    JsonLines,
    RemoteWriteV1,
    RemoteWriteV2,
}

/// How one request's body is to be read.
#[derive(Debug)]
struct WriteRequest {
    format: Format,
    encoding: Encoding,
    /// All samples are stored, or none.
    atomic: bool,
    options: ParseOptions,
}

impl WriteRequest {
    fn new(service: &Service, format: Format, encoding: Encoding) -> Self {
        let options = ParseOptions::new(service.clock.now_ms(), service.options.limits);
        Self { format, encoding, atomic: false, options }
    }

    /// A request for a text format, with what all of them have in common.
    fn text(
        service: &Service,
        format: Format,
        headers: &HeaderMap,
        params: &Params,
    ) -> Result<Self, ApiError> {
        let mut request = Self::new(service, format, body::encoding(headers, Encoding::Identity)?);
        request.atomic = params.switch("atomic")?;
        Ok(request)
    }
}

/// `POST /api/v1/write`: line protocol, or remote write if the content type says so.
pub(crate) async fn write(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match remote::message(&headers) {
        Err(error) => remote::answer(None, Err(error)),
        Ok(Some(format)) => remote::write(&service, &engine, format, &headers, body).await,
        Ok(None) => {
            let params = Params::parse(query.as_deref().unwrap_or_default(), b"");
            let request = WriteRequest::text(&service, Format::Line, &headers, &params);
            report::answer(store(&service, &engine, request, &headers, body).await)
        }
    }
}

/// `POST /api/v1/import`: JSON lines, as `/api/v1/export` and VictoriaMetrics write them.
pub(crate) async fn import(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let params = Params::parse(query.as_deref().unwrap_or_default(), b"");
    let request = import_request(&service, Format::JsonLines, &headers, &params);
    report::answer(store(&service, &engine, request, &headers, body).await)
}

/// `POST /api/v1/import/prometheus`: text exposition, OpenMetrics if the content type says so;
/// `timestamp` in milliseconds and `extra_label=name=value` as in VictoriaMetrics.
pub(crate) async fn import_prometheus(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let params = Params::parse(query.as_deref().unwrap_or_default(), b"");
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let open_metrics = content_type.is_some_and(|kind| kind.trim().starts_with(OPEN_METRICS));
    let format = if open_metrics { Format::OpenMetrics } else { Format::Exposition };
    let request = import_request(&service, format, &headers, &params);
    report::answer(store(&service, &engine, request, &headers, body).await)
}

fn import_request(
    service: &Service,
    format: Format,
    headers: &HeaderMap,
    params: &Params,
) -> Result<WriteRequest, ApiError> {
    let mut request = WriteRequest::text(service, format, headers, params)?;
    request.options.open_metrics = format == Format::OpenMetrics;
    if let Some(timestamp) = params.integer("timestamp")? {
        request.options.now_ms = timestamp;
    }
    for label in params.all("extra_label") {
        let (name, value) = label
            .split_once('=')
            .ok_or_else(|| ApiError::invalid_parameter("extra_label", "say name=value"))?;
        request.options.extra_labels.push((name.to_owned(), value.to_owned()));
    }
    Ok(request)
}

/// The walk.
async fn store(
    service: &Service,
    engine: &Engine,
    request: Result<WriteRequest, ApiError>,
    headers: &HeaderMap,
    body: Body,
) -> Result<IngestOutcome, ApiError> {
    let telemetry = &service.telemetry;
    let start = service.clock.monotonic();
    telemetry.write_requests.inc();
    let stored = receive_and_append(service, engine, request?, headers, body).await;
    if let Ok(outcome) = &stored {
        telemetry.samples_accepted.add(outcome.accepted);
        telemetry.samples_rejected.add(outcome.rejected);
    }
    telemetry.write_latency.observe(service.clock.monotonic().saturating_sub(start));
    stored
}

async fn receive_and_append(
    service: &Service,
    engine: &Engine,
    mut request: WriteRequest,
    headers: &HeaderMap,
    body: Body,
) -> Result<IngestOutcome, ApiError> {
    let received = body::receive(service, headers, body).await?;
    request.options.accepted.exclude_dropped(engine.dropped_before());
    let request = &request;
    let mut batch = SampleBatch::default();
    let mut outcome = if request.encoding == Encoding::Identity {
        body::work(received.bytes.len(), || parse(engine, request, &received.bytes, &mut batch))?
    } else {
        let max = body::unpacked_bytes_max(service, request.encoding, &received.bytes)?;
        let _share = service.unpacked_budget.take(max).await?;
        let mut plain = service.buffers.take();
        body::work(max, || {
            let limits = &request.options.limits;
            ingest::decompress(request.encoding, &received.bytes, limits, &mut plain)?;
            parse(engine, request, &plain, &mut batch)
        })?
    };
    // The body's memory is for others while the log is written.
    drop(received);
    if request.atomic && outcome.rejected > 0 {
        outcome.rejected += std::mem::take(&mut outcome.accepted);
        return Ok(outcome);
    }
    if !batch.is_empty() {
        engine.append(batch).await?;
    }
    if !outcome.metadata.is_empty() {
        engine.record_metadata(std::mem::take(&mut outcome.metadata)).await?;
    }
    Ok(outcome)
}

fn parse(
    engine: &Engine,
    request: &WriteRequest,
    body: &[u8],
    batch: &mut SampleBatch,
) -> Result<IngestOutcome, IngestError> {
    let mut resolver = engine.resolver();
    let options = &request.options;
    match request.format {
        Format::Line => line_protocol::parse(body, options, &mut resolver, batch),
        Format::Influx => ingest::influx::parse(body, options, &mut resolver, batch),
        Format::Exposition | Format::OpenMetrics => {
            exposition::parse(body, options, &mut resolver, batch)
        }
        Format::JsonLines => json_lines::parse(body, options, &mut resolver, batch),
        Format::RemoteWriteV1 => remote_write::parse_v1(body, options, &mut resolver, batch),
        Format::RemoteWriteV2 => remote_write::parse_v2(body, options, &mut resolver, batch),
    }
}

/// A content type that none of the formats has.
fn unsupported(content_type: &str) -> ApiError {
    ApiError::new(
        ErrorType::UnsupportedMediaType,
        format!(
            "Content-Type {content_type:?}: send text/plain for line protocol, or \
             application/x-protobuf, alone or with proto=prometheus.WriteRequest or \
             proto=io.prometheus.write.v2.Request, for remote write"
        ),
    )
}
