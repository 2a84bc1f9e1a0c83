//! Compaction: several blocks become one, as `plan` says which; deleted samples and overwritten
//! ones go, the rest is written more tightly.
//!
//! What a crash leaves at each step, and what repairs it:
//! 1. a block file under a temporary name: removed by the next start;
//! 2. the same under its final name, directory synced: removed by the next start;
//! 3. the manifest's edit, which names the new file and no longer the old ones: from here on it
//!    counts;
//! 4. the old files, which readers may still use: removed by the next start.
//!
//! One merge at a time, one series in memory at a time. Writes, flushes and queries never wait for
//! it but for the moment in which the manifest's edit is synced. A merge that fails leaves
//! everything as it was. If it failed at 3, nobody knows whether the edit is on disk, so its file
//! stays until a later edit has settled that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::columnar::block::{BlockHeader, BlockOptions};
use crate::storage::block_part::BlockPart;
use crate::storage::blocks::write_block;
use crate::storage::delete::drop_tombstones;
use crate::storage::engine::{Engine, run_blocking, sort_blocks};
use crate::storage::error::StorageError;
use crate::storage::manifest::{BlockMeta, Item};
use crate::storage::part::Part;
use crate::storage::plan::{Candidate, Compaction, Failures, Occasion, next_compaction};
use crate::storage::snapshot::Snapshot;
use crate::storage::state::State;
use crate::storage::status::{CompactReport, CompactionStatus, MergeReport, RunningMerge};
use crate::storage::store::Store;
use crate::storage::vfs::temporary_path;

/// Merges blocks, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Compactor {
    /// Held by whoever takes blocks out of the store.
    work: Mutex<Work>,
    notes: Mutex<Notes>,
    stopping: AtomicBool,
}

/// What a merge leaves for the next.
#[derive(Debug, Default)]
struct Work {
    /// Files whose edit failed: it may be on disk all the same.
    doubtful: Vec<u64>,
}

/// How it went so far.
#[derive(Debug, Default)]
struct Notes {
    failures: Failures,
    running: Option<RunningMerge>,
    last: Option<MergeReport>,
    error: Option<String>,
}

impl Engine {
    /// Flushes what is in memory, then merges all blocks of windows that are over; returns when
    /// nothing is left to merge. A window is over if the clock or samples say so.
    pub async fn compact(&self) -> Result<CompactReport, StorageError> {
        self.flush().await?;
        let engine = self.handle()?;
        run_blocking(move || {
            engine.drop_expired_soon()?;
            engine.compactor.everything(&engine.store)
        })
        .await?
    }

    /// One look of the background thread: what is past its time goes, and the merge that is due,
    /// if one is, is done.
    pub(crate) fn look_after_blocks(&self) {
        let (store, compactor) = (&self.store, &self.compactor);
        if !compactor.notes.lock().failures.are_over(store.clock.monotonic()) {
            return;
        }
        let occasion = Occasion::Look {
            now_ms: store.clock.now_ms(),
            flush_grace_ms: store.options.flush_grace_ms,
        };
        let dropped = self.drop_expired().inspect_err(|error| compactor.note_failure(store, error));
        match dropped.and_then(|_| compactor.next(store, occasion)) {
            // There may be more to do.
            Ok(Some(_)) => store.compaction_bell.ring(),
            Ok(None) => self.look_after_tombstones(),
            Err(StorageError::ShuttingDown) => {}
            Err(error) => {
                tracing::error!(%error, "work on blocks failed and will be tried again");
            }
        }
    }
}

impl Compactor {
    /// Ends the merge that is running, and lets no other begin.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Waits for whatever is running.
    pub(crate) fn wait(&self) {
        drop(self.work.lock());
    }

    /// Keeps merges away while blocks are taken out of the store.
    pub(crate) fn alone(&self) -> impl Drop + '_ {
        self.work.lock()
    }

    pub(crate) fn status(&self) -> CompactionStatus {
        let notes = self.notes.lock();
        CompactionStatus {
            running: notes.running.clone(),
            last: notes.last.clone(),
            error: notes.error.clone(),
        }
    }

    /// Merges until nothing is left to merge.
    fn everything(&self, store: &Store) -> Result<CompactReport, StorageError> {
        let started = store.clock.monotonic();
        let (blocks_before, bytes_before) = store.state.with(totals);
        let (mut merges, mut samples) = (0, 0);
        while let Some(merge) =
            self.next(store, Occasion::Asked { now_ms: store.clock.now_ms() })?
        {
            merges += 1;
            samples += merge.samples;
        }
        let (blocks_after, bytes_after) = store.state.with(totals);
        let took = store.clock.monotonic().saturating_sub(started);
        Ok(CompactReport {
            merges,
            samples,
            blocks_before,
            blocks_after,
            bytes_before,
            bytes_after,
            took,
        })
    }

    /// The next merge that is due; `None` if none is.
    fn next(&self, store: &Store, occasion: Occasion) -> Result<Option<MergeReport>, StorageError> {
        let mut work = self.work.lock();
        let state = store.state.load();
        let now = store.clock.monotonic();
        let levels = &store.options.compaction_levels;
        loop {
            let candidates: Vec<_> = state
                .blocks
                .iter()
                .map(|block| Candidate {
                    meta: block.meta(),
                    readable: block.damage().is_none(),
                    age: now.saturating_sub(block.since()),
                })
                .collect();
            let Some(plan) = next_compaction(&candidates, levels, occasion) else {
                return Ok(None);
            };
            let merged = self.merge(store, &mut work, &state, &plan);
            let is_damaged_source = |block: &Arc<BlockPart>| {
                block.damage().is_some() && plan.sources.contains(&block.meta().id)
            };
            if merged.is_ok() || !state.blocks.iter().any(is_damaged_source) {
                return merged.map(Some);
            }
            // What the merge found damaged is set aside by now: the others go without it.
        }
    }

    /// Writes one block anew, without what tombstones up to `newest` hide of it; `None` if there is
    /// no such block. Then tombstones that hide nothing any more are dropped.
    pub(crate) fn clean_next(
        &self,
        store: &Store,
        newest: u64,
    ) -> Result<Option<MergeReport>, StorageError> {
        let mut work = self.work.lock();
        let state = store.state.load();
        let is_touched = |block: &&Arc<BlockPart>| {
            let old = state.tombstones.iter().take_while(|tombstone| tombstone.id <= newest);
            block.damage().is_none() && old.into_iter().any(|old| block.is_touched_by(old))
        };
        let Some(block) = state.blocks.iter().find(is_touched) else {
            drop_tombstones(store)?;
            return Ok(None);
        };
        let meta = block.meta();
        let plan = Compaction {
            level: meta.level,
            window: meta.window,
            sources: vec![meta.id],
            bytes: meta.bytes,
            samples: meta.samples,
        };
        self.merge(store, &mut work, &state, &plan).map(Some)
    }

    /// Drops the tombstones that hide nothing any more.
    pub(crate) fn drop_tombstones(&self, store: &Store) -> Result<(), StorageError> {
        let _work = self.work.lock();
        drop_tombstones(store)
    }

    /// Writes the samples of `plan`'s blocks to one, in their place.
    fn merge(
        &self,
        store: &Store,
        work: &mut MutexGuard<'_, Work>,
        state: &State,
        plan: &Compaction,
    ) -> Result<MergeReport, StorageError> {
        let started = store.clock.monotonic();
        self.notes.lock().running = Some(RunningMerge::new(plan));
        let merged = self.try_merge(store, work, state, plan);
        let mut notes = self.notes.lock();
        notes.running = None;
        match merged {
            Ok(merged) => {
                let bytes = merged.map_or(0, |block| block.bytes);
                let report = MergeReport {
                    level: plan.level,
                    window: plan.window,
                    blocks: plan.sources.len(),
                    samples: plan.samples,
                    bytes_before: plan.bytes,
                    bytes_after: bytes,
                    took: store.clock.monotonic().saturating_sub(started),
                    finished_ms: store.clock.now_ms(),
                };
                notes.failures = Failures::default();
                notes.error = None;
                notes.last = Some(report.clone());
                store.telemetry.compactions.inc();
                store.telemetry.compaction_samples.add(plan.samples);
                store.telemetry.compaction_read_bytes.add(plan.bytes);
                store.telemetry.compaction_written_bytes.add(bytes);
                tracing::info!(
                    level = plan.level,
                    blocks = report.blocks,
                    samples = report.samples,
                    bytes_before = report.bytes_before,
                    bytes_after = report.bytes_after,
                    took_ms = report.took.as_millis(),
                    "compacted"
                );
                Ok(report)
            }
            Err(StorageError::ShuttingDown) => Err(StorageError::ShuttingDown),
            Err(error) => {
                drop(notes);
                self.note_failure(store, &error);
                Err(error)
            }
        }
    }

    fn note_failure(&self, store: &Store, error: &StorageError) {
        let mut notes = self.notes.lock();
        notes.failures.add(store.clock.monotonic());
        notes.error = Some(error.to_string());
        store.telemetry.compaction_failures.inc();
    }

    fn try_merge(
        &self,
        store: &Store,
        work: &mut MutexGuard<'_, Work>,
        state: &State,
        plan: &Compaction,
    ) -> Result<Option<BlockMeta>, StorageError> {
        let is_source = |block: &&Arc<BlockPart>| plan.sources.contains(&block.meta().id);
        let sources: Vec<_> = state.blocks.iter().filter(is_source).cloned().collect();
        check_space(store, plan)?;
        let id = store.new_file_id();
        let written = self.write(store, id, plan, &sources, state);
        let merged = written.inspect_err(|_| {
            // On a full disk these bytes are the first thing to give back. What cannot be removed
            // now is removed by the next start.
            let path = store.layout.block(id);
            let _ = store.vfs.remove(&temporary_path(&path));
            let _ = store.vfs.remove(&path);
        })?;
        let added = merged.iter().cloned().map(Item::AddBlock);
        let removed = plan.sources.iter().map(|id| Item::RemoveBlock { id: *id });
        let edit: Vec<Item> = added.chain(removed).collect();
        if let Err(error) = store.manifest.lock().commit(&edit) {
            work.doubtful.push(id);
            return Err(error);
        }
        work.settle(store);
        publish(store, &sources, merged.as_ref());
        Ok(merged)
    }

    /// Writes the file, durably and under its final name; `None` if no sample is left.
    fn write(
        &self,
        store: &Store,
        id: u64,
        plan: &Compaction,
        sources: &[Arc<BlockPart>],
        state: &State,
    ) -> Result<Option<BlockMeta>, StorageError> {
        let metas = || sources.iter().map(|source| source.meta());
        let header = BlockHeader {
            level: plan.level,
            window: plan.window,
            lsn_first: metas().map(|meta| meta.lsn_first).min().unwrap_or_default(),
            lsn_last: metas().map(|meta| meta.lsn_last).max().unwrap_or_default(),
        };
        let parts = sources.iter().map(|source| Arc::clone(source) as Arc<dyn Part>).collect();
        let tombstones = &state.tombstones;
        let source = Snapshot::new(parts, tombstones.clone(), Vec::new());
        let source = source.without_before(state.raw_floor);
        let mut observer = |samples| {
            if self.stopping.load(Ordering::Acquire) {
                return Err(StorageError::ShuttingDown);
            }
            if let Some(running) = &mut self.notes.lock().running {
                running.samples_done += samples;
            }
            Ok(())
        };
        // Closing must not wait for the labels of millions of series either.
        observer(0)?;
        let (vfs, layout) = (store.vfs.as_ref(), &store.layout);
        let options = BlockOptions::COMPACTED;
        let block = write_block(vfs, layout, id, header, &source, options, &mut observer)?;
        let Some(mut block) = block else { return Ok(None) };
        let metas: Vec<_> = metas().collect();
        block.written = written(&block, &metas, state);
        block.cleaned = tombstones.last().map_or(0, |tombstone| tombstone.id);
        let path = layout.block(id);
        vfs.rename(&temporary_path(&path), &path)?;
        vfs.sync_dir(&layout.blocks_dir())?;
        Ok(Some(block))
    }
}

impl Work {
    /// Removes what a failed edit may have named, now that a later one is on disk without it.
    fn settle(&mut self, store: &Store) {
        for id in self.doubtful.drain(..) {
            // What cannot be removed now is removed by the next start.
            let _ = store.vfs.remove(&store.layout.block(id));
        }
    }
}

/// The last write that touched each stretch of the merged block's window. A deletion is a write;
/// stretches that retention has left out have none.
fn written(merged: &BlockMeta, sources: &[&BlockMeta], state: &State) -> Vec<u64> {
    let stretches = merged.stretches();
    let mut written = vec![0; stretches.len()];
    for (lsn, stretch) in written.iter_mut().zip(stretches) {
        if state.raw_floor.is_some_and(|floor| stretch.end() < floor) {
            continue;
        }
        for source in sources {
            *lsn = (*lsn).max(source.written_in(stretch.start()).unwrap_or_default());
            let applied = state.tombstones.iter().filter(|tombstone| {
                tombstone.range.overlaps(stretch) && source.is_touched_by(tombstone)
            });
            *lsn = applied.map(|tombstone| tombstone.lsn).fold(*lsn, u64::max);
        }
    }
    written
}

/// Puts the merged block in its sources' place. Their files go with their last readers.
fn publish(store: &Store, sources: &[Arc<BlockPart>], merged: Option<&BlockMeta>) {
    let merged = merged.map(|meta| store.block_part(meta.clone()));
    store.state.change(|state| {
        state.blocks.retain(|block| !sources.iter().any(|source| Arc::ptr_eq(source, block)));
        state.blocks.extend(merged);
        sort_blocks(&mut state.blocks);
    });
    sources.iter().for_each(|source| source.make_obsolete());
}

/// Sources stay until the result is on disk, and others need space, too.
fn check_space(store: &Store, plan: &Compaction) -> Result<(), StorageError> {
    let reserve = store.options.disk_free_bytes_min;
    let free = store.vfs.free_space(&store.layout.blocks_dir())?;
    if free >= plan.bytes.saturating_add(reserve) {
        return Ok(());
    }
    Err(StorageError::LimitReached {
        limit: "free disk space beside a compaction",
        setting: "disk-free-bytes-min",
        value: reserve,
    })
}

fn totals(state: &State) -> (usize, u64) {
    (state.blocks.len(), state.blocks.iter().map(|block| block.meta().bytes).sum())
}

impl RunningMerge {
    fn new(plan: &Compaction) -> Self {
        Self {
            level: plan.level,
            window: plan.window,
            blocks: plan.sources.len(),
            bytes: plan.bytes,
            samples: plan.samples,
            samples_done: 0,
        }
    }
}
