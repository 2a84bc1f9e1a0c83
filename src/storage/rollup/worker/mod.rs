//! Does the work: opens the rollup store, builds, merges, drops, and names the result in
//! `_manifest.json`.
//!
//! What a crash leaves at each step, and what repairs it:
//! 1. uploaded files that no manifest names: removed by the next start;
//! 2. the new manifest: from here on the new files count, and the old ones are the orphans;
//! 3. old files that readers still had open: likewise.
//!
//! If putting the manifest fails, nobody knows which one is there: it is read again before
//! anything else is done, and files that it does not name are removed.

mod build;
mod commit;
mod day;
mod open;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::UpdateVersion;
use object_store::path::Path;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::columnar::parquet::LabelColumns;
use crate::model::Timestamp;
use crate::storage::error::StorageError;
use crate::storage::rollup::file::{BuiltSpan, FileFacts, FooterRoom, RollupFile};
use crate::storage::rollup::plan::Floors;
use crate::storage::rollup::upload::Target;
use crate::storage::store::Store;

/// The one writer of a rollup store.
#[derive(Debug)]
pub(crate) struct Worker {
    store: Arc<Store>,
    target: Target,
    /// Whether the object store compares versions before it replaces an object. A local directory
    /// is ours alone by the data directory's lock.
    compares_versions: bool,
    database: Uuid,
    opened: Option<Opened>,
    trash: Arc<Trash>,
    footers: Arc<FooterRoom>,
    /// Uploaded and perhaps named: to be removed once the manifest was read again.
    doubtful: Vec<Path>,
    /// What was named before a manifest that may or may not be there.
    before: Vec<Arc<RollupFile>>,
    /// Spans that were looked at and had no samples.
    empty: BTreeMap<Timestamp, BuiltSpan>,
    swept: bool,
}

/// What the manifest says, and which version of it.
#[derive(Debug)]
struct Opened {
    labels: LabelColumns,
    floors: Floors,
    files: Vec<Arc<RollupFile>>,
    version: Option<UpdateVersion>,
}

/// What one piece of work came to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) spans: u64,
    pub(crate) samples: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// Files that retention has let go.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Dropped {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// What the next manifest says.
struct Next {
    labels: LabelColumns,
    floors: Floors,
    /// Files that stay.
    kept: Vec<Arc<RollupFile>>,
    added: Vec<FileFacts>,
}

impl Worker {
    pub(crate) fn new(
        store: Arc<Store>,
        target: Target,
        compares_versions: bool,
        database: Uuid,
    ) -> Self {
        Self {
            store,
            target,
            compares_versions,
            database,
            opened: None,
            trash: Arc::default(),
            footers: Arc::default(),
            doubtful: Vec::new(),
            before: Vec::new(),
            empty: BTreeMap::new(),
            swept: false,
        }
    }

    /// Whether it is known what the manifest says.
    pub(crate) fn is_open(&self) -> bool {
        self.opened.is_some()
    }
}

/// Where replaced files go once nobody reads them any more.
#[derive(Debug, Default)]
pub(crate) struct Trash(Mutex<Vec<Path>>);

impl Trash {
    pub(crate) fn add(&self, location: Path) {
        self.0.lock().push(location);
    }

    fn take(&self) -> Vec<Path> {
        std::mem::take(&mut self.0.lock())
    }
}

fn object_store_error(source: object_store::Error) -> StorageError {
    StorageError::ObjectStore { source }
}
