//! A disk in memory that loses what was not synced, tears writes, and fails on demand.
//!
//! Everything that changes the disk is an operation with a number. A test runs a script once to
//! count them, then again with [`SimVfs::power_off_at`] or [`SimVfs::fail_at`] for each number,
//! and looks at what [`SimVfs::crash`] leaves. With the same seed the same things survive.

mod disk;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::storage::error::StorageError;
use crate::storage::vfs::sim::disk::{Disk, FileId, SECTOR_LEN};
use crate::storage::vfs::{Vfs, VfsEntry, VfsFile, VfsLock, parent};

/// A simulated disk. Clones are handles on the same disk.
#[derive(Debug, Clone)]
pub struct SimVfs {
    machine: Arc<Mutex<Machine>>,
}

/// What goes wrong at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails and changes nothing.
    Io,
    /// The disk is full.
    DiskFull,
    /// A write fails after a part of its bytes.
    ShortWrite,
    /// A sync fails, and what was to be synced is lost although it can still be read.
    LostSync,
}

/// The disk, and what happens to it.
#[derive(Debug)]
struct Machine {
    disk: Disk,
    /// Operations so far.
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    power_off_at: Option<u64>,
    is_off: bool,
    ignores_syncs: bool,
}

/// What an operation is to do.
enum Verdict {
    Go,
    /// The power goes while it runs.
    InFlight,
    Fail(Fault),
}

impl SimVfs {
    /// An empty disk. `seed` decides what survives a crash.
    pub fn new(seed: u64) -> Self {
        Self::with(Disk::new(seed))
    }

    fn with(disk: Disk) -> Self {
        let machine = Machine {
            disk,
            operations: 0,
            faults: BTreeMap::new(),
            power_off_at: None,
            is_off: false,
            ignores_syncs: false,
        };
        Self { machine: Arc::new(Mutex::new(machine)) }
    }

    /// The disk after a power cut at this moment, with the power on again.
    pub fn crash(&self) -> Self {
        Self::with(self.machine.lock().disk.crash())
    }

    /// Another disk with the same content, all of it durable.
    pub fn copy(&self) -> Self {
        let mut disk = self.machine.lock().disk.clone();
        disk.settle();
        disk.locks.clear();
        Self::with(disk)
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.machine.lock().operations
    }

    /// Lets operation number `operation` fail.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.machine.lock().faults.insert(operation, fault);
    }

    /// Cuts the power during operation number `operation`: it and all later ones fail.
    pub fn power_off_at(&self, operation: u64) {
        self.machine.lock().power_off_at = Some(operation);
    }

    pub fn is_off(&self) -> bool {
        self.machine.lock().is_off
    }

    /// Lets all files together have at most `bytes`; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.machine.lock().disk.capacity = bytes;
    }

    /// Makes the disk lie: syncs succeed and do nothing. Durability tests must fail on it.
    pub fn ignore_syncs(&self) {
        self.machine.lock().ignores_syncs = true;
    }

    /// What a file holds; `None` if there is none.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let machine = self.machine.lock();
        machine.disk.file(path).map(|file| machine.disk.bytes(file).to_vec())
    }

    /// Changes a file's content behind everyone's back, durably.
    pub fn set_bytes(&self, path: &Path, bytes: &[u8]) {
        let mut machine = self.machine.lock();
        let disk = &mut machine.disk;
        let file = disk.create(path);
        disk.write(file, 0, bytes);
        disk.sync(file);
        disk.sync_dir(parent(path));
    }
}

impl Machine {
    fn begin(&mut self, path: &Path) -> Result<Verdict, StorageError> {
        self.check_power(path)?;
        let operation = self.operations;
        self.operations += 1;
        if self.power_off_at == Some(operation) {
            self.is_off = true;
            return Ok(Verdict::InFlight);
        }
        Ok(self.faults.get(&operation).map_or(Verdict::Go, |fault| Verdict::Fail(*fault)))
    }

    fn check_power(&self, path: &Path) -> Result<(), StorageError> {
        if self.is_off { Err(power_is_off(path)) } else { Ok(()) }
    }

    /// Runs an operation that a fault stops before it does anything, and a power cut may leave
    /// done or not.
    fn change<T>(
        &mut self,
        path: &Path,
        run: impl FnOnce(&mut Disk) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match self.begin(path)? {
            Verdict::Go => run(&mut self.disk),
            Verdict::InFlight => {
                run(&mut self.disk)?;
                Err(power_is_off(path))
            }
            Verdict::Fail(fault) => Err(fault_error(path, fault)),
        }
    }

    fn write(
        &mut self,
        path: &Path,
        file: FileId,
        offset: u64,
        bytes: &[u8],
        synced: bool,
    ) -> Result<(), StorageError> {
        let offset = usize::try_from(offset).expect("simulated files are small");
        let verdict = self.begin(path)?;
        let grown = (offset + bytes.len()).saturating_sub(self.disk.bytes(file).len());
        let free = usize::try_from(self.disk.free()).unwrap_or(usize::MAX);
        let error = match verdict {
            Verdict::Go if grown > free => {
                self.disk.write(file, offset, &bytes[..bytes.len() - (grown - free)]);
                fault_error(path, Fault::DiskFull)
            }
            Verdict::Go => {
                self.disk.write(file, offset, bytes);
                if synced && !self.ignores_syncs {
                    let to = (offset + bytes.len()).div_ceil(SECTOR_LEN);
                    self.disk.sync_range(file, offset / SECTOR_LEN, to);
                }
                return Ok(());
            }
            Verdict::InFlight => {
                self.disk.write(file, offset, bytes);
                power_is_off(path)
            }
            Verdict::Fail(fault @ Fault::LostSync) if synced => {
                self.disk.write(file, offset, bytes);
                self.disk.lose_dirty(file);
                fault_error(path, fault)
            }
            Verdict::Fail(fault @ Fault::ShortWrite) => {
                let len = self.disk.random.below(bytes.len() + 1);
                self.disk.write(file, offset, &bytes[..len]);
                fault_error(path, fault)
            }
            Verdict::Fail(fault) => fault_error(path, fault),
        };
        Err(error)
    }
}

fn power_is_off(path: &Path) -> StorageError {
    let source = io::Error::other("the power is off");
    StorageError::Io { path: path.to_path_buf(), source }
}

fn fault_error(path: &Path, fault: Fault) -> StorageError {
    let kind = match fault {
        Fault::DiskFull => io::ErrorKind::StorageFull,
        Fault::Io | Fault::ShortWrite | Fault::LostSync => io::ErrorKind::Other,
    };
    let source = io::Error::new(kind, format!("simulated fault: {fault:?}"));
    StorageError::Io { path: path.to_path_buf(), source }
}

fn not_found(path: &Path) -> StorageError {
    StorageError::Io { path: path.to_path_buf(), source: io::ErrorKind::NotFound.into() }
}

fn find(disk: &Disk, path: &Path) -> Result<FileId, StorageError> {
    disk.file(path).ok_or_else(|| not_found(path))
}

impl Vfs for SimVfs {
    fn open(&self, path: &Path) -> Result<Arc<dyn VfsFile>, StorageError> {
        let machine = self.machine.lock();
        machine.check_power(path)?;
        let file = find(&machine.disk, path)?;
        Ok(Arc::new(SimFile { vfs: self.clone(), path: path.to_path_buf(), file }))
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>, StorageError> {
        let file = self.machine.lock().change(path, |disk| {
            if disk.has_dir(parent(path)) { Ok(disk.create(path)) } else { Err(not_found(path)) }
        })?;
        Ok(Arc::new(SimFile { vfs: self.clone(), path: path.to_path_buf(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.machine.lock().change(from, |disk| {
            let file = find(disk, from)?;
            disk.rename(from, to, file);
            Ok(())
        })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.machine.lock().change(from, |disk| {
            let file = find(disk, from)?;
            if disk.file(to).is_some() {
                let source = io::ErrorKind::AlreadyExists.into();
                return Err(StorageError::Io { path: to.to_path_buf(), source });
            }
            disk.link(to, file);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> Result<(), StorageError> {
        self.machine.lock().change(path, |disk| {
            find(disk, path)?;
            disk.remove(path);
            Ok(())
        })
    }

    fn exists(&self, path: &Path) -> Result<bool, StorageError> {
        let machine = self.machine.lock();
        machine.check_power(path)?;
        Ok(machine.disk.file(path).is_some() || machine.disk.has_dir(path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<VfsEntry>, StorageError> {
        let machine = self.machine.lock();
        machine.check_power(dir)?;
        if !machine.disk.has_dir(dir) {
            return Err(not_found(dir));
        }
        let entries = machine.disk.entries(dir).into_iter();
        Ok(entries.map(|(path, is_dir)| VfsEntry { path, is_dir }).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), StorageError> {
        let mut machine = self.machine.lock();
        if machine.disk.has_dir(dir) {
            return machine.check_power(dir);
        }
        machine.change(dir, |disk| {
            disk.add_dirs(dir);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), StorageError> {
        let mut machine = self.machine.lock();
        match machine.begin(dir)? {
            Verdict::Go if machine.ignores_syncs => Ok(()),
            Verdict::Go => {
                machine.disk.sync_dir(dir);
                Ok(())
            }
            Verdict::InFlight => Err(power_is_off(dir)),
            Verdict::Fail(fault) => Err(fault_error(dir, fault)),
        }
    }

    fn free_space(&self, dir: &Path) -> Result<u64, StorageError> {
        let machine = self.machine.lock();
        machine.check_power(dir)?;
        Ok(machine.disk.free())
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn VfsLock>, StorageError> {
        let mut machine = self.machine.lock();
        machine.check_power(path)?;
        if let Some(holder) = machine.disk.locks.get(path) {
            let (path, holder) = (parent(path).to_path_buf(), holder.clone());
            return Err(StorageError::Locked { path, holder });
        }
        machine.disk.locks.insert(path.to_path_buf(), holder.to_owned());
        Ok(Box::new(SimLock { vfs: self.clone(), path: path.to_path_buf() }))
    }
}

#[derive(Debug)]
struct SimLock {
    vfs: SimVfs,
    path: PathBuf,
}

impl VfsLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.vfs.machine.lock().disk.locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    vfs: SimVfs,
    path: PathBuf,
    file: FileId,
}

impl VfsFile for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64, StorageError> {
        let machine = self.vfs.machine.lock();
        machine.check_power(&self.path)?;
        Ok(machine.disk.bytes(self.file).len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let machine = self.vfs.machine.lock();
        machine.check_power(&self.path)?;
        let bytes = machine.disk.bytes(self.file);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let len = buffer.len().min(bytes.len() - from);
        buffer[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.vfs.machine.lock().write(&self.path, self.file, offset, bytes, false)
    }

    fn write_at_synced(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.vfs.machine.lock().write(&self.path, self.file, offset, bytes, true)
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut machine = self.vfs.machine.lock();
        match machine.begin(&self.path)? {
            Verdict::Go if machine.ignores_syncs => Ok(()),
            Verdict::Go => {
                machine.disk.sync(self.file);
                Ok(())
            }
            Verdict::InFlight => Err(power_is_off(&self.path)),
            Verdict::Fail(fault) => {
                machine.disk.lose_dirty(self.file);
                Err(fault_error(&self.path, fault))
            }
        }
    }

    fn set_len(&self, len: u64) -> Result<(), StorageError> {
        let mut machine = self.vfs.machine.lock();
        let file = self.file;
        machine.change(&self.path, |disk| {
            let len = usize::try_from(len).expect("simulated files are small");
            if len.saturating_sub(disk.bytes(file).len()) as u64 > disk.free() {
                return Err(fault_error(&self.path, Fault::DiskFull));
            }
            disk.set_len(file, len);
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> Result<(), StorageError> {
        let zeros = vec![0; usize::try_from(len).expect("simulated files are small")];
        self.vfs.machine.lock().write(&self.path, self.file, 0, &zeros, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        Path::new("/data").join(name)
    }

    fn disk(seed: u64) -> SimVfs {
        let vfs = SimVfs::new(seed);
        vfs.create_dir_all(Path::new("/data")).unwrap();
        vfs
    }

    /// Crashes the same disk with many seeds.
    fn outcomes(prepare: impl Fn(&SimVfs)) -> Vec<SimVfs> {
        (0..200)
            .map(|seed| {
                let vfs = disk(seed);
                prepare(&vfs);
                vfs.crash()
            })
            .collect()
    }

    #[test]
    fn synced_bytes_under_synced_names_survive_and_others_may_not() {
        let crashed = outcomes(|vfs| {
            let file = vfs.create(&path("kept")).unwrap();
            file.write_at(0, &[1; 3000]).unwrap();
            file.sync().unwrap();
            vfs.sync_dir(Path::new("/data")).unwrap();
            file.write_at(1000, &[2; 1500]).unwrap();
            vfs.create(&path("unsynced")).unwrap();
        });
        let mut torn = 0;
        for vfs in &crashed {
            let bytes = vfs.bytes(&path("kept")).unwrap();
            assert_eq!(bytes.len(), 3000);
            assert!(bytes[..1000].iter().all(|byte| *byte == 1));
            let new = bytes[1000..2500].iter().filter(|byte| **byte == 2).count();
            torn += usize::from(new > 0 && new < 1500);
        }
        assert!(torn > 10, "writes are torn: {torn}");
        let unsynced = crashed.iter().filter(|vfs| vfs.bytes(&path("unsynced")).is_some()).count();
        assert!((20..180).contains(&unsynced), "{unsynced}");
    }

    #[test]
    fn a_synced_file_without_a_synced_name_may_vanish() {
        let crashed = outcomes(|vfs| {
            vfs.create(&path("file")).unwrap().write_at_synced(0, b"x").unwrap();
        });
        assert!(crashed.iter().any(|vfs| vfs.bytes(&path("file")).is_none()));
    }

    #[test]
    fn a_rename_is_old_or_new() {
        let crashed = outcomes(|vfs| {
            vfs.set_bytes(&path("target"), b"old");
            vfs.set_bytes(&path("source"), b"new");
            vfs.rename(&path("source"), &path("target")).unwrap();
        });
        let new = crashed
            .iter()
            .filter(|vfs| match vfs.bytes(&path("target")).unwrap().as_slice() {
                b"old" => false,
                b"new" => true,
                other => panic!("{other:?}"),
            })
            .count();
        assert!((20..180).contains(&new), "{new}");
    }

    #[test]
    fn a_failed_sync_loses_what_can_still_be_read() {
        let vfs = disk(1);
        let file = vfs.create(&path("file")).unwrap();
        vfs.sync_dir(Path::new("/data")).unwrap();
        file.write_at(0, b"gone").unwrap();
        vfs.fail_at(vfs.operations(), Fault::LostSync);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(vfs.bytes(&path("file")).unwrap(), b"gone");
        assert_eq!(vfs.crash().bytes(&path("file")).unwrap(), [0; 4]);
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let vfs = disk(1);
        vfs.set_capacity(Some(10));
        let file = vfs.create(&path("file")).unwrap();
        let error = file.write_at(0, &[7; 16]).unwrap_err();
        assert!(error.is_disk_full());
        assert_eq!(vfs.bytes(&path("file")).unwrap(), [7; 10]);
        assert_eq!(vfs.free_space(Path::new("/data")).unwrap(), 0);
        vfs.set_capacity(None);
        file.write_at(0, &[7; 16]).unwrap();
    }

    #[test]
    fn the_power_goes_at_the_given_operation() {
        let vfs = disk(1);
        let file = vfs.create(&path("file")).unwrap();
        vfs.power_off_at(vfs.operations() + 1);
        file.write_at(0, b"a").unwrap();
        assert!(file.write_at(1, b"b").is_err());
        assert!(vfs.is_off());
        assert!(file.len().is_err());
        assert!(!vfs.crash().is_off());
    }
}
