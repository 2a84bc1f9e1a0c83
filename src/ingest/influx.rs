//! Influx line protocol: the lines of `line_protocol` with a choice of precision. Fields that are
//! text or boolean are counted and skipped, never stored as a number.

use crate::ingest::error::{IngestError, IngestOutcome};
use crate::ingest::line_protocol::{self, TextFields};
use crate::ingest::options::ParseOptions;
use crate::ingest::resolver::SeriesResolver;
use crate::model::SampleBatch;

/// Reads a plain body; timestamps have the options' precision.
pub fn parse<R: SeriesResolver>(
    body: &[u8],
    options: &ParseOptions,
    resolver: &mut R,
    batch: &mut SampleBatch,
) -> Result<IngestOutcome, IngestError> {
    let precision = options.precision;
    line_protocol::parse_dialect(body, options, precision, TextFields::Skip, resolver, batch)
}
