//! One rollup file, as the manifest knows it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use object_store::path::Path;
use parquet::file::metadata::ParquetMetaData;
use serde::{Deserialize, Serialize};

use crate::model::{Resolution, Span, TimeRange, Timestamp};
use crate::storage::plan::WINDOW_MS;
use crate::storage::rollup::upload::below;
use crate::storage::rollup::worker::Trash;
use crate::storage::tombstone::Tombstone;
use crate::storage::wal::Lsn;

/// A Parquet file of rollup rows.
#[derive(Debug)]
pub struct RollupFile {
    facts: FileFacts,
    resolution: Resolution,
    location: Path,
    /// What stands at the file's end, once it was read and if there was room for it.
    footer: OnceLock<Footer>,
    /// Where the file goes when nobody holds it any more; set once no manifest names it.
    retired: OnceLock<Arc<Trash>>,
}

/// What `_manifest.json` says of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileFacts {
    /// Below the manifest's directory.
    pub(crate) path: String,
    pub(crate) resolution: String,
    pub(crate) rows: u64,
    pub(crate) series: u64,
    pub(crate) bytes: u64,
    pub(crate) first_metric: String,
    pub(crate) last_metric: String,
    /// The stretches that the file holds all rows of, ascending.
    pub(crate) spans: Vec<BuiltSpan>,
}

/// A stretch `(start, start + 2 h]` and what its rows were made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BuiltSpan {
    pub(crate) start_ms: Timestamp,
    /// Everything in the log up to here was in blocks, and these are what the rows sum up.
    pub(crate) source_lsn: Lsn,
    /// The last tombstone that the rows know of.
    pub(crate) cleaned: u64,
    pub(crate) samples: u64,
}

impl BuiltSpan {
    pub(crate) fn span(self) -> Span {
        span_at(self.start_ms)
    }

    /// Whether the rows may sum up samples that the tombstone hides.
    pub(crate) fn is_touched_by(self, tombstone: &Tombstone) -> bool {
        let overlaps = |range: TimeRange| range.overlaps(tombstone.range);
        self.cleaned < tombstone.id && self.span().range().is_some_and(overlaps)
    }
}

/// The unit of building that begins (and leaves out) `start`.
pub(crate) fn span_at(start: Timestamp) -> Span {
    Span { start, end: start.saturating_add(WINDOW_MS) }
}

impl RollupFile {
    pub(crate) fn new(facts: FileFacts, resolution: Resolution, root: &Path) -> Self {
        let location = below(root, &facts.path);
        Self { facts, resolution, location, footer: OnceLock::new(), retired: OnceLock::new() }
    }

    /// Where the file lies in the object store.
    pub fn location(&self) -> &Path {
        &self.location
    }

    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// The stretch that its buckets lie in; there may be holes.
    pub fn span(&self) -> Span {
        let first = self.facts.spans.first().map_or(0, |span| span.start_ms);
        let last = self.facts.spans.last().map_or(0, |span| span.span().end);
        Span { start: first, end: last }
    }

    pub fn rows(&self) -> u64 {
        self.facts.rows
    }

    pub fn series(&self) -> u64 {
        self.facts.series
    }

    pub fn bytes(&self) -> u64 {
        self.facts.bytes
    }

    /// Raw samples that its rows sum up.
    pub fn samples(&self) -> u64 {
        self.facts.spans.iter().map(|span| span.samples).sum()
    }

    /// The least and the greatest metric name in it, as text.
    pub fn metrics(&self) -> (&str, &str) {
        (&self.facts.first_metric, &self.facts.last_metric)
    }

    pub(crate) fn facts(&self) -> &FileFacts {
        &self.facts
    }

    /// The file is removed when its last reader is gone.
    pub(crate) fn retire(&self, trash: Arc<Trash>) {
        // A file is retired once.
        let _ = self.retired.set(trash);
    }

    pub(crate) fn footer(&self) -> Option<&Arc<ParquetMetaData>> {
        self.footer.get().map(|footer| &footer.metadata)
    }

    /// Keeps what stands at the file's end for the next reader, if there is room.
    pub(crate) fn keep_footer(&self, metadata: &Arc<ParquetMetaData>, room: &Arc<FooterRoom>) {
        if let Some(footer) = room.take(metadata) {
            // Another reader may have been quicker.
            let _ = self.footer.set(footer);
        }
    }
}

/// Bytes of memory that the footers of all files may take.
const FOOTER_BYTES_MAX: usize = 64 << 20;

/// How much of [`FOOTER_BYTES_MAX`] is taken.
#[derive(Debug, Default)]
pub(crate) struct FooterRoom(AtomicUsize);

/// A footer, and the room it takes until it is dropped.
#[derive(Debug)]
struct Footer {
    metadata: Arc<ParquetMetaData>,
    bytes: usize,
    room: Arc<FooterRoom>,
}

impl FooterRoom {
    fn take(self: &Arc<Self>, metadata: &Arc<ParquetMetaData>) -> Option<Footer> {
        let bytes = metadata.memory_size();
        let footer = Footer { metadata: Arc::clone(metadata), bytes, room: Arc::clone(self) };
        let taken = self.0.fetch_add(bytes, Ordering::Relaxed);
        // Dropping it gives the room back.
        (taken + bytes <= FOOTER_BYTES_MAX).then_some(footer)
    }
}

impl Drop for Footer {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for RollupFile {
    fn drop(&mut self) {
        if let Some(trash) = self.retired.get() {
            trash.add(self.location.clone());
        }
    }
}
