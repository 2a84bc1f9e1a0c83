//! The engine: the one object through which samples go in and snapshots come out.
//!
//! A write walks `append` → log (`wal`) → memtable; a flush walks memtable → blocks → manifest;
//! a read takes a [`Snapshot`].
//!
//! Invariant: a write is acknowledged after its log record is durable as the sync mode says, and
//! every snapshot taken after the acknowledgement shows it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::ingest::SeriesResolver;
use crate::model::{Metadata, SampleBatch, TimeRange};
use crate::storage::background::{Background, Duty};
use crate::storage::block_part::BlockPart;
use crate::storage::compact::Compactor;
use crate::storage::delete::Deletion;
use crate::storage::error::StorageError;
use crate::storage::flush::Flusher;
use crate::storage::metadata::MetadataStore;
use crate::storage::options::StorageOptions;
use crate::storage::plan::{self, Bounds, Failures, Situation, Step};
use crate::storage::recovery::{self, Recovered};
use crate::storage::rollup::Rollups;
use crate::storage::series::{KEY_CACHE_BYTES_MAX, KeyCache};
use crate::storage::snapshot::Snapshot;
use crate::storage::state::State;
use crate::storage::status::{
    EngineStatus, FlushReport, HeadStatus, LevelStatus, QuarantinedBlock, RecoveryReport,
    ReplayProgress, RetentionStatus, WalStatus,
};
use crate::storage::store::Store;
use crate::storage::vfs::{Vfs, VfsLock};
use crate::storage::wal::{LogState, Lsn, Wal};
use crate::telemetry::Telemetry;

/// Times the bound of the head at which writes are refused: flushes do not keep up.
const HEAD_BOUNDS_MAX: u64 = 3;

/// Seals and flushes.
const STORAGE: Duty = Duty {
    thread: "aether-storage",
    every: Duration::from_millis(500),
    gives_way: false,
    look: Engine::maintain,
};
/// Merges blocks, which may take minutes.
const COMPACTION: Duty = Duty {
    thread: "aether-compact",
    every: Duration::from_secs(5),
    gives_way: true,
    look: Engine::look_after_blocks,
};

/// An open store.
#[derive(Debug)]
pub struct Engine {
    this: Weak<Engine>,
    pub(crate) store: Arc<Store>,
    pub(crate) wal: Arc<Wal>,
    keys: KeyCache,
    /// Held while a flush runs.
    pub(crate) flusher: Mutex<Flusher>,
    flushes: Mutex<Flushes>,
    pub(crate) compactor: Compactor,
    pub(crate) retention: Mutex<RetentionStatus>,
    background: Mutex<Vec<Background>>,
    /// `None` if they are off.
    rollups: Option<Arc<Rollups>>,
    recovery: RecoveryReport,
    closing: AtomicBool,
    /// Last, so that the directory is let go of after everything else.
    lock: Mutex<Option<Box<dyn VfsLock>>>,
}

/// How the flushes so far went.
#[derive(Debug, Default)]
struct Flushes {
    failures: Failures,
    last: Option<FlushReport>,
    error: Option<String>,
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
        let Recovered { store, wal, flusher, report, lock } =
            recovery::recover(options, vfs, clock, Arc::clone(&telemetry), progress)?;
        let rollups = store.options.rollups.then(|| Rollups::start(Arc::clone(&store)));
        let rollups = rollups.transpose()?.map(Arc::new);
        let engine = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            store,
            wal,
            keys: KeyCache::new(KEY_CACHE_BYTES_MAX, telemetry),
            flusher: Mutex::new(flusher),
            flushes: Mutex::default(),
            compactor: Compactor::default(),
            retention: Mutex::default(),
            background: Mutex::default(),
            rollups,
            recovery: report,
            closing: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
        });
        for (duty, bell) in
            [(STORAGE, &engine.store.bell), (COMPACTION, &engine.store.compaction_bell)]
        {
            let started = Background::start(Weak::clone(&engine.this), Arc::clone(bell), duty)?;
            engine.background.lock().push(started);
        }
        Ok(engine)
    }

    pub(crate) fn rollups(&self) -> Option<&Arc<Rollups>> {
        self.rollups.as_ref()
    }

    pub fn options(&self) -> &StorageOptions {
        &self.store.options
    }

    /// Gives series their ids: what a parser of `ingest` asks. One for each request.
    pub fn resolver(&self) -> impl SeriesResolver + Send + '_ {
        self.keys.resolver(&*self.store.series)
    }

    /// Stores the batch, all of it or nothing. When it returns, the samples are as durable as
    /// the sync mode says, and visible. Of equal (series, timestamp) the later row wins.
    pub async fn append(&self, batch: SampleBatch) -> Result<(), StorageError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.check_open()?;
        let bound = self.store.options.head_bytes_max.saturating_mul(HEAD_BOUNDS_MAX);
        if self.store.head_bytes() > bound {
            return Err(StorageError::LimitReached {
                limit: "memory of samples that wait to be flushed",
                setting: "head-bytes-max",
                value: self.store.options.head_bytes_max,
            });
        }
        self.wal.append(batch).await?.await?;
        Ok(())
    }

    /// Remembers what metrics say of themselves, durably. What is known already costs nothing.
    pub async fn record_metadata(
        &self,
        mut entries: Vec<(String, Metadata)>,
    ) -> Result<(), StorageError> {
        entries.retain(|(metric, metadata)| !self.store.metadata.knows(metric, metadata));
        if entries.is_empty() {
            return Ok(());
        }
        self.check_open()?;
        self.wal.append_metadata(entries).await?.await?;
        Ok(())
    }

    /// Type, help and unit of metrics.
    pub fn metadata(&self) -> &MetadataStore {
        &self.store.metadata
    }

    /// Everything that was acknowledged until now, unchanging.
    pub fn snapshot(&self) -> Snapshot {
        self.store.state.load().snapshot()
    }

    /// Moves what is in memory to blocks; returns when they are durable.
    pub async fn flush(&self) -> Result<FlushReport, StorageError> {
        self.check_open()?;
        self.flush_everything().await
    }

    /// Everything the status page shows.
    pub fn status(&self) -> EngineStatus {
        let state = self.store.state.load();
        let log = self.wal.status();
        let (mut blocks, mut quarantined) = (Vec::new(), Vec::new());
        for block in &state.blocks {
            match block.damage() {
                None => blocks.push(block.status()),
                Some(damage) => quarantined
                    .push(QuarantinedBlock { block: block.status(), reason: damage.to_string() }),
            }
        }
        let read_only = match log.state {
            LogState::ReadOnly(reason) | LogState::Poisoned(reason) => Some(reason),
            LogState::Closed => Some("shutting down".to_owned()),
            LogState::Starting | LogState::Running => None,
        };
        let memtables = || state.generations().map(|generation| &generation.memtable);
        let head_range = memtables().filter_map(|memtable| memtable.time_range());
        let head_range = head_range.reduce(TimeRange::hull);
        let (flushed_lsn, database_uuid) = {
            let manifest = self.store.manifest.lock();
            (manifest.state().flushed_lsn, manifest.uuid())
        };
        let (last_flush, flush_error) = {
            let flushes = self.flushes.lock();
            (flushes.last.clone(), flushes.error.clone())
        };
        EngineStatus {
            database_uuid,
            data_dir: self.store.options.data_dir.clone(),
            wal_sync: log.sync,
            read_only,
            head: HeadStatus {
                series: self.store.series.len(),
                samples: memtables().map(|memtable| memtable.samples()).sum(),
                bytes: self.store.head_bytes(),
                time_range: head_range,
                frozen: state.frozen.len(),
            },
            wal: WalStatus {
                segments: log.segments,
                bytes: log.bytes,
                durable_lsn: log.durable_lsn,
                flushed_lsn,
            },
            block_bytes: blocks.iter().map(|block| block.bytes).sum(),
            block_samples: blocks.iter().map(|block| block.samples).sum(),
            levels: LevelStatus::of(&blocks),
            compaction: self.compactor.status(),
            retention: RetentionStatus {
                raw_floor_ms: state.raw_floor,
                stored_bytes: self.stored_bytes(&state),
                ..self.retention.lock().clone()
            },
            blocks,
            quarantined,
            last_flush,
            flush_error,
            recovery: self.recovery.clone(),
            time_range: state.snapshot().time_range(),
        }
    }

    /// Refuses further writes, flushes so that the next start is quick, and lets go of the
    /// directory. Queries on older snapshots go on.
    pub async fn close(&self) -> Result<(), StorageError> {
        if self.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.compactor.stop();
        let background = std::mem::take(&mut *self.background.lock());
        let engine = self.handle()?;
        run_blocking(move || {
            background.into_iter().for_each(Background::stop);
            engine.compactor.wait();
            if let Some(rollups) = &engine.rollups {
                rollups.stop();
            }
        })
        .await?;
        if let Err(error) = self.flush_everything().await {
            // Nothing is lost: the next start replays the log instead.
            tracing::warn!(%error, "the last flush failed");
        }
        let closed = self.wal.close().await;
        self.lock.lock().take();
        closed
    }

    /// One look of the background thread: seals, flushes what is due, writes down damage.
    pub(crate) fn maintain(&self) {
        self.store.seal_if_due();
        if let Err(error) = self.store.record_damage() {
            tracing::warn!(%error, "noting a damaged block in the manifest");
        }
        match plan::next_step(&self.situation(), self.bounds()) {
            Step::Wait => {}
            Step::FlushFrozen => self.flush_frozen_and_log(),
            Step::Freeze(reason) => {
                tracing::debug!(?reason, "freezing the memtable");
                match futures::executor::block_on(self.wal.rotate()) {
                    Ok(_) => self.flush_frozen_and_log(),
                    Err(error) => {
                        tracing::warn!(%error, "the log cannot be rotated");
                        self.note_failure(&error);
                    }
                }
            }
        }
        self.store.measure();
    }

    fn bounds(&self) -> Bounds {
        let options = &self.store.options;
        Bounds {
            head_bytes_max: options.head_bytes_max,
            wal_bytes_max: options.wal_bytes_max,
            flush_grace_ms: options.flush_grace_ms,
        }
    }

    fn situation(&self) -> Situation {
        let state = self.store.state.load();
        let log = self.wal.status();
        Situation {
            now_ms: self.store.clock.now_ms(),
            monotonic: self.store.clock.monotonic(),
            head_samples: state.active.memtable.samples(),
            head_bytes: state.active.memtable.bytes(),
            head_born_ms: state.active.born_ms(),
            wal_bytes: log.bytes,
            frozen: state.frozen.len(),
            disk_is_full: matches!(log.state, LogState::ReadOnly(_)),
            failures: self.flushes.lock().failures,
        }
    }

    fn flush_frozen_and_log(&self) {
        match self.flush_frozen() {
            Ok(report) => tracing::info!(
                blocks = report.blocks,
                samples = report.samples,
                bytes = report.bytes,
                took_ms = report.took.as_millis(),
                "flushed"
            ),
            Err(error) => tracing::error!(%error, "a flush failed and will be tried again"),
        }
    }

    /// Freezes what is in memory and flushes all of it.
    async fn flush_everything(&self) -> Result<FlushReport, StorageError> {
        self.wal.rotate().await?;
        let engine = self.handle()?;
        run_blocking(move || engine.flush_frozen()).await?
    }

    /// Makes blocks of all frozen memtables and shortens the log.
    fn flush_frozen(&self) -> Result<FlushReport, StorageError> {
        self.flush_frozen_with(&mut self.flusher.lock(), None)
    }

    /// [`Engine::flush_frozen`], with deletions of what lies before a boundary.
    pub(crate) fn flush_frozen_with(
        &self,
        flusher: &mut Flusher,
        mut deletions: Option<(Lsn, Vec<Deletion>)>,
    ) -> Result<FlushReport, StorageError> {
        let mut total = FlushReport::default();
        let oldest = |state: &State| state.frozen.first().map(|frozen| frozen.lsn_last);
        while let Some(lsn_last) = self.store.state.with(oldest) {
            let due = deletions.take_if(|(boundary, _)| *boundary == lsn_last);
            let due = due.map(|(_, deletions)| deletions).unwrap_or_default();
            match flusher.flush_oldest(&self.store, due) {
                Ok(report) => total.add(&report),
                Err(error) => {
                    self.note_failure(&error);
                    return Err(error);
                }
            }
            self.store.telemetry.flushes.inc();
            self.shorten_log();
        }
        let mut flushes = self.flushes.lock();
        flushes.failures = Failures::default();
        flushes.error = None;
        if total.blocks > 0 {
            flushes.last = Some(total.clone());
        }
        if let Some(rollups) = &self.rollups {
            rollups.ring();
        }
        Ok(total)
    }

    fn shorten_log(&self) {
        let flushed = self.store.manifest.lock().state().flushed_lsn;
        if let Err(error) = self.wal.truncate_through(flushed) {
            // Replay skips what is in blocks, and the next flush tries again.
            tracing::warn!(%error, "removing log segments that are no longer needed");
        }
    }

    fn note_failure(&self, error: &StorageError) {
        let mut flushes = self.flushes.lock();
        flushes.failures.add(self.store.clock.monotonic());
        flushes.error = Some(error.to_string());
        self.store.telemetry.flush_failures.inc();
    }

    /// For work on another thread.
    pub(crate) fn handle(&self) -> Result<Arc<Self>, StorageError> {
        self.this.upgrade().ok_or(StorageError::ShuttingDown)
    }

    pub(crate) fn check_open(&self) -> Result<(), StorageError> {
        if self.closing.load(Ordering::Acquire) { Err(StorageError::ShuttingDown) } else { Ok(()) }
    }
}

/// Without [`Engine::close`], as at a crash: nothing more is flushed.
impl Drop for Engine {
    fn drop(&mut self) {
        self.compactor.stop();
        std::mem::take(&mut *self.background.lock()).into_iter().for_each(Background::stop);
        if let Some(rollups) = &self.rollups {
            rollups.stop();
        }
    }
}

pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|panic| StorageError::Internal(panic.to_string()))
}

/// Blocks in the order in which later samples win.
pub(crate) fn sort_blocks(blocks: &mut [Arc<BlockPart>]) {
    blocks.sort_by_key(|block| (block.meta().lsn_last, block.meta().id));
}
