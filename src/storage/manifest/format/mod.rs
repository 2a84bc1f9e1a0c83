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
//! What an item is, and its bytes: `item`.

mod item;
mod reader;

use uuid::Uuid;

pub use self::item::Item;
use self::item::{decode_items, encode_item};
use self::reader::Reader;

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

/// A length as the format has it.
fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("bounded by PAYLOAD_BYTES_MAX").to_le_bytes()
}

#[cfg(test)]
mod tests;
