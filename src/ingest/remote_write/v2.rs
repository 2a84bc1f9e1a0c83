//! Remote write 2.0: `io.prometheus.write.v2.Request`.
//!
//! ```text
//! Request    { repeated string symbols = 4; repeated TimeSeries timeseries = 5 }
//! TimeSeries { repeated uint32 labels_refs = 1; repeated Sample samples = 2;
//!              repeated Histogram histograms = 3; repeated Exemplar exemplars = 4;
//!              Metadata metadata = 5 }
//! Sample     { double value = 1; int64 timestamp = 2; int64 start_timestamp = 3 }
//! Metadata   { MetricType type = 1; uint32 help_ref = 3; uint32 unit_ref = 4 }
//! ```
//!
//! References hold for one request only. Each symbol is looked up once per request, which gives a
//! number that holds longer; a series' raw key is made of these:
//!
//! ```text
//! key := metric type (1) | help (4) | unit (4) | { name (4) | value (4) }
//! ```
//!
//! Metadata is part of the key, so that it is reported once, when the key is new. Keys of series that
//! come with start timestamps have a shape of their own, which stands for two series: the one named
//! and its companion.

use std::borrow::Cow;

use crate::ingest::error::{IngestError, IngestOutcome, LineErrorCode};
use crate::ingest::labels::{self, Refusal};
use crate::ingest::options::ParseOptions;
use crate::ingest::remote_write::protobuf::{Malformed, Reader, Value};
use crate::ingest::remote_write::{
    Request, Sample, labels_text, malformed, metric_type, refusal, sample,
};
use crate::ingest::resolver::{KeyFormat, ResolveError, SeriesResolver, ShapeId, ShapeKey};
use crate::model::{Labels, Metadata, MetricType, SampleBatch};

const FORMAT: &str = "remote write 2.0 request";
/// Type, help and unit in front of a key.
const KEY_HEAD_LEN: usize = 9;

/// Reads an `io.prometheus.write.v2.Request`.
pub fn parse_v2<R: SeriesResolver>(
    body: &[u8],
    options: &ParseOptions,
    resolver: &mut R,
    batch: &mut SampleBatch,
) -> Result<IngestOutcome, IngestError> {
    let symbols = Symbols::read(body, options, resolver)?;
    let mut shape = ShapeKey::single(KeyFormat::RemoteWriteV2, &options.extra_labels);
    let plain = resolver.shape(&shape);
    shape.push_field(b"start_timestamp", true);
    let shapes = Shapes { plain, with_starts: resolver.shape(&shape) };
    resolver.start();
    let mut request = Request::new(options, batch);
    let mut series = Series::default();
    let mut key = Vec::new();
    let mut reader = Reader::new(body);
    while let Some((number, value)) = reader.field().map_err(malformed(FORMAT))? {
        if let (5, Value::Bytes(message)) = (number, value) {
            request.next_series(body.len() - reader.rest.len(), body.len())?;
            series.read(message).map_err(malformed(FORMAT))?;
            store(&series, &symbols, &shapes, &mut key, resolver, &mut request)?;
        }
    }
    request.finish()
}

/// Shapes of the keys of series without start timestamps, and with them.
struct Shapes {
    plain: Option<ShapeId>,
    with_starts: Option<ShapeId>,
}

/// The request's symbol table.
struct Symbols<'a> {
    texts: Vec<&'a [u8]>,
    /// Numbers of the texts that hold beyond the request; `None` for those without room.
    numbers: Vec<Option<u32>>,
}

impl<'a> Symbols<'a> {
    fn read<R: SeriesResolver>(
        body: &'a [u8],
        options: &ParseOptions,
        resolver: &mut R,
    ) -> Result<Self, IngestError> {
        let mut symbols = Self { texts: Vec::new(), numbers: Vec::new() };
        let shape = resolver.shape(&ShapeKey::new(KeyFormat::Symbol, &[]));
        resolver.start();
        let mut reader = Reader::new(body);
        while let Some((number, value)) = reader.field().map_err(malformed(FORMAT))? {
            match (number, value) {
                (4, Value::Bytes(text)) => {
                    symbols.texts.push(text);
                    let short = text.len() <= options.limits.series_key_bytes_max;
                    let number = match shape.filter(|_| short) {
                        Some(shape) => symbol_number(shape, text, resolver)?,
                        None => None,
                    };
                    symbols.numbers.push(number);
                }
                (5, Value::Bytes(_)) => {}
                (4 | 5, _) => return Err(malformed(FORMAT)(Malformed("a wrong wire type"))),
                _ => {}
            }
        }
        Ok(symbols)
    }

    fn text(&self, reference: u32) -> Result<&'a str, Refusal> {
        let text = self.texts.get(reference as usize).ok_or_else(|| {
            let message = format!("reference {reference} is beyond the symbol table");
            (LineErrorCode::BadLabels, Cow::Owned(message))
        })?;
        std::str::from_utf8(text)
            .map_err(|_| (LineErrorCode::InvalidUtf8, "a symbol is not UTF-8".into()))
    }

    #[inline]
    fn number(&self, reference: u32) -> Option<u32> {
        *self.numbers.get(reference as usize)?
    }
}

#[inline]
fn symbol_number<R: SeriesResolver>(
    shape: ShapeId,
    text: &[u8],
    resolver: &mut R,
) -> Result<Option<u32>, IngestError> {
    let predicted = resolver
        .predict(text)
        .filter(|known| known.key_len == text.len() && known.shape_id == shape)
        .map(|known| known.key);
    let known = match predicted.or_else(|| resolver.find(shape, text)) {
        Some(known) => Some(known),
        None => match resolver.register(Some(shape), text, &[], &mut Vec::new()) {
            Ok(known) => known,
            Err(ResolveError::Refused(_)) => None,
            Err(ResolveError::Failed(error)) => return Err(IngestError::Registration(error)),
        },
    };
    Ok(known.map(|known| {
        resolver.advance(known);
        known.0
    }))
}

/// Parts of one series' message; kept to spare allocations.
#[derive(Default)]
struct Series {
    /// Names and values in turn.
    references: Vec<u32>,
    samples: Vec<Sample>,
    exemplars: u64,
    histograms: u64,
    metric_type: u8,
    help: u32,
    unit: u32,
}

impl Series {
    #[inline]
    fn read(&mut self, message: &[u8]) -> Result<(), Malformed> {
        self.references.clear();
        self.samples.clear();
        (self.exemplars, self.histograms) = (0, 0);
        (self.metric_type, self.help, self.unit) = (0, 0, 0);
        let mut reader = Reader::new(message);
        while let Some((number, value)) = reader.field()? {
            match (number, value) {
                (1, Value::Bytes(packed)) => {
                    let mut reader = Reader::new(packed);
                    while !reader.rest.is_empty() {
                        self.references.push(reference(reader.varint()?));
                    }
                }
                (1, Value::Varint(one)) => self.references.push(reference(one)),
                (2, Value::Bytes(message)) => self.samples.push(sample::<true>(message)?),
                (3, Value::Bytes(_)) => self.histograms += 1,
                (4, Value::Bytes(_)) => self.exemplars += 1,
                (5, Value::Bytes(message)) => self.read_metadata(message)?,
                (1..=5, _) => return Err(Malformed("a series' field has the wrong wire type")),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_metadata(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(message);
        while let Some((number, value)) = reader.field()? {
            match (number, value) {
                (1, Value::Varint(one)) => self.metric_type = u8::try_from(one).unwrap_or(0),
                (3, Value::Varint(one)) => self.help = reference(one),
                (4, Value::Varint(one)) => self.unit = reference(one),
                (1 | 3 | 4, _) => return Err(Malformed("metadata has the wrong wire type")),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the series' key; `None` if one of its symbols has no number.
    #[inline]
    fn key(&self, symbols: &Symbols<'_>, key: &mut Vec<u8>) -> Option<()> {
        key.clear();
        key.resize(KEY_HEAD_LEN + 4 * self.references.len(), 0);
        let (head, places) = key.split_at_mut(KEY_HEAD_LEN);
        head[0] = self.metric_type;
        head[1..5].copy_from_slice(&symbols.number(self.help)?.to_le_bytes());
        head[5..].copy_from_slice(&symbols.number(self.unit)?.to_le_bytes());
        for (place, reference) in places.chunks_exact_mut(4).zip(&self.references) {
            place.copy_from_slice(&symbols.number(*reference)?.to_le_bytes());
        }
        Some(())
    }

    fn pairs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.references.chunks_exact(2).map(|pair| (pair[0], pair[1]))
    }

    fn labels(&self, symbols: &Symbols<'_>, options: &ParseOptions) -> Result<Labels, Refusal> {
        if !self.references.len().is_multiple_of(2) {
            let message = "the number of label references is odd";
            return Err((LineErrorCode::BadLabels, message.into()));
        }
        let pairs = self
            .pairs()
            .map(|(name, value)| Ok((symbols.text(name)?, symbols.text(value)?)))
            .collect::<Result<_, Refusal>>()?;
        labels::checked(pairs, &options.extra_labels, &options.limits)
    }

    /// What the series says about its metric, if anything.
    fn metadata(&self, labels: &Labels, symbols: &Symbols<'_>) -> Option<(String, Metadata)> {
        let text = |reference| symbols.text(reference).unwrap_or_default().to_owned();
        let metadata = Metadata {
            metric_type: metric_type(u64::from(self.metric_type)),
            help: text(self.help),
            unit: text(self.unit),
        };
        let family = family(labels.metric_name(), metadata.metric_type);
        (metadata != Metadata::default()).then(|| (family.to_owned(), metadata))
    }
}

/// The name that metadata goes by: histograms and summaries spread over several metrics.
fn family(metric: &str, metric_type: MetricType) -> &str {
    match metric_type {
        MetricType::Histogram | MetricType::GaugeHistogram | MetricType::Summary => {
            ["_bucket", "_count", "_sum", "_gcount", "_gsum"]
                .into_iter()
                .find_map(|suffix| metric.strip_suffix(suffix))
                .unwrap_or(metric)
        }
        _ => metric,
    }
}

/// A field of 32 bits of which more were written: the rest does not count.
/// Source: protobuf.dev, "Updating A Message Type".
#[expect(clippy::cast_possible_truncation, reason = "as every reader of protobuf does")]
fn reference(number: u64) -> u32 {
    number as u32
}

#[inline]
fn store<R: SeriesResolver>(
    series: &Series,
    symbols: &Symbols<'_>,
    shapes: &Shapes,
    key: &mut Vec<u8>,
    resolver: &mut R,
    request: &mut Request<'_>,
) -> Result<(), IngestError> {
    let text = || {
        let text = |reference: u32| symbols.texts.get(reference as usize).copied().unwrap_or(b"?");
        labels_text(series.pairs().map(|(name, value)| (text(name), text(value))))
    };
    request.outcome.exemplars_ignored += series.exemplars;
    if series.histograms > 0 {
        request.refuse_histograms(series.histograms, text);
    }
    if series.samples.is_empty() {
        return Ok(());
    }
    let has_starts = series.samples.iter().any(|sample| sample.start != 0);
    let shape = if has_starts { shapes.with_starts } else { shapes.plain };
    let shape = shape.filter(|_| series.key(symbols, key).is_some());
    if let Some(shape) = shape {
        let predicted = resolver
            .predict(key)
            .filter(|known| known.key_len == key.len() && known.shape_id == shape)
            .map(|known| known.key);
        if let Some(known) = predicted.or_else(|| resolver.find(shape, key)) {
            resolver.advance(known);
            request.push(resolver.known(known).series, &series.samples, text);
            return Ok(());
        }
    }
    let samples = series.samples.len() as u64;
    let labels = match series.labels(symbols, request.options) {
        Ok(labels) => labels,
        Err((code, message)) => {
            request.refuse(samples, code, message, text);
            return Ok(());
        }
    };
    let mut ids = Vec::new();
    let mut registered = vec![labels];
    if has_starts {
        registered.push(registered[0].companion());
    }
    match resolver.register(shape, key, &registered, &mut ids) {
        Ok(known) => {
            if let Some(known) = known {
                resolver.advance(known);
            }
            request.outcome.metadata.extend(series.metadata(&registered[0], symbols));
            request.push(&ids, &series.samples, text);
        }
        Err(error) => {
            request.refuse(samples, LineErrorCode::SeriesRefused, refusal(error)?, text);
        }
    }
    Ok(())
}
