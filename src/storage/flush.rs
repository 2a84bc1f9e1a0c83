//! Flush: a frozen memtable becomes blocks.
//!
//! What a crash leaves at each step, and what repairs it:
//! 1. block files under temporary names, synced: removed by the next start;
//! 2. the same under their final names, directory synced: removed by the next start;
//! 3. the manifest's edit, which names them *and* says how much of the log they hold: from here
//!    on they count, and replay begins behind them;
//! 4. the log's old segments are still there: replay does not read them, the next flush removes
//!    them.
//!
//! A flush that fails leaves the memtable frozen and readable, and is tried again. If it failed
//! at 3, nobody knows whether the edit is on disk: its files stay, and the next attempt names
//! the same files in a manifest written anew.

use std::sync::Arc;
use std::time::Duration;

use crate::columnar::block::{BlockHeader, BlockOptions};
use crate::storage::blocks::write_block;
use crate::storage::delete::Deletion;
use crate::storage::error::StorageError;
use crate::storage::manifest::{BlockMeta, Item};
use crate::storage::series_file;
use crate::storage::snapshot::Snapshot;
use crate::storage::state::Frozen;
use crate::storage::status::FlushReport;
use crate::storage::store::Store;
use crate::storage::tombstone::Tombstone;
use crate::storage::vfs::{replace_file, temporary_path};
use crate::storage::wal::Lsn;

/// Series files that the manifest names before they are written anew as one.
const SERIES_FILES_MAX: usize = 8;

/// Makes blocks of memtables, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Flusher {
    /// Files of an attempt whose edit failed, to be named again.
    prepared: Option<Prepared>,
    /// The version of the metadata in the file.
    metadata_version: u64,
}

/// Files that are durable, and the edit that names them.
#[derive(Debug, Clone)]
struct Prepared {
    lsn_last: Lsn,
    blocks: Vec<BlockMeta>,
    series_files: Vec<Item>,
    next_series_id: u64,
}

impl Flusher {
    pub(crate) fn new(metadata_version: u64) -> Self {
        Self { prepared: None, metadata_version }
    }

    /// Makes blocks of the oldest frozen memtable. When it returns, the log up to its end is no
    /// longer needed, and what is deleted of it and of all before is hidden.
    pub(crate) fn flush_oldest(
        &mut self,
        store: &Store,
        deletions: Vec<Deletion>,
    ) -> Result<FlushReport, StorageError> {
        let state = store.state.load();
        let Some(frozen) = state.frozen.first() else { return Ok(FlushReport::default()) };
        let started = store.clock.monotonic();
        let prepared = match self.prepared.take() {
            Some(prepared) if prepared.lsn_last == frozen.lsn_last => prepared,
            _ => prepare(store, frozen)?,
        };
        self.write_metadata(store)?;
        // A deletion whose edit fails is not tried again: whoever asked for it is told.
        let tombstones: Vec<Tombstone> = deletions
            .into_iter()
            .map(|Deletion { matchers, range }| {
                let (id, lsn) = (store.new_file_id(), prepared.lsn_last);
                Tombstone { id, lsn, range, matchers }
            })
            .collect();
        if let Err(error) = commit(store, &prepared, &tombstones) {
            self.prepared = Some(prepared);
            return Err(error);
        }
        publish(store, &prepared, tombstones);
        let took = store.clock.monotonic().saturating_sub(started);
        Ok(report(&prepared, took, store.clock.now_ms()))
    }

    /// What the log says of metrics must outlive it.
    fn write_metadata(&mut self, store: &Store) -> Result<(), StorageError> {
        let version = store.metadata.version();
        if version != self.metadata_version {
            let bytes = store.metadata.encode();
            replace_file(store.vfs.as_ref(), &store.layout.metadata(), &bytes)?;
            self.metadata_version = version;
        }
        Ok(())
    }
}

/// Writes all files, durably and under their final names.
fn prepare(store: &Store, frozen: &Frozen) -> Result<Prepared, StorageError> {
    let mut blocks = Vec::new();
    match write_files(store, frozen, &mut blocks) {
        Ok((series_files, next_series_id)) => {
            Ok(Prepared { lsn_last: frozen.lsn_last, blocks, series_files, next_series_id })
        }
        Err(error) => {
            // On a full disk these bytes are the first thing to give back. What cannot be removed
            // now is removed by the next start.
            for block in &blocks {
                let path = store.layout.block(block.id);
                let _ = store.vfs.remove(&temporary_path(&path));
                let _ = store.vfs.remove(&path);
            }
            Err(error)
        }
    }
}

fn write_files(
    store: &Store,
    frozen: &Frozen,
    blocks: &mut Vec<BlockMeta>,
) -> Result<(Vec<Item>, u64), StorageError> {
    let generation = &frozen.generation;
    generation.memtable.seal_all();
    for window in generation.memtable.windows() {
        let header = BlockHeader {
            level: 0,
            window,
            lsn_first: generation.lsn_first,
            lsn_last: frozen.lsn_last,
        };
        let part = generation.memtable.snapshot_of(window);
        let source = Snapshot::new(vec![part], Vec::new(), Vec::new());
        let (vfs, layout) = (store.vfs.as_ref(), &store.layout);
        let options = BlockOptions::FRESH;
        let (id, mut unobserved) = (store.new_file_id(), |_| Ok(()));
        blocks.extend(write_block(vfs, layout, id, header, &source, options, &mut unobserved)?);
    }
    for block in blocks.iter() {
        let path = store.layout.block(block.id);
        store.vfs.rename(&temporary_path(&path), &path)?;
    }
    if !blocks.is_empty() {
        store.vfs.sync_dir(&store.layout.blocks_dir())?;
    }
    write_series(store)
}

/// Writes the ids of series that no series file has yet, so that the log may forget them.
///
/// Read after the memtable was frozen, so it has every series that the log up to its end names.
fn write_series(store: &Store) -> Result<(Vec<Item>, u64), StorageError> {
    let (known_next, files) = {
        let manifest = store.manifest.lock();
        let state = manifest.state();
        (state.next_series_id, state.series_files.iter().copied().collect::<Vec<_>>())
    };
    let next = store.series.next_id();
    if next <= known_next {
        return Ok((Vec::new(), known_next));
    }
    let merge = files.len() >= SERIES_FILES_MAX;
    let first = if merge { 0 } else { known_next };
    let id = store.new_file_id();
    let bytes = series_file::encode(store.manifest.lock().uuid(), &store.series, first..next);
    replace_file(store.vfs.as_ref(), &store.layout.series_file(id), &bytes)?;
    let removed = files.into_iter().filter(|_| merge).map(|id| Item::RemoveSeriesFile { id });
    Ok((removed.chain([Item::AddSeriesFile { id }]).collect(), next))
}

/// The one edit that makes the flush count.
fn commit(
    store: &Store,
    prepared: &Prepared,
    tombstones: &[Tombstone],
) -> Result<(), StorageError> {
    let blocks = prepared.blocks.iter().cloned().map(Item::AddBlock);
    let flushed = Item::Flushed { lsn: prepared.lsn_last, next_series_id: prepared.next_series_id };
    let tombstones = tombstones.iter().cloned().map(Item::AddTombstone);
    let series_files = prepared.series_files.iter().cloned();
    let items: Vec<Item> = blocks.chain(series_files).chain([flushed]).chain(tombstones).collect();
    store.manifest.lock().commit(&items)
}

/// Puts the blocks in the memtable's place, for the next reader. Removes what the edit replaced.
fn publish(store: &Store, prepared: &Prepared, tombstones: Vec<Tombstone>) {
    let parts: Vec<_> =
        prepared.blocks.iter().map(|block| store.block_part(block.clone())).collect();
    store.state.change(|state| {
        let flushed = state.frozen.remove(0);
        assert_eq!(flushed.lsn_last, prepared.lsn_last, "memtables are flushed in order");
        state.blocks.extend(parts);
        state.tombstones.extend(tombstones.into_iter().map(Arc::new));
    });
    for item in &prepared.series_files {
        if let Item::RemoveSeriesFile { id } = item
            && let Err(error) = store.vfs.remove(&store.layout.series_file(*id))
        {
            tracing::warn!(%error, "removing a series file that is no longer needed");
        }
    }
}

fn report(prepared: &Prepared, took: Duration, finished_ms: i64) -> FlushReport {
    let sum = |of: fn(&BlockMeta) -> u64| prepared.blocks.iter().map(of).sum();
    FlushReport {
        blocks: prepared.blocks.len(),
        samples: sum(|block| block.samples),
        series: sum(|block| block.series),
        bytes: sum(|block| block.bytes),
        took,
        finished_ms,
    }
}
