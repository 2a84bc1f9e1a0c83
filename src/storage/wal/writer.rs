//! Puts groups of records into segments: numbers them, seals them, writes them, syncs them.
//!
//! No threads and no queue here; the committer owns the one writer.
//!
//! Invariant: a segment's header is written only when everything in the segments before is on
//! disk, so that a header vouches for all that its `start` says.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::storage::error::StorageError;
use crate::storage::options::WalSync;
use crate::storage::vfs::{self, Vfs, VfsFile};
use crate::storage::wal::Lsn;
use crate::storage::wal::record::{self, Mark, RecordType, Seed};
use crate::storage::wal::segment::{
    BlankSegment, HEADER_LEN, RECORDS_OFFSET, SegmentHeader, segment_path,
};

/// Room that groups leave in every segment, so that a mark finds a place on a full disk too.
const MARK_LEN: u64 = 32;

/// A record as it lies in a group's bytes: header space, payload, no padding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) kind: RecordType,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Where a log goes on after recovery.
#[derive(Debug, Clone, Default)]
pub(super) struct Resume {
    /// Number of the segment to write next.
    pub(super) segment: u64,
    /// Number of the first record in it.
    pub(super) start: Lsn,
    /// Records from `start` on which nothing in the log vouches for: they may never have
    /// reached the disk, though they could be read. They are written again.
    pub(super) tail: Vec<TailRecord>,
}

/// A record to be written again.
#[derive(Debug, Clone)]
pub(super) struct TailRecord {
    pub(super) kind: RecordType,
    pub(super) payload: Vec<u8>,
}

/// The end of the log.
#[derive(Debug)]
pub(super) struct LogWriter {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    database: Uuid,
    sync: WalSync,
    current: Option<Current>,
    /// The last record written.
    written: Lsn,
    /// The last record known to be on disk.
    durable: Lsn,
}

/// The segment that is written to.
#[derive(Debug)]
struct Current {
    file: Arc<dyn VfsFile>,
    number: u64,
    seed: Seed,
    offset: u64,
    len: u64,
}

impl LogWriter {
    /// A writer that has still to [`LogWriter::resume`].
    pub(super) fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        database: Uuid,
        sync: WalSync,
        resume: &Resume,
    ) -> Self {
        let durable = resume.start - 1;
        let written = durable + resume.tail.len() as u64;
        Self { vfs, dir, database, sync, current: None, written, durable }
    }

    pub(super) fn written(&self) -> Lsn {
        self.written
    }

    pub(super) fn durable(&self) -> Lsn {
        self.durable
    }

    /// Number and used bytes of the segment that is written to.
    pub(super) fn position(&self) -> Option<(u64, u64)> {
        self.current.as_ref().map(|current| (current.number, current.offset))
    }

    /// Bytes that a group may still have in this segment.
    pub(super) fn room(&self) -> u64 {
        self.current
            .as_ref()
            .map_or(0, |current| current.len.saturating_sub(current.offset + MARK_LEN))
    }

    /// Whether the segment has no records yet.
    pub(super) fn is_at_start(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.offset == RECORDS_OFFSET)
    }

    /// Makes the first segment after recovery, with the tail that must be written again.
    ///
    /// It appears under its name complete or not at all, and replaces a segment of that number
    /// that holds nothing else. `blank` gives its space, if there is one of the right length.
    pub(super) fn resume(
        &mut self,
        resume: &Resume,
        blank: Option<BlankSegment>,
        segment_len: u64,
    ) -> Result<(), StorageError> {
        let (mut bytes, slots) = tail_group(&resume.tail);
        let needed = RECORDS_OFFSET + bytes.len().next_multiple_of(record::ALIGNMENT) as u64;
        let len = segment_len.max(needed + MARK_LEN);
        let path = segment_path(&self.dir, resume.segment);
        let temporary = vfs::temporary_path(&path);
        let file = match blank {
            Some(blank) if blank.len == len => {
                self.vfs.rename(&segment_path(&self.dir, blank.number), &temporary)?;
                // Before the header is written: a crash must not leave it under the blank's name.
                self.vfs.sync_dir(&self.dir)?;
                blank.file
            }
            _ => {
                let file = self.vfs.create(&temporary)?;
                if let Err(error) = file.allocate(len) {
                    // Give the space back; the name means nothing if this fails too.
                    let _ = self.vfs.remove(&temporary);
                    return Err(error);
                }
                file
            }
        };
        let seed = Seed::new(self.database, resume.segment);
        let durable = resume.start - 1;
        let last = seal_group(&mut bytes, &slots, durable, durable, seed);
        file.write_at(0, &self.header(resume.segment, resume.start))?;
        file.write_at(RECORDS_OFFSET, &bytes)?;
        file.sync()?;
        drop(file);
        self.vfs.rename(&temporary, &path)?;
        self.vfs.sync_dir(&self.dir)?;
        self.current = Some(Current {
            file: self.vfs.open(&path)?,
            number: resume.segment,
            seed,
            offset: needed,
            len,
        });
        assert_eq!(last, self.written);
        self.durable = last;
        Ok(())
    }

    /// Goes on in a new segment.
    pub(super) fn begin_segment(&mut self, blank: BlankSegment) -> Result<(), StorageError> {
        self.sync()?;
        let header = self.header(blank.number, self.written + 1);
        blank.file.write_at_synced(0, &header)?;
        self.current = Some(Current {
            seed: Seed::new(self.database, blank.number),
            file: blank.file,
            number: blank.number,
            offset: RECORDS_OFFSET,
            len: blank.len,
        });
        Ok(())
    }

    /// Numbers, seals and writes a group that fits; the number of its last record.
    ///
    /// `slots` lie in `bytes` one behind the other, the first at its start.
    pub(super) fn write(&mut self, bytes: &mut [u8], slots: &[Slot]) -> Result<Lsn, StorageError> {
        let current = self.current.as_mut().expect("a group is written where there is room");
        assert!(bytes.len() as u64 <= current.len - current.offset, "the group fits");
        // The durable number goes into the records as it is before the write: what is on disk
        // afterwards may not have been there when they were made.
        let last = seal_group(bytes, slots, self.written, self.durable, current.seed);
        match self.sync {
            WalSync::Always => current.file.write_at_synced(current.offset, bytes)?,
            WalSync::Interval(_) | WalSync::Never => {
                current.file.write_at(current.offset, bytes)?
            }
        }
        current.offset += bytes.len().next_multiple_of(record::ALIGNMENT) as u64;
        self.written = last;
        if self.sync == WalSync::Always {
            self.durable = last;
        }
        Ok(last)
    }

    /// Writes a mark, for which there is always room; the number of its record.
    pub(super) fn write_mark(&mut self, mark: Mark) -> Result<Lsn, StorageError> {
        let mut bytes = Vec::new();
        record::begin(&mut bytes);
        record::put_mark(mark, &mut bytes);
        let slot = Slot { kind: RecordType::Mark, start: 0, end: bytes.len() };
        self.write(&mut bytes, &[slot])
    }

    /// Makes everything written durable.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        if let Some(current) = &self.current
            && self.durable < self.written
        {
            let written = self.written;
            current.file.sync()?;
            self.durable = written;
        }
        Ok(())
    }

    fn header(&self, number: u64, start: Lsn) -> [u8; HEADER_LEN] {
        SegmentHeader { database: self.database, number, start }.encode()
    }
}

/// Longest payload that fits into an empty segment.
pub(super) fn payload_len_max(segment_len: u64) -> u64 {
    let padding = record::ALIGNMENT as u64;
    segment_len.saturating_sub(RECORDS_OFFSET + MARK_LEN + record::HEADER_LEN as u64 + padding)
}

/// Seals the records of a group; the number of the last one, or `written` if there is none.
fn seal_group(bytes: &mut [u8], slots: &[Slot], written: Lsn, durable: Lsn, seed: Seed) -> Lsn {
    let mut lsn = written;
    for slot in slots {
        lsn += 1;
        record::seal(&mut bytes[slot.start..slot.end], slot.kind, lsn, durable, seed);
    }
    lsn
}

fn tail_group(tail: &[TailRecord]) -> (Vec<u8>, Vec<Slot>) {
    let mut bytes = Vec::new();
    let mut slots = Vec::with_capacity(tail.len());
    for TailRecord { kind, payload } in tail {
        record::pad(&mut bytes);
        let start = bytes.len();
        record::begin(&mut bytes);
        bytes.extend_from_slice(payload);
        slots.push(Slot { kind: *kind, start, end: bytes.len() });
    }
    (bytes, slots)
}
