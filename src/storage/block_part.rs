//! A block file as a part of a snapshot: opened when it is first read, set aside when it is
//! damaged.
//!
//! Invariant: a damaged block never gives a wrong sample; it gives an error that says where the
//! damage is, and the snapshot turns that into a warning. The first damage found is final: later
//! reads get the same error without touching the file, and the manifest remembers it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::columnar::ColumnarError;
use crate::columnar::block::{
    BlockCache, BlockCursor, BlockReader, BlockSource, BlockSummary, CursorStats, Settle,
};
use crate::model::{Matcher, Samples, TimeRange};
use crate::storage::error::StorageError;
use crate::storage::handles::Handles;
use crate::storage::manifest::BlockMeta;
use crate::storage::part::{Part, PartSeries, ReadStats, SeriesReader};
use crate::storage::status::BlockStatus;
use crate::storage::tombstone::Tombstone;
use crate::storage::wal::Lsn;

/// One block of the manifest.
#[derive(Debug)]
pub(crate) struct BlockPart {
    meta: BlockMeta,
    file: Arc<BlockFile>,
    cache: Arc<BlockCache>,
    reader: OnceLock<Arc<BlockReader>>,
    damage: OnceLock<Damage>,
    reports: Arc<DamageReports>,
    /// When this process came to know it, by the monotonic clock.
    since: Duration,
}

const MISSING: &str = "the file is missing";

/// Why a block is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) offset: u64,
    pub(crate) reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            0 => f.write_str(&self.reason),
            offset => write!(f, "at offset {offset}: {}", self.reason),
        }
    }
}

/// Damage that reading has met and that the manifest does not know yet. Each block reports once.
#[derive(Debug, Default)]
pub(crate) struct DamageReports(Mutex<Vec<(u64, Damage)>>);

impl DamageReports {
    pub(crate) fn take(&self) -> Vec<(u64, Damage)> {
        std::mem::take(&mut self.0.lock())
    }
}

impl BlockPart {
    pub(crate) fn new(
        meta: BlockMeta,
        path: PathBuf,
        handles: Arc<Handles>,
        cache: Arc<BlockCache>,
        reports: Arc<DamageReports>,
        since: Duration,
    ) -> Self {
        let is_obsolete = AtomicBool::new(false);
        let file = BlockFile { id: meta.id, path, len: meta.bytes, handles, is_obsolete };
        let file = Arc::new(file);
        Self { meta, file, cache, reader: OnceLock::new(), damage: OnceLock::new(), reports, since }
    }

    pub(crate) fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    pub(crate) fn since(&self) -> Duration {
        self.since
    }

    /// The manifest names the file no more: it goes when the last reader has let go of it.
    pub(crate) fn make_obsolete(&self) {
        self.file.is_obsolete.store(true, Ordering::Release);
    }

    pub(crate) fn status(&self) -> BlockStatus {
        BlockStatus {
            file: self.name(),
            level: self.meta.level,
            time_range: self.meta.time_range,
            series: self.meta.series,
            samples: self.meta.samples,
            bytes: self.meta.bytes,
        }
    }

    pub(crate) fn damage(&self) -> Option<&Damage> {
        self.damage.get()
    }

    /// Stops serving the block, for a reason that the manifest knows or the start found.
    pub(crate) fn set_aside(&self, damage: Damage) {
        // A damage found before stays the reason.
        let _ = self.damage.set(damage);
    }

    /// Whether the file is there and as long as it should be, without reading it.
    ///
    /// What is missing may come back, from a backup say, so the manifest is not told.
    pub(crate) fn check_file(&self) -> Result<(), StorageError> {
        let len = match self.file.handles.len(&self.file.path) {
            Ok(len) => len,
            Err(error) if error.is_not_found() => {
                self.set_aside(Damage { offset: 0, reason: MISSING.to_owned() });
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        if len == self.meta.bytes {
            return Ok(());
        }
        let reason = format!("it is {len} bytes long instead of {}", self.meta.bytes);
        let damage = Damage { offset: 0, reason };
        self.set_aside(damage.clone());
        Err(self.corrupt(damage))
    }

    fn open(&self) -> Result<&Arc<BlockReader>, StorageError> {
        if let Some(damage) = self.damage.get() {
            return Err(self.corrupt(damage.clone()));
        }
        if let Some(reader) = self.reader.get() {
            return Ok(reader);
        }
        let source = Arc::clone(&self.file) as Arc<dyn BlockSource>;
        let reader = BlockReader::open(source, Arc::clone(&self.cache))
            .map_err(|error| self.failed(error))?;
        if !self.meta.describes(reader.summary()) {
            let reason = "it is not the block that the manifest names".to_owned();
            return Err(self.found(Damage { offset: 0, reason }));
        }
        Ok(self.reader.get_or_init(|| Arc::new(reader)))
    }

    /// Translates an error of the reader; damage is noted and reported.
    fn failed(&self, error: ColumnarError) -> StorageError {
        match error {
            ColumnarError::Corrupt { offset, reason } => self.found(Damage { offset, reason }),
            ColumnarError::Read { offset, source, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    self.found(Damage { offset: 0, reason: MISSING.to_owned() })
                }
                io::ErrorKind::UnexpectedEof => {
                    self.found(Damage { offset, reason: "the file is cut off".to_owned() })
                }
                // May pass: this answer does without the block, the next one tries again.
                _ => self.corrupt(Damage { offset, reason: source.to_string() }),
            },
            error @ ColumnarError::UnknownVersion { .. } => {
                self.found(Damage { offset: 0, reason: error.to_string() })
            }
            error => StorageError::Internal(format!("{}: {error}", self.name())),
        }
    }

    fn found(&self, damage: Damage) -> StorageError {
        if self.damage.set(damage.clone()).is_ok() {
            tracing::error!(
                block = %self.file.path.display(), offset = damage.offset, reason = damage.reason,
                "a block is damaged and set aside"
            );
            self.reports.0.lock().push((self.meta.id, damage.clone()));
        }
        self.corrupt(damage)
    }

    fn corrupt(&self, Damage { offset, reason }: Damage) -> StorageError {
        StorageError::Corrupt { path: self.file.path.clone(), offset, reason }
    }
}

impl BlockMeta {
    /// What the manifest is to know of a new block; `None` if it holds no samples.
    pub(crate) fn new(id: u64, summary: &BlockSummary) -> Option<Self> {
        let header = summary.header;
        Some(Self {
            id,
            level: header.level,
            window: header.window,
            time_range: summary.time_range?,
            series: summary.series,
            samples: summary.samples,
            bytes: summary.bytes,
            lsn_first: header.lsn_first,
            lsn_last: header.lsn_last,
            written: Self::written_at(header.window, header.lsn_last),
            cleaned: 0,
        })
    }

    fn describes(&self, summary: &BlockSummary) -> bool {
        // Only the manifest knows when each stretch of the window was written, and without what.
        let (written, cleaned) = (self.written.clone(), self.cleaned);
        Self::new(self.id, summary).is_some_and(|meta| Self { written, cleaned, ..meta } == *self)
    }
}

impl Part for BlockPart {
    fn name(&self) -> String {
        let name = self.file.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn time_range(&self) -> Option<TimeRange> {
        Some(self.meta.time_range)
    }

    fn lsn_last(&self) -> Lsn {
        self.meta.lsn_last
    }

    fn is_touched_by(&self, tombstone: &Tombstone) -> bool {
        self.meta.is_touched_by(tombstone)
    }

    fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<PartSeries>, StorageError> {
        let selected = self.open()?.select(matchers, range).map_err(|error| self.failed(error))?;
        let series = selected.into_iter();
        Ok(series.map(|(labels, local)| PartSeries { labels, local }).collect())
    }

    fn reader(self: Arc<Self>) -> Box<dyn SeriesReader> {
        Box::new(BlockPartReader { part: self, cursor: None })
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        names: &mut BTreeSet<String>,
    ) -> Result<(), StorageError> {
        let reader = self.open()?;
        reader.label_names(matchers, range, names).map_err(|error| self.failed(error))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        values: &mut BTreeSet<String>,
    ) -> Result<(), StorageError> {
        let reader = self.open()?;
        reader.label_values(name, matchers, range, values).map_err(|error| self.failed(error))
    }
}

struct BlockPartReader {
    part: Arc<BlockPart>,
    cursor: Option<BlockCursor>,
}

impl BlockPartReader {
    /// Reads with the cursor.
    fn with(
        &mut self,
        read: impl FnOnce(&mut BlockCursor) -> Result<CursorStats, ColumnarError>,
    ) -> Result<ReadStats, StorageError> {
        let read = read(self.cursor()?);
        let stats = read.map_err(|error| self.part.failed(error))?;
        let CursorStats { samples, chunks, settled, bytes } = stats;
        Ok(ReadStats { samples, chunks, settled, bytes })
    }

    fn cursor(&mut self) -> Result<&mut BlockCursor, StorageError> {
        match &mut self.cursor {
            Some(cursor) => Ok(cursor),
            none => Ok(none.insert(self.part.open()?.cursor())),
        }
    }
}

impl SeriesReader for BlockPartReader {
    fn read(
        &mut self,
        local: u32,
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<ReadStats, StorageError> {
        self.with(|cursor| cursor.read(local, range, out))
    }

    fn read_unsettled(
        &mut self,
        local: u32,
        range: TimeRange,
        shared: &[TimeRange],
        settle: &mut Settle<'_>,
        out: &mut Samples,
    ) -> Result<ReadStats, StorageError> {
        self.with(|cursor| cursor.read_unsettled(local, range, shared, settle, out))
    }

    fn holds(&mut self, local: u32, range: TimeRange) -> Result<bool, StorageError> {
        self.cursor()?.holds(local, range).map_err(|error| self.part.failed(error))
    }
}

/// A block's file, opened when it is read.
#[derive(Debug)]
struct BlockFile {
    id: u64,
    path: PathBuf,
    len: u64,
    handles: Arc<Handles>,
    is_obsolete: AtomicBool,
}

impl Drop for BlockFile {
    fn drop(&mut self) {
        if !self.is_obsolete.load(Ordering::Acquire) {
            return;
        }
        match self.handles.remove(self.id, &self.path) {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {}
            // The next start removes what no manifest names.
            Err(error) => tracing::warn!(%error, "removing a block that is no longer needed"),
        }
    }
}

impl BlockSource for BlockFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let file = self.handles.get(self.id, &self.path)?;
        let mut bytes = vec![0; len];
        if file.read_at(offset, &mut bytes)? < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes.into())
    }
}
