//! Walks the records of one segment file, with bounded memory.

use std::path::Path;
use std::sync::Arc;

use crate::storage::error::StorageError;
use crate::storage::vfs::VfsFile;
use crate::storage::wal::Lsn;
use crate::storage::wal::cursor::Malformed;
use crate::storage::wal::record::{self, Record, Seed};
use crate::storage::wal::segment::RECORDS_OFFSET;

/// How much is read at once; a longer record makes its own room.
const WINDOW_LEN: usize = 1 << 20;

/// How far ahead of the expected record a found one may be numbered; a segment cannot hold more.
const LSN_AHEAD_MAX: u64 = u32::MAX as u64;

/// A position among the records of a segment.
#[derive(Debug)]
pub(super) struct SegmentScan {
    file: Arc<dyn VfsFile>,
    len: u64,
    seed: Seed,
    window: Vec<u8>,
    /// File offset of the window's first byte.
    window_offset: u64,
    /// Position in the window.
    at: usize,
}

/// What stands at a position.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Record(Record<'a>),
    /// No record, and why not.
    Nothing(Malformed),
}

/// What was found behind a place without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) all_zero: bool,
    /// The last record that some record there vouches for as durable; 0 if none does.
    pub(super) durable: Lsn,
}

impl SegmentScan {
    /// At the first record of a segment file of `len` bytes.
    pub(super) fn new(file: Arc<dyn VfsFile>, len: u64, seed: Seed) -> Self {
        Self { file, len, seed, window: Vec::new(), window_offset: RECORDS_OFFSET, at: 0 }
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// File offset of the position.
    pub(super) fn offset(&self) -> u64 {
        self.window_offset + self.at as u64
    }

    /// The record at the position, which stays.
    pub(super) fn peek(&mut self) -> Result<Found<'_>, StorageError> {
        self.fill(record::HEADER_LEN)?;
        match record::claimed_len(&self.window[self.at..]) {
            Ok(len) => self.fill(len)?,
            Err(reason) => return Ok(Found::Nothing(reason)),
        }
        Ok(match record::parse(&self.window[self.at..], self.seed) {
            Ok(record) => Found::Record(record),
            Err(reason) => Found::Nothing(reason),
        })
    }

    /// Goes `len` bytes on.
    pub(super) fn advance(&mut self, len: usize) {
        self.at += len;
        if self.at > self.window.len() {
            // Into padding at the file's end.
            self.window_offset += self.at as u64;
            self.window.clear();
            self.at = 0;
        }
    }

    /// Looks through everything from the position on for records after `lsn`. Moves to the end.
    pub(super) fn rest(&mut self, lsn: Lsn) -> Result<Rest, StorageError> {
        let mut rest = Rest { all_zero: true, durable: 0 };
        while self.skip_zeros()? {
            rest.all_zero = false;
            let stride = match self.peek()? {
                Found::Record(record) if is_after(record.lsn, lsn) => {
                    rest.durable = rest.durable.max(record.durable);
                    record.stride()
                }
                _ => record::ALIGNMENT,
            };
            self.advance(stride);
        }
        Ok(rest)
    }

    /// Goes to the next place, aligned as records are, that has a byte other than zero.
    /// `false` at the end.
    pub(super) fn skip_zeros(&mut self) -> Result<bool, StorageError> {
        loop {
            self.fill(record::ALIGNMENT)?;
            let ahead = &self.window[self.at..];
            if ahead.is_empty() {
                return Ok(false);
            }
            // Whole windows of zeros are the common case: compare wide, then look closer.
            let zeros = match ahead.chunks(256).position(|chunk| chunk.iter().any(|b| *b != 0)) {
                Some(chunk) => {
                    let from = chunk * 256;
                    let nonzero = ahead[from..].iter().position(|byte| *byte != 0).unwrap_or(0);
                    (from + nonzero) / record::ALIGNMENT * record::ALIGNMENT
                }
                None => {
                    self.at = self.window.len();
                    continue;
                }
            };
            self.at += zeros;
            return Ok(true);
        }
    }

    /// Makes `len` bytes available at the position, or all that there are.
    fn fill(&mut self, len: usize) -> Result<(), StorageError> {
        if self.window.len() - self.at >= len {
            return Ok(());
        }
        self.window.drain(..self.at);
        self.window_offset += self.at as u64;
        self.at = 0;
        let have = self.window.len();
        let unread = self.len.saturating_sub(self.window_offset + have as u64);
        let unread = usize::try_from(unread).unwrap_or(usize::MAX);
        self.window.resize(have + unread.min(len.max(WINDOW_LEN) - have), 0);
        let read = self.file.read_at(self.window_offset + have as u64, &mut self.window[have..])?;
        self.window.truncate(have + read);
        Ok(())
    }
}

fn is_after(lsn: Lsn, than: Lsn) -> bool {
    lsn > than && lsn - than <= LSN_AHEAD_MAX
}
