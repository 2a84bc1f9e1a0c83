//! What the rollups say of themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::{Resolution, Timestamp};

/// The rollup store at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RollupStatus {
    /// Where the files lie; credentials are not part of it.
    pub url: String,
    /// False until `_manifest.json` has been read.
    pub ready: bool,
    pub resolutions: BTreeMap<Resolution, ResolutionStatus>,
    /// Two-hour spans that have samples in blocks and no rows that sum them up.
    pub dirty_spans: u64,
    /// Files that retention has dropped since the start, and their bytes.
    pub files_dropped: u64,
    pub bytes_dropped: u64,
    /// What is being built now.
    pub running: Option<RunningStatus>,
    /// Why the latest attempt failed; `None` once one has succeeded after it.
    pub error: Option<String>,
}

/// What one resolution costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolutionStatus {
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Raw samples that the rows sum up.
    pub samples: u64,
    /// All rows up to here are right.
    pub watermark_ms: Option<Timestamp>,
}

impl ResolutionStatus {
    /// What a raw sample costs at this resolution; `None` before there are any.
    pub fn bytes_per_sample(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.bytes as f64 / self.samples as f64)
    }
}

/// Work that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningStatus {
    pub spans: u64,
    pub spans_done: u64,
    pub samples: u64,
}

/// What a request to build everything came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DownsampleReport {
    /// Two-hour spans that were built.
    pub spans: u64,
    /// Raw samples that were summed up.
    pub samples: u64,
    /// Rows and bytes of the files that were written, of all resolutions.
    pub rows: u64,
    pub bytes: u64,
    pub took: Duration,
}

/// How far a building has come; shared with whoever waits for it.
#[derive(Debug, Default)]
pub struct DownsampleProgress {
    spans: AtomicU64,
    spans_done: AtomicU64,
    samples: AtomicU64,
}

impl DownsampleProgress {
    pub(crate) fn add_work(&self, spans: u64) {
        self.spans.fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn add_done(&self, spans: u64, samples: u64) {
        self.spans_done.fetch_add(spans, Ordering::Relaxed);
        self.samples.fetch_add(samples, Ordering::Relaxed);
    }

    pub fn now(&self) -> RunningStatus {
        RunningStatus {
            spans: self.spans.load(Ordering::Relaxed),
            spans_done: self.spans_done.load(Ordering::Relaxed),
            samples: self.samples.load(Ordering::Relaxed),
        }
    }
}
