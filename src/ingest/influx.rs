//! Influx line protocol: the lines of `line_protocol` with a choice of precision.

use crate::ingest::error::{IngestError, IngestOutcome};
use crate::ingest::options::ParseOptions;
use crate::ingest::resolver::SeriesResolver;
use crate::model::SampleBatch;

/// Reads a plain body; timestamps have the options' precision.
pub fn parse<R: SeriesResolver>(
    _body: &[u8],
    _options: &ParseOptions,
    _resolver: &mut R,
    _batch: &mut SampleBatch,
) -> Result<IngestOutcome, IngestError> {
    Err(IngestError::Malformed { format: "body", reason: "not read yet".to_owned() })
}
