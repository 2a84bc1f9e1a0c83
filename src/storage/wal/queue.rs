//! What waits to be written: encoded records in one buffer, and what to do when each is durable.
//!
//! Appenders encode before they take the queue's lock and copy under it, which costs less than an
//! allocation per record; the committer swaps the whole queue for an empty one.

use tokio::sync::oneshot;

use crate::model::{Metadata, SampleBatch};
use crate::storage::error::StorageError;
use crate::storage::wal::Lsn;
use crate::storage::wal::record::{self, RecordType};
use crate::storage::wal::writer::Slot;

/// Registrations are gathered into records of up to this length.
const SERIES_RECORD_LEN: usize = 256 << 10;

/// Buffers above this are given back rather than kept for the next group.
const KEPT_LEN_MAX: usize = 32 << 20;

/// Who is told of a record's fate.
pub(super) type Done = oneshot::Sender<Result<Lsn, StorageError>>;

/// Records in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

/// One record, or a boundary between records.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) content: Content,
    /// Where in the bytes the record lies; empty for a boundary.
    pub(super) start: usize,
    pub(super) end: usize,
    /// What it took from the bound on pending bytes.
    pub(super) permits: u32,
    pub(super) done: Option<Done>,
}

/// What an entry is about, as the sink wants it.
#[derive(Debug)]
pub(super) enum Content {
    Series,
    Samples(SampleBatch),
    Metadata(Vec<(String, Metadata)>),
    Mark,
    Rotate,
}

impl Content {
    fn record_type(&self) -> Option<RecordType> {
        Some(match self {
            Content::Series => RecordType::Series,
            Content::Samples(_) => RecordType::Samples,
            Content::Metadata(_) => RecordType::Metadata,
            Content::Mark => RecordType::Mark,
            Content::Rotate => return None,
        })
    }
}

impl Entry {
    /// Where the record lies; `None` for a boundary.
    pub(super) fn slot(&self) -> Option<Slot> {
        let kind = self.content.record_type()?;
        Some(Slot { kind, start: self.start, end: self.end })
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a registration, to the record before if that is one of registrations too.
    pub(super) fn push_series(&mut self, id: u64, key: &[u8]) {
        let open = self.entries.last().is_some_and(|last| {
            matches!(last.content, Content::Series) && last.end - last.start < SERIES_RECORD_LEN
        });
        if !open {
            self.begin(Content::Series, 0, None);
        }
        record::put_series(id, key, &mut self.bytes);
        self.end();
    }

    /// Adds a record with an encoded payload.
    pub(super) fn push(&mut self, content: Content, payload: &[u8], permits: u32, done: Done) {
        self.begin(content, permits, Some(done));
        self.bytes.extend_from_slice(payload);
        self.end();
    }

    /// Adds a boundary.
    pub(super) fn push_rotation(&mut self, done: Done) {
        let at = self.bytes.len();
        let content = Content::Rotate;
        self.entries.push(Entry { content, start: at, end: at, permits: 0, done: Some(done) });
    }

    /// Adds all of another queue.
    pub(super) fn append(&mut self, other: &mut Queue) {
        record::pad(&mut self.bytes);
        let by = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.entries.extend(other.entries.drain(..).map(|entry| Entry {
            start: entry.start + by,
            end: entry.end + by,
            ..entry
        }));
        other.clear();
    }

    /// Keeps registrations alone, and gives the other entries.
    pub(super) fn retain_series(&mut self) -> Vec<Entry> {
        let bytes = std::mem::take(&mut self.bytes);
        let (series, others) = self
            .entries
            .drain(..)
            .partition::<Vec<_>, _>(|entry| matches!(entry.content, Content::Series));
        for entry in series {
            record::pad(&mut self.bytes);
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&bytes[entry.start..entry.end]);
            self.entries.push(Entry { start, end: self.bytes.len(), ..entry });
        }
        others
    }

    /// Empties the queue and keeps its memory, within bounds.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_LEN_MAX);
    }

    fn begin(&mut self, content: Content, permits: u32, done: Option<Done>) {
        record::pad(&mut self.bytes);
        let start = self.bytes.len();
        record::begin(&mut self.bytes);
        self.entries.push(Entry { content, start, end: start, permits, done });
    }

    fn end(&mut self) {
        let end = self.bytes.len();
        self.entries.last_mut().expect("a record was begun").end = end;
    }
}
