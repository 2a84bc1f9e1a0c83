//! JSON lines as VictoriaMetrics and our own export write them: one series and its samples a line.
//!
//! ```text
//! {"metric":{"__name__":"up","job":"a"},"values":[1,0.5,null],"timestamps":[1000,2000,3000]}
//! ```
//!
//! Timestamps are milliseconds. `null` is a stale marker, the only NaN that VictoriaMetrics exports;
//! values that JSON has no numbers for are strings: `"Infinity"`, `"NaN"` and the other spellings of
//! `number`. Other fields of a line are skipped. A series' raw key is its `metric` object.

mod scan;

use std::collections::BTreeMap;

use crate::ingest::error::{IngestError, IngestOutcome, LineErrorCode};
use crate::ingest::json_lines::scan::Line;
use crate::ingest::labels;
use crate::ingest::lines::{Fault, Lines, line_end, utf8};
use crate::ingest::options::ParseOptions;
use crate::ingest::resolver::{KeyFormat, ResolveError, SeriesResolver, ShapeId, ShapeKey};
use crate::model::{Labels, SampleBatch, SeriesRef};

/// Reads a plain body.
pub fn parse<R: SeriesResolver>(
    body: &[u8],
    options: &ParseOptions,
    resolver: &mut R,
    batch: &mut SampleBatch,
) -> Result<IngestOutcome, IngestError> {
    resolver.start();
    let shape = resolver.shape(&ShapeKey::single(KeyFormat::JsonLines, &options.extra_labels));
    let mut outcome = IngestOutcome::default();
    let mut lines = Lines::new(body);
    let mut line = Line::default();
    let samples_before = batch.len();
    let mut at = 0;
    while at < body.len() {
        let (start, end) = (at, line_end(body, at));
        at = end;
        if body[start..end].trim_ascii().is_empty() {
            continue;
        }
        if let Err(fault) = line.read(body, start, end) {
            lines.refuse(start, fault, &mut outcome);
            continue;
        }
        let samples = line.timestamps.len();
        if batch.len() - samples_before + samples > options.limits.samples_per_request_max {
            return Err(IngestError::TooLarge {
                what: "the number of samples in a request",
                max: options.limits.samples_per_request_max,
                setting: "samples_per_request_max",
            });
        }
        match resolve(body, &line, shape, options, resolver)? {
            Ok(series) => push(&line, start, series, options, batch, &mut lines, &mut outcome),
            // A line without samples is no loss.
            Err(_) if samples == 0 => {}
            Err(fault) => lines.refuse_samples(start, samples as u64, fault, &mut outcome),
        }
    }
    outcome.accepted = (batch.len() - samples_before) as u64;
    Ok(outcome)
}

/// The line's series, registered if it is new.
fn resolve<R: SeriesResolver>(
    body: &[u8],
    line: &Line,
    shape: Option<ShapeId>,
    options: &ParseOptions,
    resolver: &mut R,
) -> Result<Result<SeriesRef, Fault>, IngestError> {
    let key = &body[line.metric.clone()];
    if let Some(known) = shape.and_then(|shape| resolver.find(shape, key)) {
        resolver.advance(known);
        if let [series] = resolver.known(known).series {
            return Ok(Ok(*series));
        }
    }
    let labels = match series_labels(key, line.metric.start, options) {
        Ok(labels) => labels,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut series = Vec::new();
    match resolver.register(shape, key, &[labels], &mut series) {
        Ok(known) => {
            if let Some(known) = known {
                resolver.advance(known);
            }
            Ok(Ok(series[0]))
        }
        Err(ResolveError::Refused(reason)) => {
            Ok(Err(Fault::new(line.metric.start, LineErrorCode::SeriesRefused, reason)))
        }
        Err(ResolveError::Failed(error)) => Err(IngestError::Registration(error)),
    }
}

fn series_labels(key: &[u8], at: usize, options: &ParseOptions) -> Result<Labels, Fault> {
    let text = utf8(key, at)?;
    let pairs: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| {
        Fault::new(at, LineErrorCode::BadLabels, format!("\"metric\" is no label set: {error}"))
    })?;
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    labels::checked(pairs, &options.extra_labels, &options.limits)
        .map_err(|(code, message)| Fault::new(at, code, message))
}

/// Appends the line's samples; those too far ahead are refused together.
fn push(
    line: &Line,
    start: usize,
    series: SeriesRef,
    options: &ParseOptions,
    batch: &mut SampleBatch,
    lines: &mut Lines<'_>,
    outcome: &mut IngestOutcome,
) {
    let (mut refused, mut first) = (0, None);
    for (timestamp, value) in line.timestamps.iter().zip(&line.values) {
        if options.accepted.contains(*timestamp) {
            batch.push(series, *timestamp, *value);
        } else {
            refused += 1;
            first.get_or_insert(*timestamp);
        }
    }
    if let Some(first) = first {
        let (code, message) = options.accepted.refusal(first);
        let fault = Fault::new(start, code, format!("{refused} refused, the first: {message}"));
        lines.refuse_samples(start, refused, fault, outcome);
    }
}

#[cfg(test)]
mod tests;
