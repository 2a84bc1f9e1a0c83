//! Prometheus remote write, versions 1.0 and 2.0, after decompression.
//!
//! Messages are read by hand and in place. A known series is found by the raw bytes of its labels
//! (1.0) or by the translated references to them (2.0). What is wrong with one series is told and
//! leaves the others; a message that is not well-formed is refused as a whole.
//!
//! Invariant: values keep their bits, stale markers and other NaN included.

mod protobuf;
mod v1;
mod v2;

use crate::ingest::error::{IngestError, IngestOutcome, LineError, LineErrorCode, excerpt};
use crate::ingest::options::ParseOptions;
use crate::ingest::remote_write::protobuf::{Malformed, Reader, Value};
use crate::ingest::resolver::ResolveError;
use crate::model::start_timestamps::to_value;
use crate::model::{MetricType, SampleBatch, SeriesRef, Timestamp};

pub use crate::ingest::remote_write::v1::parse_v1;
pub use crate::ingest::remote_write::v2::parse_v2;

/// Series after whose samples the size of the batch is foreseen.
const SERIES_BEFORE_RESERVE: usize = 64;

/// What is being read, and what became of it so far.
struct Request<'a> {
    options: &'a ParseOptions,
    batch: &'a mut SampleBatch,
    outcome: IngestOutcome,
    /// Place of the current series, from 1.
    series: usize,
    rows_before: usize,
    /// Rows of the batch that are start timestamps.
    starts: usize,
}

impl<'a> Request<'a> {
    fn new(options: &'a ParseOptions, batch: &'a mut SampleBatch) -> Self {
        let rows_before = batch.len();
        let outcome = IngestOutcome::default();
        Self { options, batch, outcome, series: 0, rows_before, starts: 0 }
    }

    /// Samples that were taken so far.
    fn samples(&self) -> usize {
        self.batch.len() - self.rows_before - self.starts
    }

    /// Counts the series in and checks the request's size; `read` is the part of it behind us.
    #[inline]
    fn next_series(&mut self, read: usize, len: usize) -> Result<(), IngestError> {
        self.series += 1;
        if self.samples() > self.options.limits.samples_per_request_max {
            return Err(self.too_many_samples());
        }
        if self.series == SERIES_BEFORE_RESERVE {
            let more = (self.batch.len() - self.rows_before) * (len / read.max(1) + 1);
            let more = (more + more / 16).min(self.options.limits.samples_per_request_max);
            self.batch.series.reserve(more);
            self.batch.timestamps.reserve(more);
            self.batch.values.reserve(more);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<IngestOutcome, IngestError> {
        if self.samples() > self.options.limits.samples_per_request_max {
            return Err(self.too_many_samples());
        }
        self.outcome.accepted = self.samples() as u64;
        Ok(self.outcome)
    }

    #[cold]
    fn too_many_samples(&self) -> IngestError {
        IngestError::TooLarge {
            what: "the number of samples in a request",
            max: self.options.limits.samples_per_request_max,
            setting: "samples_per_request_max",
        }
    }

    /// Appends the samples of `series[0]`, and what start timestamps they have to its companion
    /// `series[1]`. Samples too far ahead or too old are refused one by one.
    #[inline]
    fn push(&mut self, series: &[SeriesRef], samples: &[Sample], text: impl Fn() -> String) {
        for sample in samples {
            if self.options.accepted.contains(sample.timestamp) {
                self.batch.push(series[0], sample.timestamp, sample.value);
                if sample.start != 0
                    && let Some(companion) = series.get(1)
                {
                    self.batch.push(*companion, sample.timestamp, to_value(sample.start));
                    self.starts += 1;
                }
            } else {
                let (code, message) = self.options.accepted.refusal(sample.timestamp);
                self.refuse(1, code, message, &text);
            }
        }
    }

    /// Refuses the histograms of a series, of which `count` are not zero.
    #[cold]
    fn refuse_histograms(&mut self, count: u64, text: impl Fn() -> String) {
        let message = format!("native histograms are not stored yet, {count} refused");
        self.refuse(count, LineErrorCode::NativeHistogram, message, text);
    }

    #[cold]
    fn refuse(
        &mut self,
        samples: u64,
        code: LineErrorCode,
        message: impl Into<String>,
        text: impl Fn() -> String,
    ) {
        let line = self.series;
        self.outcome.reject(samples, || LineError {
            line,
            column: 0,
            code,
            message: message.into(),
            text: excerpt(text().as_bytes()),
        });
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    value: f64,
    timestamp: Timestamp,
    /// 0 if it is unknown.
    start: Timestamp,
}

/// Reads a `Sample`; both versions number its value 1 and its timestamp 2. Only version 2 has a
/// start timestamp, and that only `WITH_START`.
#[inline]
fn sample<const WITH_START: bool>(message: &[u8]) -> Result<Sample, Malformed> {
    // As every sender writes it: both fields, in order.
    if let [0x09, rest @ ..] = message
        && let Some((value, [0x10, rest @ ..])) = rest.split_first_chunk()
    {
        let mut reader = Reader::new(rest);
        let timestamp = reader.varint()?.cast_signed();
        let value = f64::from_le_bytes(*value);
        if reader.rest.is_empty() {
            return Ok(Sample { value, timestamp, start: 0 });
        }
        if let Some((0x18, rest)) = reader.rest.split_first()
            && WITH_START
        {
            reader = Reader::new(rest);
            let start = reader.varint()?.cast_signed();
            if reader.rest.is_empty() {
                return Ok(Sample { value, timestamp, start });
            }
        }
    }
    let mut sample = Sample { value: 0.0, timestamp: 0, start: 0 };
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match (number, value) {
            (1, Value::Fixed64(bits)) => sample.value = f64::from_bits(bits),
            (2, Value::Varint(bits)) => sample.timestamp = bits.cast_signed(),
            (3, Value::Varint(bits)) if WITH_START => sample.start = bits.cast_signed(),
            (3, _) if !WITH_START => {}
            (1..=3, _) => return Err(Malformed("a sample's field has the wrong wire type")),
            _ => {}
        }
    }
    Ok(sample)
}

/// The type with that number in both versions' enumerations.
fn metric_type(number: u64) -> MetricType {
    match number {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}

fn malformed(format: &'static str) -> impl Fn(Malformed) -> IngestError {
    move |Malformed(reason)| IngestError::Malformed { format, reason: reason.to_owned() }
}

/// The reason for one series, or the error for the request.
fn refusal(error: ResolveError) -> Result<String, IngestError> {
    match error {
        ResolveError::Refused(reason) => Ok(reason),
        ResolveError::Failed(error) => Err(IngestError::Registration(error)),
    }
}

/// Labels for an error message, whatever they are worth.
fn labels_text<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        let separator = if text.is_empty() { "" } else { ", " };
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        text.push_str(&format!("{separator}{name}={value:?}"));
    }
    format!("{{{text}}}")
}

#[cfg(test)]
mod tests;
