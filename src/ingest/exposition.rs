//! Prometheus' text exposition format.

use crate::ingest::error::{IngestError, IngestOutcome};
use crate::ingest::options::ParseOptions;
use crate::ingest::resolver::SeriesResolver;
use crate::model::SampleBatch;

/// Reads a plain body.
pub fn parse<R: SeriesResolver>(
    _body: &[u8],
    _options: &ParseOptions,
    _resolver: &mut R,
    _batch: &mut SampleBatch,
) -> Result<IngestOutcome, IngestError> {
    Err(IngestError::Malformed { format: "body", reason: "not read yet".to_owned() })
}
