//! Names files in the manifest, and shows them to the next snapshot.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutOptions, UpdateVersion};

use crate::model::Resolution;
use crate::storage::error::StorageError;
use crate::storage::rollup::file::RollupFile;
use crate::storage::rollup::manifest::RollupManifest;
use crate::storage::rollup::set::RollupSet;
use crate::storage::rollup::worker::{Next, Opened, Worker, object_store_error};

impl Worker {
    /// Puts a manifest in place before the first file is uploaded, so that files without one are
    /// never ours.
    pub(super) fn ensure_manifest(&mut self) -> Result<(), StorageError> {
        match &self.opened {
            Some(opened) if opened.version.is_none() => {
                let (labels, floors) = (opened.labels.clone(), opened.floors.clone());
                self.commit(Next { labels, floors, kept: Vec::new(), added: Vec::new() })
            }
            _ => Ok(()),
        }
    }

    /// Gives up what was uploaded and is certainly not named.
    pub(super) fn discard(&mut self) {
        self.doubtful.drain(..).for_each(|location| self.trash.add(location));
    }

    /// Names the files. After an error the manifest is read anew before anything else.
    pub(super) fn commit(&mut self, next: Next) -> Result<(), StorageError> {
        let Some(opened) = self.opened.take() else { return Ok(()) };
        let mut files = next.kept;
        for facts in &next.added {
            let resolution: Resolution =
                facts.resolution.parse().map_err(|error: crate::model::UnknownResolution| {
                    StorageError::Internal(error.to_string())
                })?;
            files.push(Arc::new(RollupFile::new(facts.clone(), resolution, &self.target.root)));
        }
        files.sort_by_key(|file| (file.resolution(), file.span()));
        let manifest = RollupManifest {
            database: self.database,
            labels: next.labels.clone(),
            watermarks: self.watermarks(&files, &next.floors),
            floors: next.floors.clone(),
            files: files.iter().map(|file| file.facts().clone()).collect(),
        };
        let version = match self.put_manifest(&manifest, opened.version) {
            Ok(version) => version,
            Err(error) => {
                self.before = opened.files;
                return Err(error);
            }
        };
        self.doubtful.retain(|location| files.iter().all(|file| file.location() != location));
        self.discard();
        let named: BTreeSet<&Path> = files.iter().map(|file| file.location()).collect();
        for old in opened.files.iter().filter(|old| !named.contains(old.location())) {
            old.retire(Arc::clone(&self.trash));
        }
        drop(named);
        let (labels, floors) = (next.labels, next.floors);
        self.opened = Some(Opened { labels, floors, files, version: Some(version) });
        self.publish();
        Ok(())
    }

    /// Shows what is there to the next snapshot.
    pub(super) fn publish(&self) {
        let Some(opened) = &self.opened else { return };
        let set = Arc::new(RollupSet {
            store: Arc::clone(&self.target.io),
            root: self.target.root.clone(),
            footers: Arc::clone(&self.footers),
            labels: opened.labels.clone(),
            files: opened.files.clone(),
            empty: self.empty.values().copied().collect(),
            floors: opened.floors.clone(),
        });
        self.store.state.change(|state| state.rollups = Some(set));
    }

    fn put_manifest(
        &self,
        manifest: &RollupManifest,
        known: Option<UpdateVersion>,
    ) -> Result<UpdateVersion, StorageError> {
        let mode = match known {
            None => PutMode::Create,
            Some(version) if self.compares_versions => PutMode::Update(version),
            Some(_) => PutMode::Overwrite,
        };
        let options = PutOptions { mode, ..PutOptions::default() };
        let location = self.manifest();
        let put = self.target.io.put_opts(&location, manifest.encode().into(), options);
        let put = self.target.runtime.block_on(put).map_err(object_store_error)?;
        Ok(UpdateVersion { e_tag: put.e_tag, version: put.version })
    }
}
