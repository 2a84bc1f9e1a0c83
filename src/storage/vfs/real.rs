//! The operating system's file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::error::StorageError;
use crate::storage::vfs::{Vfs, VfsEntry, VfsFile, VfsLock, parent};

/// How many zeros one write of [`VfsFile::allocate`] has.
const ZEROS_LEN: usize = 1 << 20;

/// Files of the machine we run on.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealVfs;

impl Vfs for RealVfs {
    fn open(&self, path: &Path) -> Result<Arc<dyn VfsFile>, StorageError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        Ok(Arc::new(RealFile { file: file.map_err(at(path))?, path: path.to_path_buf() }))
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>, StorageError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        Ok(Arc::new(RealFile { file: file.map_err(at(path))?, path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        fs::rename(from, to).map_err(at(from))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        fs::hard_link(from, to).map_err(at(to))
    }

    fn remove(&self, path: &Path) -> Result<(), StorageError> {
        fs::remove_file(path).map_err(at(path))
    }

    fn exists(&self, path: &Path) -> Result<bool, StorageError> {
        path.try_exists().map_err(at(path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<VfsEntry>, StorageError> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(at(dir))? {
            let entry = entry.map_err(at(dir))?;
            let is_dir = entry.file_type().map_err(at(dir))?.is_dir();
            entries.push(VfsEntry { path: entry.path(), is_dir });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), StorageError> {
        if dir.is_dir() {
            return Ok(());
        }
        let above = parent(dir);
        if above != dir {
            self.create_dir_all(above)?;
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            other => other.map_err(at(dir))?,
        }
        self.sync_dir(above)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), StorageError> {
        let file = File::open(dir).map_err(at(dir))?;
        file.sync_all().map_err(at(dir))
    }

    fn free_space(&self, dir: &Path) -> Result<u64, StorageError> {
        let stat = rustix::fs::statvfs(dir).map_err(|errno| at(dir)(errno.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, StorageError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(at(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is for the message only; the refusal stands without it.
                let _ = file.read_to_string(&mut holder);
                return Err(StorageError::Locked {
                    path: parent(path).to_path_buf(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(at(path)(error)),
        }
        file.set_len(0).map_err(at(path))?;
        file.write_all(holder.as_bytes()).map_err(at(path))?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

/// The lock lives as long as the open file.
#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl VfsLock for RealLock {}

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
}

impl VfsFile for RealFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64, StorageError> {
        Ok(self.file.metadata().map_err(at(&self.path))?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(at(&self.path)(error)),
            }
        }
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_all_at(bytes, offset).map_err(at(&self.path))
    }

    fn write_at_synced(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        write_synced(&self.file, offset, bytes).map_err(at(&self.path))
    }

    fn sync(&self) -> Result<(), StorageError> {
        // On macOS std asks for F_FULLFSYNC.
        self.file.sync_data().map_err(at(&self.path))
    }

    fn set_len(&self, len: u64) -> Result<(), StorageError> {
        self.file.set_len(len).map_err(at(&self.path))
    }

    fn allocate(&self, len: u64) -> Result<(), StorageError> {
        // Real zeros: extents of fallocate() are "unwritten", and each first write into them
        // would change metadata again, which costs a second journal write per sync.
        let zeros = vec![0; ZEROS_LEN];
        let mut offset = 0;
        while offset < len {
            let count = usize::try_from(len - offset).unwrap_or(ZEROS_LEN).min(ZEROS_LEN);
            self.write_at(offset, &zeros[..count])?;
            offset += count as u64;
        }
        Ok(())
    }
}

/// One system call for write and sync, measured twice as fast as two.
#[cfg(target_os = "linux")]
fn write_synced(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};

    let mut written = 0;
    while written < bytes.len() {
        let rest = [io::IoSlice::new(&bytes[written..])];
        match pwritev2(file, &rest, offset + written as u64, ReadWriteFlags::DSYNC) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                file.write_all_at(&bytes[written..], offset + written as u64)?;
                return file.sync_data();
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn write_synced(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, offset)?;
    file.sync_data()
}

fn at(path: &Path) -> impl Fn(io::Error) -> StorageError {
    move |source| StorageError::Io { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = RealVfs.lock(&path, "pid 1").unwrap();
        match RealVfs.lock(&path, "pid 2") {
            Err(StorageError::Locked { holder, .. }) => assert_eq!(holder, "pid 1"),
            other => panic!("{other:?}"),
        }
        drop(held);
        RealVfs.lock(&path, "pid 2").unwrap();
    }

    #[test]
    fn files_keep_what_is_written_and_errors_keep_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("a/b");
        RealVfs.create_dir_all(&nested).unwrap();
        let path = nested.join("file");
        let file = RealVfs.create(&path).unwrap();
        file.allocate(ZEROS_LEN as u64 + 5).unwrap();
        assert_eq!(file.len().unwrap(), ZEROS_LEN as u64 + 5);
        file.write_at_synced(3, b"hello").unwrap();
        file.sync().unwrap();
        let mut buffer = [9; 10];
        assert_eq!(file.read_at(1, &mut buffer).unwrap(), 10);
        assert_eq!(&buffer, b"\0\0hello\0\0\0");
        file.set_len(4).unwrap();
        assert_eq!(file.read_at(0, &mut buffer).unwrap(), 4);
        assert!(RealVfs.free_space(dir.path()).unwrap() > 0);
        RealVfs.sync_dir(&nested).unwrap();
        assert_eq!(RealVfs.list(dir.path()).unwrap()[0].name(), "a");
        let missing = RealVfs.open(&nested.join("missing")).unwrap_err();
        assert!(missing.to_string().contains("a/b/missing"), "{missing}");
        assert!(missing.is_not_found());
    }
}
