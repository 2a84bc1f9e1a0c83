//! Deletions: what they would delete, and how they are made durable.
//!
//! A deletion flushes what is in memory and adds its tombstones to the manifest with the flush's
//! own edit: after a crash the deletion is there whole or not at all, and once it is acknowledged
//! it is there. The samples themselves go when their blocks are rewritten.
//!
//! Invariant: every state of the store whose `flushed_lsn` has reached a tombstone's `lsn` has the
//! tombstone, for a deletion takes a log number of its own. What was made from an older state
//! (rollups) can tell by the number that it is out of date.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::executor::block_on;

use crate::model::{Matcher, Samples, TimeRange};
use crate::storage::engine::{Engine, run_blocking};
use crate::storage::error::StorageError;
use crate::storage::manifest::Item;
use crate::storage::snapshot::Snapshot;
use crate::storage::store::Store;
use crate::storage::tombstone::{MATCHER_BYTES_MAX, TOMBSTONES_MAX, Tombstone};

/// Tombstones from which on blocks are written anew without waiting for a compaction of them.
const TOMBSTONES_KEPT_MAX: usize = TOMBSTONES_MAX / 4;

/// What is to be deleted: samples in the range of the series that satisfy all matchers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    pub matchers: Vec<Matcher>,
    pub range: TimeRange,
}

/// What a deletion would delete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeletionCount {
    pub series: u64,
    pub samples: u64,
}

impl Engine {
    /// Deletes all that the deletions name, or nothing. When it returns, no snapshot shows it any
    /// more, and none will. Samples written meanwhile may go or stay, later ones stay.
    pub async fn delete(&self, deletions: Vec<Deletion>) -> Result<(), StorageError> {
        self.check_open()?;
        check_sizes(&deletions)?;
        if deletions.is_empty() {
            return Ok(());
        }
        let engine = self.handle()?;
        run_blocking(move || engine.flush_and_delete(deletions)).await?
    }

    /// What each of the deletions would delete by itself, at this moment.
    pub async fn count_deletions(
        &self,
        deletions: Vec<Deletion>,
    ) -> Result<Vec<DeletionCount>, StorageError> {
        let snapshot = self.snapshot();
        run_blocking(move || deletions.iter().map(|deletion| count(&snapshot, deletion)).collect())
            .await?
    }

    /// Writes anew all blocks that still hold samples deleted before, and forgets the deletions.
    pub async fn clean_tombstones(&self) -> Result<(), StorageError> {
        self.check_open()?;
        let engine = self.handle()?;
        run_blocking(move || {
            let newest = engine.store.state.with(|state| state.tombstones.last().map(|t| t.id));
            let Some(newest) = newest else { return Ok(()) };
            while engine.compactor.clean_next(&engine.store, newest)?.is_some() {}
            Ok(())
        })
        .await?
    }

    /// One look of the background thread when no merge is due: drops the tombstones that hide
    /// nothing any more, as compactions go on, and makes them hide nothing if they are many.
    pub(crate) fn look_after_tombstones(&self) {
        let (store, compactor) = (&self.store, &self.compactor);
        let tombstones = store.state.with(|state| state.tombstones.clone());
        let done = match tombstones.last() {
            None => return,
            Some(newest) if tombstones.len() >= TOMBSTONES_KEPT_MAX => {
                compactor.clean_next(store, newest.id).map(|rewritten| {
                    if rewritten.is_some() {
                        store.compaction_bell.ring();
                    }
                })
            }
            Some(_) => compactor.drop_tombstones(store),
        };
        match done {
            Ok(()) | Err(StorageError::ShuttingDown) => {}
            Err(error) => tracing::warn!(%error, "cleaning up deleted samples"),
        }
    }

    fn flush_and_delete(&self, deletions: Vec<Deletion>) -> Result<(), StorageError> {
        // Held from before the boundary is set, so that nobody else flushes what lies before it.
        let mut flusher = self.flusher.lock();
        let live = self.store.state.with(|state| state.tombstones.len());
        if live + deletions.len() > TOMBSTONES_MAX {
            return Err(StorageError::LimitReached {
                limit: "deletions that wait for clean_tombstones",
                setting: "tombstones",
                value: TOMBSTONES_MAX as u64,
            });
        }
        let boundary = block_on(async {
            self.wal.append_mark().await?.await?;
            self.wal.rotate().await
        })?;
        self.flush_frozen_with(&mut flusher, Some((boundary, deletions)))?;
        Ok(())
    }
}

/// Drops the tombstones that no block and no rollup needs. Nobody may take blocks out of the store
/// meanwhile: a merge begun before must not give what was hidden from its sources. Nor may rollups
/// that are being built sum it up, so their thread must have seen the tombstone first.
pub(crate) fn drop_tombstones(store: &Store) -> Result<(), StorageError> {
    let known = match store.options.rollups {
        true => store.rollups_know.load(Ordering::Acquire),
        false => u64::MAX,
    };
    let state = store.state.load();
    let unneeded: Vec<u64> = state
        .tombstones
        .iter()
        .filter(|tombstone| tombstone.id <= known && !state.needs(tombstone))
        .map(|tombstone| tombstone.id)
        .collect();
    if unneeded.is_empty() {
        return Ok(());
    }
    let items: Vec<Item> = unneeded.iter().map(|id| Item::RemoveTombstone { id: *id }).collect();
    store.manifest.lock().commit(&items)?;
    store.state.change(|state| {
        let keep = |tombstone: &Arc<Tombstone>| !unneeded.contains(&tombstone.id);
        state.tombstones.retain(keep);
    });
    Ok(())
}

fn check_sizes(deletions: &[Deletion]) -> Result<(), StorageError> {
    let bytes = |deletion: &Deletion| -> usize {
        let matchers = deletion.matchers.iter();
        // Two lengths and the operator stand beside the texts.
        matchers.map(|matcher| matcher.name().len() + matcher.value().len() + 9).sum()
    };
    if deletions.iter().all(|deletion| bytes(deletion) <= MATCHER_BYTES_MAX) {
        return Ok(());
    }
    Err(StorageError::LimitReached {
        limit: "bytes of one deletion's matchers",
        setting: "matchers",
        value: MATCHER_BYTES_MAX as u64,
    })
}

fn count(snapshot: &Snapshot, deletion: &Deletion) -> Result<DeletionCount, StorageError> {
    let Deletion { matchers, range } = deletion;
    let mut count = DeletionCount::default();
    let mut samples = Samples::default();
    let mut reader = snapshot.reader();
    for series in snapshot.select(matchers, *range)? {
        reader.read(&series, *range, &mut samples)?;
        count.series += u64::from(!samples.is_empty());
        count.samples += samples.len() as u64;
    }
    Ok(count)
}
