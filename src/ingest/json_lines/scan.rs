//! One line: where its `metric` stands, and its values and timestamps.

use std::ops::Range;

use crate::ingest::error::LineErrorCode;
use crate::ingest::lines::Fault;
use crate::ingest::number;
use crate::model::{Timestamp, stale_nan};

/// Nesting of values that are skipped.
const DEPTH_MAX: usize = 64;

/// A line in the reading; kept to spare allocations.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The `metric` object in the body.
    pub(super) metric: Range<usize>,
    pub(super) values: Vec<f64>,
    pub(super) timestamps: Vec<Timestamp>,
}

impl Line {
    /// Reads the line that stands in `body[start..end]`.
    pub(super) fn read(&mut self, body: &[u8], start: usize, end: usize) -> Result<(), Fault> {
        self.metric = 0..0;
        self.values.clear();
        self.timestamps.clear();
        let mut scanner = Scanner { body: &body[..end], at: start };
        let mut seen = [false; 3];
        scanner.expect(b'{', "a line is a JSON object")?;
        if !scanner.take(b'}') {
            loop {
                let name_at = scanner.at;
                let name = scanner.string()?;
                scanner.expect(b':', "a colon must follow a field's name")?;
                let field = [&b"metric"[..], b"values", b"timestamps"];
                let field = field.iter().position(|field| *field == name);
                if field.is_some_and(|field| std::mem::replace(&mut seen[field], true)) {
                    return Err(syntax(name_at, "the field occurs twice"));
                }
                match field {
                    Some(0) => self.metric = scanner.object()?,
                    Some(1) => scanner.array(|scanner| {
                        self.values.push(scanner.value()?);
                        Ok(())
                    })?,
                    Some(_) => scanner.array(|scanner| {
                        self.timestamps.push(scanner.timestamp()?);
                        Ok(())
                    })?,
                    None => scanner.skip_value()?,
                }
                if !scanner.take(b',') {
                    break;
                }
            }
            scanner.expect(b'}', "a comma or closing brace must follow")?;
        }
        scanner.skip_blanks();
        if scanner.at < end && scanner.body[scanner.at] != b'\n' {
            return Err(syntax(scanner.at, "the line should end here"));
        }
        if let Some(missing) = seen.iter().position(|seen| !seen) {
            let message = [
                r#"there is no "metric""#,
                r#"there are no "values""#,
                r#"there are no "timestamps""#,
            ];
            return Err(syntax(start, message[missing]));
        }
        let (values, timestamps) = (self.values.len(), self.timestamps.len());
        if values != timestamps {
            let message = format!("there are {values} values and {timestamps} timestamps");
            return Err(Fault::new(start, LineErrorCode::Syntax, message));
        }
        Ok(())
    }
}

struct Scanner<'a> {
    /// Ends with the line.
    body: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn skip_blanks(&mut self) {
        while matches!(self.body.get(self.at), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let found = self.body.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Result<(), Fault> {
        if self.take(byte) { Ok(()) } else { Err(syntax(self.at, otherwise)) }
    }

    /// A string's bytes as they are written, escapes and all.
    fn string(&mut self) -> Result<&'a [u8], Fault> {
        self.expect(b'"', "a text in quotes must stand here")?;
        let start = self.at;
        loop {
            let rest = &self.body[self.at.min(self.body.len())..];
            let Some(len) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(syntax(start - 1, "a quote is not closed"));
            };
            self.at += len;
            if self.body[self.at] == b'"' {
                let text = &self.body[start..self.at];
                self.at += 1;
                return Ok(text);
            }
            self.at += 2;
        }
    }

    /// Where an object stands.
    fn object(&mut self) -> Result<Range<usize>, Fault> {
        self.skip_blanks();
        let start = self.at;
        if self.body.get(start) != Some(&b'{') {
            return Err(syntax(start, r#""metric" is an object of labels"#));
        }
        self.skip_value()?;
        Ok(start..self.at)
    }

    fn array(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.expect(b'[', "an array must stand here")?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.skip_blanks();
            item(self)?;
            if !self.take(b',') {
                return self.expect(b']', "a comma or closing bracket must follow");
            }
        }
    }

    #[inline]
    fn value(&mut self) -> Result<f64, Fault> {
        const NULL: &[u8] = b"null";
        let at = self.at;
        let wrong = || Fault::new(at, LineErrorCode::BadValue, "the value is not a number");
        let rest = &self.body[at.min(self.body.len())..];
        if rest.first() == Some(&b'"') {
            let text = self.string()?;
            if text == NULL {
                return Ok(stale_nan());
            }
            let (value, len) = number::float(text).ok_or_else(wrong)?;
            return if len == text.len() { Ok(value) } else { Err(wrong()) };
        }
        if rest.starts_with(NULL) {
            self.at += NULL.len();
            return Ok(stale_nan());
        }
        let (value, len) = number::float(rest).ok_or_else(wrong)?;
        self.at += len;
        Ok(value)
    }

    #[inline]
    fn timestamp(&mut self) -> Result<Timestamp, Fault> {
        let rest = &self.body[self.at.min(self.body.len())..];
        let (timestamp, len) = number::integer(rest).ok_or_else(|| {
            let message = "the timestamp is not a whole number of milliseconds";
            Fault::new(self.at, LineErrorCode::BadTimestamp, message)
        })?;
        self.at += len;
        Ok(timestamp)
    }

    /// Passes over any value, checking no more than that its brackets and quotes are closed.
    fn skip_value(&mut self) -> Result<(), Fault> {
        let (start, mut depth) = (self.at, 0usize);
        loop {
            self.skip_blanks();
            match self.body.get(self.at) {
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                    if depth > DEPTH_MAX {
                        return Err(syntax(self.at, "this is nested too deeply"));
                    }
                    continue;
                }
                Some(b'}' | b']') if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                Some(b',' | b':') if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                Some(byte)
                    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.') =>
                {
                    let plain = |byte: &u8| {
                        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
                    };
                    let rest = &self.body[self.at..];
                    self.at += rest.iter().position(|byte| !plain(byte)).unwrap_or(rest.len());
                }
                None => return Err(syntax(start, "a bracket is not closed")),
                Some(_) => return Err(syntax(self.at, "this is not JSON")),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

fn syntax(at: usize, message: &'static str) -> Fault {
    Fault::new(at, LineErrorCode::Syntax, message)
}
