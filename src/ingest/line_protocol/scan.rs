//! One line into key, fields and timestamp, without a look at what the key means.

use std::ops::Range;

use crate::ingest::error::{LineErrorCode, excerpt};
use crate::ingest::limits::AcceptedTimes;
use crate::ingest::lines::{Fault, ends_line, line_end};
use crate::ingest::number;
use crate::ingest::options::Precision;
use crate::model::Timestamp;

/// What to do with text and boolean fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextFields {
    Refuse,
    Skip,
}

/// What differs between the protocols that share this grammar, and what a request fixes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    pub(crate) precision: Precision,
    pub(crate) text_fields: TextFields,
    pub(crate) accepted: AcceptedTimes,
    pub(crate) line_bytes_max: usize,
}

/// A field of a scanned line.
#[derive(Debug, Clone)]
pub(crate) struct ScannedField {
    /// The bytes in front of the value, `name=`; empty for a bare value.
    pub(crate) prefix: Range<usize>,
    pub(crate) sampled: bool,
}

/// A scanned line; offsets are the body's.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) key: Range<usize>,
    /// Its fields and values among those scanned.
    pub(crate) fields: Range<usize>,
    pub(crate) values: Range<usize>,
    pub(crate) timestamp: Timestamp,
    /// Start of the next line.
    pub(crate) end: usize,
}

/// Where scanned fields and values go; cleared and used again.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    pub(crate) fields: Vec<ScannedField>,
    pub(crate) values: Vec<f64>,
}

impl Scanned {
    pub(crate) fn clear(&mut self) {
        self.fields.clear();
        self.values.clear();
    }
}

/// Skips blank lines, comments and leading spaces; gives where a line starts, if one does.
#[inline]
pub(crate) fn next_line(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match body.get(at)? {
            b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            b'#' => at = line_end(body, at),
            _ => return Some(at),
        }
    }
}

/// Scans the line that starts at `start` with its measurement.
pub(crate) fn scan_line(
    body: &[u8],
    start: usize,
    dialect: &Dialect,
    scanned: &mut Scanned,
) -> Result<Line, Fault> {
    let key_end = scan_key(body, start)?;
    let (fields, values) = (scanned.fields.len(), scanned.values.len());
    let values_start = skip_spaces(body, key_end);
    let at = match scan_bare_value(body, values_start, scanned) {
        Some(at) => at,
        None => scan_fields(body, values_start, dialect.text_fields, scanned)?,
    };
    let (timestamp, end) = scan_timestamp(body, at, dialect)?;
    if end - start > dialect.line_bytes_max {
        let message = format!(
            "the line has {} bytes, line_bytes_max is {}",
            end - start,
            dialect.line_bytes_max
        );
        return Err(Fault::new(start, LineErrorCode::LimitExceeded, message));
    }
    Ok(Line {
        key: start..key_end,
        fields: fields..scanned.fields.len(),
        values: values..scanned.values.len(),
        timestamp,
        end,
    })
}

/// Reads what follows the values: a timestamp or none, and the end of the line. Gives the
/// timestamp and the start of the next line.
#[inline]
pub(crate) fn scan_timestamp(
    body: &[u8],
    at: usize,
    dialect: &Dialect,
) -> Result<(Timestamp, usize), Fault> {
    let start = skip_spaces(body, at);
    if let Some(end) = ends_line(body, start) {
        return Ok((dialect.accepted.now_ms, end));
    }
    let bad = |message| Err(Fault::new(start, LineErrorCode::BadTimestamp, message));
    if start == at {
        return Err(Fault::new(
            at,
            LineErrorCode::Syntax,
            "a space or the end of the line must follow",
        ));
    }
    let Some((written, len)) = number::integer(&body[start..]) else {
        return bad("the timestamp is not an integer");
    };
    let Some(timestamp) = dialect.precision.to_ms(written) else {
        return bad("the timestamp is out of range");
    };
    let Some(end) = ends_line(body, skip_spaces(body, start + len)) else {
        return bad("more than an integer stands where the timestamp is");
    };
    if !dialect.accepted.contains(timestamp) {
        let (code, message) = dialect.accepted.refusal(timestamp);
        return Err(Fault::new(start, code, message));
    }
    Ok((timestamp, end))
}

/// Skips a text or boolean value at `at`; gives where it ends.
#[inline]
pub(crate) fn skip_text(body: &[u8], at: usize) -> Option<usize> {
    if body.get(at) == Some(&b'"') {
        let mut at = at + 1;
        loop {
            at += memchr::memchr2(b'"', b'\\', &body[at..])?;
            if body[at] == b'"' {
                return Some(at + 1);
            }
            at += 2;
            body.get(at)?;
        }
    }
    let rest = &body[at..];
    let len = rest
        .iter()
        .take(6)
        .position(|byte| matches!(byte, b',' | b' ' | b'\n' | b'\r'))
        .unwrap_or(rest.len().min(6));
    let boolean = matches!(
        &rest[..len],
        b"t" | b"T" | b"true" | b"True" | b"TRUE" | b"f" | b"F" | b"false" | b"False" | b"FALSE"
    );
    boolean.then_some(at + len)
}

/// End of the key: the first space that no backslash precedes.
fn scan_key(body: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start;
    loop {
        let found = memchr::memchr2(b' ', b'\n', &body[at..]).map(|len| at + len);
        match found {
            Some(found) if body[found] == b' ' => {
                if found == start || body[found - 1] != b'\\' {
                    return Ok(found);
                }
                at = found + 1;
            }
            _ => {
                let end = found.unwrap_or(body.len());
                return Err(Fault::new(end, LineErrorCode::Syntax, "no value follows the series"));
            }
        }
    }
}

fn scan_bare_value(body: &[u8], at: usize, scanned: &mut Scanned) -> Option<usize> {
    let (value, len) = number::field_value(&body[at..])?;
    if body.get(at + len) == Some(&b',') {
        return None;
    }
    scanned.fields.push(ScannedField { prefix: at..at, sampled: true });
    scanned.values.push(value);
    Some(at + len)
}

/// Reads `name=value{,name=value}`; gives where it ends.
fn scan_fields(
    body: &[u8],
    mut at: usize,
    text_fields: TextFields,
    scanned: &mut Scanned,
) -> Result<usize, Fault> {
    loop {
        let start = at;
        let equals = scan_field_name(body, start)?;
        let value_start = equals + 1;
        let mut sampled = true;
        if let Some((value, len)) = number::field_value(&body[value_start..]) {
            scanned.values.push(value);
            at = value_start + len;
        } else if let Some(end) = skip_text(body, value_start) {
            if text_fields == TextFields::Refuse {
                let message = "text and booleans are no samples";
                return Err(Fault::new(value_start, LineErrorCode::BadValue, message));
            }
            sampled = false;
            at = end;
        } else {
            return Err(not_a_number(body, value_start));
        }
        scanned.fields.push(ScannedField { prefix: start..value_start, sampled });
        if body.get(at) != Some(&b',') {
            return Ok(at);
        }
        at += 1;
    }
}

/// Position of the `=` behind the field name at `start`.
fn scan_field_name(body: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start;
    let equals = loop {
        match body.get(at) {
            Some(b'=') => break Some(at),
            Some(b'\\') if matches!(body.get(at + 1), Some(b' ' | b',' | b'=')) => at += 2,
            None | Some(b' ' | b',' | b'\n' | b'\r' | b'"') => break None,
            Some(_) => at += 1,
        }
    };
    match equals {
        Some(equals) if equals > start => Ok(equals),
        Some(_) => Err(Fault::new(start, LineErrorCode::Syntax, "a field without a name")),
        None if at == start => Err(Fault::new(start, LineErrorCode::Syntax, "a value is missing")),
        None => Err(not_a_number(body, start)),
    }
}

#[cold]
fn not_a_number(body: &[u8], at: usize) -> Fault {
    let rest = &body[at..];
    let len = rest.iter().position(|byte| matches!(byte, b',' | b' ' | b'\n' | b'\r'));
    let message = match &rest[..len.unwrap_or(rest.len())] {
        [] => "a value is missing".to_owned(),
        [b'"', ..] => "the text has no closing quote".to_owned(),
        token => format!("`{}` is not a number", excerpt(token)),
    };
    Fault::new(at, LineErrorCode::BadValue, message)
}

#[inline]
fn skip_spaces(body: &[u8], mut at: usize) -> usize {
    while body.get(at) == Some(&b' ') {
        at += 1;
    }
    at
}
