//! Checkpoints: a second data directory that shares the files of the first, what Prometheus calls
//! a snapshot. A server can be started on it, and the two know nothing of each other.
//!
//! Blocks are hard links, which is safe because nobody changes a named file; manifest, series,
//! metadata and the log's first segment are written anew. Rollups are not copied: the
//! copy builds its own from the samples that it has. It is a database of its own name, since its
//! log goes on with numbers that the first one gave as well: rollups of the one would seem to hold
//! what only the other was sent. The manifest comes last: a crash before it leaves a directory that
//! no server starts on and that may be removed.

use std::sync::Arc;

use chrono::DateTime;
use uuid::Uuid;

use crate::storage::engine::{Engine, run_blocking};
use crate::storage::error::StorageError;
use crate::storage::layout::Layout;
use crate::storage::manifest::{Manifest, ManifestState};
use crate::storage::series_file;
use crate::storage::store::Store;
use crate::storage::vfs::replace_file;
use crate::storage::wal;

/// What a checkpoint has of the samples that are in memory only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// All of them: they are flushed first.
    Flushed,
    /// None of them.
    Skipped,
}

impl Engine {
    /// Makes a checkpoint of everything that is stored now, below `snapshots/` in the data
    /// directory; its name there.
    pub async fn checkpoint(&self, head: Head) -> Result<String, StorageError> {
        match head {
            Head::Flushed => _ = self.flush().await?,
            Head::Skipped => self.check_open()?,
        }
        let engine = self.handle()?;
        run_blocking(move || write(&engine.store)).await?
    }
}

fn write(store: &Store) -> Result<String, StorageError> {
    let name = name(store.clock.now_ms());
    let copy = Layout::new(&store.layout.snapshots_dir().join(&name));
    for dir in [copy.blocks_dir(), copy.series_dir()] {
        store.vfs.create_dir_all(&dir)?;
    }
    let mut state = link_blocks(store, &copy)?;
    let database = Uuid::new_v4();
    if let Some(id) = state.series_files.pop_first() {
        let series = series_file::encode(database, &store.series, 0..state.next_series_id);
        replace_file(store.vfs.as_ref(), &copy.series_file(id), &series)?;
        state.series_files = [id].into();
    }
    for dir in [copy.blocks_dir(), copy.series_dir()] {
        store.vfs.sync_dir(&dir)?;
    }
    replace_file(store.vfs.as_ref(), &copy.metadata(), &store.metadata.encode())?;
    wal::begin(store.vfs.as_ref(), &copy.wal_dir(), database, 1, state.flushed_lsn)?;
    Manifest::create(Arc::clone(&store.vfs), copy.dir(), database, state)?;
    Ok(name)
}

/// Links all blocks that the manifest names, and gives what it says of them.
fn link_blocks(store: &Store, copy: &Layout) -> Result<ManifestState, StorageError> {
    // Files go only after an edit has taken them out, and while this is held there is none.
    let manifest = store.manifest.lock();
    let state = manifest.state().clone();
    for (id, block) in &state.blocks {
        match store.vfs.hard_link(&store.layout.block(*id), &copy.block(*id)) {
            // The store goes on without a lost block, and so does its copy.
            Err(error) if error.is_not_found() => {
                tracing::warn!(block = block.id, "a block's file is missing in a checkpoint, too");
            }
            linked => linked?,
        }
    }
    Ok(state)
}

/// Unique, and in order of time: `20261125T235959Z-0123456789abcdef`.
fn name(now_ms: i64) -> String {
    let now = DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
    let (random, _) = Uuid::new_v4().as_u64_pair();
    format!("{}-{random:016x}", now.format("%Y%m%dT%H%M%SZ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_when() {
        let name = name(1_764_115_199_000);
        assert!(name.starts_with("20251125T235959Z-"), "{name}");
        assert_eq!(name.len(), "20251125T235959Z-0123456789abcdef".len());
    }
}
