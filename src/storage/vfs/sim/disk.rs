//! The model behind the simulated disk: what is cached, what is durable, what a crash leaves.
//!
//! A file has cached bytes, which readers see, and durable bytes, which a crash leaves at least.
//! Between them lie dirty sectors, each of which a crash may or may not leave. Names work the
//! same way: changes wait until their directory is synced, and any subset of them may survive.
//! That is harsher than any file system, and it is all that the `vfs` interface promises.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::storage::vfs::parent;

/// What a disk writes in one piece.
pub(super) const SECTOR_LEN: usize = 512;

/// A file's number, which its names refer to.
pub(super) type FileId = usize;

#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    files: Vec<File>,
    names: BTreeMap<PathBuf, FileId>,
    durable_names: BTreeMap<PathBuf, FileId>,
    /// Changes of names that are not durable yet, in order.
    changes: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    pub(super) locks: BTreeMap<PathBuf, String>,
    pub(super) random: Random,
    /// Bytes that all files together may have.
    pub(super) capacity: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct File {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that were written since they were last synced.
    dirty: BTreeSet<usize>,
    /// A failed sync has told its error and forgotten what was dirty: the next one succeeds.
    lost: bool,
}

/// One change of names: a name goes, a name comes, or both at once.
#[derive(Debug, Clone)]
struct NameChange {
    gone: Option<PathBuf>,
    come: Option<(PathBuf, FileId)>,
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, FileId>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((path, file)) = &self.come {
            names.insert(path.clone(), *file);
        }
    }

    fn touches(&self, dir: &Path) -> bool {
        let gone = self.gone.as_deref();
        let come = self.come.as_ref().map(|(path, _)| path.as_path());
        gone.into_iter().chain(come).any(|path| parent(path) == dir)
    }
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random(seed), ..Self::default() }
    }

    pub(super) fn file(&self, path: &Path) -> Option<FileId> {
        self.names.get(path).copied()
    }

    pub(super) fn has_dir(&self, dir: &Path) -> bool {
        dir == Path::new(".") || dir == Path::new("/") || self.dirs.contains(dir)
    }

    pub(super) fn add_dirs(&mut self, dir: &Path) {
        self.dirs.extend(dir.ancestors().map(Path::to_path_buf));
    }

    /// Files and directories directly in `dir`.
    pub(super) fn entries(&self, dir: &Path) -> BTreeMap<PathBuf, bool> {
        let files = self.names.keys().map(|path| (path, false));
        let dirs = self.dirs.iter().map(|path| (path, true));
        files
            .chain(dirs)
            .filter(|(path, _)| path.parent().is_some() && parent(path) == dir && *path != dir)
            .map(|(path, is_dir)| (path.clone(), is_dir))
            .collect()
    }

    pub(super) fn create(&mut self, path: &Path) -> FileId {
        if let Some(file) = self.file(path) {
            self.set_len(file, 0);
            return file;
        }
        let file = self.files.len();
        self.files.push(File::default());
        self.change(None, Some((path.to_path_buf(), file)));
        file
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, file: FileId) {
        self.change(Some(from.to_path_buf()), Some((to.to_path_buf(), file)));
    }

    pub(super) fn link(&mut self, to: &Path, file: FileId) {
        self.change(None, Some((to.to_path_buf(), file)));
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change(Some(path.to_path_buf()), None);
    }

    fn change(&mut self, gone: Option<PathBuf>, come: Option<(PathBuf, FileId)>) {
        let change = NameChange { gone, come };
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let durable_names = &mut self.durable_names;
        self.changes.retain(|change| {
            let synced = change.touches(dir);
            if synced {
                change.apply(durable_names);
            }
            !synced
        });
    }

    pub(super) fn bytes(&self, file: FileId) -> &[u8] {
        &self.files[file].cached
    }

    /// Bytes that can still be added.
    pub(super) fn free(&self) -> u64 {
        let Some(capacity) = self.capacity else { return 1 << 40 };
        let mut files: Vec<FileId> = self.names.values().copied().collect();
        files.sort_unstable();
        files.dedup();
        let used: u64 = files.iter().map(|file| self.files[*file].cached.len() as u64).sum();
        capacity.saturating_sub(used)
    }

    pub(super) fn write(&mut self, file: FileId, offset: usize, bytes: &[u8]) {
        let File { cached, dirty, .. } = &mut self.files[file];
        let end = offset + bytes.len();
        // A write behind the end fills the gap with zeros, which are as new as the bytes.
        let from = offset.min(cached.len());
        cached.resize(cached.len().max(end), 0);
        cached[offset..end].copy_from_slice(bytes);
        dirty.extend(from / SECTOR_LEN..end.div_ceil(SECTOR_LEN));
    }

    pub(super) fn set_len(&mut self, file: FileId, len: usize) {
        let File { cached, dirty, .. } = &mut self.files[file];
        let from = len.min(cached.len());
        let to = len.max(cached.len());
        cached.resize(len, 0);
        dirty.extend(from / SECTOR_LEN..to.div_ceil(SECTOR_LEN));
    }

    /// Makes sectors `[from, to)` and the length durable.
    pub(super) fn sync_range(&mut self, file: FileId, from: usize, to: usize) {
        let File { cached, durable, dirty, .. } = &mut self.files[file];
        durable.resize(cached.len(), 0);
        let synced: Vec<usize> = dirty.range(from..to).copied().collect();
        for sector in synced {
            copy_sector(cached, durable, sector);
            dirty.remove(&sector);
        }
    }

    pub(super) fn sync(&mut self, file: FileId) {
        self.sync_range(file, 0, usize::MAX);
    }

    /// What a failed sync does on Linux: the error is told once, the pages count as clean, and
    /// readers go on seeing what is not on disk.
    pub(super) fn lose_dirty(&mut self, file: FileId) {
        self.files[file].dirty.clear();
        self.files[file].lost = true;
    }

    /// Makes everything durable as it is.
    pub(super) fn settle(&mut self) {
        for file in 0..self.files.len() {
            self.sync(file);
        }
        self.durable_names = self.names.clone();
        self.changes.clear();
    }

    /// What a power cut leaves: what is durable, and any part of what is not.
    pub(super) fn crash(&self) -> Disk {
        let mut random = self.random.clone();
        // Some cuts lose all, some nothing, most something.
        let survive_percent = [0, 10, 50, 90, 100][random.below(5)];
        let mut names = self.durable_names.clone();
        for change in &self.changes {
            if random.below(100) < survive_percent {
                change.apply(&mut names);
            }
        }
        let files =
            self.files.iter().map(|file| file.crash(&mut random, survive_percent)).collect();
        Disk {
            files,
            durable_names: names.clone(),
            names,
            changes: Vec::new(),
            dirs: self.dirs.clone(),
            locks: BTreeMap::new(),
            random,
            capacity: self.capacity,
        }
    }
}

impl File {
    fn crash(&self, random: &mut Random, survive_percent: usize) -> File {
        let mut bytes = self.durable.clone();
        let changed_len = self.cached.len() != bytes.len() && !self.lost;
        if changed_len && random.below(100) < survive_percent {
            bytes.resize(self.cached.len(), 0);
        }
        for sector in &self.dirty {
            if random.below(100) < survive_percent {
                copy_sector(&self.cached, &mut bytes, *sector);
            }
        }
        File { cached: bytes.clone(), durable: bytes, ..File::default() }
    }
}

/// Copies what both have of a sector.
fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
    let start = sector * SECTOR_LEN;
    let end = (start + SECTOR_LEN).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

/// A small generator of numbers that only depend on its seed (SplitMix64).
#[derive(Debug, Clone, Default)]
pub(super) struct Random(u64);

impl Random {
    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % (bound as u64)).expect("below a usize")
    }
}
