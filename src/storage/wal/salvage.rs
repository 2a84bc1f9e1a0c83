//! Salvage: reads a damaged log for all that is whole in it, and puts an empty log in its place.
//!
//! Where recovery refuses to go on (the tail rule in `replay`), this looks for the next record
//! with a right checksum and tells what lies between. Segments are known by their files' names,
//! so a lost header loses no record.
//!
//! Invariant: records are handed out in the order of their numbers, each once. What lies behind
//! the place where the next segment takes over was never acknowledged and is not handed out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::model::{Metadata, SampleBatch};
use crate::storage::error::StorageError;
use crate::storage::vfs::{Vfs, VfsFile};
use crate::storage::wal::cursor::Malformed;
use crate::storage::wal::record::{self, Seed};
use crate::storage::wal::replay::{Item, read_header, replay};
use crate::storage::wal::scan::{Found, SegmentScan};
use crate::storage::wal::segment::{self, segment_path};
use crate::storage::wal::{Lsn, ReplayReport, ReplaySink};

/// How far ahead of the expected record a found one may be numbered; no gap is that long.
const LSN_AHEAD_MAX: u64 = u32::MAX as u64;

/// Names that are tried for a segment that is set aside.
const NAMES_MAX: u32 = 1_000;

/// What salvage read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SalvagedLog {
    pub(crate) read: ReplayReport,
    /// In order of the log.
    pub(crate) skipped: Vec<Skipped>,
}

/// A stretch of the log that holds nothing that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub path: PathBuf,
    pub offset: u64,
    /// 0 if the bytes themselves are gone.
    pub bytes: u64,
    /// The first and the last record that are lost with it; `None` if nothing says that any
    /// acknowledged one is.
    pub records: Option<(Lsn, Lsn)>,
    pub reason: String,
}

/// A segment's file.
struct Segment {
    number: u64,
    path: PathBuf,
    file: Arc<dyn VfsFile>,
    len: u64,
    /// Number of its first record, if header or record tell.
    start: Option<Lsn>,
    is_blank: bool,
}

/// Hands all records after `flushed` that are whole to `sink`.
pub(crate) fn read(
    vfs: &dyn Vfs,
    dir: &Path,
    database: Uuid,
    flushed: Lsn,
    sink: &mut dyn ReplaySink,
) -> Result<SalvagedLog, StorageError> {
    let segments = open_all(vfs, dir, database)?;
    let log = SalvagedLog::default();
    let mut reading = Reading { database, flushed, expected: flushed + 1, sink, log };
    if let Some(first) = segments.first()
        && let Some(start) = first.start
    {
        reading.skip(first, 0, 0, start, "segments before this one are missing".to_owned());
        reading.expected = start;
    }
    for (index, segment) in segments.iter().enumerate() {
        let later = &segments[index + 1..];
        reading.segment(segment, later)?;
    }
    reading.log.read.segments = segments.len() as u64;
    reading.log.read.last_lsn = flushed.max(reading.expected - 1);
    Ok(reading.log)
}

fn open_all(vfs: &dyn Vfs, dir: &Path, database: Uuid) -> Result<Vec<Segment>, StorageError> {
    let (numbers, _) = segment::list(vfs, dir)?;
    let mut segments = Vec::with_capacity(numbers.len());
    for number in numbers {
        let path = segment_path(dir, number);
        let file = vfs.open(&path)?;
        let len = file.len()?;
        let scan = || SegmentScan::new(Arc::clone(&file), len, Seed::new(database, number));
        let header = match read_header(&path, &*file, number, database) {
            Err(StorageError::Corrupt { .. }) => None,
            header => header?,
        };
        let start = match header {
            Some(header) => Some(header.start),
            None => match scan().peek()? {
                Found::Record(record) => Some(record.lsn),
                Found::Nothing(_) => None,
            },
        };
        let is_blank = start.is_none() && is_zero(&*file, len)?;
        segments.push(Segment { number, path, file, len, start, is_blank });
    }
    Ok(segments)
}

fn is_zero(file: &dyn VfsFile, len: u64) -> Result<bool, StorageError> {
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < len {
        let read = file.read_at(offset, &mut buffer)?;
        if read == 0 || buffer[..read].iter().any(|byte| *byte != 0) {
            return Ok(read == 0);
        }
        offset += read as u64;
    }
    Ok(true)
}

/// How far the reading has come.
struct Reading<'a> {
    database: Uuid,
    flushed: Lsn,
    /// The next record's number, if none is lost.
    expected: Lsn,
    sink: &'a mut dyn ReplaySink,
    log: SalvagedLog,
}

impl Reading<'_> {
    fn segment(&mut self, segment: &Segment, later: &[Segment]) -> Result<(), StorageError> {
        let limit = later.iter().find_map(|segment| segment.start).unwrap_or(Lsn::MAX);
        let seed = Seed::new(self.database, segment.number);
        let mut scan = SegmentScan::new(Arc::clone(&segment.file), segment.len, seed);
        let mut good_end = scan.offset();
        let mut damage: Option<Malformed> = None;
        while scan.skip_zeros()? {
            let offset = scan.offset();
            let (stride, whole) = match scan.peek()? {
                Found::Record(record) if self.is_next(record.lsn, limit) => {
                    match Item::decode(record, self.flushed, Default::default) {
                        Ok(item) => (record.stride(), Some((record.lsn, item))),
                        Err(why) => {
                            damage.get_or_insert(why);
                            (record.stride(), None)
                        }
                    }
                }
                // No part of the log: it was cut off here, and went on in the next segment.
                Found::Record(record) => (record.stride(), None),
                Found::Nothing(why) => {
                    damage.get_or_insert(why);
                    (record::ALIGNMENT, None)
                }
            };
            scan.advance(stride);
            let Some((lsn, item)) = whole else { continue };
            if lsn > self.expected || damage.is_some() {
                let reason = damage.take().unwrap_or("zeros where records should be");
                self.skip(segment, good_end, offset - good_end, lsn, reason.to_owned());
            }
            self.expected = lsn + 1;
            good_end = scan.offset();
            self.log.read.bytes += stride as u64;
            if let Some(item) = item {
                item.deliver(self.sink, &mut self.log.read)?;
            }
        }
        self.end(segment, later, good_end, damage);
        Ok(())
    }

    fn is_next(&self, lsn: Lsn, limit: Lsn) -> bool {
        (self.expected..limit).contains(&lsn) && lsn - self.expected <= LSN_AHEAD_MAX
    }

    /// Judges what stands behind a segment's last record.
    fn end(
        &mut self,
        segment: &Segment,
        later: &[Segment],
        good_end: u64,
        damage: Option<Malformed>,
    ) {
        let bytes = damage.map_or(0, |_| segment.len - good_end);
        let next = later.iter().find(|segment| !segment.is_blank);
        match (next.and_then(|next| next.start), damage) {
            (Some(start), _) if start > self.expected => {
                let reason = damage.unwrap_or("records are missing before the next segment");
                self.skip(segment, good_end, bytes, start, reason.to_owned());
                self.expected = start;
            }
            // The next segment took over here.
            (Some(_), _) | (None, None) => {}
            (None, Some(reason)) => {
                let (path, reason) = (segment.path.clone(), reason.to_owned());
                let skipped = Skipped { path, offset: good_end, bytes, records: None, reason };
                self.log.skipped.push(skipped);
            }
        }
    }

    /// Takes note of a stretch without records, up to record `next`.
    fn skip(&mut self, segment: &Segment, offset: u64, bytes: u64, next: Lsn, reason: String) {
        // What is in blocks already is not missed.
        let first = self.expected.max(self.flushed + 1);
        if first < next {
            let (path, records) = (segment.path.clone(), Some((first, next - 1)));
            self.log.skipped.push(Skipped { path, offset, bytes, records, reason });
        }
    }
}

/// Gives the segments' files, but for blank ones, second names in `to`, durably.
pub(crate) fn set_aside(
    vfs: &dyn Vfs,
    dir: &Path,
    database: Uuid,
    to: &Path,
) -> Result<Vec<PathBuf>, StorageError> {
    vfs.create_dir_all(to)?;
    let mut names = Vec::new();
    for segment in open_all(vfs, dir, database)?.into_iter().filter(|segment| !segment.is_blank) {
        let name = segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // An interrupted salvage may have left a name for the same file. One more does no harm.
        let taken = |at: &u32| vfs.exists(&numbered(to, &name, *at)).map(|taken| !taken);
        let mut free = None;
        for at in 0..NAMES_MAX {
            if taken(&at)? {
                free = Some(numbered(to, &name, at));
                break;
            }
        }
        let free = free.ok_or_else(|| {
            StorageError::Internal(format!("too many files called {name} in {}", to.display()))
        })?;
        vfs.hard_link(&segment.path, &free)?;
        names.push(free);
    }
    vfs.sync_dir(to)?;
    Ok(names)
}

fn numbered(dir: &Path, name: &str, at: u32) -> PathBuf {
    dir.join(if at == 0 { name.to_owned() } else { format!("{name}.{at}") })
}

/// Begins the log anew after record `last`, of which all are in blocks, and removes the segments
/// that were there. A crash in between leaves a log whose old segments nobody needs.
pub(crate) fn begin_anew(
    vfs: &dyn Vfs,
    dir: &Path,
    database: Uuid,
    last: Lsn,
) -> Result<(), StorageError> {
    let (numbers, _) = segment::list(vfs, dir)?;
    segment::begin(vfs, dir, database, numbers.last().map_or(1, |number| number + 1), last)?;
    for number in numbers {
        vfs.remove(&segment_path(dir, number))?;
        // One after the other: recovery takes a gap among them for lost segments.
        vfs.sync_dir(dir)?;
    }
    Ok(())
}

/// Whether recovery would open the log; the inner error says why not.
pub(crate) fn check(
    vfs: &dyn Vfs,
    dir: &Path,
    database: Uuid,
    flushed: Lsn,
) -> Result<Result<(), StorageError>, StorageError> {
    match replay(vfs, dir, database, flushed, &mut Nobody) {
        Ok(_) => Ok(Ok(())),
        Err(damage @ StorageError::Corrupt { .. }) => Ok(Err(damage)),
        Err(error) => Err(error),
    }
}

/// Wants to know nothing.
struct Nobody;

impl ReplaySink for Nobody {
    fn series(&mut self, _: u64, _: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }

    fn samples(&mut self, _: Lsn, _: &SampleBatch) -> Result<(), StorageError> {
        Ok(())
    }

    fn metadata(&mut self, _: Lsn, _: &str, _: &Metadata) -> Result<(), StorageError> {
        Ok(())
    }
}
