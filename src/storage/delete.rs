//! Deletions: what they would delete, and how they are made durable.
//!
//! A deletion flushes what is in memory and adds its tombstones to the manifest with the flush's
//! own edit: after a crash the deletion is there whole or not at all, and once it is acknowledged
//! it is there. The samples themselves go when their blocks are rewritten.
//!
//! Invariant: every state of the store whose `flushed_lsn` has reached a tombstone's `lsn` has the
//! tombstone, for a deletion takes a log number of its own. What was made from an older state
//! (rollups) can tell by the number that it is out of date.

use futures::executor::block_on;

use crate::model::{Matcher, Samples, TimeRange};
use crate::storage::engine::{Engine, run_blocking};
use crate::storage::error::StorageError;
use crate::storage::snapshot::Snapshot;
use crate::storage::tombstone::{MATCHER_BYTES_MAX, TOMBSTONES_MAX};

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
