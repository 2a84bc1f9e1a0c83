//! The manifest: the only truth of which files exist, and of how much of the log is in them.
//!
//! An append-only file of edits (`format`), rewritten when it has grown long. What a crash
//! leaves, and what repairs it:
//! - in the middle of an append: a torn tail; [`Manifest::open`] writes the file anew without it;
//! - in the middle of a rewrite: `MANIFEST.tmp` beside the old file; overwritten by the next;
//! - between the edit and what follows from it (removed files, a shorter log): files that no
//!   edit names, and log records that blocks hold already; the start removes and skips them.
//!
//! Invariant: [`Manifest::state`] changes only after the edit is durable. After a failed append
//! nobody knows whether the edit is on disk, so nothing that either state names may be removed,
//! and the next edit goes to a new file, which settles the question.

mod block_meta;
mod format;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::storage::error::StorageError;
use crate::storage::vfs::{Vfs, VfsFile, read_file, replace_file};

pub use block_meta::BlockMeta;
pub use format::Item;
pub use state::ManifestState;

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "MANIFEST";

/// A manifest larger than this is damaged or not ours.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Appended edits after which the file is rewritten, if they are most of it.
const APPENDED_EDITS_MAX: u64 = 256;

/// The manifest of an open store.
#[derive(Debug)]
pub struct Manifest {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    uuid: Uuid,
    state: ManifestState,
    /// Where the next edit goes; `None` once an append has failed.
    tail: Option<Tail>,
}

#[derive(Debug)]
struct Tail {
    file: Arc<dyn VfsFile>,
    len: u64,
    /// Length after the last rewrite.
    base_len: u64,
    sequence: u64,
}

/// What opening found besides the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    Created,
    Whole,
    /// A torn or damaged tail was cut off, or read from its copy.
    Repaired,
}

impl Manifest {
    /// Reads the manifest in `dir`, or makes one for a new database.
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path) -> Result<(Self, Opened), StorageError> {
        let path = dir.join(FILE_NAME);
        if !vfs.exists(&path)? {
            let manifest = Self::create(vfs, dir, Uuid::new_v4(), ManifestState::default())?;
            return Ok((manifest, Opened::Created));
        }
        let bytes = read_file(vfs.as_ref(), &path, FILE_BYTES_MAX)?;
        let corrupt = |offset: usize, reason: String| StorageError::Corrupt {
            path: path.clone(),
            offset: offset as u64,
            reason,
        };
        let contents =
            format::decode(&bytes).map_err(|damage| corrupt(damage.offset, damage.reason))?;
        let mut state = ManifestState::default();
        let mut sequence = 0;
        for edit in &contents.edits {
            sequence = edit.sequence;
            for item in &edit.items {
                state.apply(item).map_err(|reason| {
                    corrupt(bytes.len(), format!("edit {sequence} does not fit: {reason}"))
                })?;
            }
        }
        let mut manifest = Self { vfs, path: path.clone(), uuid: contents.uuid, state, tail: None };
        if contents.cut.is_some() {
            manifest.rewrite(&manifest.state.clone())?;
            return Ok((manifest, Opened::Repaired));
        }
        let file = manifest.vfs.open(&path)?;
        // What was read may be in the page cache only, if the process was killed before its sync.
        file.sync()?;
        manifest.vfs.sync_dir(dir)?;
        let len = bytes.len() as u64;
        manifest.tail = Some(Tail { file, len, base_len: 0, sequence });
        Ok((manifest, Opened::Whole))
    }

    /// Makes a manifest in `dir`, where there is none, that says what another one says.
    pub(crate) fn create(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        uuid: Uuid,
        state: ManifestState,
    ) -> Result<Self, StorageError> {
        let mut manifest = Self { vfs, path: dir.join(FILE_NAME), uuid, state, tail: None };
        manifest.rewrite(&manifest.state.clone())?;
        Ok(manifest)
    }

    /// Identity of the database.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    pub fn state(&self) -> &ManifestState {
        &self.state
    }

    /// Makes the items durable as one edit: all of them or, after a crash, none.
    pub fn commit(&mut self, items: &[Item]) -> Result<(), StorageError> {
        let mut next = self.state.clone();
        for item in items {
            next.apply(item).map_err(StorageError::Internal)?;
        }
        match self.tail.take() {
            Some(tail) if !tail.is_long() => self.append(tail, items)?,
            _ => self.rewrite(&next)?,
        }
        self.state = next;
        Ok(())
    }

    fn append(&mut self, mut tail: Tail, items: &[Item]) -> Result<(), StorageError> {
        let mut bytes = Vec::new();
        format::encode_edit(self.uuid, tail.sequence + 1, items, &mut bytes);
        tail.file.write_at(tail.len, &bytes)?;
        tail.file.sync()?;
        tail.sequence += 1;
        tail.len += bytes.len() as u64;
        self.tail = Some(tail);
        Ok(())
    }

    /// Puts a new file with `state` in the old one's place.
    fn rewrite(&mut self, state: &ManifestState) -> Result<(), StorageError> {
        let mut bytes = format::encode_header(self.uuid);
        format::encode_edit(self.uuid, format::FIRST_SEQUENCE, &state.items(), &mut bytes);
        replace_file(self.vfs.as_ref(), &self.path, &bytes)?;
        let file = self.vfs.open(&self.path)?;
        let len = bytes.len() as u64;
        let sequence = format::FIRST_SEQUENCE;
        self.tail = Some(Tail { file, len, base_len: len, sequence });
        Ok(())
    }
}

impl Tail {
    fn is_long(&self) -> bool {
        self.sequence > APPENDED_EDITS_MAX && self.len > 2 * self.base_len
    }
}
