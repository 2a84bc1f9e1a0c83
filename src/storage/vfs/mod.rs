//! Every file access of storage goes through here, so that tests can pull the plug.
//!
//! [`RealVfs`] is the operating system; [`SimVfs`] is a disk in memory that forgets what was not
//! synced. All calls block: async callers go through the blocking pool.
//!
//! What the rest of storage relies on:
//! - bytes are on disk after [`VfsFile::sync`] or [`VfsFile::write_at_synced`], names after
//!   [`Vfs::sync_dir`] of their directory; nothing else is promised after a power cut;
//! - a rename replaces its target in one step;
//! - after a failed write or sync, nothing is known about the bytes concerned. A second sync that
//!   succeeds proves nothing (the kernel drops the error with the pages), so nobody tries twice.

mod real;
mod sim;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::error::StorageError;

pub use real::RealVfs;
pub use sim::{Fault, SimVfs};

/// A file system.
pub trait Vfs: Send + Sync + Debug {
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> Result<Arc<dyn VfsFile>, StorageError>;

    /// Creates an empty file, or empties an existing one.
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>, StorageError>;

    /// Renames a file; an existing `to` is replaced in one step.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError>;

    /// Gives a file a second name.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), StorageError>;

    /// Removes a file's name. Open handles stay readable.
    fn remove(&self, path: &Path) -> Result<(), StorageError>;

    fn exists(&self, path: &Path) -> Result<bool, StorageError>;

    /// What is in a directory, by name.
    fn list(&self, dir: &Path) -> Result<Vec<VfsEntry>, StorageError>;

    /// Creates a directory and its missing parents, and makes their names durable.
    fn create_dir_all(&self, dir: &Path) -> Result<(), StorageError>;

    /// Makes the names in a directory durable: created, renamed and removed ones.
    fn sync_dir(&self, dir: &Path) -> Result<(), StorageError>;

    /// Bytes that can still be written below `dir`.
    fn free_space(&self, dir: &Path) -> Result<u64, StorageError>;

    /// Takes the lock file `path` until the guard is dropped or the process ends, and writes
    /// `holder` into it for whoever is refused.
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, StorageError>;
}

/// A file opened by a [`Vfs`]. Offsets are explicit, so handles may be shared.
pub trait VfsFile: Send + Sync + Debug {
    fn path(&self) -> &Path;

    fn len(&self) -> Result<u64, StorageError>;

    fn is_empty(&self) -> Result<bool, StorageError> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`; how many bytes there were before the file's end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError>;

    /// Writes all of `bytes`; they are durable after the next [`VfsFile::sync`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// Writes all of `bytes` and returns when they are durable.
    fn write_at_synced(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes the file's content and length durable. Its name is [`Vfs::sync_dir`]'s business.
    fn sync(&self) -> Result<(), StorageError>;

    /// Shortens or lengthens (with zeros) the file.
    fn set_len(&self, len: u64) -> Result<(), StorageError>;

    /// Writes `len` zeros from the file's start, so that later writes into that range need no
    /// new space. Not durable before [`VfsFile::sync`].
    fn allocate(&self, len: u64) -> Result<(), StorageError>;
}

/// Holds a lock file until dropped.
pub trait VfsLock: Send + Sync + Debug {}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfsEntry {
    pub path: PathBuf,
    pub is_dir: bool,
}

impl VfsEntry {
    /// The last part of the path; empty if it is not UTF-8, as none of our files' names are.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// Reads a whole file of at most `len_max` bytes.
pub fn read_file(vfs: &dyn Vfs, path: &Path, len_max: u64) -> Result<Vec<u8>, StorageError> {
    let file = vfs.open(path)?;
    let len = file.len()?;
    let corrupt =
        |reason: String| StorageError::Corrupt { path: path.to_path_buf(), offset: 0, reason };
    if len > len_max {
        return Err(corrupt(format!("{len} bytes, expected at most {len_max}")));
    }
    let len = usize::try_from(len).map_err(|_| corrupt(format!("{len} bytes do not fit")))?;
    let mut bytes = vec![0; len];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Puts a whole file in place, durably: after a crash there is the old content or the new.
///
/// A crash may leave `path` with `.tmp` appended behind; the next call overwrites it.
pub fn replace_file(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let temporary = temporary_path(path);
    let file = vfs.create(&temporary)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    drop(file);
    vfs.rename(&temporary, path)?;
    vfs.sync_dir(parent(path))
}

/// `path` with `.tmp` appended: a file being written, meaningless after a crash.
pub fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// The directory that holds `path`.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
