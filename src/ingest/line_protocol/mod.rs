//! AetherDB's line protocol, and the reader that Influx' shares with it.
//!
//! ```text
//! line := metric{,label=value} value [timestamp]             one sample
//!       | metric{,label=value} f=value{,f=value} [timestamp] one per field, in metric_f
//! ```
//!
//! The field `value` stays bare. A backslash stands in front of a comma, equals sign or space
//! that belongs to a name. Lines that start with `#` are comments, timestamps are milliseconds.
//!
//! The walk of a line: its key is first compared with the one that followed the current key last
//! time (`predicted_line`: no hash, no search for its end). Lines that were not foreseen are
//! scanned, in blocks while the misses go on, so that waits for memory overlap (`block`).

mod key;
mod scan;

use crate::ingest::error::{IngestError, IngestOutcome, LineErrorCode};
use crate::ingest::lines::{Fault, Lines, line_end};
use crate::ingest::number;
use crate::ingest::options::{ParseOptions, Precision};
use crate::ingest::resolver::{KeyFormat, KeyRef, ResolveError, SeriesResolver, ShapeId, ShapeKey};
use crate::model::{SampleBatch, SeriesRef};

use crate::ingest::line_protocol::scan::{Dialect, Line, Scanned};

pub(crate) use crate::ingest::line_protocol::scan::TextFields;

/// Lines that are looked up together.
const BLOCK_LINES: usize = 32;
/// Misses in a row after which lines are looked up in blocks.
const MISSES_BEFORE_BLOCKS: usize = 4;

/// Reads a plain body; timestamps are milliseconds, text and boolean fields are refused.
pub fn parse<R: SeriesResolver>(
    body: &[u8],
    options: &ParseOptions,
    resolver: &mut R,
    batch: &mut SampleBatch,
) -> Result<IngestOutcome, IngestError> {
    parse_dialect(body, options, Precision::Milliseconds, TextFields::Refuse, resolver, batch)
}

/// Reads a plain body of one of the protocols that share the grammar.
pub(crate) fn parse_dialect<R: SeriesResolver>(
    body: &[u8],
    options: &ParseOptions,
    precision: Precision,
    text_fields: TextFields,
    resolver: &mut R,
    batch: &mut SampleBatch,
) -> Result<IngestOutcome, IngestError> {
    let dialect = Dialect {
        precision,
        text_fields,
        accepted: options.accepted,
        line_bytes_max: options.limits.line_bytes_max,
    };
    resolver.start();
    let mut reader = Reader {
        body,
        options,
        dialect,
        shapes: Shapes::new(options),
        outcome: IngestOutcome::default(),
        lines: Lines::new(body),
    };
    let samples_before = batch.len();
    reader.read(resolver, batch)?;
    reader.outcome.accepted = (batch.len() - samples_before) as u64;
    Ok(reader.outcome)
}

struct Reader<'a> {
    body: &'a [u8],
    options: &'a ParseOptions,
    dialect: Dialect,
    shapes: Shapes,
    outcome: IngestOutcome,
    lines: Lines<'a>,
}

impl<'a> Reader<'a> {
    fn read<R: SeriesResolver>(
        &mut self,
        resolver: &mut R,
        batch: &mut SampleBatch,
    ) -> Result<(), IngestError> {
        let samples_max = batch.len() + self.options.limits.samples_per_request_max;
        let mut block = Block::default();
        let mut misses = 0;
        let mut at = 0;
        let mut reserved = false;
        while let Some(start) = scan::next_line(self.body, at) {
            if batch.len() > samples_max {
                return Err(too_many_samples(self.options));
            }
            if misses < MISSES_BEFORE_BLOCKS {
                if let Some(line) = predicted_line(self.body, start, &self.dialect, resolver, batch)
                {
                    resolver.advance(line.key);
                    self.outcome.skipped_fields += line.skipped_fields;
                    misses = 0;
                    at = line.end;
                    continue;
                }
                misses += 1;
                at = self.block(start, 1, &mut block, resolver, batch)?;
            } else {
                at = self.block(start, BLOCK_LINES, &mut block, resolver, batch)?;
                if block.expected * 2 > block.lines.len() {
                    misses = 0;
                }
            }
            if !reserved && batch.len() >= BLOCK_LINES {
                reserved = true;
                reserve(batch, samples_max, self.body.len(), at);
            }
        }
        if batch.len() > samples_max {
            return Err(too_many_samples(self.options));
        }
        Ok(())
    }

    /// Scans up to `lines_max` lines, looks their keys up together, registers the new ones and
    /// appends their samples. Gives where the next line starts.
    fn block<R: SeriesResolver>(
        &mut self,
        start: usize,
        lines_max: usize,
        block: &mut Block<'a>,
        resolver: &mut R,
        batch: &mut SampleBatch,
    ) -> Result<usize, IngestError> {
        block.clear();
        let errors_before = self.outcome.errors.len();
        let mut at = start;
        while block.lines.len() < lines_max
            && let Some(start) = scan::next_line(self.body, at)
        {
            match scan::scan_line(self.body, start, &self.dialect, &mut block.scanned) {
                Ok(line) => {
                    at = line.end;
                    let fields = &block.scanned.fields[line.fields.clone()];
                    let shape = self.shapes.of(self.body, fields, resolver);
                    let key = &self.body[line.key.clone()];
                    if let Some(shape) = shape {
                        block.keys.push((shape, key));
                    }
                    block.lines.push((line, shape));
                }
                Err(fault) => {
                    at = line_end(self.body, fault.at.min(self.body.len()));
                    self.lines.refuse(start, fault, &mut self.outcome);
                }
            }
        }
        resolver.find_many(&block.keys, &mut block.found);
        let mut found = block.found.iter();
        let mut registered = false;
        for (line, shape) in &block.lines {
            let mut known = match shape {
                Some(_) => *found.next().expect("one answer for each key"),
                None => None,
            };
            // The block itself may have registered the key a moment ago.
            if registered
                && known.is_none()
                && let Some(shape) = shape
            {
                known = resolver.find(*shape, &self.body[line.key.clone()]);
            }
            block.series.clear();
            let series = match known {
                Some(key) => {
                    block.expected += usize::from(resolver.advance(key));
                    resolver.known(key).series
                }
                None => {
                    let fields = &block.scanned.fields[line.fields.clone()];
                    registered = true;
                    match self.register(line, *shape, fields, resolver, &mut block.series)? {
                        Ok(()) => &block.series[..],
                        Err(fault) => {
                            self.lines.refuse(line.key.start, fault, &mut self.outcome);
                            continue;
                        }
                    }
                }
            };
            let values = &block.scanned.values[line.values.clone()];
            self.outcome.skipped_fields += (line.fields.len() - values.len()) as u64;
            batch.values.extend_from_slice(values);
            batch.series.extend_from_slice(series);
            batch.timestamps.resize(batch.values.len(), line.timestamp);
        }
        // Faults of scanning came before those of resolving.
        self.outcome.errors[errors_before..].sort_by_key(|error| error.line);
        Ok(at)
    }

    fn register<R: SeriesResolver>(
        &self,
        line: &Line,
        shape: Option<ShapeId>,
        fields: &[scan::ScannedField],
        resolver: &mut R,
        series: &mut Vec<SeriesRef>,
    ) -> Result<Result<(), Fault>, IngestError> {
        let key = &self.body[line.key.clone()];
        let prefixes = fields
            .iter()
            .filter(|field| field.sampled)
            .map(|field| &self.body[field.prefix.clone()]);
        let labels = match key::series_labels(key, line.key.start, prefixes, self.options) {
            Ok(labels) => labels,
            Err(fault) => return Ok(Err(fault)),
        };
        match resolver.register(shape, key, &labels, series) {
            Ok(Some(key)) => {
                resolver.advance(key);
                Ok(Ok(()))
            }
            Ok(None) => Ok(Ok(())),
            Err(ResolveError::Refused(reason)) => {
                Ok(Err(Fault::new(line.key.start, LineErrorCode::SeriesRefused, reason)))
            }
            Err(ResolveError::Failed(error)) => Err(IngestError::Registration(error)),
        }
    }
}

/// A line that was foreseen.
struct PredictedLine {
    key: KeyRef,
    skipped_fields: u64,
    end: usize,
}

/// Reads the line at `start` if it is the expected key with the expected fields, and appends its
/// samples. Anything unusual is left to the careful path, and the batch as it was.
#[inline]
fn predicted_line<R: SeriesResolver>(
    body: &[u8],
    start: usize,
    dialect: &Dialect,
    resolver: &R,
    batch: &mut SampleBatch,
) -> Option<PredictedLine> {
    let known = resolver.predict(&body[start..])?;
    let row = batch.values.len();
    let mut read = || -> Option<(i64, u64, usize)> {
        let mut at = start + known.key_len;
        let mut skipped_fields = 0;
        let mut before = b' ';
        for field in &known.shape.fields {
            if body.get(at) != Some(&before) {
                return None;
            }
            at += 1;
            before = b',';
            if !body[at..].starts_with(&field.prefix) {
                return None;
            }
            at += field.prefix.len();
            if field.sampled {
                let (value, len) = number::field_value(&body[at..])?;
                batch.values.push(value);
                at += len;
            } else {
                at = scan::skip_text(body, at)?;
                skipped_fields += 1;
            }
        }
        if body.get(at) == Some(&b',') {
            return None;
        }
        let (timestamp, end) = scan::scan_timestamp(body, at, dialect).ok()?;
        (end - start <= dialect.line_bytes_max).then_some((timestamp, skipped_fields, end))
    };
    let Some((timestamp, skipped_fields, end)) = read() else {
        batch.values.truncate(row);
        return None;
    };
    batch.series.extend_from_slice(known.series);
    batch.timestamps.resize(batch.values.len(), timestamp);
    Some(PredictedLine { key: known.key, skipped_fields, end })
}

/// Lines that are looked up together; kept to spare allocations.
#[derive(Default)]
struct Block<'a> {
    scanned: Scanned,
    lines: Vec<(Line, Option<ShapeId>)>,
    keys: Vec<(ShapeId, &'a [u8])>,
    found: Vec<Option<KeyRef>>,
    series: Vec<SeriesRef>,
    /// Lines that prediction would have found.
    expected: usize,
}

impl Block<'_> {
    fn clear(&mut self) {
        self.scanned.clear();
        self.lines.clear();
        self.keys.clear();
        self.expected = 0;
    }
}

/// Shapes of the body's lines: most lines have the shape of the line before.
struct Shapes {
    current: ShapeKey,
    last: Vec<u8>,
    last_id: Option<ShapeId>,
}

impl Shapes {
    fn new(options: &ParseOptions) -> Self {
        let current = ShapeKey::new(KeyFormat::Line, &options.extra_labels);
        Self { current, last: Vec::new(), last_id: None }
    }

    fn of<R: SeriesResolver>(
        &mut self,
        body: &[u8],
        fields: &[scan::ScannedField],
        resolver: &mut R,
    ) -> Option<ShapeId> {
        self.current.clear_fields();
        for field in fields {
            self.current.push_field(&body[field.prefix.clone()], field.sampled);
        }
        if self.last_id.is_none() || self.last != self.current.as_bytes() {
            self.last.clear();
            self.last.extend_from_slice(self.current.as_bytes());
            self.last_id = resolver.shape(&self.current);
        }
        self.last_id
    }
}

/// Makes room for the samples that the rest of the body will hold if it goes on like this.
fn reserve(batch: &mut SampleBatch, samples_max: usize, body_len: usize, read: usize) {
    let expected = batch.len().saturating_mul(body_len / read.max(1) + 1);
    let more = (expected + expected / 16).min(samples_max).saturating_sub(batch.len());
    batch.series.reserve(more);
    batch.timestamps.reserve(more);
    batch.values.reserve(more);
}

#[cold]
pub(crate) fn too_many_samples(options: &ParseOptions) -> IngestError {
    IngestError::TooLarge {
        what: "the number of samples in a request",
        max: options.limits.samples_per_request_max,
        setting: "samples_per_request_max",
    }
}

#[cfg(test)]
mod tests;
