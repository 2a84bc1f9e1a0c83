//! The manifest's bytes.
//!
//! ```text
//! file    := header frame*
//! header  := magic "AETHMNFT" | version u32 | database uuid [16] | crc u32        32 bytes
//! frame   := mark "EDIT" | len u32 | sequence u64 | crc u32 | payload [len]
//! payload := item*
//! item    := kind u8 | len u32 | body [len]
//! ```
//!
//! Little-endian, fixed widths. A frame's crc covers len, sequence and payload and starts from
//! the uuid's, so that a frame of another database never counts. Sequences are consecutive from 1.
//!
//! **Every frame is written twice.** A crash can leave a torn tail, which was never acted upon
//! and is cut off; a flipped bit in the last edit must not look like one, because the log that
//! the edit covers is gone by then. So: a frame that repeats the previous sequence is a copy and
//! skipped, a damaged frame followed by its good copy is read from the copy, a damaged frame
//! followed by a later sequence is damage, and only a tail without any good frame is torn.
//!
//! Items of a kind that this version does not know end the reading with an error: to skip them
//! could bring back deleted data. Kind 1 is a block without its `written`, as versions before
//! compaction wrote it; read, no longer written.

use uuid::Uuid;

use crate::model::{MatchOp, Matcher, TimeRange};
use crate::storage::plan::{WINDOW_MS, window_start};
use crate::storage::tombstone::{MATCHER_BYTES_MAX, Tombstone};
use crate::storage::wal::Lsn;

pub(super) const MAGIC: [u8; 8] = *b"AETHMNFT";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = MAGIC.len() + 4 + 16 + 4;
const _: () = assert!(HEADER_BYTES == 32);

const MARK: [u8; 4] = *b"EDIT";
const FRAME_HEADER_BYTES: usize = MARK.len() + 4 + 8 + 4;

/// The sequence of a file's first edit, which holds all that was known when it was written.
pub(super) const FIRST_SEQUENCE: u64 = 1;

/// Bytes of one edit's payload; a million blocks in one rewrite stay below.
const PAYLOAD_BYTES_MAX: usize = 128 << 20;

const ADD_BLOCK_UNSPLIT: u8 = 1;
const REMOVE_BLOCK: u8 = 2;
const QUARANTINE_BLOCK: u8 = 3;
const FLUSHED: u8 = 4;
const ADD_SERIES_FILE: u8 = 5;
const REMOVE_SERIES_FILE: u8 = 6;
const NEXT_FILE: u8 = 7;
const ADD_BLOCK: u8 = 8;
const ADD_TOMBSTONE: u8 = 9;
const REMOVE_TOMBSTONE: u8 = 10;

/// Most 2 h stretches in one block's window: a day has twelve.
const WRITTEN_MAX: usize = 12;

/// What the manifest knows of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMeta {
    /// Names the file; never used again for another.
    pub id: u64,
    pub level: u8,
    /// The aligned window that the block belongs to.
    pub window: TimeRange,
    /// Where its samples lie inside the window.
    pub time_range: TimeRange,
    pub series: u64,
    pub samples: u64,
    pub bytes: u64,
    /// First and last log sequence number of its samples: where two blocks have the same
    /// timestamp of a series, the later one's sample counts.
    pub lsn_first: u64,
    pub lsn_last: u64,
    /// For each stretch of [`WINDOW_MS`] of the window, the last write that touched it: what was
    /// made from a stretch at an earlier write no longer tells what is in it.
    pub written: Vec<Lsn>,
    /// The block was written without what tombstones up to this id hide.
    pub cleaned: u64,
}

impl BlockMeta {
    /// [`BlockMeta::written`] of a block of which no more is known than its last write.
    pub(crate) fn written_at(window: TimeRange, lsn: Lsn) -> Vec<Lsn> {
        let stretches = window.end().abs_diff(window.start()) / WINDOW_MS.unsigned_abs() + 1;
        vec![lsn; usize::try_from(stretches).map_or(WRITTEN_MAX, |len| len.min(WRITTEN_MAX))]
    }

    /// The stretches of [`WINDOW_MS`] that [`BlockMeta::written`] is about.
    pub(crate) fn stretches(&self) -> impl ExactSizeIterator<Item = TimeRange> {
        let first = self.window.start();
        (0..self.written.len()).map(move |index| {
            let index = i64::try_from(index).expect("at most WRITTEN_MAX");
            let start = first.saturating_add(WINDOW_MS * index);
            TimeRange::new(start, start.saturating_add(WINDOW_MS - 1))
                .expect("starts before it ends")
        })
    }

    /// The last write that touched the stretch of [`WINDOW_MS`] that holds `at_ms`; `None` outside
    /// of the block's window.
    pub fn written_in(&self, at_ms: i64) -> Option<Lsn> {
        if !self.window.contains(at_ms) {
            return None;
        }
        let stretch = window_start(at_ms).abs_diff(self.window.start()) / WINDOW_MS.unsigned_abs();
        self.written.get(usize::try_from(stretch).ok()?).copied()
    }
}

/// One change of the manifest. Those of one edit take effect together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    AddBlock(BlockMeta),
    RemoveBlock {
        id: u64,
    },
    /// The block is kept but not served.
    QuarantineBlock {
        id: u64,
        reason: String,
    },
    /// Everything up to `lsn` is in blocks, and every series id below `next_series_id` that the
    /// log after it may name is in a series file.
    Flushed {
        lsn: u64,
        next_series_id: u64,
    },
    AddSeriesFile {
        id: u64,
    },
    RemoveSeriesFile {
        id: u64,
    },
    /// No file id below this one may be given again.
    NextFile {
        id: u64,
    },
    AddTombstone(Tombstone),
    /// Nothing holds any more what it hid.
    RemoveTombstone {
        id: u64,
    },
}

/// Why bytes are not a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) offset: usize,
    pub(super) reason: String,
}

impl Damage {
    fn at(offset: usize, reason: impl Into<String>) -> Self {
        Self { offset, reason: reason.into() }
    }
}

/// One edit as read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) sequence: u64,
    pub(super) items: Vec<Item>,
}

/// A manifest file, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) uuid: Uuid,
    pub(super) edits: Vec<Edit>,
    /// Where the good frames end if something that is none follows them: a torn tail, or a
    /// frame that had to be read from its copy. The file must be rewritten before use.
    pub(super) cut: Option<usize>,
}

pub(super) fn encode_header(uuid: Uuid) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(uuid.as_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

/// Appends the edit, twice.
pub(super) fn encode_edit(uuid: Uuid, sequence: u64, items: &[Item], out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    for item in items {
        encode_item(item, &mut payload);
    }
    assert!(payload.len() <= PAYLOAD_BYTES_MAX, "an edit of {} bytes", payload.len());
    let crc = frame_crc(uuid, sequence, &payload);
    for _ in 0..2 {
        out.extend_from_slice(&MARK);
        out.extend_from_slice(&length(payload.len()));
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&payload);
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Contents, Damage> {
    let uuid = decode_header(bytes)?;
    let mut edits: Vec<Edit> = Vec::new();
    let mut cut = None;
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let Some(frame) = decode_frame(uuid, &bytes[at..]) else {
            cut.get_or_insert(at);
            match next_frame(uuid, bytes, at + 1) {
                Some(next) => at = next,
                None => break,
            }
            continue;
        };
        let expected = edits.last().map_or(FIRST_SEQUENCE, |edit| edit.sequence + 1);
        if frame.sequence == expected {
            let items = decode_items(frame.payload).map_err(|damage| {
                Damage::at(at + FRAME_HEADER_BYTES + damage.offset, damage.reason)
            })?;
            edits.push(Edit { sequence: frame.sequence, items });
        } else if frame.sequence != expected - 1 {
            let reason = format!("edit {expected} is missing before edit {}", frame.sequence);
            return Err(Damage::at(cut.unwrap_or(at), reason));
        }
        at += frame.len();
    }
    if edits.is_empty() {
        return Err(Damage::at(HEADER_BYTES, "no edit is readable"));
    }
    Ok(Contents { uuid, edits, cut })
}

fn decode_header(bytes: &[u8]) -> Result<Uuid, Damage> {
    let Some(header) = bytes.get(..HEADER_BYTES) else {
        return Err(Damage::at(bytes.len(), "the header is cut off"));
    };
    let (body, crc) = header.split_at(HEADER_BYTES - 4);
    if body[..MAGIC.len()] != MAGIC {
        return Err(Damage::at(0, "this is not a manifest"));
    }
    if crc32fast::hash(body).to_le_bytes() != crc {
        return Err(Damage::at(0, "the header's checksum is wrong"));
    }
    let mut rest = Reader(&body[MAGIC.len()..]);
    match rest.u32() {
        Some(VERSION) => {}
        version => {
            let version = version.unwrap_or_default();
            let reason = format!("version {version} is not known; this program knows {VERSION}");
            return Err(Damage::at(MAGIC.len(), reason));
        }
    }
    rest.take(16)
        .and_then(|uuid| Uuid::from_slice(uuid).ok())
        .ok_or_else(|| Damage::at(MAGIC.len() + 4, "the uuid is cut off"))
}

struct Frame<'a> {
    sequence: u64,
    payload: &'a [u8],
}

impl Frame<'_> {
    fn len(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload.len()
    }
}

/// The frame that `bytes` begin with, if it is a good one.
fn decode_frame(uuid: Uuid, bytes: &[u8]) -> Option<Frame<'_>> {
    let mut rest = Reader(bytes);
    if rest.take(MARK.len())? != MARK {
        return None;
    }
    let len = usize::try_from(rest.u32()?).ok().filter(|len| *len <= PAYLOAD_BYTES_MAX)?;
    let sequence = rest.u64()?;
    let crc = rest.u32()?;
    let payload = rest.take(len)?;
    (frame_crc(uuid, sequence, payload) == crc).then_some(Frame { sequence, payload })
}

/// Where the next good frame begins, at or after `from`.
fn next_frame(uuid: Uuid, bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memmem::find_iter(bytes.get(from..)?, &MARK)
        .map(|at| from + at)
        .find(|at| decode_frame(uuid, &bytes[*at..]).is_some())
}

fn frame_crc(uuid: Uuid, sequence: u64, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(uuid.as_bytes());
    crc.update(&length(payload.len()));
    crc.update(&sequence.to_le_bytes());
    crc.update(payload);
    crc.finalize()
}

fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("bounded by PAYLOAD_BYTES_MAX").to_le_bytes()
}

fn encode_item(item: &Item, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    let kind = match item {
        Item::AddBlock(block) => {
            body.extend_from_slice(&block.id.to_le_bytes());
            body.push(block.level);
            for range in [block.window, block.time_range] {
                body.extend_from_slice(&range.start().to_le_bytes());
                body.extend_from_slice(&range.end().to_le_bytes());
            }
            for count in [block.series, block.samples, block.bytes, block.lsn_first, block.lsn_last]
            {
                body.extend_from_slice(&count.to_le_bytes());
            }
            for lsn in &block.written {
                body.extend_from_slice(&lsn.to_le_bytes());
            }
            body.extend_from_slice(&block.cleaned.to_le_bytes());
            ADD_BLOCK
        }
        Item::RemoveBlock { id } => {
            body.extend_from_slice(&id.to_le_bytes());
            REMOVE_BLOCK
        }
        Item::QuarantineBlock { id, reason } => {
            body.extend_from_slice(&id.to_le_bytes());
            body.extend_from_slice(reason.as_bytes());
            QUARANTINE_BLOCK
        }
        Item::Flushed { lsn, next_series_id } => {
            body.extend_from_slice(&lsn.to_le_bytes());
            body.extend_from_slice(&next_series_id.to_le_bytes());
            FLUSHED
        }
        Item::AddSeriesFile { id } => {
            body.extend_from_slice(&id.to_le_bytes());
            ADD_SERIES_FILE
        }
        Item::RemoveSeriesFile { id } => {
            body.extend_from_slice(&id.to_le_bytes());
            REMOVE_SERIES_FILE
        }
        Item::NextFile { id } => {
            body.extend_from_slice(&id.to_le_bytes());
            NEXT_FILE
        }
        Item::AddTombstone(tombstone) => {
            encode_tombstone(tombstone, &mut body);
            ADD_TOMBSTONE
        }
        Item::RemoveTombstone { id } => {
            body.extend_from_slice(&id.to_le_bytes());
            REMOVE_TOMBSTONE
        }
    };
    out.push(kind);
    out.extend_from_slice(&length(body.len()));
    out.extend_from_slice(&body);
}

/// `id u64 | lsn u64 | start i64 | end i64 | matcher*`, and a matcher is
/// `operator u8 | len u32 | name [len] | len u32 | value [len]`.
fn encode_tombstone(tombstone: &Tombstone, body: &mut Vec<u8>) {
    body.extend_from_slice(&tombstone.id.to_le_bytes());
    body.extend_from_slice(&tombstone.lsn.to_le_bytes());
    body.extend_from_slice(&tombstone.range.start().to_le_bytes());
    body.extend_from_slice(&tombstone.range.end().to_le_bytes());
    for matcher in &tombstone.matchers {
        body.push(match matcher.op() {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        });
        for text in [matcher.name(), matcher.value()] {
            body.extend_from_slice(&length(text.len()));
            body.extend_from_slice(text.as_bytes());
        }
    }
}

fn decode_items(payload: &[u8]) -> Result<Vec<Item>, Damage> {
    let mut items = Vec::new();
    let mut rest = Reader(payload);
    while !rest.0.is_empty() {
        let offset = payload.len() - rest.0.len();
        let item = decode_item(&mut rest).map_err(|reason| Damage::at(offset, reason))?;
        items.push(item);
    }
    Ok(items)
}

fn decode_item(rest: &mut Reader<'_>) -> Result<Item, String> {
    let cut_off = || "an item is cut off".to_owned();
    let kind = rest.u8().ok_or_else(cut_off)?;
    let len = rest.u32().and_then(|len| usize::try_from(len).ok()).ok_or_else(cut_off)?;
    let mut body = Reader(rest.take(len).ok_or_else(cut_off)?);
    let item = match kind {
        ADD_BLOCK => decode_block(&mut body).map(Item::AddBlock),
        ADD_BLOCK_UNSPLIT => decode_unsplit_block(&mut body).map(Item::AddBlock),
        REMOVE_BLOCK => body.u64().map(|id| Item::RemoveBlock { id }),
        QUARANTINE_BLOCK => body.u64().map(|id| {
            let reason = String::from_utf8_lossy(std::mem::take(&mut body.0)).into_owned();
            Item::QuarantineBlock { id, reason }
        }),
        FLUSHED => decode_flushed(&mut body),
        ADD_SERIES_FILE => body.u64().map(|id| Item::AddSeriesFile { id }),
        REMOVE_SERIES_FILE => body.u64().map(|id| Item::RemoveSeriesFile { id }),
        NEXT_FILE => body.u64().map(|id| Item::NextFile { id }),
        ADD_TOMBSTONE => decode_tombstone(&mut body).map(Item::AddTombstone),
        REMOVE_TOMBSTONE => body.u64().map(|id| Item::RemoveTombstone { id }),
        other => return Err(format!("an item of unknown kind {other}, from a newer version?")),
    };
    item.filter(|_| body.0.is_empty()).ok_or_else(|| format!("an item of kind {kind} is malformed"))
}

fn decode_unsplit_block(body: &mut Reader<'_>) -> Option<BlockMeta> {
    let mut block = BlockMeta {
        id: body.u64()?,
        level: body.u8()?,
        window: body.range()?,
        time_range: body.range()?,
        series: body.u64()?,
        samples: body.u64()?,
        bytes: body.u64()?,
        lsn_first: body.u64()?,
        lsn_last: body.u64()?,
        written: Vec::new(),
        cleaned: 0,
    };
    block.written = BlockMeta::written_at(block.window, block.lsn_last);
    Some(block)
}

fn decode_block(body: &mut Reader<'_>) -> Option<BlockMeta> {
    let mut block = decode_unsplit_block(body)?;
    for lsn in &mut block.written {
        *lsn = body.u64()?;
    }
    block.cleaned = body.u64()?;
    Some(block)
}

fn decode_tombstone(body: &mut Reader<'_>) -> Option<Tombstone> {
    let (id, lsn, range) = (body.u64()?, body.u64()?, body.range()?);
    let mut matchers = Vec::new();
    if body.0.len() > MATCHER_BYTES_MAX {
        return None;
    }
    while !body.0.is_empty() {
        let op = match body.u8()? {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => return None,
        };
        let (name, value) = (body.text()?, body.text()?);
        matchers.push(Matcher::new(op, name, value).ok()?);
    }
    Some(Tombstone { id, lsn, range, matchers })
}

fn decode_flushed(body: &mut Reader<'_>) -> Option<Item> {
    Some(Item::Flushed { lsn: body.u64()?, next_series_id: body.u64()? })
}

/// Takes fixed-width fields from the front; `None` where the bytes end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text with its length before it.
    fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.u32()?).ok()?;
        std::str::from_utf8(self.take(len)?).ok()
    }

    fn range(&mut self) -> Option<TimeRange> {
        let start = i64::from_le_bytes(self.array()?);
        let end = i64::from_le_bytes(self.array()?);
        TimeRange::new(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: Uuid = Uuid::from_bytes([7; 16]);

    fn block(id: u64) -> BlockMeta {
        BlockMeta {
            id,
            level: 0,
            window: TimeRange::new(0, 7_199_999).unwrap(),
            time_range: TimeRange::new(5, 7_000_000).unwrap(),
            series: 3,
            samples: 300,
            bytes: 4096,
            lsn_first: id * 10,
            lsn_last: id * 10 + 9,
            written: vec![id * 10 + 9],
            cleaned: 0,
        }
    }

    fn tombstone(id: u64) -> Tombstone {
        let matchers = vec![
            Matcher::equal("__name__", "cpu"),
            Matcher::new(MatchOp::NotEqual, "é", "").unwrap(),
        ];
        Tombstone { id, lsn: 20, range: TimeRange::new(i64::MIN, 77).unwrap(), matchers }
    }

    fn compacted_block() -> BlockMeta {
        let window = TimeRange::new(-3 * WINDOW_MS, -1).unwrap();
        let time_range = TimeRange::new(-2 * WINDOW_MS, -7).unwrap();
        BlockMeta {
            level: 1,
            window,
            time_range,
            written: vec![35, 31, 39],
            cleaned: 4,
            ..block(3)
        }
    }

    fn edits() -> Vec<Vec<Item>> {
        vec![
            vec![Item::AddBlock(block(1)), Item::Flushed { lsn: 20, next_series_id: 3 }],
            vec![Item::AddSeriesFile { id: 2 }, Item::NextFile { id: 9 }],
            vec![Item::QuarantineBlock { id: 1, reason: "page 3: bad checksum".into() }],
            vec![Item::RemoveBlock { id: 1 }, Item::AddBlock(compacted_block())],
            vec![Item::AddTombstone(tombstone(10)), Item::AddTombstone(tombstone(11))],
            vec![Item::RemoveSeriesFile { id: 2 }, Item::RemoveTombstone { id: 10 }],
        ]
    }

    /// The file and where each of its edits begins.
    fn file() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = encode_header(UUID);
        let mut starts = Vec::new();
        for (sequence, items) in (FIRST_SEQUENCE..).zip(edits()) {
            starts.push(bytes.len());
            encode_edit(UUID, sequence, &items, &mut bytes);
        }
        (bytes, starts)
    }

    fn items(contents: Contents) -> Vec<Vec<Item>> {
        contents.edits.into_iter().map(|edit| edit.items).collect()
    }

    #[test]
    fn edits_come_back() {
        let contents = decode(&file().0).unwrap();
        assert_eq!((contents.uuid, contents.cut), (UUID, None));
        assert_eq!(items(contents), edits());
    }

    #[test]
    fn a_file_cut_at_any_byte_gives_a_prefix_of_the_edits() {
        let (bytes, starts) = file();
        for end in 0..bytes.len() {
            let Ok(contents) = decode(&bytes[..end]) else {
                assert!(end < starts[1], "cut at {end}");
                continue;
            };
            // An edit counts once one of its copies is whole.
            let whole = (starts.iter().skip(1).chain([&bytes.len()]).zip(&starts))
                .filter(|(next, start)| end >= usize::midpoint(**start, **next))
                .count();
            assert_eq!(items(contents), edits()[..whole], "cut at {end}");
        }
    }

    #[test]
    fn every_flipped_bit_is_found_or_harmless() {
        let (bytes, starts) = file();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match decode(&flipped) {
                Err(_) => assert!(bit / 8 < starts[0], "bit {bit}"),
                Ok(contents) => {
                    assert!(contents.cut.is_some(), "bit {bit} went unseen");
                    assert_eq!(items(contents), edits(), "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn an_edit_lost_in_the_middle_is_damage_not_a_torn_tail() {
        let (bytes, starts) = file();
        for lost in 0..2 {
            let mut damaged = bytes.clone();
            damaged[starts[lost]..starts[lost + 1]].fill(0);
            let damage = decode(&damaged).unwrap_err();
            assert_eq!(damage.offset, starts[lost], "{}", damage.reason);
        }
    }

    #[test]
    fn an_item_of_a_newer_version_ends_the_reading() {
        let mut payload = Vec::new();
        encode_item(&Item::NextFile { id: 1 }, &mut payload);
        payload[0] = 200;
        let damage = decode_items(&payload).unwrap_err();
        assert!(damage.reason.contains("unknown kind 200"), "{}", damage.reason);
    }

    /// Written before blocks had `written`.
    #[test]
    fn the_golden_manifest_of_the_first_version_opens() {
        let bytes = include_bytes!("../../../tests/data/manifest/before-written.manifest");
        let contents = decode(bytes).unwrap();
        assert_eq!((contents.uuid, contents.cut), (UUID, None));
        let wide = BlockMeta { written: vec![39; 3], cleaned: 0, ..compacted_block() };
        let expected = vec![
            vec![Item::AddBlock(block(1)), Item::Flushed { lsn: 20, next_series_id: 3 }],
            vec![Item::AddBlock(wide), Item::NextFile { id: 9 }],
        ];
        assert_eq!(items(contents), expected);
    }

    #[test]
    fn tombstones_keep_their_matchers() {
        let matchers = vec![
            Matcher::new(MatchOp::Regex, "mode", "id.*|user").unwrap(),
            Matcher::new(MatchOp::NotRegex, "mode", ".+").unwrap(),
        ];
        for matchers in [matchers, Vec::new()] {
            let item = Item::AddTombstone(Tombstone { matchers, ..tombstone(3) });
            let mut payload = Vec::new();
            encode_item(&item, &mut payload);
            assert_eq!(decode_items(&payload).unwrap(), [item]);
        }
    }

    #[test]
    fn writes_are_known_by_stretch() {
        let block = compacted_block();
        assert_eq!(block.written_in(-3 * WINDOW_MS), Some(35));
        assert_eq!(block.written_in(-2 * WINDOW_MS), Some(31));
        assert_eq!(block.written_in(-1), Some(39));
        assert_eq!((block.written_in(0), block.written_in(-3 * WINDOW_MS - 1)), (None, None));
        assert_eq!(BlockMeta::written_at(TimeRange::ALL, 1).len(), WRITTEN_MAX);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let mut bytes = encode_header(UUID);
        let mut state = 1u64;
        for _ in 0..4000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.extend_from_slice(&state.to_be_bytes()[..1]);
            if state >> 60 == 0 {
                bytes.extend_from_slice(&MARK);
            }
        }
        assert!(decode(&bytes).is_err());
    }
}
