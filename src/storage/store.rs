//! What the engine, the log's committer and recovery share: state, manifest, series, files.
//!
//! Knows no log: the log knows it, as the sink that takes what has become durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::columnar::block::BlockCache;
use crate::model::{Metadata, SampleBatch};
use crate::storage::background::Bell;
use crate::storage::block_part::{BlockPart, DamageReports};
use crate::storage::error::StorageError;
use crate::storage::handles::Handles;
use crate::storage::layout::Layout;
use crate::storage::manifest::{BlockMeta, Item, Manifest};
use crate::storage::metadata::MetadataStore;
use crate::storage::options::StorageOptions;
use crate::storage::series::SeriesTable;
use crate::storage::state::{Frozen, Generation, State, StateCell};
use crate::storage::vfs::Vfs;
use crate::storage::wal::{CommitSink, Lsn};
use crate::telemetry::Telemetry;

/// The store without its log.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) options: StorageOptions,
    pub(crate) layout: Layout,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) handles: Arc<Handles>,
    pub(crate) block_cache: Arc<BlockCache>,
    pub(crate) damage: Arc<DamageReports>,
    pub(crate) series: Arc<SeriesTable>,
    pub(crate) metadata: MetadataStore,
    pub(crate) manifest: Mutex<Manifest>,
    pub(crate) state: StateCell,
    pub(crate) bell: Arc<Bell>,
    /// Of the thread that merges blocks.
    pub(crate) compaction_bell: Arc<Bell>,
    /// Everything that the rollups' thread names from now on knows of tombstones up to this one.
    pub(crate) rollups_know: AtomicU64,
    /// The next file's id. Never goes back, not even when a flush fails.
    pub(crate) next_file_id: AtomicU64,
}

impl Store {
    pub(crate) fn new_file_id(&self) -> u64 {
        self.next_file_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The part that reads the block.
    pub(crate) fn block_part(&self, meta: BlockMeta) -> Arc<BlockPart> {
        let path = self.layout.block(meta.id);
        let (handles, cache) = (Arc::clone(&self.handles), Arc::clone(&self.block_cache));
        let (damage, since) = (Arc::clone(&self.damage), self.clock.monotonic());
        Arc::new(BlockPart::new(meta, path, handles, cache, damage, since))
    }

    /// Bytes that all memtables hold.
    pub(crate) fn head_bytes(&self) -> u64 {
        let bytes = |generation: &Arc<Generation>| generation.memtable.bytes();
        self.state.with(|state| state.generations().map(bytes).sum())
    }

    /// Compresses what has gathered in the active memtable, if it pays.
    pub(crate) fn seal_if_due(&self) {
        let memtable = self.state.with(|state| Arc::clone(&state.active.memtable));
        if memtable.seal_is_due() {
            memtable.seal();
        }
    }

    /// Freezes the active memtable, which holds everything up to `boundary`, and begins another.
    pub(crate) fn freeze(&self, boundary: Lsn) {
        self.state.change(|state| {
            let memtable = state.active.memtable.successor();
            let next = Arc::new(Generation::new(memtable, boundary + 1));
            let generation = std::mem::replace(&mut state.active, next);
            state.frozen.push(Frozen { generation, lsn_last: boundary });
        });
    }

    /// Writes into the manifest what damage reading has met.
    pub(crate) fn record_damage(&self) -> Result<(), StorageError> {
        let found = self.damage.take();
        if found.is_empty() {
            return Ok(());
        }
        let mut manifest = self.manifest.lock();
        // A block may have left the manifest since.
        let items: Vec<Item> = found
            .into_iter()
            .filter(|(id, _)| manifest.state().blocks.contains_key(id))
            .map(|(id, damage)| Item::QuarantineBlock { id, reason: damage.to_string() })
            .collect();
        self.telemetry.blocks_quarantined.add(items.len() as u64);
        if items.is_empty() { Ok(()) } else { manifest.commit(&items) }
    }

    /// Brings the gauges up to date.
    pub(crate) fn measure(&self) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let state = self.state.load();
        let samples = state.generations().map(|generation| generation.memtable.samples()).sum();
        self.telemetry.head_samples.set(gauge(samples));
        self.telemetry.head_bytes.set(gauge(self.head_bytes()));
        self.telemetry.series_active.set(gauge(self.series.len()));
        self.telemetry.blocks.set(gauge(state.blocks.len() as u64));
        self.telemetry.block_bytes.set(gauge(state.blocks.iter().map(|b| b.meta().bytes).sum()));
    }
}

impl CommitSink for Store {
    fn apply(&self, _lsn: Lsn, batch: &SampleBatch) {
        self.state.with(|state| {
            state.active.is_born(|| self.clock.now_ms());
            state.active.memtable.append(batch);
        });
    }

    fn apply_metadata(&self, _lsn: Lsn, name: &str, metadata: &Metadata) {
        self.metadata.record(name, metadata);
    }

    fn group_applied(&self, _lsn: Lsn) {
        let is_due = |state: &State| {
            let memtable = &state.active.memtable;
            memtable.seal_is_due() || memtable.bytes() >= self.options.head_bytes_max
        };
        if self.state.with(is_due) {
            self.bell.ring();
        }
    }

    fn rotated(&self, boundary: Lsn) {
        self.freeze(boundary);
    }
}
