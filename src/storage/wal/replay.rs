//! Recovery: reads the log, decides whether its end is torn or damaged, hands out its records.
//!
//! **The tail rule.** The log is read up to the first place that holds no valid record with the
//! expected number, `x`. If anything later vouches for `x` as durable (a later record's `durable`
//! number, a later segment's `start`), then acknowledged data is damaged: recovery refuses, and
//! names file, offset and record numbers. Otherwise what follows is a write that was cut off and
//! never acknowledged; the log ends there. Zeros to the end are the usual, clean end. Nothing is
//! repaired by guessing and no later segment is ever deleted.
//!
//! What nothing vouches for at the end was perhaps never on disk, though it was readable: those
//! records are written again into the next segment before anything is served.
//!
//! One thread reads, checks and decodes ahead while the caller's thread applies, record by
//! record; at most [`QUEUE_LEN`] decoded records wait.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use uuid::Uuid;

use crate::model::{Metadata, SampleBatch};
use crate::storage::error::StorageError;
use crate::storage::vfs::{Vfs, VfsFile};
use crate::storage::wal::cursor::Malformed;
use crate::storage::wal::record::{self, Record, RecordType, Seed};
use crate::storage::wal::scan::{Found, SegmentScan};
use crate::storage::wal::segment::{self, BlankSegment, SegmentHeader, segment_path};
use crate::storage::wal::writer::{Resume, TailRecord};
use crate::storage::wal::{Lsn, ReplayReport, ReplaySink, SegmentInfo, TornTail};

/// Decoded records that wait for the sink.
const QUEUE_LEN: usize = 8;

/// What recovery leaves to the writer.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) report: ReplayReport,
    pub(super) resume: Resume,
    /// Segments with records, oldest first.
    pub(super) segments: Vec<SegmentInfo>,
    /// Segments that were made ahead and are not used yet.
    pub(super) blanks: Vec<BlankSegment>,
    /// The last segment, and where its part of the log ends.
    pub(super) sealed: Option<(PathBuf, u64)>,
}

/// Reads the log in `dir` and hands all records after `flushed` to `sink`.
pub(super) fn replay(
    vfs: &dyn Vfs,
    dir: &Path,
    database: Uuid,
    flushed: Lsn,
    sink: &mut dyn ReplaySink,
) -> Result<Recovered, StorageError> {
    let (used, blanks) = find_segments(vfs, dir, database, flushed)?;
    check_starts(dir, &used, flushed)?;
    // Segments that the manifest has left behind are not read.
    let skipped = used
        .windows(2)
        .take_while(|pair| pair[1].header.start <= flushed.saturating_add(1))
        .count();
    let needed = &used[skipped..];

    let mut report = ReplayReport { segments: needed.len() as u64, ..ReplayReport::default() };
    let (items, received) = sync_channel(QUEUE_LEN);
    let (returns, spare) = sync_channel(QUEUE_LEN);
    let end = thread::scope(|scope| {
        let reader = Reader { database, flushed, items, spare };
        let reading = scope.spawn(move || reader.read(needed));
        // On an error here the channel closes, which ends the reader.
        let most = needed.iter().map(|segment| segment.len).sum();
        deliver(received, &returns, sink, &mut report, most)?;
        reading.join().expect("the reader does not panic")
    })?;

    let mut segments: Vec<SegmentInfo> = used
        .iter()
        .map(|used| SegmentInfo {
            number: used.header.number,
            start: used.header.start,
            bytes: used.len,
        })
        .collect();
    report.last_lsn = end.last.max(flushed);
    report.torn_tail = end.torn.clone();
    let (resume, sealed_offset) = resume(&used, &blanks, end, flushed);
    let mut sealed = None;
    if let Some(last) = segments.last_mut() {
        last.bytes = sealed_offset;
        if last.number == resume.segment {
            segments.pop();
        } else {
            sealed = Some((segment_path(dir, last.number), sealed_offset));
        }
    }
    Ok(Recovered { report, resume, segments, blanks, sealed })
}

/// A segment with a header.
#[derive(Debug)]
pub(super) struct UsedSegment {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) len: u64,
}

/// All segments: used ones in order, then blank ones. Their numbers follow each other.
fn find_segments(
    vfs: &dyn Vfs,
    dir: &Path,
    database: Uuid,
    flushed: Lsn,
) -> Result<(Vec<UsedSegment>, Vec<BlankSegment>), StorageError> {
    let (numbers, leftovers) = segment::list(vfs, dir)?;
    for leftover in leftovers {
        vfs.remove(&leftover)?;
    }
    let mut used: Vec<UsedSegment> = Vec::new();
    let mut blanks: Vec<BlankSegment> = Vec::new();
    let mut previous = None;
    for number in numbers {
        let path = segment_path(dir, number);
        let file = vfs.open(&path)?;
        let len = file.len()?;
        let header = match read_header(&path, &*file, number, database) {
            Err(StorageError::Corrupt { .. }) if is_cut_header(&file, len, database, number)? => {
                file.write_at(0, &[0; segment::HEADER_LEN])?;
                file.sync()?;
                None
            }
            header => header?,
        };
        let is_behind = |header: &SegmentHeader| header.start <= flushed.saturating_add(1);
        if let Some(previous) = previous.replace(number)
            && number != previous + 1
        {
            // A crash in the middle of a truncation may undo the removal of an older segment
            // only. What blocks hold is not missed; then the older ones go as well.
            if !(blanks.is_empty() && header.as_ref().is_some_and(is_behind)) {
                let reason = format!(
                    "segments {} to {} are missing before this one",
                    previous + 1,
                    number - 1
                );
                return Err(StorageError::Corrupt { path, offset: 0, reason });
            }
            for old in used.drain(..) {
                vfs.remove(old.file.path())?;
            }
        }
        match header {
            Some(header) if blanks.is_empty() => used.push(UsedSegment { header, file, len }),
            Some(_) => {
                let reason = "the segment before this one has lost its header".to_owned();
                return Err(StorageError::Corrupt { path, offset: 0, reason });
            }
            None => blanks.push(BlankSegment { number, file, len }),
        }
    }
    for blank in &blanks {
        check_blank(blank, database)?;
    }
    Ok((used, blanks))
}

pub(super) fn read_header(
    path: &Path,
    file: &dyn VfsFile,
    number: u64,
    database: Uuid,
) -> Result<Option<SegmentHeader>, StorageError> {
    let corrupt =
        |reason: String| StorageError::Corrupt { path: path.to_path_buf(), offset: 0, reason };
    let mut bytes = [0; segment::HEADER_LEN];
    file.read_at(0, &mut bytes)?;
    match SegmentHeader::decode(&bytes).map_err(corrupt)? {
        Some(header) if header.number != number => {
            Err(corrupt(format!("this is segment {}", header.number)))
        }
        Some(header) if header.database != database => {
            Err(corrupt(format!("it belongs to database {}, not {database}", header.database)))
        }
        Some(header) if header.start == 0 => Err(corrupt("it starts before the log".to_owned())),
        header => Ok(header),
    }
}

/// Whether a damaged header was cut off while it was written: records follow only after it is
/// durable, so nothing stands behind it. Then the segment is as good as blank.
fn is_cut_header(
    file: &Arc<dyn VfsFile>,
    len: u64,
    database: Uuid,
    number: u64,
) -> Result<bool, StorageError> {
    let records = segment::RECORDS_OFFSET;
    if len < records {
        return Ok(false);
    }
    let mut scan = SegmentScan::new(Arc::clone(file), len, Seed::new(database, number));
    Ok(scan.rest(records)?.all_zero)
}

/// A segment without a header must not hold anything else either.
fn check_blank(blank: &BlankSegment, database: Uuid) -> Result<(), StorageError> {
    let mut scan =
        SegmentScan::new(Arc::clone(&blank.file), blank.len, Seed::new(database, blank.number));
    if scan.rest(0)?.all_zero {
        return Ok(());
    }
    Err(StorageError::Corrupt {
        path: blank.file.path().to_path_buf(),
        offset: 0,
        reason: "the segment has lost its header".to_owned(),
    })
}

/// The first segment must start where the manifest stopped, and no later one before it.
fn check_starts(dir: &Path, used: &[UsedSegment], flushed: Lsn) -> Result<(), StorageError> {
    let corrupt = |path: PathBuf, reason: String| StorageError::Corrupt { path, offset: 0, reason };
    match used.first() {
        None if flushed > 0 => {
            return Err(corrupt(
                dir.to_path_buf(),
                format!("the log is missing, though records up to {flushed} were in it"),
            ));
        }
        Some(first) if first.header.start > flushed.saturating_add(1) => {
            return Err(corrupt(
                first.file.path().to_path_buf(),
                format!(
                    "records {} to {} are missing before this segment",
                    flushed + 1,
                    first.header.start - 1
                ),
            ));
        }
        _ => {}
    }
    for pair in used.windows(2) {
        if pair[1].header.start < pair[0].header.start {
            return Err(corrupt(
                pair[1].file.path().to_path_buf(),
                "it starts before the segment before it".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Where the log ends.
#[derive(Debug, Default)]
struct End {
    /// The last record.
    last: Lsn,
    /// The last record that something vouches for.
    durable: Lsn,
    /// Records after `durable`, all in the last segment.
    tail: Vec<Doubtful>,
    /// Offset in the last segment behind its last record.
    offset: u64,
    torn: Option<TornTail>,
}

/// A record that nothing vouches for.
#[derive(Debug)]
struct Doubtful {
    lsn: Lsn,
    offset: u64,
    record: TailRecord,
}

/// Where the writer goes on, and where the last segment's part of the log ends.
fn resume(
    used: &[UsedSegment],
    blanks: &[BlankSegment],
    mut end: End,
    flushed: Lsn,
) -> (Resume, u64) {
    // After a power cut in a weak sync mode, blocks may know more than the log.
    let start = end.durable.max(flushed) + 1;
    end.forget_before(start);
    let sealed = end.tail.first().map_or(end.offset, |first| first.offset);
    let tail = end.tail.into_iter().map(|doubtful| doubtful.record).collect();
    let segment = match used.last() {
        None => blanks.first().map_or(1, |blank| blank.number),
        Some(last) if last.header.start == start => last.header.number,
        Some(last) => last.header.number + 1,
    };
    (Resume { segment, start, tail }, sealed)
}

/// A decoded record, on its way to the sink.
pub(super) enum Item {
    Series(Vec<u8>),
    Samples(Lsn, SampleBatch),
    Metadata(Lsn, Vec<(String, Metadata)>),
}

impl Item {
    /// What the sink is to have of a record, if anything. `spare` gives memory for samples.
    pub(super) fn decode(
        record: Record<'_>,
        flushed: Lsn,
        spare: impl FnOnce() -> SampleBatch,
    ) -> Result<Option<Self>, Malformed> {
        let wanted = record.lsn > flushed;
        Ok(Some(match record.kind {
            // Also of older records: samples to come may name them.
            RecordType::Series => {
                record::take_series(record.payload, |_, _| Ok::<(), Malformed>(()))??;
                Item::Series(record.payload.to_vec())
            }
            RecordType::Samples if wanted => {
                let mut batch = spare();
                record::take_samples(record.payload, &mut batch)?;
                Item::Samples(record.lsn, batch)
            }
            RecordType::Metadata if wanted => {
                Item::Metadata(record.lsn, record::take_metadata(record.payload)?)
            }
            _ => return Ok(None),
        }))
    }

    /// Gives it to the sink, and the samples' memory back.
    pub(super) fn deliver(
        self,
        sink: &mut dyn ReplaySink,
        report: &mut ReplayReport,
    ) -> Result<Option<SampleBatch>, StorageError> {
        report.records += 1;
        match self {
            Item::Series(payload) => {
                let known = record::take_series(&payload, |id, key| {
                    report.series += 1;
                    sink.series(id, key)
                });
                known.map_err(|reason| StorageError::Internal(reason.to_owned()))??;
            }
            Item::Samples(lsn, batch) => {
                report.samples += batch.len() as u64;
                sink.samples(lsn, &batch)?;
                return Ok(Some(batch));
            }
            Item::Metadata(lsn, entries) => {
                for (name, metadata) in &entries {
                    sink.metadata(lsn, name, metadata)?;
                }
            }
        }
        Ok(None)
    }
}

/// Hands items to the sink until there are no more.
fn deliver(
    items: Receiver<(Item, u64)>,
    returns: &SyncSender<SampleBatch>,
    sink: &mut dyn ReplaySink,
    report: &mut ReplayReport,
    most: u64,
) -> Result<(), StorageError> {
    for (item, bytes) in items {
        report.bytes += bytes;
        if let Some(batch) = item.deliver(sink, report)? {
            // The reader uses its memory again; if it has enough, it goes.
            let _ = returns.try_send(batch);
        }
        sink.progress(report.bytes, most);
    }
    Ok(())
}

/// The thread that reads ahead.
struct Reader {
    database: Uuid,
    flushed: Lsn,
    items: SyncSender<(Item, u64)>,
    spare: Receiver<SampleBatch>,
}

/// Whether anybody still wants records.
enum Wanted {
    Yes,
    No,
}

impl Reader {
    fn read(self, segments: &[UsedSegment]) -> Result<End, StorageError> {
        for pair in segments.windows(2) {
            if let Wanted::No = self.read_sealed(&pair[0], pair[1].header.start)? {
                return Ok(End::default());
            }
        }
        match segments.last() {
            Some(last) => self.read_last(last),
            None => Ok(End::default()),
        }
    }

    /// Reads a segment whose records up to `limit` are vouched for by the next segment.
    fn read_sealed(&self, segment: &UsedSegment, limit: Lsn) -> Result<Wanted, StorageError> {
        let mut scan = self.scan(segment);
        let mut expected = segment.header.start;
        while expected < limit {
            let offset = scan.offset();
            let (stride, next) = match scan.peek()? {
                Found::Record(record) if record.lsn == expected => {
                    let next =
                        next_lsn(record).map_err(|why| damage(&segment.file, offset, why))?;
                    if let Wanted::No = self.send(segment, offset, record)? {
                        return Ok(Wanted::No);
                    }
                    (record.stride(), next)
                }
                found => {
                    // Everything up to the limit was acknowledged.
                    return Err(lost(segment, offset, expected..limit, &reason(&found, expected)));
                }
            };
            scan.advance(stride);
            expected = next;
        }
        Ok(Wanted::Yes)
    }

    /// Reads the last segment and applies the tail rule.
    fn read_last(&self, segment: &UsedSegment) -> Result<End, StorageError> {
        let mut scan = self.scan(segment);
        let mut expected = segment.header.start;
        let mut end = End {
            last: expected - 1,
            durable: expected - 1,
            offset: scan.offset(),
            ..End::default()
        };
        loop {
            let offset = scan.offset();
            let stride = match scan.peek()? {
                Found::Record(record) if record.lsn == expected => {
                    expected =
                        next_lsn(record).map_err(|why| damage(&segment.file, offset, why))?;
                    end.note(record, offset);
                    if let Wanted::No = self.send(segment, offset, record)? {
                        return Ok(end);
                    }
                    record.stride()
                }
                found => {
                    let reason = reason(&found, expected);
                    let rest = scan.rest(expected)?;
                    if rest.durable >= expected {
                        return Err(lost(segment, offset, expected..rest.durable + 1, &reason));
                    }
                    if !rest.all_zero {
                        let path = scan.path().to_path_buf();
                        end.torn = Some(TornTail { path, offset, reason });
                    }
                    return Ok(end);
                }
            };
            scan.advance(stride);
        }
    }

    fn scan(&self, segment: &UsedSegment) -> SegmentScan {
        let seed = Seed::new(self.database, segment.header.number);
        SegmentScan::new(Arc::clone(&segment.file), segment.len, seed)
    }

    /// Decodes a record and queues it, if the sink is to have it.
    fn send(
        &self,
        segment: &UsedSegment,
        offset: u64,
        record: Record<'_>,
    ) -> Result<Wanted, StorageError> {
        let spare = || self.spare.try_recv().unwrap_or_default();
        let item = Item::decode(record, self.flushed, spare)
            .map_err(|why| damage(&segment.file, offset, why))?;
        let Some(item) = item else { return Ok(Wanted::Yes) };
        match self.items.send((item, record.stride() as u64)) {
            Ok(()) => Ok(Wanted::Yes),
            Err(_) => Ok(Wanted::No),
        }
    }
}

impl End {
    /// Takes note of a record at `offset` and of what it vouches for.
    fn note(&mut self, record: Record<'_>, offset: u64) {
        self.durable = self.durable.max(record.durable);
        self.forget_before(self.durable + 1);
        let tail = TailRecord { kind: record.kind, payload: record.payload.to_vec() };
        self.tail.push(Doubtful { lsn: record.lsn, offset, record: tail });
        self.last = record.lsn;
        self.offset = offset + record.stride() as u64;
    }

    fn forget_before(&mut self, start: Lsn) {
        let old = self.tail.partition_point(|doubtful| doubtful.lsn < start);
        self.tail.drain(..old);
    }
}

/// The number that the record after this one must have.
fn next_lsn(record: Record<'_>) -> Result<Lsn, Malformed> {
    record.lsn.checked_add(1).ok_or("the log has reached its last number")
}

fn reason(found: &Found<'_>, expected: Lsn) -> String {
    match found {
        Found::Record(record) => format!("record {} where {expected} should be", record.lsn),
        Found::Nothing(reason) => (*reason).to_owned(),
    }
}

fn damage(file: &Arc<dyn VfsFile>, offset: u64, reason: &str) -> StorageError {
    StorageError::Corrupt { path: file.path().to_path_buf(), offset, reason: reason.to_owned() }
}

/// The error that recovery stops with: acknowledged records are gone.
fn lost(segment: &UsedSegment, offset: u64, lsns: Range<Lsn>, reason: &str) -> StorageError {
    let reason =
        format!("{reason}; acknowledged records {} to {} are affected", lsns.start, lsns.end - 1);
    damage(&segment.file, offset, &reason)
}
