//! One change of the manifest, and its bytes.
//!
//! Items of a kind that this version does not know end the reading with an error: to skip them
//! could bring back deleted data. Kind 1 is a block without its `written`, as versions before
//! compaction wrote it; read, no longer written.

use crate::model::{MatchOp, Matcher};
use crate::storage::manifest::block_meta::BlockMeta;
use crate::storage::manifest::format::reader::Reader;
use crate::storage::manifest::format::{Damage, length};
use crate::storage::tombstone::{MATCHER_BYTES_MAX, Tombstone};

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
const RAW_FLOOR: u8 = 11;

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
    /// Retention lets no sample before `before_ms` be seen any more, whatever block it is in.
    RawFloor {
        before_ms: i64,
    },
}

/// Appends `kind u8 | len u32 | body [len]`.
pub(super) fn encode_item(item: &Item, out: &mut Vec<u8>) {
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
        Item::RawFloor { before_ms } => {
            body.extend_from_slice(&before_ms.to_le_bytes());
            RAW_FLOOR
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

pub(super) fn decode_items(payload: &[u8]) -> Result<Vec<Item>, Damage> {
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
        RAW_FLOOR => body.i64().map(|before_ms| Item::RawFloor { before_ms }),
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
