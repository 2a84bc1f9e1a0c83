//! Group commit: one committer takes all that waits, writes it, applies it, tells the writers.
//!
//! While one group is on its way to the disk, the next gathers. There is no timer and no
//! batching delay: the slower the disk, the larger the groups.
//!
//! Invariant: after a write or sync has failed, nothing is written and nothing acknowledged any
//! more; what the disk holds is found out by the next recovery.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::storage::error::StorageError;
use crate::storage::options::WalSync;
use crate::storage::wal::blanks::{Blanks, Taken};
use crate::storage::wal::queue::{Content, Entry, Queue};
use crate::storage::wal::record::Mark;
use crate::storage::wal::segment::BlankSegment;
use crate::storage::wal::writer::{LogWriter, Resume, Slot};
use crate::storage::wal::{CommitSink, LogState, Lsn, SegmentInfo, WalOptions};
use crate::telemetry::Telemetry;

/// What appenders, the committer and onlookers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) intake: Mutex<Intake>,
    /// There is work for the committer.
    work: Condvar,
    /// Room for pending bytes, in units of [`PERMIT_BYTES`]. Closed when no more writes are taken.
    pub(super) room: Semaphore,
    pub(super) facts: Mutex<Facts>,
    pub(super) telemetry: Arc<Telemetry>,
}

/// Bytes that one permit of [`Shared::room`] stands for.
pub(super) const PERMIT_BYTES: usize = 1024;

/// The side of the appenders.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) state: LogState,
    pub(super) queue: Queue,
    /// The committer sleeps and must be woken.
    asleep: bool,
    stopping: Option<Stop>,
}

/// How the committer is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Write what waits, and a last mark.
    Close,
    /// Leave everything as it is.
    Abandon,
}

/// What the committer tells onlookers.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) durable: Lsn,
    pub(super) written: Lsn,
    /// Oldest first; the last is the one written to.
    pub(super) segments: Vec<SegmentInfo>,
}

impl Shared {
    pub(super) fn new(options: &WalOptions, telemetry: Arc<Telemetry>) -> Self {
        let intake = Intake {
            state: LogState::Starting,
            queue: Queue::default(),
            asleep: false,
            stopping: None,
        };
        Self {
            intake: Mutex::new(intake),
            work: Condvar::new(),
            room: Semaphore::new((options.pending_bytes_max / PERMIT_BYTES).max(1)),
            facts: Mutex::default(),
            telemetry,
        }
    }

    /// Adds to the queue if the log takes writes, and wakes the committer.
    pub(super) fn submit(&self, add: impl FnOnce(&mut Queue)) -> Result<(), StorageError> {
        let mut intake = self.intake.lock();
        if let Some(refusal) = intake.state.refusal() {
            return Err(refusal);
        }
        self.push(&mut intake, add);
        Ok(())
    }

    /// Adds a boundary, which a full disk does not hinder.
    pub(super) fn submit_rotation(&self, add: impl FnOnce(&mut Queue)) -> Result<(), StorageError> {
        let mut intake = self.intake.lock();
        match &intake.state {
            LogState::ReadOnly(_) => {}
            state => {
                if let Some(refusal) = state.refusal() {
                    return Err(refusal);
                }
            }
        }
        self.push(&mut intake, add);
        Ok(())
    }

    /// Tells the committer to end.
    pub(super) fn stop(&self, how: Stop) {
        let mut intake = self.intake.lock();
        if intake.stopping.is_none() || how == Stop::Abandon {
            intake.stopping = Some(how);
        }
        if !matches!(intake.state, LogState::Poisoned(_)) {
            intake.state = LogState::Closed;
        }
        self.room.close();
        self.work.notify_all();
    }

    fn push(&self, intake: &mut Intake, add: impl FnOnce(&mut Queue)) {
        add(&mut intake.queue);
        if intake.asleep {
            intake.asleep = false;
            self.work.notify_one();
        }
    }

    /// Adds a registration. Nobody waits for it alone, so nobody is woken.
    pub(super) fn push_series(&self, id: u64, key: &[u8]) {
        let mut intake = self.intake.lock();
        if !matches!(intake.state, LogState::Poisoned(_) | LogState::Closed) {
            intake.queue.push_series(id, key);
        }
    }

    fn set_state(&self, state: LogState) {
        let read_only = matches!(state, LogState::ReadOnly(_));
        let mut intake = self.intake.lock();
        if intake.stopping.is_none() || matches!(state, LogState::Poisoned(_)) {
            intake.state = state;
        }
        self.telemetry.read_only.set(i64::from(read_only));
    }
}

/// Writes groups. There is one.
pub(super) struct Committer {
    shared: Arc<Shared>,
    blanks: Arc<Blanks>,
    sink: Arc<dyn CommitSink>,
    clock: Arc<dyn Clock>,
    options: WalOptions,
    writer: LogWriter,
    /// The first segment is still to be made.
    resume: Option<(Resume, Vec<BlankSegment>)>,
    /// What was taken from the intake and is not written yet.
    taken: Queue,
    /// Whether the last record of the log is a mark, or nothing is in the log.
    marked: bool,
    /// When everything written was last known to be on disk.
    synced_at: Duration,
}

/// Whether the committer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    End,
}

/// How far a queue was written.
enum Written {
    All,
    /// Up to where the disk was full.
    Refused(String),
}

/// What the committer woke up for.
enum Wake {
    Work,
    /// Nothing came for a while.
    Idle,
    Stop(Stop),
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        blanks: Arc<Blanks>,
        sink: Arc<dyn CommitSink>,
        clock: Arc<dyn Clock>,
        options: WalOptions,
        writer: LogWriter,
        resume: (Resume, Vec<BlankSegment>),
    ) -> Self {
        let synced_at = clock.monotonic();
        Self {
            shared,
            blanks,
            sink,
            clock,
            options,
            writer,
            resume: Some(resume),
            taken: Queue::default(),
            marked: false,
            synced_at,
        }
    }

    /// The committer's thread.
    pub(super) fn run(mut self) {
        while self.turn() == Next::GoOn {}
    }

    /// Waits for work and does it.
    fn turn(&mut self) -> Next {
        match self.wait() {
            Wake::Work => self.commit(),
            Wake::Idle => self.idle(),
            Wake::Stop(how) => self.stop(how),
        }
    }

    /// Makes the first segment after recovery, if that is still to be done and there is space.
    pub(super) fn open(&mut self) -> Result<(), StorageError> {
        if self.resume.is_none() {
            return Ok(());
        }
        let state = match self.resume() {
            Ok(()) => LogState::Running,
            Err(StorageError::ReadOnly(reason)) => LogState::ReadOnly(reason),
            Err(error) if error.is_disk_full() => LogState::ReadOnly(error.to_string()),
            Err(error) => return Err(error),
        };
        self.shared.set_state(state);
        Ok(())
    }

    /// Whether the first segment is there.
    pub(super) fn is_open(&self) -> bool {
        self.resume.is_none()
    }

    fn resume(&mut self) -> Result<(), StorageError> {
        let Some((resume, blanks)) = &mut self.resume else { return Ok(()) };
        if blanks.is_empty() {
            self.blanks.space()?;
        }
        // The newest gives its space, so that the numbers of the others still follow each other.
        self.writer.resume(resume, blanks.pop(), self.blanks.shortest())?;
        let (number, start) = (resume.segment, resume.start);
        let mut ready = std::mem::take(blanks);
        ready.retain(|blank| blank.number > number);
        let next = ready.last().map_or(number, |blank| blank.number) + 1;
        self.blanks.resume(ready, next);
        self.resume = None;
        self.note_segment(start);
        self.note_progress(0);
        Ok(())
    }

    /// One round: takes all that waits and writes it, group by group.
    pub(super) fn commit(&mut self) -> Next {
        let result = self.open().and_then(|()| {
            self.take();
            self.write_taken()
        });
        match result {
            Ok(()) => Next::GoOn,
            Err(error) => self.poison(&error.to_string()),
        }
    }

    /// Moves what waits to `taken`.
    fn take(&mut self) {
        let mut intake = self.shared.intake.lock();
        if self.taken.is_empty() {
            std::mem::swap(&mut intake.queue, &mut self.taken);
        } else {
            self.taken.append(&mut intake.queue);
        }
    }

    fn write_taken(&mut self) -> Result<(), StorageError> {
        let mut queue = std::mem::take(&mut self.taken);
        let written = self.write_queue(&mut queue);
        self.taken = queue;
        match written? {
            Written::All => self.taken.clear(),
            Written::Refused(reason) => self.refuse(&reason)?,
        }
        match self.options.sync {
            WalSync::Interval(interval) => self.sync_if_older(interval),
            WalSync::Always | WalSync::Never => Ok(()),
        }
    }

    fn write_queue(&mut self, queue: &mut Queue) -> Result<Written, StorageError> {
        let mut from = 0;
        while from < queue.entries.len() {
            if let Content::Rotate = queue.entries[from].content {
                self.rotate(&mut queue.entries[from])?;
                from += 1;
                continue;
            }
            let to = self.group_end(&queue.entries, from);
            if to > from {
                self.write_group(queue, from, to)?;
                from = to;
            } else if let Err(reason) = self.next_segment()? {
                queue.entries.drain(..from);
                return Ok(Written::Refused(reason));
            }
        }
        Ok(Written::All)
    }

    /// Where the group that starts at entry `from` ends: at a boundary, at the end of the
    /// segment, or when it is large enough. `from` if not even one record fits.
    fn group_end(&self, entries: &[Entry], from: usize) -> usize {
        let start = entries[from].start;
        let room = usize::try_from(self.writer.room()).unwrap_or(usize::MAX);
        let mut to = from;
        for entry in &entries[from..] {
            let len = entry.end - start;
            let too_large = len > self.options.group_bytes_max && to > from;
            if too_large || len > room || matches!(entry.content, Content::Rotate) {
                break;
            }
            to += 1;
        }
        to
    }

    fn write_group(
        &mut self,
        queue: &mut Queue,
        from: usize,
        to: usize,
    ) -> Result<(), StorageError> {
        let entries = &mut queue.entries[from..to];
        let start = entries[0].start;
        let end = entries[entries.len() - 1].end;
        let slots: Vec<Slot> = entries
            .iter()
            .filter_map(Entry::slot)
            .map(|slot| Slot { start: slot.start - start, end: slot.end - start, ..slot })
            .collect();
        let began = self.clock.monotonic();
        let first = self.writer.written() + 1;
        let last = self.writer.write(&mut queue.bytes[start..end], &slots)?;
        let took = self.clock.monotonic().saturating_sub(began);
        self.shared.telemetry.wal_commit_latency.observe(took);
        if self.options.sync == WalSync::Always {
            self.shared.telemetry.wal_syncs.inc();
        }
        self.marked = false;
        self.note_progress((end - start) as u64);

        for (lsn, entry) in (first..).zip(&*entries) {
            match &entry.content {
                Content::Samples(batch) => self.sink.apply(lsn, batch),
                Content::Metadata(metadata) => {
                    for (name, metadata) in metadata {
                        self.sink.apply_metadata(lsn, name, metadata);
                    }
                }
                Content::Series | Content::Mark | Content::Rotate => {}
            }
        }
        self.sink.group_applied(last);
        for (lsn, entry) in (first..).zip(entries) {
            self.finish(entry, || Ok(lsn));
        }
        Ok(())
    }

    /// Tells an entry's writer, and gives back the room that it took.
    fn finish(&self, entry: &mut Entry, result: impl FnOnce() -> Result<Lsn, StorageError>) {
        if let Some(done) = entry.done.take() {
            // Whoever does not wait any more does not want to know.
            let _ = done.send(result());
        }
        // Batches are large: free them now, not when the whole queue is done.
        entry.content = Content::Series;
        self.shared.room.add_permits(entry.permits as usize);
        entry.permits = 0;
    }

    /// Goes on in a new segment; the inner error says why the disk has no space for one.
    fn next_segment(&mut self) -> Result<Result<(), String>, StorageError> {
        if self.resume.is_some() {
            return Ok(Err("there is no space for the log's first segment".to_owned()));
        }
        let blank = match self.blanks.take() {
            Taken::Segment(blank) => blank,
            Taken::Full(reason) => return Ok(Err(reason)),
            Taken::Failed(reason) => return Err(StorageError::WalPoisoned(reason)),
        };
        self.begin_segment(blank)?;
        self.shared.set_state(LogState::Running);
        Ok(Ok(()))
    }

    fn begin_segment(&mut self, blank: BlankSegment) -> Result<(), StorageError> {
        self.writer.begin_segment(blank)?;
        self.synced_at = self.clock.monotonic();
        self.note_segment(self.writer.written() + 1);
        // The header vouches for everything before it, as a mark does.
        self.marked = true;
        Ok(())
    }

    /// Sets the boundary that `entry` asks for.
    ///
    /// It is a segment's end if the next segment is ready; otherwise the segment is kept until
    /// the next boundary, which costs space and nothing else.
    fn rotate(&mut self, entry: &mut Entry) -> Result<(), StorageError> {
        self.blanks.shorten();
        if self.resume.is_none()
            && !self.writer.is_at_start()
            && let Some(blank) = self.blanks.try_take()
        {
            self.begin_segment(blank)?;
        }
        let boundary = self.writer.written();
        self.sink.rotated(boundary);
        self.finish(entry, || Ok(boundary));
        Ok(())
    }

    /// Refuses what was taken because the disk is full. Registrations stay: their ids are known.
    fn refuse(&mut self, reason: &str) -> Result<(), StorageError> {
        self.shared.set_state(LogState::ReadOnly(reason.to_owned()));
        for mut entry in self.taken.retain_series() {
            if let Content::Rotate = entry.content {
                self.rotate(&mut entry)?;
            } else {
                self.finish(&mut entry, || Err(StorageError::ReadOnly(reason.to_owned())));
            }
        }
        Ok(())
    }

    /// Nothing to write: vouches for what was, syncs, looks whether the disk has space again.
    pub(super) fn idle(&mut self) -> Next {
        let result =
            if self.is_read_only() { self.try_leave_read_only() } else { self.mark(Mark::Idle) };
        match result {
            Ok(()) => Next::GoOn,
            Err(error) => self.poison(&error.to_string()),
        }
    }

    fn try_leave_read_only(&mut self) -> Result<(), StorageError> {
        if self.resume.is_some() {
            return self.open();
        }
        if let Some(blank) = self.blanks.try_take() {
            self.begin_segment(blank)?;
            self.shared.set_state(LogState::Running);
            self.write_taken()?;
        }
        Ok(())
    }

    /// Vouches for everything before, by a record or, in weaker modes, by a sync that is due.
    fn mark(&mut self, mark: Mark) -> Result<(), StorageError> {
        match self.options.sync {
            WalSync::Never => Ok(()),
            WalSync::Interval(interval) => self.sync_if_older(interval),
            WalSync::Always if self.marked || self.writer.position().is_none() => Ok(()),
            WalSync::Always => {
                self.writer.write_mark(mark)?;
                self.marked = true;
                self.note_progress(0);
                Ok(())
            }
        }
    }

    fn sync_if_older(&mut self, interval: Duration) -> Result<(), StorageError> {
        if self.clock.monotonic().saturating_sub(self.synced_at) < interval {
            return Ok(());
        }
        if self.writer.durable() < self.writer.written() {
            self.writer.sync()?;
            self.shared.telemetry.wal_syncs.inc();
            self.note_progress(0);
        }
        self.synced_at = self.clock.monotonic();
        Ok(())
    }

    /// Ends: writes what waits and a last mark, unless everything is to stay as it is.
    pub(super) fn stop(&mut self, how: Stop) -> Next {
        if how == Stop::Close && self.commit() == Next::GoOn && self.resume.is_none() {
            let closed = self.writer.sync().and_then(|()| {
                // Room is kept for one mark, so one is all that may follow a group.
                if !self.marked {
                    self.writer.write_mark(Mark::Closed)?;
                    self.marked = true;
                }
                self.writer.sync()
            });
            match closed {
                Ok(()) => self.note_progress(0),
                Err(error) => return self.poison(&error.to_string()),
            }
        }
        self.take();
        self.refuse_all(|| StorageError::ShuttingDown);
        Next::End
    }

    /// After a failed write or sync: refuses everything from here on.
    fn poison(&mut self, reason: &str) -> Next {
        tracing::error!(reason, "the write-ahead log failed; no writes are taken until a restart");
        self.shared.set_state(LogState::Poisoned(reason.to_owned()));
        self.shared.room.close();
        self.take();
        self.refuse_all(|| StorageError::WalPoisoned(reason.to_owned()));
        Next::End
    }

    fn refuse_all(&mut self, error: impl Fn() -> StorageError) {
        let mut queue = std::mem::take(&mut self.taken);
        for entry in &mut queue.entries {
            self.finish(entry, || Err(error()));
        }
    }

    fn is_read_only(&self) -> bool {
        matches!(self.shared.intake.lock().state, LogState::ReadOnly(_))
    }

    fn wait(&self) -> Wake {
        let mut intake = self.shared.intake.lock();
        let read_only = matches!(intake.state, LogState::ReadOnly(_));
        let patience = match (read_only, self.options.sync) {
            (true, _) => Some(self.options.retry_after),
            (false, WalSync::Always) => (!self.marked).then_some(self.options.idle_mark_after),
            (false, WalSync::Interval(interval)) => Some(interval),
            (false, WalSync::Never) => None,
        };
        loop {
            if let Some(how) = intake.stopping {
                return Wake::Stop(how);
            }
            if !intake.queue.is_empty() {
                return Wake::Work;
            }
            intake.asleep = true;
            let timed_out = match patience {
                Some(patience) => self.shared.work.wait_for(&mut intake, patience).timed_out(),
                None => {
                    self.shared.work.wait(&mut intake);
                    false
                }
            };
            intake.asleep = false;
            if timed_out && intake.queue.is_empty() && intake.stopping.is_none() {
                return Wake::Idle;
            }
        }
    }

    fn note_segment(&self, start: Lsn) {
        let Some((number, bytes)) = self.writer.position() else { return };
        let mut facts = self.shared.facts.lock();
        facts.segments.push(SegmentInfo { number, start, bytes });
        let count = i64::try_from(facts.segments.len()).unwrap_or(i64::MAX);
        self.shared.telemetry.wal_segments.set(count);
    }

    fn note_progress(&self, bytes: u64) {
        let mut facts = self.shared.facts.lock();
        facts.durable = self.writer.durable();
        facts.written = self.writer.written();
        if let (Some((_, used)), Some(last)) = (self.writer.position(), facts.segments.last_mut()) {
            last.bytes = used;
        }
        self.shared.telemetry.wal_bytes.add(bytes);
    }
}

impl LogState {
    /// Why a write is refused; `None` if it is not.
    fn refusal(&self) -> Option<StorageError> {
        Some(match self {
            LogState::Running => return None,
            LogState::ReadOnly(reason) => StorageError::ReadOnly(reason.clone()),
            LogState::Poisoned(reason) => StorageError::WalPoisoned(reason.clone()),
            LogState::Starting | LogState::Closed => StorageError::ShuttingDown,
        })
    }
}
