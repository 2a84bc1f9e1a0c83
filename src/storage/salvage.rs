//! Salvage of a damaged log, offline: everything in it that can be read goes into blocks, the log
//! itself goes to `quarantine/`, and the store starts again.
//!
//! Steps, and what a crash after each leaves:
//! 1. the log's files get second names in `quarantine/`: the log is as it was, and refused as it
//!    was. From here on its bytes are safe from whatever comes;
//! 2. what is whole is flushed to blocks, perhaps in several edits: the same, but there is less
//!    to salvage;
//! 3. a new segment begins behind the last record: a start works, or is refused because an old
//!    segment has no header;
//! 4. the old segments lose their names in `wal/`, oldest first: a start works.
//!
//! So a salvage that was interrupted is simply begun again.

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Clock;
use crate::model::{Metadata, SampleBatch};
use crate::storage::error::StorageError;
use crate::storage::layout::Layout;
use crate::storage::manifest;
use crate::storage::options::StorageOptions;
use crate::storage::recovery::{self, Opened, Replay};
use crate::storage::status::ReplayProgress;
use crate::storage::vfs::Vfs;
use crate::storage::wal::salvage::{SalvagedLog, begin_anew, check, read, set_aside};
use crate::storage::wal::{Lsn, ReplaySink, Skipped};
use crate::telemetry::Telemetry;

/// Whether salvage changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Salvage {
    /// Only tells what it would do.
    Preview,
    Perform,
}

/// What salvage found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SalvageReport {
    /// Why the store refuses to start; `None` if it does not, and nothing was done.
    pub damage: Option<String>,
    pub records: u64,
    /// Samples that were in the log only and are in blocks now.
    pub samples: u64,
    /// Samples that are whole but whose series' registration is lost: nobody knows whose they are.
    pub nameless: u64,
    /// Where nothing can be read.
    pub skipped: Vec<Skipped>,
    /// The log's files, as they were.
    pub set_aside: Vec<PathBuf>,
}

/// Salvages the log of the store in `options.data_dir`, which nobody may have open.
pub fn salvage(
    options: StorageOptions,
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    telemetry: Arc<Telemetry>,
    mode: Salvage,
) -> Result<SalvageReport, StorageError> {
    let layout = Layout::new(&options.data_dir);
    let manifest = layout.dir().join(manifest::FILE_NAME);
    if !vfs.exists(&manifest)? {
        let reason = "it is missing: this is no data directory".to_owned();
        return Err(StorageError::Corrupt { path: manifest, offset: 0, reason });
    }
    let Opened { store, wal, flusher, known, lock, .. } =
        recovery::open(options, Arc::clone(&vfs), clock, telemetry)?;
    // It takes no writes; registrations that are restored are not logged.
    drop(wal);
    let database = store.manifest.lock().uuid();
    let (vfs, dir, flushed) = (vfs.as_ref(), layout.wal_dir(), known.flushed_lsn);
    vfs.create_dir_all(&dir)?;
    let Err(damage) = check(vfs, &dir, database, flushed)? else {
        return Ok(SalvageReport::default());
    };
    let set_aside = match mode {
        Salvage::Preview => Vec::new(),
        Salvage::Perform => set_aside(vfs, &dir, database, &layout.quarantine_dir())?,
    };
    let progress = ReplayProgress::default();
    let replay = Replay { store: &store, flusher, progress: &progress, flushes: 0 };
    let mut sink = Lenient { replay, mode, samples: 0, nameless: 0, series_next: 0 };
    let SalvagedLog { read: log, skipped } = read(vfs, &dir, database, flushed, &mut sink)?;
    let Lenient { replay, samples, nameless, series_next, .. } = sink;
    if mode == Salvage::Perform {
        let Replay { mut flusher, .. } = replay;
        store.series.skip_to(series_next);
        store.freeze(log.last_lsn);
        flusher.flush_oldest(&store, Vec::new())?;
        begin_anew(vfs, &dir, database, log.last_lsn)?;
    }
    drop(lock);
    let damage = Some(damage.to_string());
    Ok(SalvageReport { damage, records: log.records, samples, nameless, skipped, set_aside })
}

/// Takes what recovery would take, and drops samples of unknown series.
struct Lenient<'a> {
    replay: Replay<'a>,
    mode: Salvage,
    samples: u64,
    nameless: u64,
    /// No series id below it may be given again, for some sample bears it.
    series_next: u64,
}

impl ReplaySink for Lenient<'_> {
    fn series(&mut self, id: u64, key: &[u8]) -> Result<(), StorageError> {
        self.replay.series(id, key)
    }

    fn samples(&mut self, lsn: Lsn, batch: &SampleBatch) -> Result<(), StorageError> {
        let is_known = |row: &usize| self.replay.store.series.holds(batch.series[*row]);
        let known = (0..batch.len()).filter(is_known).count();
        self.samples += known as u64;
        self.nameless += (batch.len() - known) as u64;
        if self.mode == Salvage::Preview {
            return Ok(());
        }
        if known == batch.len() {
            return self.replay.samples(lsn, batch);
        }
        let highest = batch.series.iter().map(|series| u64::from(series.0)).max();
        self.series_next = self.series_next.max(highest.map_or(0, |highest| highest + 1));
        let mut rest = SampleBatch::default();
        for row in (0..batch.len()).filter(is_known) {
            rest.push(batch.series[row], batch.timestamps[row], batch.values[row]);
        }
        self.replay.samples(lsn, &rest)
    }

    fn metadata(&mut self, lsn: Lsn, name: &str, metadata: &Metadata) -> Result<(), StorageError> {
        self.replay.metadata(lsn, name, metadata)
    }
}
