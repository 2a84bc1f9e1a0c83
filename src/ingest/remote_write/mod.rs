//! Prometheus remote write, after decompression.

use crate::ingest::error::{IngestError, IngestOutcome};
use crate::ingest::options::ParseOptions;
use crate::ingest::resolver::SeriesResolver;
use crate::model::SampleBatch;

/// Reads a `prometheus.WriteRequest`.
pub fn parse_v1<R: SeriesResolver>(
    _body: &[u8],
    _options: &ParseOptions,
    _resolver: &mut R,
    _batch: &mut SampleBatch,
) -> Result<IngestOutcome, IngestError> {
    Err(IngestError::Malformed { format: "body", reason: "not read yet".to_owned() })
}

/// Reads an `io.prometheus.write.v2.Request`.
pub fn parse_v2<R: SeriesResolver>(
    _body: &[u8],
    _options: &ParseOptions,
    _resolver: &mut R,
    _batch: &mut SampleBatch,
) -> Result<IngestOutcome, IngestError> {
    Err(IngestError::Malformed { format: "body", reason: "not read yet".to_owned() })
}
