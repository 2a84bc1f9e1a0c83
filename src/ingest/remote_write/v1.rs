//! Remote write 1.0: `prometheus.WriteRequest`.
//!
//! ```text
//! WriteRequest   { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3 }
//! TimeSeries     { repeated Label labels = 1; repeated Sample samples = 2;
//!                  repeated Exemplar exemplars = 3; repeated Histogram histograms = 4 }
//! Label          { string name = 1; string value = 2 }
//! Sample         { double value = 1; int64 timestamp = 2 }
//! MetricMetadata { MetricType type = 1; string metric_family_name = 2; string help = 4;
//!                  string unit = 5 }
//! ```
//!
//! A series' raw key is the run of its `labels` fields, tags and lengths included.

use crate::ingest::error::{IngestError, IngestOutcome, LineErrorCode};
use crate::ingest::labels::{self, Refusal};
use crate::ingest::options::ParseOptions;
use crate::ingest::remote_write::protobuf::{Malformed, Reader, Value};
use crate::ingest::remote_write::{
    Request, Sample, labels_text, malformed, metric_type, refusal, sample,
};
use crate::ingest::resolver::{KeyFormat, KeyRef, SeriesResolver, ShapeId, ShapeKey};
use crate::model::{Labels, Metadata, SampleBatch};

const FORMAT: &str = "remote write 1.0 request";
const SAMPLE_TAG: u8 = 2 << 3 | 2;

/// Reads a `prometheus.WriteRequest`.
pub fn parse_v1<R: SeriesResolver>(
    body: &[u8],
    options: &ParseOptions,
    resolver: &mut R,
    batch: &mut SampleBatch,
) -> Result<IngestOutcome, IngestError> {
    resolver.start();
    let shape = resolver.shape(&ShapeKey::single(KeyFormat::RemoteWriteV1, &options.extra_labels));
    let mut request = Request::new(options, batch);
    let mut series = Series::default();
    let mut reader = Reader::new(body);
    while let Some((number, value)) = reader.field().map_err(malformed(FORMAT))? {
        match (number, value) {
            (1, Value::Bytes(message)) => {
                request.next_series(body.len() - reader.rest.len(), body.len())?;
                if let Some(shape) = shape
                    && let Some(key) =
                        predicted_series(message, shape, options, resolver, request.batch)
                {
                    resolver.advance(key);
                    continue;
                }
                series.read(message).map_err(malformed(FORMAT))?;
                store(&series, message, shape, resolver, &mut request)?;
            }
            (3, Value::Bytes(message)) => {
                let metadata = metadata(message).map_err(malformed(FORMAT))?;
                request.outcome.metadata.extend(metadata);
            }
            (1 | 3, _) => return Err(malformed(FORMAT)(Malformed("a wrong wire type"))),
            _ => {}
        }
    }
    request.finish()
}

/// Reads a series if it is the expected one and has nothing but samples of the past, and appends
/// them. Anything else is left to the careful path, and the batch as it was.
#[inline]
fn predicted_series<R: SeriesResolver>(
    message: &[u8],
    shape: ShapeId,
    options: &ParseOptions,
    resolver: &R,
    batch: &mut SampleBatch,
) -> Option<KeyRef> {
    let known = resolver.predict(message).filter(|known| known.shape_id == shape)?;
    let [series] = known.series else { return None };
    let mut rest = &message[known.key_len..];
    let row = batch.len();
    // One more label would make another key, and any tag but a sample's is unusual.
    while let [SAMPLE_TAG, len, after @ ..] = rest {
        let Some((message, after)) = after.split_at_checked(usize::from(*len)) else { break };
        match sample::<false>(message) {
            Ok(sample) if *len < 0x80 && options.accepted.contains(sample.timestamp) => {
                batch.push(*series, sample.timestamp, sample.value);
            }
            _ => break,
        }
        rest = after;
    }
    if rest.is_empty() {
        return Some(known.key);
    }
    batch.truncate(row);
    None
}

/// Parts of one series' message; kept to spare allocations.
#[derive(Default)]
struct Series {
    /// Length of the labels' run at the front of the message.
    labels_len: usize,
    /// All labels as one run, if the message scatters them.
    scattered: Vec<u8>,
    samples: Vec<Sample>,
    exemplars: u64,
    histograms: u64,
}

impl Series {
    fn read(&mut self, message: &[u8]) -> Result<(), Malformed> {
        self.labels_len = 0;
        self.scattered.clear();
        self.samples.clear();
        (self.exemplars, self.histograms) = (0, 0);
        let mut reader = Reader::new(message);
        loop {
            let start = message.len() - reader.rest.len();
            let Some((number, value)) = reader.field()? else { return Ok(()) };
            let end = message.len() - reader.rest.len();
            match (number, value) {
                (1, Value::Bytes(_)) if start == self.labels_len && self.scattered.is_empty() => {
                    self.labels_len = end;
                }
                (1, Value::Bytes(_)) => {
                    if self.scattered.is_empty() {
                        self.scattered.extend_from_slice(&message[..self.labels_len]);
                    }
                    self.scattered.extend_from_slice(&message[start..end]);
                }
                (2, Value::Bytes(message)) => self.samples.push(sample::<false>(message)?),
                (3, Value::Bytes(_)) => self.exemplars += 1,
                (4, Value::Bytes(_)) => self.histograms += 1,
                (1..=4, _) => return Err(Malformed("a series' field has the wrong wire type")),
                _ => {}
            }
        }
    }

    fn key<'a>(&'a self, message: &'a [u8]) -> &'a [u8] {
        if self.scattered.is_empty() { &message[..self.labels_len] } else { &self.scattered }
    }
}

fn store<R: SeriesResolver>(
    series: &Series,
    message: &[u8],
    shape: Option<ShapeId>,
    resolver: &mut R,
    request: &mut Request<'_>,
) -> Result<(), IngestError> {
    let key = series.key(message);
    let text = || labels_text(Pairs(Reader::new(key)));
    request.outcome.exemplars_ignored += series.exemplars;
    if series.histograms > 0 {
        request.refuse_histograms(series.histograms, text);
    }
    if series.samples.is_empty() {
        return Ok(());
    }
    if let Some(known) = shape.and_then(|shape| resolver.find(shape, key)) {
        resolver.advance(known);
        if let [series_ref] = resolver.known(known).series {
            request.push(&[*series_ref], &series.samples, text);
        }
        return Ok(());
    }
    let samples = series.samples.len() as u64;
    let labels = match series_labels(key, request.options) {
        Ok(Ok(labels)) => labels,
        Ok(Err((code, message))) => {
            request.refuse(samples, code, message, text);
            return Ok(());
        }
        Err(error) => return Err(malformed(FORMAT)(error)),
    };
    let mut ids = Vec::new();
    match resolver.register(shape, key, &[labels], &mut ids) {
        Ok(known) => {
            if let Some(known) = known {
                resolver.advance(known);
            }
            request.push(&ids, &series.samples, text);
        }
        Err(error) => {
            request.refuse(samples, LineErrorCode::SeriesRefused, refusal(error)?, text);
        }
    }
    Ok(())
}

fn series_labels(key: &[u8], options: &ParseOptions) -> Result<Result<Labels, Refusal>, Malformed> {
    let mut pairs = Vec::new();
    let mut reader = Reader::new(key);
    while let Some((_, value)) = reader.field()? {
        let Value::Bytes(message) = value else { continue };
        let (name, value) = label(message)?;
        match (std::str::from_utf8(name), std::str::from_utf8(value)) {
            (Ok(name), Ok(value)) => pairs.push((name, value)),
            _ => {
                return Ok(Err((LineErrorCode::InvalidUtf8, "a label is not UTF-8".into())));
            }
        }
    }
    Ok(labels::checked(pairs, &options.extra_labels, &options.limits))
}

fn label(message: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.field()? {
        match field {
            (1, Value::Bytes(text)) => name = text,
            (2, Value::Bytes(text)) => value = text,
            (1 | 2, _) => return Err(Malformed("a label's field has the wrong wire type")),
            _ => {}
        }
    }
    Ok((name, value))
}

/// Names and values of a key, as far as they can be read.
struct Pairs<'a>(Reader<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.field() {
            Ok(Some((_, Value::Bytes(message)))) => label(message).ok(),
            _ => None,
        }
    }
}

fn metadata(message: &[u8]) -> Result<Option<(String, Metadata)>, Malformed> {
    let (mut name, mut metadata) = (String::new(), Metadata::default());
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut reader = Reader::new(message);
    while let Some(field) = reader.field()? {
        match field {
            (1, Value::Varint(number)) => metadata.metric_type = metric_type(number),
            (2, Value::Bytes(bytes)) => name = text(bytes),
            (4, Value::Bytes(bytes)) => metadata.help = text(bytes),
            (5, Value::Bytes(bytes)) => metadata.unit = text(bytes),
            _ => {}
        }
    }
    Ok((!name.is_empty()).then_some((name, metadata)))
}
