//! The write-ahead log: what a write must reach before it is acknowledged.
//!
//! Order of life: [`Wal::new`], then [`Wal::recover`] hands out what the log holds, then
//! [`Wal::start`], then appends, rotations and truncations, then [`Wal::close`].
//!
//! Invariant: a record is applied to the sink, and its ticket resolved, only after it is on disk
//! (or as [`WalSync`] says), and in the order of the log.
//! Invariant: the registration of a series stands in the log before any sample that names it;
//! [`Wal::log_series`] is called before the id is known to anybody else.

mod blanks;
mod columns;
mod commit;
mod cursor;
mod options;
mod queue;
mod record;
mod replay;
pub(crate) mod salvage;
mod scan;
mod segment;
mod writer;

use std::cell::RefCell;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::clock::Clock;
use crate::model::{Metadata, SampleBatch};
use crate::storage::error::StorageError;
use crate::storage::options::WalSync;
use crate::storage::vfs::Vfs;
use crate::storage::wal::blanks::Blanks;
use crate::storage::wal::commit::{Committer, PERMIT_BYTES, Shared, Stop};
use crate::storage::wal::queue::Content;
use crate::storage::wal::record::Mark;
use crate::storage::wal::replay::Recovered;
use crate::storage::wal::segment::segment_path;
use crate::storage::wal::writer::LogWriter;
use crate::telemetry::Telemetry;

pub use options::WalOptions;
pub use salvage::Skipped;
pub(crate) use segment::begin;

/// A record's number in the log: 1, 2, 3, … without gaps. 0 is before the first.
pub type Lsn = u64;

/// Takes what has become durable. Called by the committer alone, in log order.
///
/// It may not call the log, nor wait for anyone who does.
pub trait CommitSink: Send + Sync {
    fn apply(&self, lsn: Lsn, batch: &SampleBatch);

    fn apply_metadata(&self, lsn: Lsn, name: &str, metadata: &Metadata);

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

    /// Records of `done` bytes were handed out; in all there are at most `most`.
    fn progress(&mut self, done: u64, most: u64) {
        let _ = (done, most);
    }
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

/// A segment as onlookers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SegmentInfo {
    number: u64,
    /// Number of its first record.
    start: Lsn,
    /// Bytes that are used.
    bytes: u64,
}

/// The write-ahead log of one database.
#[derive(Debug)]
pub struct Wal {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    database: Uuid,
    options: WalOptions,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    blanks: Arc<Blanks>,
    /// Between recovery and start.
    recovered: Mutex<Option<Recovered>>,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    committer: Option<JoinHandle<()>>,
    maker: Option<JoinHandle<()>>,
}

thread_local! {
    /// Where appenders encode before they take the queue's lock.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A thread keeps at most this much of its encoding buffer.
const SCRATCH_KEPT_MAX: usize = 4 << 20;

impl Wal {
    /// The log in directory `dir`. Reads nothing yet.
    pub fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        database: Uuid,
        options: WalOptions,
        clock: Arc<dyn Clock>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let shared = Arc::new(Shared::new(&options, telemetry));
        let blanks = Arc::new(Blanks::new(Arc::clone(&vfs), dir.clone(), options.clone()));
        Self {
            vfs,
            dir,
            database,
            options,
            clock,
            shared,
            blanks,
            recovered: Mutex::default(),
            threads: Mutex::default(),
        }
    }

    /// Hands all records after `flushed` to `sink`, and readies the log for [`Wal::start`].
    /// Makes the directory if it is missing.
    ///
    /// Acknowledged data that is damaged or missing is an error: see the tail rule in `replay`.
    pub fn recover(
        &self,
        flushed: Lsn,
        sink: &mut dyn ReplaySink,
    ) -> Result<ReplayReport, StorageError> {
        self.vfs.create_dir_all(&self.dir)?;
        let recovered = replay::replay(&*self.vfs, &self.dir, self.database, flushed, sink)?;
        let report = recovered.report.clone();
        *self.recovered.lock() = Some(recovered);
        Ok(report)
    }

    /// Makes what recovery read durable and starts the committer: the log takes writes, unless
    /// the disk is full. What was recovered may be shown to readers from here on.
    pub fn start(&self, sink: Arc<dyn CommitSink>) -> Result<(), StorageError> {
        let committer = self.committer(sink)?;
        let blanks = Arc::clone(&self.blanks);
        blanks.set_threaded();
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(|error| StorageError::Internal(format!("no thread for {name}: {error}")))
        };
        let mut threads = self.threads.lock();
        threads.maker = Some(spawn("wal-segments", Box::new(move || blanks.run()))?);
        threads.committer = Some(spawn("wal-commit", Box::new(move || committer.run()))?);
        Ok(())
    }

    /// The committer, with the first segment made if there is space for it.
    fn committer(&self, sink: Arc<dyn CommitSink>) -> Result<Committer, StorageError> {
        let recovered = self.recovered.lock().take();
        let Recovered { resume, segments, blanks, sealed, .. } =
            recovered.expect("a log is recovered before it is started");
        {
            let mut facts = self.shared.facts.lock();
            facts.segments = segments;
            facts.durable = resume.start - 1;
            facts.written = resume.start - 1 + resume.tail.len() as u64;
        }
        let writer = LogWriter::new(
            Arc::clone(&self.vfs),
            self.dir.clone(),
            self.database,
            self.options.sync,
            &resume,
        );
        let mut committer = Committer::new(
            Arc::clone(&self.shared),
            Arc::clone(&self.blanks),
            sink,
            Arc::clone(&self.clock),
            self.options.clone(),
            writer,
            (resume, blanks),
        );
        committer.open()?;
        // The new segment says where the old one ends; what lies behind is only space.
        if committer.is_open()
            && let Some((path, len)) = sealed
        {
            let file = self.vfs.open(&path)?;
            file.set_len(len)?;
            file.sync()?;
        }
        Ok(committer)
    }

    /// Puts a series' registration into the log, ahead of every later append.
    ///
    /// Called under the series table's lock, and never waits: how much one request can register
    /// is bounded by its body, and requests wait in [`Wal::append`].
    pub fn log_series(&self, id: u64, key: &[u8]) {
        self.shared.push_series(id, key);
    }

    /// Puts samples into the log as one record: after a crash all are there, or none.
    ///
    /// Waits while too much is pending. The record is encoded on the calling thread.
    pub async fn append(&self, batch: SampleBatch) -> Result<CommitTicket, StorageError> {
        if batch.len() > record::SAMPLES_MAX {
            return Err(StorageError::LimitReached {
                limit: "samples in one write",
                setting: "wal record",
                value: record::SAMPLES_MAX as u64,
            });
        }
        const ROW_BYTES: usize = size_of::<u32>() + size_of::<i64>() + size_of::<f64>();
        // The batch, and about as much again for its record at worst.
        let permits = self.wait_for_room(2 * ROW_BYTES * batch.len()).await?;
        self.encode_and_submit(permits, |payload| {
            record::put_samples(&batch, payload);
            Content::Samples(batch)
        })
    }

    /// [`Wal::append`] for callers outside of async code.
    pub fn append_blocking(&self, batch: SampleBatch) -> Result<CommitTicket, StorageError> {
        futures::executor::block_on(self.append(batch))
    }

    /// Puts what metrics say of themselves into the log.
    pub async fn append_metadata(
        &self,
        entries: Vec<(String, Metadata)>,
    ) -> Result<CommitTicket, StorageError> {
        assert!(!entries.is_empty(), "a record says something");
        let bytes = entries
            .iter()
            .map(|(name, metadata)| name.len() + metadata.help.len() + metadata.unit.len() + 64)
            .sum();
        let permits = self.wait_for_room(bytes).await?;
        self.encode_and_submit(permits, |payload| {
            for (name, metadata) in &entries {
                record::put_metadata(name, metadata, payload);
            }
            Content::Metadata(entries)
        })
    }

    /// Puts a record into the log that says nothing: its number lies between those of all that
    /// was appended before and of all that comes after, and no boundary before had it.
    pub async fn append_mark(&self) -> Result<CommitTicket, StorageError> {
        let permits = self.wait_for_room(0).await?;
        self.encode_and_submit(permits, |payload| {
            record::put_mark(Mark::Idle, payload);
            Content::Mark
        })
    }

    /// Ends the segment after everything appended so far, and gives the last record before the
    /// boundary; the sink hears of it in order, through [`CommitSink::rotated`].
    pub async fn rotate(&self) -> Result<Lsn, StorageError> {
        let (done, ticket) = ticket();
        self.shared.submit_rotation(|queue| queue.push_rotation(done))?;
        ticket.await
    }

    /// Deletes the segments whose records are all at or before `flushed`; how many there were.
    /// Call it after the manifest that says so is durable.
    pub fn truncate_through(&self, flushed: Lsn) -> Result<u64, StorageError> {
        let mut deleted = 0;
        loop {
            let number = {
                let facts = self.shared.facts.lock();
                // The last segment stays: it is written to.
                match facts.segments.get(..2) {
                    Some([first, second]) if second.start <= flushed.saturating_add(1) => {
                        first.number
                    }
                    _ => break,
                }
            };
            self.vfs.remove(&segment_path(&self.dir, number))?;
            let mut facts = self.shared.facts.lock();
            facts.segments.retain(|segment| segment.number != number);
            let count = i64::try_from(facts.segments.len()).unwrap_or(i64::MAX);
            self.shared.telemetry.wal_segments.set(count);
            deleted += 1;
        }
        if deleted > 0 {
            self.vfs.sync_dir(&self.dir)?;
            self.blanks.retry();
        }
        Ok(deleted)
    }

    pub fn status(&self) -> LogStatus {
        let state = self.shared.intake.lock().state.clone();
        let facts = self.shared.facts.lock();
        LogStatus {
            state,
            sync: self.options.sync,
            durable_lsn: facts.durable,
            written_lsn: facts.written,
            segments: facts.segments.len() as u64,
            bytes: facts.segments.iter().map(|segment| segment.bytes).sum(),
        }
    }

    /// Writes what is pending and a last mark, and stops. Later appends are refused.
    pub async fn close(&self) -> Result<(), StorageError> {
        self.shared.stop(Stop::Close);
        let Threads { committer, maker } = std::mem::take(&mut *self.threads.lock());
        let blanks = Arc::clone(&self.blanks);
        let ended = tokio::task::spawn_blocking(move || {
            // The committer may still wait for a segment.
            join(committer);
            blanks.stop();
            join(maker);
        });
        ended.await.map_err(|error| StorageError::Internal(error.to_string()))?;
        match &self.shared.intake.lock().state {
            LogState::Poisoned(reason) => Err(StorageError::WalPoisoned(reason.clone())),
            _ => Ok(()),
        }
    }

    /// Takes room for `bytes` that wait; gives what must be handed back.
    async fn wait_for_room(&self, bytes: usize) -> Result<u32, StorageError> {
        let all = (self.options.pending_bytes_max / PERMIT_BYTES).max(1);
        let permits = u32::try_from((bytes / PERMIT_BYTES + 1).min(all)).unwrap_or(u32::MAX);
        match self.shared.room.acquire_many(permits).await {
            Ok(room) => room.forget(),
            // Closed; the state says why when the record is submitted.
            Err(_) => return Ok(0),
        }
        Ok(permits)
    }

    fn encode_and_submit(
        &self,
        permits: u32,
        encode: impl FnOnce(&mut Vec<u8>) -> Content,
    ) -> Result<CommitTicket, StorageError> {
        SCRATCH.with_borrow_mut(|payload| {
            payload.clear();
            let content = encode(payload);
            let (done, ticket) = ticket();
            let submitted = self.check_len(payload.len()).and_then(|()| {
                self.shared.submit(|queue| queue.push(content, payload, permits, done))
            });
            payload.shrink_to(SCRATCH_KEPT_MAX);
            match submitted {
                Ok(()) => Ok(ticket),
                Err(error) => {
                    self.shared.room.add_permits(permits as usize);
                    Err(error)
                }
            }
        })
    }

    /// A record must fit into a segment.
    fn check_len(&self, payload_len: usize) -> Result<(), StorageError> {
        let len_max = record::PAYLOAD_LEN_MAX as u64;
        let len_max = len_max.min(writer::payload_len_max(self.options.segment_bytes));
        if payload_len as u64 <= len_max {
            return Ok(());
        }
        Err(StorageError::LimitReached {
            limit: "bytes of one write in the log",
            setting: "wal segment",
            value: len_max,
        })
    }
}

/// Without [`Wal::close`], as at a crash: nothing more is written.
impl Drop for Wal {
    fn drop(&mut self) {
        self.shared.stop(Stop::Abandon);
        self.blanks.stop();
        let Threads { committer, maker } = std::mem::take(&mut *self.threads.lock());
        join(committer);
        join(maker);
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread
        && thread.join().is_err()
    {
        tracing::error!("a thread of the write-ahead log panicked");
    }
}

fn ticket() -> (queue::Done, CommitTicket) {
    let (done, receiver) = oneshot::channel();
    (done, CommitTicket { done: receiver })
}

#[cfg(test)]
mod tests;
