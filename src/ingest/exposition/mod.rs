//! Prometheus' text exposition format 0.0.4, and OpenMetrics as far as it can be told apart.
//!
//! ```text
//! # HELP name text        # TYPE name counter        # UNIT name seconds        # EOF
//! name{label="value",…} value [timestamp] [# {exemplar} …]
//! {"any name","any label"="value",…} value [timestamp]
//! ```
//!
//! A series' raw key is the text in front of the value.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::ingest::error::{IngestError, IngestOutcome, LineErrorCode};
use crate::ingest::labels;
use crate::ingest::lines::{Fault, Lines, ends_line, line_end, utf8};
use crate::ingest::number;
use crate::ingest::options::ParseOptions;
use crate::ingest::resolver::{KeyFormat, KeyRef, ResolveError, SeriesResolver, ShapeId, ShapeKey};
use crate::model::labels::{is_classic_label_name, is_classic_metric_name};
use crate::model::{Labels, METRIC_NAME, Metadata, MetricType, SampleBatch, Timestamp};

/// Reads a plain body.
pub fn parse<R: SeriesResolver>(
    body: &[u8],
    options: &ParseOptions,
    resolver: &mut R,
    batch: &mut SampleBatch,
) -> Result<IngestOutcome, IngestError> {
    resolver.start();
    let shape = resolver.shape(&ShapeKey::single(KeyFormat::Exposition, &options.extra_labels));
    let mut outcome = IngestOutcome::default();
    let mut families = Families::default();
    let mut lines = Lines::new(body);
    let samples_before = batch.len();
    let mut at = 0;
    while let Some(start) = next_line(body, at) {
        if body[start] == b'#' {
            at = line_end(body, start);
            families.read(&body[start..at]);
            continue;
        }
        if let Some(shape) = shape
            && let Some((key, sample)) = predicted(body, start, shape, options, resolver, batch)
        {
            resolver.advance(key);
            outcome.exemplars_ignored += u64::from(sample.exemplar);
            at = sample.end;
        } else {
            at = match store(body, start, shape, options, resolver, batch)? {
                Ok(sample) => {
                    outcome.exemplars_ignored += u64::from(sample.exemplar);
                    sample.end
                }
                Err(fault) => {
                    lines.refuse(start, fault, &mut outcome);
                    line_end(body, start)
                }
            };
        }
        let samples_max = options.limits.samples_per_request_max;
        if batch.len() - samples_before > samples_max {
            return Err(IngestError::TooLarge {
                what: "the number of samples in a request",
                max: samples_max,
                setting: "samples_per_request_max",
            });
        }
    }
    outcome.accepted = (batch.len() - samples_before) as u64;
    outcome.metadata = families.list;
    Ok(outcome)
}

/// What stands behind a series' key.
#[derive(Debug, Clone, Copy)]
struct Sample {
    value: f64,
    timestamp: Timestamp,
    exemplar: bool,
    /// Start of the next line.
    end: usize,
}

/// Reads the line at `start` if its series is the expected one, and appends its sample.
#[inline]
fn predicted<R: SeriesResolver>(
    body: &[u8],
    start: usize,
    shape: ShapeId,
    options: &ParseOptions,
    resolver: &R,
    batch: &mut SampleBatch,
) -> Option<(KeyRef, Sample)> {
    let known = resolver.predict(&body[start..]).filter(|known| known.shape_id == shape)?;
    let [series] = known.series else { return None };
    // A key without braces may be the beginning of another.
    let at = start + known.key_len;
    if !matches!(body.get(at), Some(b' ' | b'\t')) {
        return None;
    }
    let sample = scan_sample(body, at, options).ok()?;
    if sample.end - start > options.limits.line_bytes_max {
        return None;
    }
    batch.push(*series, sample.timestamp, sample.value);
    Some((known.key, sample))
}

/// Reads the line at `start`, registers its series if it is new, and appends its sample.
fn store<R: SeriesResolver>(
    body: &[u8],
    start: usize,
    shape: Option<ShapeId>,
    options: &ParseOptions,
    resolver: &mut R,
    batch: &mut SampleBatch,
) -> Result<Result<Sample, Fault>, IngestError> {
    let scanned = scan_key(body, start)
        .and_then(|key_end| Ok((key_end, scan_sample(body, key_end, options)?)));
    let (key_end, sample) = match scanned {
        Ok(scanned) => scanned,
        Err(fault) => return Ok(Err(fault)),
    };
    let line_bytes_max = options.limits.line_bytes_max;
    if sample.end - start > line_bytes_max {
        let len = sample.end - start;
        let message = format!("the line has {len} bytes, line_bytes_max is {line_bytes_max}");
        return Ok(Err(Fault::new(start, LineErrorCode::LimitExceeded, message)));
    }
    let key = &body[start..key_end];
    if let Some(known) = shape.and_then(|shape| resolver.find(shape, key)) {
        resolver.advance(known);
        if let [series] = resolver.known(known).series {
            batch.push(*series, sample.timestamp, sample.value);
        }
        return Ok(Ok(sample));
    }
    let labels = match series_labels(key, start, options) {
        Ok(labels) => labels,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut series = Vec::new();
    match resolver.register(shape, key, &[labels], &mut series) {
        Ok(known) => {
            if let Some(known) = known {
                resolver.advance(known);
            }
            batch.push(series[0], sample.timestamp, sample.value);
            Ok(Ok(sample))
        }
        Err(ResolveError::Refused(reason)) => {
            Ok(Err(Fault::new(start, LineErrorCode::SeriesRefused, reason)))
        }
        Err(ResolveError::Failed(error)) => Err(IngestError::Registration(error)),
    }
}

/// Skips blank lines and leading spaces; gives where a line starts, if one does.
fn next_line(body: &[u8], at: usize) -> Option<usize> {
    let len = body[at..].iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))?;
    Some(at + len)
}

/// End of the series' text: of the name, or of the labels in braces.
fn scan_key(body: &[u8], start: usize) -> Result<usize, Fault> {
    let is_end = |byte: &u8| matches!(byte, b'{' | b' ' | b'\t' | b'\r' | b'\n');
    let name_len = body[start..].iter().position(is_end).unwrap_or(body.len() - start);
    let name_end = start + name_len;
    let brace = skip_blanks(body, name_end);
    if body.get(brace) != Some(&b'{') {
        return Ok(name_end);
    }
    let mut at = brace + 1;
    let mut quoted = false;
    loop {
        match body.get(at) {
            Some(b'\\') if quoted => at += 1,
            Some(b'"') => quoted = !quoted,
            Some(b'}') if !quoted => return Ok(at + 1),
            None | Some(b'\n') => {
                let message =
                    if quoted { "a quote is not closed" } else { "a brace is not closed" };
                return Err(Fault::new(at.min(body.len()), LineErrorCode::Syntax, message));
            }
            Some(_) => {}
        }
        at += 1;
    }
}

/// Reads value, timestamp and exemplar, and the end of the line.
#[inline]
fn scan_sample(body: &[u8], key_end: usize, options: &ParseOptions) -> Result<Sample, Fault> {
    let start = skip_blanks(body, key_end);
    let Some((value, len)) = number::float(&body[start..]) else {
        let message = match ends_line(body, start) {
            Some(_) => "a value is missing",
            None => "the value is not a number",
        };
        return Err(Fault::new(start, LineErrorCode::BadValue, message));
    };
    let value_end = start + len;
    let mut at = skip_blanks(body, value_end);
    let taken = |timestamp, at| match options.accepted.contains(timestamp) {
        true => Ok(timestamp),
        false => {
            let (code, message) = options.accepted.refusal(timestamp);
            Err(Fault::new(at, code, message))
        }
    };
    if let Some(end) = ends_line(body, at) {
        let timestamp = taken(options.now_ms, start)?;
        return Ok(Sample { value, timestamp, exemplar: false, end });
    }
    if at == value_end {
        return Err(Fault::new(start, LineErrorCode::BadValue, "the value is not a number"));
    }
    let timestamp;
    if body[at] == b'#' {
        timestamp = taken(options.now_ms, start)?;
    } else {
        let (written, len) = scan_timestamp(&body[at..], options.open_metrics)
            .ok_or_else(|| Fault::new(at, LineErrorCode::BadTimestamp, "no timestamp"))?;
        timestamp = taken(written, at)?;
        let timestamp_end = at + len;
        at = skip_blanks(body, timestamp_end);
        if let Some(end) = ends_line(body, at) {
            return Ok(Sample { value, timestamp, exemplar: false, end });
        }
        if at == timestamp_end {
            return Err(Fault::new(at, LineErrorCode::BadTimestamp, "the timestamp does not end"));
        }
    }
    if body[at] != b'#' {
        return Err(Fault::new(at, LineErrorCode::Syntax, "the line should end here"));
    }
    Ok(Sample { value, timestamp, exemplar: true, end: line_end(body, at) })
}

/// Reads a timestamp: milliseconds, or seconds if it is OpenMetrics or has a fraction.
#[inline]
fn scan_timestamp(input: &[u8], open_metrics: bool) -> Option<(Timestamp, usize)> {
    if let Some((ms, len)) = number::integer(input)
        && !open_metrics
        && !matches!(input.get(len), Some(b'.' | b'e' | b'E'))
    {
        return Some((ms, len));
    }
    if let Some(exact) = decimal_ms(input) {
        return Some(exact);
    }
    let (seconds, len) = number::float(input)?;
    Some((whole_ms(seconds)?, len))
}

/// Seconds with up to three decimals, the usual form: exact where a double no longer is.
fn decimal_ms(input: &[u8]) -> Option<(Timestamp, usize)> {
    let (seconds, mut at) = number::integer(input)?;
    let (mut fraction, mut unit) = (0, 1000);
    if input.get(at) == Some(&b'.') {
        at += 1;
        while let Some(digit) = input.get(at).filter(|byte| byte.is_ascii_digit()) {
            unit /= 10;
            fraction += i64::from(digit - b'0') * unit;
            at += 1;
            if unit == 0 {
                return None;
            }
        }
    }
    if matches!(input.get(at), Some(b'e' | b'E')) {
        return None;
    }
    let fraction = if input.first() == Some(&b'-') { -fraction } else { fraction };
    Some((seconds.checked_mul(1000)?.checked_add(fraction)?, at))
}

/// Seconds as whole milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn whole_ms(seconds: f64) -> Option<Timestamp> {
    let ms = (seconds * 1000.0).round();
    (ms.abs() < i64::MAX as f64).then_some(ms as i64)
}

#[inline]
fn skip_blanks(body: &[u8], mut at: usize) -> usize {
    while matches!(body.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    at
}

fn series_labels(key: &[u8], key_start: usize, options: &ParseOptions) -> Result<Labels, Fault> {
    let text = utf8(key, key_start)?;
    let (name, braces) = match text.split_once('{') {
        Some((name, rest)) => (name.trim_end(), rest.strip_suffix('}').unwrap_or(rest)),
        None => (text, ""),
    };
    if !name.is_empty() && !is_classic_metric_name(name) {
        let message = "this metric name must stand in quotes inside of the braces";
        return Err(Fault::new(key_start, LineErrorCode::BadLabels, message));
    }
    let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    if !name.is_empty() {
        pairs.push((METRIC_NAME.into(), name.into()));
    }
    let mut scanner = Scanner { rest: braces, end: key_start + text.len() - 1 };
    scanner.read_pairs(&mut pairs)?;
    let pairs = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
    labels::checked(pairs, &options.extra_labels, &options.limits)
        .map_err(|(code, message)| Fault::new(key_start, code, message))
}

/// Reads what stands between braces.
struct Scanner<'a> {
    rest: &'a str,
    /// Offset of the rest's end in the body.
    end: usize,
}

impl<'a> Scanner<'a> {
    fn read_pairs(&mut self, pairs: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>) -> Result<(), Fault> {
        loop {
            self.skip_blanks();
            if self.rest.is_empty() {
                return Ok(());
            }
            let quoted = self.rest.starts_with('"');
            let name = if quoted { self.quoted()? } else { self.bare_name()? };
            self.skip_blanks();
            if self.take('=') {
                self.skip_blanks();
                pairs.push((name, self.quoted()?));
            } else if quoted {
                pairs.push((METRIC_NAME.into(), name));
            } else {
                return Err(self.fault("a label without `=`"));
            }
            self.skip_blanks();
            if !self.take(',') && !self.rest.is_empty() {
                return Err(self.fault("a comma or closing brace must follow"));
            }
        }
    }

    fn bare_name(&mut self) -> Result<Cow<'a, str>, Fault> {
        let len = self
            .rest
            .find(|char: char| !char.is_ascii_alphanumeric() && char != '_')
            .unwrap_or(self.rest.len());
        let name = &self.rest[..len];
        if !is_classic_label_name(name) {
            return Err(self.fault("a label's name must stand here"));
        }
        self.rest = &self.rest[len..];
        Ok(name.into())
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, Fault> {
        if !self.take('"') {
            return Err(self.fault("a text in quotes must stand here"));
        }
        let mut len = 0;
        let bytes = self.rest.as_bytes();
        while let Some(byte) = bytes.get(len).filter(|byte| **byte != b'"') {
            len += if *byte == b'\\' { 2 } else { 1 };
        }
        let Some((text, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.fault("a quote is not closed"));
        };
        self.rest = rest;
        if !self.take('"') {
            return Err(self.fault("a quote is not closed"));
        }
        Ok(unescape(text))
    }

    fn take(&mut self, char: char) -> bool {
        match self.rest.strip_prefix(char) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn fault(&self, message: &'static str) -> Fault {
        Fault::new(self.end - self.rest.len(), LineErrorCode::Syntax, message)
    }
}

/// Replaces `\n`, `\"` and `\\`; another backslash is ordinary.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let escaped = match chars.peek() {
            Some('n') => Some('\n'),
            Some('"') => Some('"'),
            Some('\\') => Some('\\'),
            _ => None,
        };
        match escaped.filter(|_| char == '\\') {
            Some(escaped) => {
                plain.push(escaped);
                chars.next();
            }
            None => plain.push(char),
        }
    }
    Cow::Owned(plain)
}

/// Metadata from comments, in order of the metrics' first.
#[derive(Default)]
struct Families {
    list: Vec<(String, Metadata)>,
    places: HashMap<String, usize>,
}

impl Families {
    /// Reads a comment; one that says nothing of a metric is left alone.
    fn read(&mut self, line: &[u8]) {
        let Ok(text) = std::str::from_utf8(line) else { return };
        let text = text.trim_start_matches(['#', ' ', '\t']).trim_end_matches(['\r', '\n']);
        let Some((keyword, rest)) = text.split_once([' ', '\t']) else { return };
        if !matches!(keyword, "HELP" | "TYPE" | "UNIT") {
            return;
        }
        let mut scanner = Scanner { rest: rest.trim_start_matches([' ', '\t']), end: 0 };
        let name = match scanner.rest.starts_with('"') {
            true => match scanner.quoted() {
                Ok(name) => name,
                Err(_) => return,
            },
            false => {
                let (name, rest) =
                    scanner.rest.split_once([' ', '\t']).unwrap_or((scanner.rest, ""));
                scanner.rest = rest;
                name.into()
            }
        };
        scanner.skip_blanks();
        if name.is_empty() {
            return;
        }
        let place = *self.places.entry(name.into_owned()).or_insert_with_key(|name| {
            self.list.push((name.clone(), Metadata::default()));
            self.list.len() - 1
        });
        let metadata = &mut self.list[place].1;
        match keyword {
            "HELP" => metadata.help = unescape(scanner.rest).into_owned(),
            "UNIT" => metadata.unit = scanner.rest.to_owned(),
            _ => {
                metadata.metric_type =
                    MetricType::parse(scanner.rest).unwrap_or(metadata.metric_type);
            }
        }
    }
}

#[cfg(test)]
mod tests;
