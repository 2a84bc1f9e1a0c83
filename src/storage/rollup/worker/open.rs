//! Learns what the manifest says, and removes what it does not name.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, UpdateVersion};
use uuid::Uuid;

use crate::columnar::parquet::LabelColumns;
use crate::model::Resolution;
use crate::storage::error::StorageError;
use crate::storage::rollup::manifest::{MANIFEST_BYTES_MAX, MANIFEST_NAME, RollupManifest};
use crate::storage::rollup::plan::Floors;
use crate::storage::rollup::upload::below;
use crate::storage::rollup::worker::{Opened, Worker, object_store_error};

impl Worker {
    /// Reads the manifest, unless it is known. A store of another database, or one without a
    /// manifest that has rollup files, is refused and left as it is.
    pub(crate) fn open(&mut self) -> Result<(), StorageError> {
        if self.opened.is_some() {
            return Ok(());
        }
        let opened = match self.read_manifest()? {
            Some((manifest, version)) => {
                if manifest.database != self.database {
                    return Err(StorageError::ForeignRollups {
                        place: self.place(),
                        owner: manifest.database,
                        us: self.database,
                    });
                }
                let files = manifest.open_files(&self.target.root).into_iter().map(|file| {
                    let known = self.before.iter().find(|old| old.location() == file.location());
                    known.map_or_else(|| Arc::new(file), Arc::clone)
                });
                Opened {
                    files: files.collect(),
                    labels: manifest.labels,
                    floors: manifest.floors,
                    version: Some(version),
                }
            }
            None => {
                if let Some(file) = self.list_files()?.first() {
                    return Err(StorageError::Corrupt {
                        path: self.place().into(),
                        offset: 0,
                        reason: format!("{MANIFEST_NAME} is missing, though there is {file}"),
                    });
                }
                Opened {
                    labels: LabelColumns::new(),
                    floors: Floors::default(),
                    files: Vec::new(),
                    version: None,
                }
            }
        };
        let opened = self.opened.insert(opened);
        opened.files.sort_by_key(|file| (file.resolution(), file.span()));
        self.publish();
        self.remove_leftovers()
    }

    fn read_manifest(&self) -> Result<Option<(RollupManifest, UpdateVersion)>, StorageError> {
        let read = async {
            let got = self.target.io.get_opts(&self.manifest(), GetOptions::default()).await?;
            if got.meta.size > MANIFEST_BYTES_MAX {
                return Ok(Err(format!("it is {} bytes long", got.meta.size)));
            }
            let version =
                UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
            let bytes = got.bytes().await?;
            Ok(RollupManifest::decode(&bytes).map(|manifest| (manifest, version)))
        };
        match self.target.runtime.block_on(read) {
            Ok(Ok(found)) => Ok(Some(found)),
            Ok(Err(reason)) => Err(StorageError::Corrupt {
                path: format!("{}/{MANIFEST_NAME}", self.place()).into(),
                offset: 0,
                reason,
            }),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(object_store_error(error)),
        }
    }

    /// Removes files that no manifest names: all of them once after the start, later only our own
    /// that may have been named or not.
    fn remove_leftovers(&mut self) -> Result<(), StorageError> {
        let named: BTreeSet<Path> = self
            .opened
            .iter()
            .flat_map(|opened| &opened.files)
            .map(|f| f.location().clone())
            .collect();
        for old in std::mem::take(&mut self.before) {
            if !named.contains(old.location()) {
                old.retire(Arc::clone(&self.trash));
            }
        }
        let mut leftovers = std::mem::take(&mut self.doubtful);
        if !self.swept {
            leftovers = self.list_files()?;
            self.swept = true;
        }
        for location in leftovers.into_iter().filter(|location| !named.contains(location)) {
            tracing::info!(%location, "removing a rollup file that no manifest names");
            self.trash.add(location);
        }
        Ok(())
    }

    /// Removes replaced files that nobody reads any more.
    pub(crate) fn empty_trash(&self) {
        for location in self.trash.take() {
            match self.target.runtime.block_on(self.target.io.delete(&location)) {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                // The next start finds it.
                Err(error) => tracing::warn!(%location, %error, "removing a rollup file"),
            }
        }
    }

    /// Files that look like ours.
    fn list_files(&self) -> Result<Vec<Path>, StorageError> {
        let root = Some(&self.target.root).filter(|root| root.parts().next().is_some());
        let listed = self.target.io.list(root).map_ok(|meta| meta.location).try_collect();
        let listed: Vec<Path> = self.target.runtime.block_on(listed).map_err(object_store_error)?;
        Ok(listed.into_iter().filter(|location| is_ours(&self.target.root, location)).collect())
    }

    pub(super) fn manifest(&self) -> Path {
        below(&self.target.root, MANIFEST_NAME)
    }

    fn place(&self) -> String {
        match self.target.root.as_ref() {
            "" => self.target.io.to_string(),
            root => format!("{}/{root}", self.target.io),
        }
    }
}

/// `resolution=…/day=…/<32 hex>.parquet`, and nothing that somebody else put there.
fn is_ours(root: &Path, location: &Path) -> bool {
    let Some(parts) = location.prefix_match(root) else { return false };
    let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
    let [resolution, day, name] = &parts[..] else { return false };
    let id = name.strip_suffix(".parquet").unwrap_or_default();
    resolution.strip_prefix("resolution=").is_some_and(|name| name.parse::<Resolution>().is_ok())
        && day.starts_with("day=")
        && id.len() == 32
        && Uuid::parse_str(id).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::rollup::build::file_path;

    #[test]
    fn only_our_own_names_are_swept() {
        let root = Path::from("a/b");
        let name = file_path(Resolution::OneHour, 1_700_000_000_000);
        assert!(name.starts_with("resolution=1h/day=2023-11-14/"), "{name}");
        assert!(is_ours(&root, &below(&root, &name)));
        assert!(!is_ours(&Path::from("a/c"), &below(&root, &name)));
        for foreign in ["_manifest.json", "resolution=1h/day=2023-11-14/x.parquet", "x.parquet"] {
            assert!(!is_ours(&root, &below(&root, foreign)), "{foreign}");
        }
    }
}
