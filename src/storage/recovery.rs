//! Opening a store: lock, manifest, leftovers, series, blocks, and what only the log has.
//!
//! Replay walks the log once, in its order, into the memtable, which seals and, if it grows over
//! its bound, is flushed as it would be in normal running: a start needs no more memory than the
//! life before it.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::columnar::block::BlockCache;
use crate::model::{Metadata, SampleBatch};
use crate::storage::background::Bell;
use crate::storage::block_part::{Damage, DamageReports};
use crate::storage::engine::sort_blocks;
use crate::storage::error::StorageError;
use crate::storage::flush::Flusher;
use crate::storage::handles::Handles;
use crate::storage::layout::Layout;
use crate::storage::manifest::{self, Manifest, ManifestState};
use crate::storage::memtable::Memtable;
use crate::storage::metadata::{self, MetadataStore};
use crate::storage::options::StorageOptions;
use crate::storage::series::{RegistrationLog, SeriesTable};
use crate::storage::series_file;
use crate::storage::state::{Generation, State, StateCell};
use crate::storage::status::{RecoveryReport, ReplayProgress};
use crate::storage::store::Store;
use crate::storage::sweep::sweep;
use crate::storage::vfs::{Vfs, VfsLock, read_file};
use crate::storage::wal::{CommitSink, Lsn, ReplaySink, Wal, WalOptions};
use crate::telemetry::Telemetry;

/// A store that is ready to take writes.
pub(crate) struct Recovered {
    pub(crate) store: Arc<Store>,
    pub(crate) wal: Arc<Wal>,
    pub(crate) flusher: Flusher,
    pub(crate) report: RecoveryReport,
    pub(crate) lock: Box<dyn VfsLock>,
}

/// Opens or makes the store in `options.data_dir`.
pub(crate) fn recover(
    options: StorageOptions,
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    telemetry: Arc<Telemetry>,
    progress: &ReplayProgress,
) -> Result<Recovered, StorageError> {
    let started = clock.monotonic();
    let Opened { store, wal, flusher, known, orphans_removed, lock } =
        open(options, vfs, Arc::clone(&clock), telemetry)?;
    let mut replay = Replay { store: &store, flusher, progress, flushes: 0 };
    let log = wal
        .recover(known.flushed_lsn, &mut replay)
        .map_err(|error| offer_salvage(error, store.layout.dir()))?;
    let Replay { flusher, flushes, .. } = replay;
    wal.start(Arc::clone(&store) as Arc<dyn CommitSink>)?;
    store.measure();
    let report = RecoveryReport {
        blocks: known.blocks.len(),
        orphans_removed,
        segments: log.segments,
        records: log.records,
        samples: log.samples,
        series: log.series,
        torn_tail: log
            .torn_tail
            .map(|tail| format!("{} at {}: {}", tail.path.display(), tail.offset, tail.reason)),
        flushes,
        took: clock.monotonic().saturating_sub(started),
    };
    Ok(Recovered { store, wal, flusher, report, lock })
}

/// A damaged log is not the end: says what to do about it.
fn offer_salvage(error: StorageError, data_dir: &Path) -> StorageError {
    match error {
        StorageError::Corrupt { path, offset, reason } => {
            let command = format!("aetherctl wal salvage --data-dir={}", data_dir.display());
            let reason = format!(
                "{reason}; `{command}` keeps everything that can be read and sets the log aside"
            );
            StorageError::Corrupt { path, offset, reason }
        }
        error => error,
    }
}

/// A store whose log has not been looked at yet.
pub(crate) struct Opened {
    pub(crate) store: Arc<Store>,
    pub(crate) wal: Arc<Wal>,
    pub(crate) flusher: Flusher,
    /// What the manifest said.
    pub(crate) known: ManifestState,
    pub(crate) orphans_removed: usize,
    pub(crate) lock: Box<dyn VfsLock>,
}

/// Everything but the log.
pub(crate) fn open(
    options: StorageOptions,
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    telemetry: Arc<Telemetry>,
) -> Result<Opened, StorageError> {
    let layout = Layout::new(&options.data_dir);
    vfs.create_dir_all(layout.dir())?;
    let lock = vfs.lock(&layout.lock(), &format!("process {}", std::process::id()))?;
    vfs.create_dir_all(&layout.blocks_dir())?;
    vfs.create_dir_all(&layout.series_dir())?;
    check_manifest_is_there(vfs.as_ref(), &layout)?;
    let (manifest, opened) = Manifest::open(Arc::clone(&vfs), layout.dir())?;
    let known = manifest.state().clone();
    let orphans_removed = sweep(vfs.as_ref(), &layout, &known, opened)?;

    let wal = Arc::new(Wal::new(
        Arc::clone(&vfs),
        layout.wal_dir(),
        manifest.uuid(),
        WalOptions {
            sync: options.wal_sync,
            segment_bytes: options.wal_segment_bytes,
            disk_free_bytes_min: options.disk_free_bytes_min,
            ..WalOptions::default()
        },
        Arc::clone(&clock),
        Arc::clone(&telemetry),
    ));
    let registrations = Arc::new(Registrations(Arc::downgrade(&wal)));
    let series = Arc::new(SeriesTable::new(registrations, options.series_max));
    load_series(vfs.as_ref(), &layout, &manifest, &series)?;
    let metadata = load_metadata(vfs.as_ref(), &layout)?;
    let flusher = Flusher::new(metadata.version());

    let first = Memtable::new(Arc::clone(&series));
    let state = State {
        blocks: Vec::new(),
        frozen: Vec::new(),
        active: Arc::new(Generation::new(first, known.flushed_lsn + 1)),
        tombstones: known.tombstones.values().cloned().map(Arc::new).collect(),
        raw_floor: known.raw_floor,
        rollups: None,
    };
    let block_cache = Arc::new(BlockCache::new(options.block_cache_bytes_max));
    let store = Arc::new(Store {
        options,
        layout,
        handles: Arc::new(Handles::new(Arc::clone(&vfs))),
        block_cache,
        vfs,
        clock: Arc::clone(&clock),
        telemetry,
        damage: Arc::new(DamageReports::default()),
        series,
        metadata,
        rollups_know: AtomicU64::new(0),
        next_file_id: AtomicU64::new(known.next_file_id),
        manifest: Mutex::new(manifest),
        state: StateCell::new(state),
        bell: Arc::new(Bell::default()),
        compaction_bell: Arc::new(Bell::default()),
    });
    add_blocks(&store, &known);

    Ok(Opened { store, wal, flusher, known, orphans_removed, lock })
}

/// A store makes its manifest before anything else. Where there is data and no manifest, somebody
/// lost it, and to begin anew would sweep away what they still have.
fn check_manifest_is_there(vfs: &dyn Vfs, layout: &Layout) -> Result<(), StorageError> {
    let path = layout.dir().join(manifest::FILE_NAME);
    if vfs.exists(&path)? {
        return Ok(());
    }
    for dir in [layout.wal_dir(), layout.blocks_dir(), layout.series_dir()] {
        if vfs.exists(&dir)? && !vfs.list(&dir)?.is_empty() {
            let reason = format!("the manifest is missing, though {} is not empty", dir.display());
            return Err(StorageError::Corrupt { path, offset: 0, reason });
        }
    }
    Ok(())
}

/// Puts the manifest's blocks into the state. Files are opened when they are read.
fn add_blocks(store: &Store, known: &ManifestState) {
    let mut blocks: Vec<_> =
        known.blocks.values().map(|meta| store.block_part(meta.clone())).collect();
    for block in &blocks {
        if let Some(reason) = known.quarantined.get(&block.meta().id) {
            block.set_aside(Damage { offset: 0, reason: reason.clone() });
        } else if let Err(error) = block.check_file() {
            tracing::error!(%error, "a block's file is not as it should be");
        }
    }
    sort_blocks(&mut blocks);
    store.state.change(|state| state.blocks = blocks);
}

/// Brings back the series that the log may have forgotten.
fn load_series(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &Manifest,
    series: &SeriesTable,
) -> Result<(), StorageError> {
    for id in &manifest.state().series_files {
        let path = layout.series_file(*id);
        let bytes = read_file(vfs, &path, series_file::FILE_BYTES_MAX)?;
        series_file::decode(manifest.uuid(), &bytes, |id, key| series.restore(id, key))
            .map_err(|reason| StorageError::Corrupt { path, offset: 0, reason })??;
    }
    series.skip_to(manifest.state().next_series_id);
    Ok(())
}

/// Metadata is advice: a damaged file is said aloud and left behind, no reason not to start.
fn load_metadata(vfs: &dyn Vfs, layout: &Layout) -> Result<MetadataStore, StorageError> {
    let store = MetadataStore::default();
    let path = layout.metadata();
    if vfs.exists(&path)? {
        let bytes = read_file(vfs, &path, metadata::FILE_BYTES_MAX)?;
        if let Err(reason) = store.decode(&bytes) {
            tracing::error!(path = %path.display(), reason, "the metadata of metrics is lost");
        }
    }
    Ok(store)
}

/// Registrations go to the log, which the table must not keep alive.
#[derive(Debug)]
struct Registrations(Weak<Wal>);

impl RegistrationLog for Registrations {
    fn log_series(&self, id: u64, key: &[u8]) {
        // Without a log no sample can follow, so nobody will miss the registration.
        if let Some(wal) = self.0.upgrade() {
            wal.log_series(id, key);
        }
    }
}

/// Puts the log's records where the committer would have put them.
pub(crate) struct Replay<'a> {
    pub(crate) store: &'a Store,
    pub(crate) flusher: Flusher,
    pub(crate) progress: &'a ReplayProgress,
    pub(crate) flushes: usize,
}

impl ReplaySink for Replay<'_> {
    fn series(&mut self, id: u64, key: &[u8]) -> Result<(), StorageError> {
        self.store.series.restore(id, key)
    }

    fn samples(&mut self, lsn: Lsn, batch: &SampleBatch) -> Result<(), StorageError> {
        if let Some(unknown) = batch.series.iter().find(|series| !self.store.series.holds(**series))
        {
            return Err(StorageError::Internal(format!(
                "log record {lsn} has a sample of series {}, which nothing registered",
                unknown.0
            )));
        }
        self.store.apply(lsn, batch);
        self.store.seal_if_due();
        self.progress.add_samples(batch.len() as u64);
        if self.store.head_bytes() > self.store.options.head_bytes_max {
            self.store.freeze(lsn);
            self.flusher.flush_oldest(self.store, Vec::new())?;
            self.flushes += 1;
        }
        Ok(())
    }

    fn metadata(&mut self, lsn: Lsn, name: &str, metadata: &Metadata) -> Result<(), StorageError> {
        self.store.apply_metadata(lsn, name, metadata);
        Ok(())
    }

    fn progress(&mut self, done: u64, most: u64) {
        self.progress.set_bytes(done, most);
    }
}
