//! Lines of text bodies: where they begin and end, and how a fault in one becomes an error.

use std::borrow::Cow;

use crate::ingest::error::{IngestOutcome, LineError, LineErrorCode, excerpt};

/// Where a line went wrong and how.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Offset in the body.
    pub(crate) at: usize,
    pub(crate) code: LineErrorCode,
    pub(crate) message: Cow<'static, str>,
}

impl Fault {
    pub(crate) fn new(
        at: usize,
        code: LineErrorCode,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { at, code, message: message.into() }
    }
}

/// Numbers the lines of a body, but only those that are refused.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    body: &'a [u8],
    /// An offset whose line number is known, to count on from.
    counted: (usize, usize),
}

impl<'a> Lines<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { body, counted: (0, 1) }
    }

    /// Counts the line at `start` as refused and keeps its fault.
    pub(crate) fn refuse(&mut self, start: usize, fault: Fault, outcome: &mut IngestOutcome) {
        self.refuse_samples(start, 1, fault, outcome);
    }

    /// Counts `samples` of the line at `start` as refused and keeps its fault.
    #[cold]
    pub(crate) fn refuse_samples(
        &mut self,
        start: usize,
        samples: u64,
        fault: Fault,
        outcome: &mut IngestOutcome,
    ) {
        outcome.reject(samples, || {
            // Lines of a block may be refused out of order.
            if start < self.counted.0 {
                self.counted = (0, 1);
            }
            let between = &self.body[self.counted.0..start];
            let line = self.counted.1 + memchr::memchr_iter(b'\n', between).count();
            self.counted = (start, line);
            let text = &self.body[start..line_end(self.body, start)];
            let before = &self.body[start..fault.at.clamp(start, self.body.len())];
            LineError {
                line,
                column: 1 + before.iter().filter(|byte| **byte & 0xc0 != 0x80).count(),
                code: fault.code,
                message: fault.message.into_owned(),
                text: excerpt(text.trim_ascii_end()),
            }
        });
    }
}

/// Start of the line after the one that `at` lies in.
pub(crate) fn line_end(body: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |len| at + len + 1)
}

/// Start of the next line if this one ends at `at`.
#[inline]
pub(crate) fn ends_line(body: &[u8], at: usize) -> Option<usize> {
    match body.get(at) {
        None => Some(at),
        Some(b'\n') => Some(at + 1),
        Some(b'\r') => match body.get(at + 1) {
            None => Some(at + 1),
            Some(b'\n') => Some(at + 2),
            Some(_) => None,
        },
        Some(_) => None,
    }
}

/// The text of a part of the body that starts at `at`.
pub(crate) fn utf8(bytes: &[u8], at: usize) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|error| {
        Fault::new(at + error.valid_up_to(), LineErrorCode::InvalidUtf8, "the series is not UTF-8")
    })
}
