//! Open file handles to immutable files, a bounded number of them: a backfill over years makes
//! thousands of blocks, and a process may often have no more than 1024 files open.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::storage::error::StorageError;
use crate::storage::vfs::{Vfs, VfsFile};

/// Files that are kept open. Reads in flight may hold a few more.
const OPEN_FILES_MAX: usize = 256;

/// Opens files when they are read and closes those that were not read for longest.
#[derive(Debug)]
pub(crate) struct Handles {
    vfs: Arc<dyn Vfs>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    files: HashMap<u64, (Arc<dyn VfsFile>, u64)>,
    /// Counts reads, to tell which was last.
    reads: u64,
}

impl Handles {
    pub(crate) fn new(vfs: Arc<dyn Vfs>) -> Self {
        Self { vfs, open: Mutex::default() }
    }

    /// Length of the file `path`, which need not be kept open for it.
    pub(crate) fn len(&self, path: &Path) -> Result<u64, StorageError> {
        self.vfs.open(path)?.len()
    }

    /// The file `path`, whose number is `id`.
    pub(crate) fn get(&self, id: u64, path: &Path) -> Result<Arc<dyn VfsFile>, StorageError> {
        if let Some(file) = self.open.lock().find(id) {
            return Ok(file);
        }
        // Opened without the lock; two readers may do so at once, and one handle is dropped.
        let file = self.vfs.open(path)?;
        self.open.lock().insert(id, Arc::clone(&file));
        Ok(file)
    }

    /// Removes a file that nobody will read again.
    pub(crate) fn remove(&self, id: u64, path: &Path) -> Result<(), StorageError> {
        // An open handle would keep the bytes on the disk.
        self.open.lock().files.remove(&id);
        self.vfs.remove(path)
    }
}

impl Open {
    fn find(&mut self, id: u64) -> Option<Arc<dyn VfsFile>> {
        self.reads += 1;
        let (file, read) = self.files.get_mut(&id)?;
        *read = self.reads;
        Some(Arc::clone(file))
    }

    fn insert(&mut self, id: u64, file: Arc<dyn VfsFile>) {
        if self.files.len() >= OPEN_FILES_MAX
            && let Some(oldest) =
                self.files.iter().min_by_key(|(_, (_, read))| *read).map(|(id, _)| *id)
        {
            self.files.remove(&oldest);
        }
        self.files.insert(id, (file, self.reads));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::vfs::RealVfs;

    #[test]
    fn more_files_than_may_be_open_are_all_readable() {
        let dir = tempfile::tempdir().unwrap();
        let handles = Handles::new(Arc::new(RealVfs));
        let paths: Vec<_> =
            (0..OPEN_FILES_MAX + 10).map(|number| dir.path().join(number.to_string())).collect();
        for path in &paths {
            RealVfs.create(path).unwrap().write_at(0, b"x").unwrap();
        }
        for _ in 0..2 {
            for (id, path) in (0..).zip(&paths) {
                assert_eq!(handles.get(id, path).unwrap().len().unwrap(), 1);
                assert!(handles.open.lock().files.len() <= OPEN_FILES_MAX);
            }
        }
        let missing = dir.path().join("missing");
        assert!(handles.get(u64::MAX, &missing).unwrap_err().is_not_found());
    }
}
