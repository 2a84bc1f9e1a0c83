//! The write-ahead log: what a write must reach before it is acknowledged.
//!
//! Order of life: [`Wal::new`], then [`Wal::recover`] hands out what the log holds, then
//! [`Wal::start`], then appends, rotations and truncations, then [`Wal::close`].
//!
//! Invariant: a record is applied to the sink, and its ticket resolved, only after it is on disk
//! (or as [`WalSync`] says), and in the order of the log.
//! Invariant: the registration of a series stands in the log before any sample that names it;
//! [`Wal::log_series`] is called before the id is known to anybody else.

mod options;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::model::{Metadata, SampleBatch};
use crate::storage::error::StorageError;
use crate::storage::options::WalSync;
use crate::storage::vfs::Vfs;
use crate::telemetry::Telemetry;

pub use options::WalOptions;

/// A record's number in the log: 1, 2, 3, … without gaps. 0 is before the first.
pub type Lsn = u64;

/// Takes what has become durable. Called by the committer alone, in log order.
///
/// It may not call the log, nor wait for anyone who does.
pub trait CommitSink: Send + Sync {
    fn apply(&self, lsn: Lsn, batch: &SampleBatch);

    fn apply_metadata(&self, lsn: Lsn, name: &str, metadata: &Metadata);

    fn apply_tombstone(&self, lsn: Lsn, tombstone: &[u8]);

    /// All records up to `lsn` have been applied, and their writers are about to be told.
    fn group_applied(&self, lsn: Lsn);

    /// A boundary asked for by [`Wal::rotate`]: records up to `boundary` have been applied, none
    /// after it.
    fn rotated(&self, boundary: Lsn);
}

/// Takes what the log holds at start, in log order.
pub trait ReplaySink {
    /// `id` and `key` as they were given to [`Wal::log_series`]. May repeat a known series.
    fn series(&mut self, id: u64, key: &[u8]) -> Result<(), StorageError>;

    fn samples(&mut self, lsn: Lsn, batch: &SampleBatch) -> Result<(), StorageError>;

    fn metadata(&mut self, lsn: Lsn, name: &str, metadata: &Metadata) -> Result<(), StorageError>;

    fn tombstone(&mut self, lsn: Lsn, tombstone: &[u8]) -> Result<(), StorageError>;
}

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayReport {
    pub segments: u64,
    pub records: u64,
    pub series: u64,
    pub samples: u64,
    pub bytes: u64,
    /// Number of the last record.
    pub last_lsn: Lsn,
    /// A write that was cut off, and never acknowledged.
    pub torn_tail: Option<TornTail>,
}

/// Where the log ends in bytes that are no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    pub path: PathBuf,
    pub offset: u64,
    pub reason: String,
}

/// Whether the log takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogState {
    /// Not started yet.
    Starting,
    Running,
    /// The disk is full; ends by itself when there is space.
    ReadOnly(String),
    /// A write or sync failed; ends with a restart.
    Poisoned(String),
    Closed,
}

/// The log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    pub state: LogState,
    pub sync: WalSync,
    /// The last record that is known to be on disk.
    pub durable_lsn: Lsn,
    /// The last record that was written.
    pub written_lsn: Lsn,
    pub segments: u64,
    /// Bytes of records in all segments: what a replay would read.
    pub bytes: u64,
}

/// A write on its way: await it, or [`CommitTicket::wait`] for it.
///
/// Ready when the write is durable (or as [`WalSync`] says) and visible. Dropping it changes
/// nothing about the write.
#[derive(Debug)]
pub struct CommitTicket {
    done: oneshot::Receiver<Result<Lsn, StorageError>>,
}

impl CommitTicket {
    /// Blocks until the write is durable and visible. Not for async callers.
    pub fn wait(self) -> Result<Lsn, StorageError> {
        self.done.blocking_recv().unwrap_or(Err(StorageError::ShuttingDown))
    }
}

impl Future for CommitTicket {
    type Output = Result<Lsn, StorageError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done)
            .poll(context)
            .map(|result| result.unwrap_or(Err(StorageError::ShuttingDown)))
    }
}

/// The write-ahead log of one database.
#[derive(Debug)]
pub struct Wal {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    database: Uuid,
    options: WalOptions,
    telemetry: Arc<Telemetry>,
}

impl Wal {
    /// The log in directory `dir`. Reads nothing yet.
    pub fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        database: Uuid,
        options: WalOptions,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self { vfs, dir, database, options, telemetry }
    }

    /// Hands all records after `flushed` to `sink`, and readies the log for [`Wal::start`].
    ///
    /// Acknowledged data that is damaged or missing is an error: see the tail rule in `replay`.
    pub fn recover(
        &self,
        flushed: Lsn,
        sink: &mut dyn ReplaySink,
    ) -> Result<ReplayReport, StorageError> {
        let _ = (flushed, sink, &self.vfs, &self.dir, self.database, &self.telemetry);
        Err(StorageError::ShuttingDown)
    }

    /// Starts the committer; from here on the log takes writes.
    pub fn start(&self, sink: Arc<dyn CommitSink>) -> Result<(), StorageError> {
        drop(sink);
        Err(StorageError::ShuttingDown)
    }

    /// Puts a series' registration into the log, ahead of every later append.
    ///
    /// Waits while too much is pending. Called under the series table's lock.
    pub fn log_series(&self, id: u64, key: &[u8]) {
        let _ = (id, key);
    }

    /// Puts samples into the log as one record: after a crash all are there, or none.
    ///
    /// Waits while too much is pending. The record is encoded on the calling thread.
    pub async fn append(&self, batch: SampleBatch) -> Result<CommitTicket, StorageError> {
        drop(batch);
        Err(StorageError::ShuttingDown)
    }

    /// [`Wal::append`] for callers outside of async code.
    pub fn append_blocking(&self, batch: SampleBatch) -> Result<CommitTicket, StorageError> {
        drop(batch);
        Err(StorageError::ShuttingDown)
    }

    /// Puts what metrics say of themselves into the log.
    pub async fn append_metadata(
        &self,
        entries: Vec<(String, Metadata)>,
    ) -> Result<CommitTicket, StorageError> {
        drop(entries);
        Err(StorageError::ShuttingDown)
    }

    /// Puts a deletion into the log; its bytes mean nothing to the log.
    pub async fn append_tombstone(&self, bytes: Vec<u8>) -> Result<CommitTicket, StorageError> {
        drop(bytes);
        Err(StorageError::ShuttingDown)
    }

    /// Ends the segment after everything appended so far, and gives the last record before the
    /// boundary; the sink hears of it in order, through [`CommitSink::rotated`].
    pub async fn rotate(&self) -> Result<Lsn, StorageError> {
        Err(StorageError::ShuttingDown)
    }

    /// Deletes the segments whose records are all at or before `flushed`; how many there were.
    /// Call it after the manifest that says so is durable.
    pub fn truncate_through(&self, flushed: Lsn) -> Result<u64, StorageError> {
        let _ = flushed;
        Err(StorageError::ShuttingDown)
    }

    pub fn status(&self) -> LogStatus {
        LogStatus {
            state: LogState::Starting,
            sync: self.options.sync,
            durable_lsn: 0,
            written_lsn: 0,
            segments: 0,
            bytes: 0,
        }
    }

    /// Writes what is pending and a last mark, and stops. Later appends are refused.
    pub async fn close(&self) -> Result<(), StorageError> {
        Ok(())
    }
}
