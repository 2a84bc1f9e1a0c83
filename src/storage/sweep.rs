//! Tidies the data directory at start: the manifest says what exists, and whatever else bears
//! one of our names is left over from an interrupted flush.

use std::path::{Path, PathBuf};

use crate::storage::error::StorageError;
use crate::storage::layout::{BLOCK_SUFFIX, Layout, SERIES_SUFFIX, parse_name};
use crate::storage::manifest::{ManifestState, Opened};
use crate::storage::vfs::Vfs;

/// Removes files that the manifest does not name; how many there were.
///
/// If the manifest had to be repaired, the edit that was cut off may have named them: then they
/// are moved to `quarantine/` instead.
pub(crate) fn sweep(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &ManifestState,
    opened: Opened,
) -> Result<usize, StorageError> {
    let blocks =
        orphans(vfs, &layout.blocks_dir(), BLOCK_SUFFIX, |id| manifest.blocks.contains_key(&id))?;
    let series = orphans(vfs, &layout.series_dir(), SERIES_SUFFIX, |id| {
        manifest.series_files.contains(&id)
    })?;
    let found = blocks.len() + series.len();
    for path in blocks.into_iter().chain(series) {
        let temporary = path.extension().is_some_and(|extension| extension == "tmp");
        if opened == Opened::Repaired && !temporary {
            set_aside(vfs, layout, &path)?;
        } else {
            tracing::info!(path = %path.display(), "removing a file that no manifest names");
            vfs.remove(&path)?;
        }
    }
    if found > 0 {
        vfs.sync_dir(&layout.blocks_dir())?;
        vfs.sync_dir(&layout.series_dir())?;
    }
    Ok(found)
}

/// Moves a file to `quarantine/`.
pub(crate) fn set_aside(vfs: &dyn Vfs, layout: &Layout, path: &Path) -> Result<(), StorageError> {
    let Some(name) = path.file_name() else { return Ok(()) };
    vfs.create_dir_all(&layout.quarantine_dir())?;
    let to = layout.quarantine_dir().join(name);
    tracing::warn!(path = %path.display(), to = %to.display(), "setting a file aside");
    vfs.rename(path, &to)?;
    vfs.sync_dir(&layout.quarantine_dir())
}

fn orphans(
    vfs: &dyn Vfs,
    dir: &Path,
    suffix: &str,
    named: impl Fn(u64) -> bool,
) -> Result<Vec<PathBuf>, StorageError> {
    let entries = vfs.list(dir)?.into_iter().filter(|entry| !entry.is_dir);
    Ok(entries
        .filter(|entry| {
            parse_name(entry.name(), suffix).is_some_and(|name| name.temporary || !named(name.id))
        })
        .map(|entry| entry.path)
        .collect())
}
