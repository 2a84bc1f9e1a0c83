//! The engine: the one object through which samples go in and snapshots come out.
//!
//! A write walks `append` → log (`wal`) → memtable; a flush walks memtable → blocks → manifest;
//! a read takes a [`Snapshot`].
//!
//! Invariant: a write is acknowledged after its log record is durable as the sync mode says, and
//! every snapshot taken after the acknowledgement shows it.

use std::sync::Arc;

use crate::clock::Clock;
use crate::ingest::{KeyRef, Known, ResolveError, SeriesResolver, ShapeId, ShapeKey};
use crate::model::{Labels, Metadata, SampleBatch, SeriesRef};
use crate::storage::error::StorageError;
use crate::storage::metadata::MetadataStore;
use crate::storage::options::StorageOptions;
use crate::storage::snapshot::Snapshot;
use crate::storage::status::{
    EngineStatus, FlushReport, HeadStatus, RecoveryReport, ReplayProgress, WalStatus,
};
use crate::storage::vfs::Vfs;
use crate::telemetry::Telemetry;

/// An open store.
#[derive(Debug)]
pub struct Engine {
    options: StorageOptions,
    metadata: MetadataStore,
}

impl Engine {
    /// Opens the store in `options.data_dir`, or makes it. Replays the log, which may take
    /// seconds: call it on a thread that may block, and show `progress` meanwhile.
    pub fn open(
        options: StorageOptions,
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        telemetry: Arc<Telemetry>,
        progress: &ReplayProgress,
    ) -> Result<Arc<Self>, StorageError> {
        let _ = (vfs, clock, telemetry, progress);
        Ok(Arc::new(Self { options, metadata: MetadataStore::default() }))
    }

    pub fn options(&self) -> &StorageOptions {
        &self.options
    }

    /// Gives series their ids: what a parser of `ingest` asks. One for each request.
    pub fn resolver(&self) -> impl SeriesResolver + Send + '_ {
        NoSeries
    }

    /// Stores the batch, all of it or nothing. When it returns, the samples are as durable as
    /// the sync mode says, and visible. Of equal (series, timestamp) the later row wins.
    pub async fn append(&self, batch: SampleBatch) -> Result<(), StorageError> {
        drop(batch);
        Err(StorageError::ShuttingDown)
    }

    /// Remembers what metrics say of themselves, durably. What is known already costs nothing.
    pub async fn record_metadata(
        &self,
        entries: Vec<(String, Metadata)>,
    ) -> Result<(), StorageError> {
        for (metric, metadata) in entries {
            self.metadata.record(&metric, metadata);
        }
        Ok(())
    }

    /// Type, help and unit of metrics.
    pub fn metadata(&self) -> &MetadataStore {
        &self.metadata
    }

    /// Everything that was acknowledged until now, unchanging.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }

    /// Moves what is in memory to blocks; returns when they are durable.
    pub async fn flush(&self) -> Result<FlushReport, StorageError> {
        Err(StorageError::ShuttingDown)
    }

    /// Everything the status page shows.
    pub fn status(&self) -> EngineStatus {
        EngineStatus {
            database_uuid: uuid::Uuid::nil(),
            data_dir: self.options.data_dir.clone(),
            wal_sync: self.options.wal_sync,
            read_only: None,
            head: HeadStatus::default(),
            wal: WalStatus::default(),
            blocks: Vec::new(),
            block_bytes: 0,
            block_samples: 0,
            quarantined: Vec::new(),
            last_flush: None,
            flush_error: None,
            recovery: RecoveryReport::default(),
            time_range: None,
        }
    }

    /// Refuses further writes, flushes so that the next start is quick, and lets go of the
    /// directory. Queries on older snapshots go on.
    pub async fn close(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Stands in until the series table lands.
struct NoSeries;

impl SeriesResolver for NoSeries {
    fn start(&mut self) {}

    fn shape(&mut self, _: &ShapeKey) -> Option<ShapeId> {
        None
    }

    fn predict(&self, _: &[u8]) -> Option<Known<'_>> {
        None
    }

    fn known(&self, key: KeyRef) -> Known<'_> {
        unreachable!("{key:?} was never given")
    }

    fn find(&mut self, _: ShapeId, _: &[u8]) -> Option<KeyRef> {
        None
    }

    fn advance(&mut self, _: KeyRef) -> bool {
        false
    }

    fn register(
        &mut self,
        _: Option<ShapeId>,
        _: &[u8],
        _: &[Labels],
        _: &mut Vec<SeriesRef>,
    ) -> Result<Option<KeyRef>, ResolveError> {
        Err(ResolveError::Refused("the series table is not there yet".to_owned()))
    }
}
