//! What was wrong with a request: a refused line beside good ones, or the whole body.

use std::error::Error;

use crate::model::Metadata;

/// The first errors of a request are kept with their text, the rest only counted.
pub const ERRORS_KEPT_MAX: usize = 100;
/// How much of a refused line is quoted.
pub const ERROR_TEXT_BYTES_MAX: usize = 64;

/// The kind of fault of one line or series; clients may match on its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LineErrorCode {
    /// The line is not of the format at all.
    Syntax,
    BadValue,
    BadTimestamp,
    /// The timestamp lies too far ahead of the server's clock.
    FutureTimestamp,
    /// The timestamp lies further back than samples are kept.
    OldTimestamp,
    /// A label set that cannot be: no metric name, a name twice, an empty name.
    BadLabels,
    InvalidUtf8,
    /// A limit on lengths or counts, named in the message.
    LimitExceeded,
    /// A series that may not be created, with the limit's name in the message.
    SeriesRefused,
    /// A kind of sample that is not stored yet.
    NativeHistogram,
}

impl LineErrorCode {
    pub fn as_str(self) -> &'static str {
        match self {
            LineErrorCode::Syntax => "bad_syntax",
            LineErrorCode::BadValue => "bad_value",
            LineErrorCode::BadTimestamp => "bad_timestamp",
            LineErrorCode::FutureTimestamp => "timestamp_too_far_ahead",
            LineErrorCode::OldTimestamp => "timestamp_too_old",
            LineErrorCode::BadLabels => "bad_labels",
            LineErrorCode::InvalidUtf8 => "invalid_utf8",
            LineErrorCode::LimitExceeded => "limit_exceeded",
            LineErrorCode::SeriesRefused => "series_refused",
            LineErrorCode::NativeHistogram => "native_histogram",
        }
    }
}

/// One refused line, or one refused series of a remote-write request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// From 1: the line, or the series' place in a remote-write request.
    pub line: usize,
    /// From 1, counted in characters; 0 where the format has no columns.
    pub column: usize,
    pub code: LineErrorCode,
    pub message: String,
    /// The beginning of the line or the series' labels, at most [`ERROR_TEXT_BYTES_MAX`] bytes.
    pub text: String,
}

/// What became of a request's body. Its samples are in the batch.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct IngestOutcome {
    /// Samples put into the batch.
    pub accepted: u64,
    /// Samples refused; a refused line counts as one.
    pub rejected: u64,
    /// The first [`ERRORS_KEPT_MAX`] refusals, in order of their lines.
    pub errors: Vec<LineError>,
    /// Influx fields that are text or boolean, which are no samples.
    pub skipped_fields: u64,
    pub exemplars_ignored: u64,
    /// What the request said about metrics; store it whatever becomes of the samples.
    pub metadata: Vec<(String, Metadata)>,
}

impl IngestOutcome {
    /// Counts `samples` refused samples and keeps the error if there is room.
    pub fn reject(&mut self, samples: u64, error: impl FnOnce() -> LineError) {
        self.rejected += samples;
        if self.errors.len() < ERRORS_KEPT_MAX {
            self.errors.push(error());
        }
    }
}

/// Whose fault an error is; `http` turns it into a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The body is not what it claims to be.
    Caller,
    /// The body, or what it unpacks to, is over a limit.
    TooLarge,
    /// Storage cannot take new series now; the source is its own error.
    Storage,
}

/// Why nothing of a request can be taken. The batch must then be thrown away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    #[error("{what} is over the limit of {max} ({setting})")]
    TooLarge { what: &'static str, max: usize, setting: &'static str },
    #[error("malformed {format}: {reason}")]
    Malformed { format: &'static str, reason: String },
    #[error("series cannot be registered: {0}")]
    Registration(#[source] Box<dyn Error + Send + Sync>),
}

impl IngestError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            IngestError::TooLarge { .. } => ErrorKind::TooLarge,
            IngestError::Malformed { .. } => ErrorKind::Caller,
            IngestError::Registration(_) => ErrorKind::Storage,
        }
    }
}

/// The first `ERROR_TEXT_BYTES_MAX` bytes as text, cut at a character.
pub fn excerpt(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(ERROR_TEXT_BYTES_MAX)];
    let mut text = String::from_utf8_lossy(head).into_owned();
    // A replaced byte grows to three, and a character cut in half leaves a replacement.
    while text.len() > ERROR_TEXT_BYTES_MAX
        || (head.len() < bytes.len() && text.ends_with(char::REPLACEMENT_CHARACTER))
    {
        text.pop();
    }
    text
}
