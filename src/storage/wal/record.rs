//! The byte picture of a record, and of what each type carries.
//!
//! All numbers are little-endian. Records follow each other in a segment, each starting at a
//! multiple of 8; the gap before the next is zero.
//!
//! ```text
//!  0  len       u32   bytes of payload, at least 1
//!  4  crc       u32   CRC-32 of all other bytes of header and payload, started with the seed
//!  8  lsn       u64   number of the record, 1 more than that of the record before
//! 16  durable   u32   how far before `lsn` lies the last record that was on disk when this one
//!                     was written; 0 says nothing. This is what tells damage from a torn tail
//! 20  type      u8
//! 21  flags     u8    0
//! 22  reserved  u16   0
//! 24  payload
//! ```
//!
//! The seed is the CRC-32 of database uuid and segment number, so bytes of another segment or
//! another database never pass for a record.
//!
//! Payloads; `varint` is LEB128, `string` a varint length and that many bytes, `z` a zigzag varint:
//! ```text
//! 1 SERIES     until the end: id varint, canonical label key string
//! 2 SAMPLES    count varint, series ids column, timestamps column, values
//!              column:  0 RUNS   until count: start z (from where the last run would go on),
//!                                length varint; inside a run numbers grow by 1 (ids), 0 (times)
//!                       1 DELTAS blocks of 128 zigzag differences
//!              values:  per 128: kind u8: below 13 = scale s, a block of zigzag mantissas m,
//!                       value = m / 10^s; 255 = the values' bits, 8 bytes each
//!              block:   a length of 0..=8 per number, two in a byte, low half first; then the
//!                       low bytes of each number, that many
//! 3 METADATA   until the end: name string, type u8 (index in MetricType::ALL), help string,
//!              unit string
//! 5 MARK       kind u8: 1 idle, or only there for its number; 2 closed
//! ```

use uuid::Uuid;

use crate::model::{Metadata, MetricType, SampleBatch};
use crate::storage::wal::Lsn;
use crate::storage::wal::columns;
use crate::storage::wal::cursor::{Cursor, Malformed, put_string, put_varint};

/// Records start at multiples of this.
pub(super) const ALIGNMENT: usize = 8;

const CRC_OFFSET: usize = 4;
const LSN_OFFSET: usize = CRC_OFFSET + size_of::<u32>();
const DURABLE_OFFSET: usize = LSN_OFFSET + size_of::<u64>();
const TYPE_OFFSET: usize = DURABLE_OFFSET + size_of::<u32>();
const FLAGS_OFFSET: usize = TYPE_OFFSET + size_of::<u8>();
const RESERVED_OFFSET: usize = FLAGS_OFFSET + size_of::<u8>();

/// Bytes of a record before its payload.
pub(super) const HEADER_LEN: usize = RESERVED_OFFSET + size_of::<u16>();
const _: () = assert!(HEADER_LEN == 24 && HEADER_LEN.is_multiple_of(ALIGNMENT));

/// Most samples of one record.
pub(super) use crate::storage::wal::columns::SAMPLES_MAX;

/// Longest payload. Larger lengths are damage.
pub(super) const PAYLOAD_LEN_MAX: usize = 64 << 20;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordType {
    Series,
    Samples,
    Metadata,
    Mark,
}

impl RecordType {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => RecordType::Series,
            2 => RecordType::Samples,
            3 => RecordType::Metadata,
            5 => RecordType::Mark,
            _ => return None,
        })
    }

    fn byte(self) -> u8 {
        match self {
            RecordType::Series => 1,
            RecordType::Samples => 2,
            RecordType::Metadata => 3,
            RecordType::Mark => 5,
        }
    }
}

/// What a MARK says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing was written for a while, or a number of its own was wanted: what stands before is
    /// durable as far as the record says.
    Idle,
    /// The log was closed in order.
    Closed,
}

/// Start of the CRC of every record in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(database: Uuid, segment: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(database.as_bytes());
        hasher.update(&segment.to_le_bytes());
        Self(hasher.finalize())
    }
}

/// A record whose checksum is right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) kind: RecordType,
    pub(super) lsn: Lsn,
    /// The last record that was on disk when this one was written, as far as this one tells.
    pub(super) durable: Lsn,
    pub(super) payload: &'a [u8],
}

impl Record<'_> {
    /// Bytes from this record's start to the next one's.
    pub(super) fn stride(&self) -> usize {
        stride(self.payload.len())
    }
}

/// Bytes from the start of a record with `payload_len` bytes of payload to the next one's.
pub(super) fn stride(payload_len: usize) -> usize {
    (HEADER_LEN + payload_len).next_multiple_of(ALIGNMENT)
}

/// Makes room for a header at the end of `out`; the payload goes behind it.
pub(super) fn begin(out: &mut Vec<u8>) {
    debug_assert!(out.len().is_multiple_of(ALIGNMENT));
    out.extend_from_slice(&[0; HEADER_LEN]);
}

/// Ends the payload that goes to the end of `out`.
pub(super) fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

/// Fills the header in front of a payload. `bytes` is the record without its padding.
pub(super) fn seal(bytes: &mut [u8], kind: RecordType, lsn: Lsn, durable: Lsn, seed: Seed) {
    let (header, payload) = bytes.split_at_mut(HEADER_LEN);
    let len = u32::try_from(payload.len()).expect("payloads are bounded when they are appended");
    assert!((1..=PAYLOAD_LEN_MAX).contains(&payload.len()) && durable < lsn);
    let back = u32::try_from(lsn - durable).unwrap_or(0);
    header.fill(0);
    header[..CRC_OFFSET].copy_from_slice(&len.to_le_bytes());
    header[LSN_OFFSET..DURABLE_OFFSET].copy_from_slice(&lsn.to_le_bytes());
    header[DURABLE_OFFSET..TYPE_OFFSET].copy_from_slice(&back.to_le_bytes());
    header[TYPE_OFFSET] = kind.byte();
    let crc = checksum(header, payload, seed);
    header[CRC_OFFSET..LSN_OFFSET].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(header: &[u8], payload: &[u8], seed: Seed) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed.0);
    hasher.update(&header[..CRC_OFFSET]);
    hasher.update(&header[LSN_OFFSET..HEADER_LEN]);
    hasher.update(payload);
    hasher.finalize()
}

/// How many bytes the record at the start of `bytes` claims to have, header and all, if its
/// header could be one. The checksum is not looked at.
pub(super) fn claimed_len(bytes: &[u8]) -> Result<usize, Malformed> {
    let header = bytes.first_chunk::<HEADER_LEN>().ok_or("a record header is cut off")?;
    let field = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    let len = usize::try_from(u32::from_le_bytes(field(0))).map_err(|_| "a length is too large")?;
    if header.iter().all(|byte| *byte == 0) {
        return Err("zeros where a record should be");
    }
    if len == 0 || len > PAYLOAD_LEN_MAX {
        return Err("a record's length is out of bounds");
    }
    if RecordType::from_byte(header[TYPE_OFFSET]).is_none() {
        return Err("a record's type is unknown");
    }
    if header[FLAGS_OFFSET..] != [0; HEADER_LEN - FLAGS_OFFSET] {
        return Err("a record's flags are unknown");
    }
    Ok(HEADER_LEN + len)
}

/// The record at the start of `bytes`.
pub(super) fn parse(bytes: &[u8], seed: Seed) -> Result<Record<'_>, Malformed> {
    let len = claimed_len(bytes)?;
    let (header, payload) = bytes.get(..len).ok_or("a record is cut off")?.split_at(HEADER_LEN);
    let u32_at = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if checksum(header, payload, seed) != u32_at(CRC_OFFSET) {
        return Err("a record's checksum is wrong");
    }
    let lsn = u64::from(u32_at(LSN_OFFSET)) | u64::from(u32_at(LSN_OFFSET + 4)) << 32;
    let back = u64::from(u32_at(DURABLE_OFFSET));
    let durable =
        if back == 0 { 0 } else { lsn.checked_sub(back).ok_or("a record claims too much")? };
    let kind = RecordType::from_byte(header[TYPE_OFFSET]).ok_or("a record's type is unknown")?;
    Ok(Record { kind, lsn, durable, payload })
}

/// Appends one registration to a SERIES payload.
pub(super) fn put_series(id: u64, key: &[u8], out: &mut Vec<u8>) {
    put_varint(out, id);
    put_string(out, key);
}

/// Hands out the registrations of a SERIES payload.
pub(super) fn take_series<E>(
    payload: &[u8],
    mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<Result<(), E>, Malformed> {
    let mut cursor = Cursor::new(payload);
    while !cursor.is_empty() {
        let id = cursor.varint()?;
        if let Err(error) = each(id, cursor.string()?) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// Appends a SAMPLES payload.
pub(super) fn put_samples(batch: &SampleBatch, out: &mut Vec<u8>) {
    columns::encode(batch, out);
}

/// Fills `batch` from a SAMPLES payload.
pub(super) fn take_samples(payload: &[u8], batch: &mut SampleBatch) -> Result<(), Malformed> {
    columns::decode(payload, batch)
}

/// Appends one metric to a METADATA payload.
pub(super) fn put_metadata(name: &str, metadata: &Metadata, out: &mut Vec<u8>) {
    let kind = MetricType::ALL.iter().position(|kind| *kind == metadata.metric_type);
    let kind = kind.and_then(|kind| u8::try_from(kind).ok()).expect("all types are in ALL");
    put_string(out, name.as_bytes());
    out.push(kind);
    put_string(out, metadata.help.as_bytes());
    put_string(out, metadata.unit.as_bytes());
}

/// The metrics of a METADATA payload.
pub(super) fn take_metadata(payload: &[u8]) -> Result<Vec<(String, Metadata)>, Malformed> {
    let mut cursor = Cursor::new(payload);
    let mut entries = Vec::new();
    while !cursor.is_empty() {
        let name = cursor.text()?.to_owned();
        let kind = usize::from(cursor.byte()?);
        let metric_type = *MetricType::ALL.get(kind).ok_or("a metric's type is unknown")?;
        let help = cursor.text()?.to_owned();
        let unit = cursor.text()?.to_owned();
        entries.push((name, Metadata { metric_type, help, unit }));
    }
    Ok(entries)
}

/// Appends a MARK payload.
pub(super) fn put_mark(mark: Mark, out: &mut Vec<u8>) {
    out.push(match mark {
        Mark::Idle => 1,
        Mark::Closed => 2,
    });
}
