//! Who may answer, and who answers a stretch of time.

use std::fmt;
use std::str::FromStr;

use crate::model::{Resolution, Span};
use crate::query::resolution::cost::{CHUNK_MS, FILE_MS};

/// The coarsest resolution that may answer: `max_source_resolution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceResolution {
    /// `0s`: raw samples only.
    Raw,
    /// This one or a finer one.
    AtMost(Resolution),
    /// Whatever is cheapest.
    #[default]
    Auto,
}

impl SourceResolution {
    pub(super) fn allows(self, resolution: Resolution) -> bool {
        match self {
            Self::Raw => false,
            Self::AtMost(coarsest) => resolution <= coarsest,
            Self::Auto => true,
        }
    }
}

/// There is no such bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no source resolution: choose 0s, 1m, 5m, 1h or auto")]
pub struct UnknownSourceResolution(String);

impl FromStr for SourceResolution {
    type Err = UnknownSourceResolution;

    fn from_str(text: &str) -> Result<Self, UnknownSourceResolution> {
        match text {
            "0s" => Ok(Self::Raw),
            "auto" => Ok(Self::Auto),
            _ => match text.parse() {
                Ok(resolution) => Ok(Self::AtMost(resolution)),
                Err(_) => Err(UnknownSourceResolution(text.to_owned())),
            },
        }
    }
}

/// Who answers a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Raw,
    Rollup(Resolution),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Raw => f.write_str("raw"),
            Source::Rollup(resolution) => resolution.fmt(f),
        }
    }
}

/// A stretch of time and who answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub span: Span,
    pub source: Source,
}

impl Stretch {
    /// Whether the next one, with nothing of another source in between, is read at the same go.
    pub(super) fn joins(&self, next: &Stretch) -> bool {
        let gap_max = match self.source {
            Source::Raw => CHUNK_MS,
            Source::Rollup(_) => FILE_MS,
        };
        self.source == next.source && next.span.start.saturating_sub(self.span.end) <= gap_max
    }
}
